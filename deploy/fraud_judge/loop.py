"""The judge at work: follows the logs, looks at the routes, and changes them when the evidence says so.

Each change is told to the journal before and after it is made, and made by compare-and-swap on the table's epoch; so a
judge that is killed anywhere goes on where it was, and does nothing twice. Where somebody else changed what is on
trial, the judge yields.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from fraud_judge.course import Action, Judgement
from fraud_judge.journal import Course, Journal, last_course
from fraud_judge.log_rows import join, rows_of
from fraud_judge.logs import InForce, LogFolders, Logs
from fraud_judge.rollout import Rollout, Trial
from fraud_judge.settings import WHOLE, JudgeSettings
from fraud_judge.signs import Baseline, Rows
from fraud_scoring import wire
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import pinned_schema, release_name
from fraud_scoring.routes import Routes, StaleRoutes

TELL_EVERY_US: Final = 30_000_000
Report = Callable[[str], None]


class JudgeLoop:
    """One judge of one repository's routes. Call `look` about once a second.

    `objection` is asked before a canary, by its number, takes everything: what speaks against it beside the evidence,
    as that nobody approved it; the canary then waits where it is.
    """

    def __init__(
        self,
        folders: LogFolders,
        repository: Path,
        journal: Journal,
        settings: JudgeSettings,
        now_us: Callable[[], int],
        report: Report,
        *,
        settle_us: int = 1_000_000,
        objection: Callable[[int], str] = lambda release: "",
    ) -> None:
        self._repository = repository
        self._journal = journal
        self._settings = settings
        self._now_us = now_us
        self._report = report
        self._settle_us = settle_us
        self._objection = objection
        self._recent: deque[Rows] = deque()
        """The champion's last answers, while nothing is on trial."""
        self._told_us = 0
        self._waiting = ""
        self._course = last_course(journal.records)
        self._rollout: Rollout | None = None
        on_trial = self._course is not None and not self._course.ended
        self.logs = Logs(folders, now_us, report, settle_us=settle_us)
        if self._course is not None and on_trial:
            self.logs.go_on(self._course.places, self._course.logs, self._course.steps[0][1])
            self._rollout = self._recalled(self._course)

    @property
    def rollout(self) -> Rollout | None:
        """What is on trial now."""
        return self._rollout

    @property
    def ready(self) -> bool:
        """Whether a rollout could begin: nothing is on trial, and the champion has answered enough to compare with."""
        return self._rollout is None and self._kept() >= self._settings.baseline_rows

    def look(self) -> Judgement | None:
        """Take in what the log brought, and act on it; what was judged, or None where nothing is on trial."""
        routes = Routes.read(self._repository)
        if self._rollout is None or self._course is None:
            self._look_for_canary(routes)
            return None
        if self._course.pending is not None:
            self._settle_intent(routes, self._course.pending)
            return None
        if changed := _changed_by_hand(self._course, routes):
            self._yield(changed)
            return None
        self._take(routes.production)
        judgement = self._rollout.judge()
        if not self.logs.is_read_up and judgement.action is not Action.ROLL_BACK:
            return None  # still catching up
        if judgement.action in (Action.STEP_UP, Action.PROMOTE) and (why := self.logs.trouble()):
            judgement = Judgement(Action.HOLD, why)
        if judgement.action is Action.PROMOTE and (why := self._objection(self._rollout.trial.canary)):
            judgement = Judgement(Action.HOLD, why)
        self._tell(judgement)
        if judgement.action is not Action.HOLD:
            self._act(routes, judgement)
        return judgement

    def _look_for_canary(self, routes: Routes) -> None:
        """Keep what the champion answered; begin a rollout as soon as there is a canary and enough to compare with."""
        self._take_baseline(routes)
        if routes.canary is None:
            return
        trial = Trial(routes.canary.release, routes.production, routes.salt)
        before = self._course
        if before is not None and before.ended and before.trial == trial:
            self._wait(f"the rollout of {release_name(trial.canary)} ended for this judge ({before.ended})")
            return
        rows = join(self._recent)
        have = 0 if rows is None else len(rows.at_us)
        if rows is None or have < self._settings.baseline_rows:
            self._wait(f"{have:,} of {self._settings.baseline_rows:,} answers of the champion to compare with")
            return
        baseline = Baseline.of(rows.pick(slice(-self._settings.baseline_rows, None)))
        self._journal.write(
            "begun",
            **asdict(trial),
            share=routes.canary.share,
            start_us=self._now_us(),
            epoch=routes.epoch,
            baseline=baseline.document(),
            places=self.logs.place_documents(),
        )
        self._course = last_course(self._journal.records)
        assert self._course is not None
        self._rollout = self._recalled(self._course)
        self._recent.clear()
        self.logs.since_us = self._course.steps[0][1]
        self._report(f"judging {release_name(trial.canary)} at {_percent(routes.canary.share)}")

    def _take_baseline(self, routes: Routes) -> None:
        """Rows of the production release itself, the last ones that there are."""
        to_rows = partial(rows_of, customer_column=self._customer_column(routes.production), salt=routes.salt)
        while True:
            rows, _ = self.logs.take(to_rows)
            if rows is not None:
                own = (rows.release == routes.production) & (rows.source == wire.Source.PRIMARY)
                if own.any():
                    self._recent.append(rows.pick(own))
            while self._recent and self._kept() - len(self._recent[0].at_us) >= self._settings.baseline_rows:
                self._recent.popleft()
            if self.logs.is_read_up:
                return

    def _kept(self) -> int:
        return sum(len(part.at_us) for part in self._recent)

    def _take(self, production: int) -> None:
        """Count what the logs brought."""
        assert self._rollout is not None
        trial, (share, start_us) = self._rollout.trial, self._rollout.steps[-1]
        to_rows = partial(rows_of, customer_column=self._customer_column(production), salt=trial.salt)
        since_us = start_us + round(self._settings.settle_s * 1e6)
        rows, labels = self.logs.take(to_rows, InForce(trial, share, since_us))
        if rows is not None:
            self._rollout.take(rows)
        self._rollout.label(labels[:, 0], labels[:, 1])

    def _act(self, routes: Routes, judgement: Judgement) -> None:
        """Tell, do, tell."""
        assert self._rollout is not None
        assert self._course is not None
        evidence = self._rollout.evidence
        intent = self._journal.write(
            "intent",
            action=judgement.action.value,
            share=judgement.share,
            epoch=routes.epoch,
            test=judgement.test,
            reason=judgement.reason,
            seconds=round(evidence.seconds, 1),
            findings=[_finding(one) for one in evidence.findings()],
            counts=evidence.counts(),
            labels=self._rollout.calibration.counts(),
            logs=self.logs.documents(),
        )
        self._course.pending = intent
        self._settle_intent(routes, intent)

    def _settle_intent(self, routes: Routes, intent: dict[str, Any]) -> None:
        """Carry an intent out, unless that was done before or somebody else has decided otherwise."""
        assert self._course is not None
        action, share = Action(intent["action"]), int(intent["share"])
        trial = self._course.trial
        if _is_carried_out(routes, trial, action, share):
            written = routes
        elif changed := _changed_by_hand(self._course, routes):
            self._yield(changed)
            return
        else:
            try:
                written = _wanted(routes, trial, action, share).write(self._repository)
            except StaleRoutes:
                return  # the next look sees what changed
        start_us = self._now_us()
        self._journal.write("done", action=action.value, share=share, epoch=written.epoch, start_us=start_us)
        self._course = last_course(self._journal.records)
        self._report(f"{action.value}: {release_name(trial.canary)}: {intent['reason']}")
        if action is Action.STEP_UP and self._rollout is not None:
            self._rollout.enter(share, start_us)
        else:
            self._rollout = None

    def _yield(self, why: str) -> None:
        self._journal.write("yielded", reason=why)
        self._report(f"yielding: {why}; to judge it again: fraudctl judge run --take-over")
        self._course = last_course(self._journal.records)
        self._rollout = None

    def _tell(self, judgement: Judgement) -> None:
        """A record of the evidence once in a while, and of a step that does not come to an end."""
        assert self._rollout is not None
        assert self._course is not None
        evidence = self._rollout.evidence
        now_us = self._now_us()
        if now_us - self._told_us >= TELL_EVERY_US:
            self._told_us = now_us
            self._journal.write(
                "look",
                share=evidence.share,
                seconds=round(evidence.seconds, 1),
                waits=judgement.reason,
                findings=[_finding(one) for one in evidence.findings()],
                counts=evidence.counts(),
                labels=self._rollout.calibration.counts(),
                logs=self.logs.documents(),
            )
        late = evidence.seconds > self._settings.patience_s
        if judgement.action is Action.HOLD and late and not self._course.told_undecided:
            self._journal.write("undecided", share=evidence.share, reason=judgement.reason)
            self._course.told_undecided = True
            self._report(f"undecided after {evidence.seconds / 3600:.0f} h: {judgement.reason}")
        self._wait(judgement.reason if judgement.action is Action.HOLD else "")

    def _wait(self, why: str) -> None:
        """Say what is waited for, once."""
        kind = "".join(letter for letter in why if not letter.isdigit())
        if why and kind != self._waiting:
            self._report(f"waits: {why}")
        self._waiting = kind

    def _recalled(self, course: Course) -> Rollout:
        """The rollout of a course, with no rows yet: the logs have them."""
        (share, start_us), *later = course.steps
        rollout = Rollout(course.trial, self._settings, course.baseline, share, start_us)
        for next_share, next_start_us in later:
            rollout.enter(next_share, next_start_us)
        return rollout

    def _customer_column(self, production: int) -> int:
        """Which column of a transaction customers are split by: the first entity of the schema."""
        schema = pinned_schema(self._repository, production)
        if not schema.entities:
            raise FraudError("the schema has no entity; customers cannot be told apart, and no canary can be judged")
        return schema.entities[0][0]


def _finding(one: Any) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}


def _wanted(routes: Routes, trial: Trial, action: Action, share: int) -> Routes:
    """The table that an action makes of `routes`."""
    if action is Action.STEP_UP:
        return routes.with_canary(trial.canary, share)
    return routes.promoted() if action is Action.PROMOTE else routes.rolled_back()


def _is_carried_out(routes: Routes, trial: Trial, action: Action, share: int) -> bool:
    canary = routes.canary
    if action is Action.STEP_UP:
        return (
            canary is not None
            and (canary.release, canary.share) == (trial.canary, share)
            and (routes.production, routes.salt) == (trial.production, trial.salt)
        )
    after = trial.canary if action is Action.PROMOTE else trial.production
    return canary is None and routes.production == after


def _changed_by_hand(course: Course, routes: Routes) -> str:
    """What somebody else changed of what is on trial; nothing where only other things changed."""
    trial, canary = course.trial, routes.canary
    if routes.production != trial.production:
        return f"production is {release_name(routes.production)}, and was {release_name(trial.production)}"
    if canary is None:
        return f"the canary {release_name(trial.canary)} was taken away"
    if canary.release != trial.canary or routes.salt != trial.salt:
        return f"another canary began: {release_name(canary.release)}"
    if canary.share != course.share:
        return f"the canary's share is {_percent(canary.share)}, and was {_percent(course.share)}"
    return ""


def _percent(share: int) -> str:
    return f"{100 * share / WHOLE:g}%"
