"""The judge over a real decision log and a real route table: up, back, yielding, and killed at every point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud_judge.journal import Journal, read_journal
from fraud_judge.logs import LogFolders
from fraud_judge.loop import JudgeLoop
from fraud_judge.settings import JudgeSettings
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions
from fraud_scoring.routes import Routes
from fraudctl.cli import main
from support.decision_logs import DecisionLog, decision_log
from support.rollouts import CANARY, CHAMPION, PATIENT, QUICK, Answer, RoutedLog, decisions_of, raised, repository

SALT = "the same customers are the canary's in every run"


class Killed(BaseException):
    """What a process that is killed leaves undone."""


class MortalJournal(Journal):
    """Dies at the `at`-th write, before it or after it."""

    at = -1
    before = True

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        self.at -= 1
        if self.at == 0 and self.before:
            raise Killed
        record = super().write(kind, **values)
        if self.at == 0:
            raise Killed
        return record


class Stage:
    """A log, a table, a judge, and a clock that traffic moves on."""

    def __init__(self, folder: Path, log: DecisionLog, canary: Answer, settings: JudgeSettings = QUICK) -> None:
        self.home = folder / "judge"
        self.repository = repository(folder / "repository")
        self.traffic = RoutedLog(log, self.repository, canary)
        self.settings = settings
        self.said: list[str] = []
        self.deaths = 0
        self.objection = ""
        self.start()

    def start(self, at: int = -1, before: bool = True) -> None:
        """A new judge process, which may be mortal."""
        self.journal = MortalJournal(self.home, self.traffic.clock)
        self.journal.at, self.journal.before = at, before
        log, clock = self.traffic.log.folder, self.traffic.clock
        self.judge = JudgeLoop(
            *(LogFolders((log,)), self.repository, self.journal, self.settings, clock, self.said.append),
            objection=lambda release: self.objection,
        )

    def seconds(self, count: int) -> None:
        """Let traffic and looks pass; a judge that dies is started again at once."""
        for _ in range(count):
            self.traffic.seconds(1.0, rows_per_second=1_000)
            try:
                self.judge.look()
            except Killed:
                self.deaths += 1
                self.journal.close()
                self.start()

    def to_the_end(self) -> None:
        """Until the canary is in production, or a minute has passed."""
        for _ in range(60):
            self.seconds(1)
            if self.routes.production == CANARY and self.judge.rollout is None:
                return

    def begin(self, share: int = 500) -> None:
        """Traffic to compare with, then a canary."""
        self.seconds(4)
        replace(self.routes.with_canary(CANARY, share), salt=SALT).write(self.repository)

    @property
    def routes(self) -> Routes:
        return Routes.read(self.repository)

    @property
    def acts(self) -> list[tuple[str, str, int]]:
        """(kind, action, share) of what was done, in order."""
        return [
            (one["kind"], one.get("action", ""), one.get("share", 0))
            for one in read_journal(self.home)
            if one["kind"] not in ("look", "intent")
        ]


def good(answers: Decisions) -> Decisions:
    return answers


def declining(answers: Decisions) -> Decisions:
    """Scores five times as high."""
    return raised(answers, 5.0)


def falling_back(answers: Decisions) -> Decisions:
    """Every tenth answer is the scorecard's."""
    verdict = answers.verdict.copy()
    verdict[::10, 5] = wire.Source.SCORECARD
    return replace(answers, verdict=verdict)


def slow(answers: Decisions) -> Decisions:
    return replace(answers, stage_us=answers.stage_us + 50_000)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=3, release=CHAMPION, fraud=8.0) as made:
        yield made


@pytest.fixture
def staged(tmp_path: Path, log: DecisionLog) -> Iterator[Callable[..., Stage]]:
    """Makes a stage whose judge ends with the test."""
    made: list[Stage] = []

    def make(canary: Answer, settings: JudgeSettings = QUICK) -> Stage:
        made.append(Stage(tmp_path / "home", log, canary, settings))
        return made[-1]

    yield make
    for stage in made:
        stage.journal.close()


Staged = Callable[..., Stage]
STEPS_UP = [("done", "step up", 2_500), ("done", "step up", 5_000), ("done", "promote", 10_000)]


def test_a_good_canary_that_nobody_approved_waits_at_the_last_step_until_somebody_has(staged: Staged) -> None:
    stage = staged(good)
    stage.objection = "r0002 is in staging on record"
    stage.begin()
    stage.to_the_end()
    assert stage.routes.canary is not None
    assert (stage.routes.production, stage.routes.canary.share) == (CHAMPION, 5_000)
    assert stage.said.count("waits: r0002 is in staging on record") == 1
    stage.objection = ""
    stage.seconds(2)
    assert stage.routes.production == CANARY


def test_a_good_canary_is_promoted_step_by_step(staged: Staged) -> None:
    stage = staged(good)
    stage.begin()
    salt = stage.routes.salt
    stage.to_the_end()
    assert stage.acts == [("begun", "", 500), *STEPS_UP]
    assert (stage.routes.production, stage.routes.previous, stage.routes.canary) == (CANARY, (CHAMPION,), None)
    assert stage.routes.salt == salt
    starts = [one["start_us"] for one in read_journal(stage.home) if "start_us" in one]
    assert all(later - earlier >= 10_000_000 for earlier, later in pairwise(starts))


@pytest.mark.parametrize(
    ("canary", "tests"),
    [(declining, {"declines", "reviews", "scores"}), (falling_back, {"fallback"}), (slow, {"latency"})],
    ids=["declining", "falling back", "slow"],
)
def test_a_bad_canary_is_rolled_back_with_its_reason(staged: Staged, canary: Answer, tests: set[str]) -> None:
    stage = staged(canary)
    stage.begin()
    stage.seconds(20)
    assert stage.acts == [("begun", "", 500), ("done", "roll back", 0)]
    assert (stage.routes.production, stage.routes.canary) == (CHAMPION, None)
    intent = next(one for one in read_journal(stage.home) if one["kind"] == "intent")
    assert intent["test"] in tests
    assert intent["reason"]
    assert intent["counts"]["rows"][0] > 0
    assert any(one["log_wealth"] >= one["threshold"] for one in intent["findings"])
    # what was thrown out does not come back by itself
    stage.seconds(5)
    assert stage.routes.canary is None


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_judge_that_is_killed_at_any_write_goes_on_and_does_nothing_twice(
    staged: Staged, at: int, before: bool
) -> None:
    """The journal is written: begun, a look, then intent and done of each step, with looks between."""
    stage = staged(good)
    stage.journal.close()
    stage.start(at, before)
    stage.begin()
    stage.to_the_end()
    assert stage.deaths == 1
    assert stage.acts == [("begun", "", 500), *STEPS_UP]
    assert stage.routes.epoch == 1 + 1 + 3
    assert stage.routes.production == CANARY


def test_evidence_outlives_the_process(staged: Staged) -> None:
    """Killed every few seconds, the judge has counted what it had counted before."""
    stage = staged(good, PATIENT)
    stage.begin()
    for _ in range(3):
        stage.seconds(7)
        assert stage.judge.rollout is not None
        counted = stage.judge.rollout.evidence.counts()
        stage.journal.close()
        stage.start()
        stage.judge.look()
        assert stage.judge.rollout is not None
        assert stage.judge.rollout.evidence.counts() == counted
    assert counted["rows"][0] > 500


def test_the_judge_yields_to_whoever_changes_the_canary_by_hand(staged: Staged) -> None:
    stage = staged(good)
    stage.begin()
    stage.seconds(10)
    stage.routes.with_canary(CANARY, 3_000).write(stage.repository)
    stage.seconds(30)
    assert stage.acts == [("begun", "", 500), ("yielded", "", 0)]
    assert stage.routes.canary is not None
    assert stage.routes.canary.share == 3_000
    assert any("yielding: the canary's share is 30%, and was 5%" in line for line in stage.said)


def test_a_change_that_is_not_about_the_canary_is_followed(staged: Staged) -> None:
    stage = staged(good)
    stage.begin()
    stage.seconds(10)
    replace(stage.routes, deadline=replace(stage.routes.deadline, store=0.25)).write(stage.repository)
    stage.to_the_end()
    assert stage.acts == [("begun", "", 500), *STEPS_UP]
    assert stage.routes.deadline.store == 0.25


def test_a_rollout_that_was_left_is_taken_over_on_demand(staged: Staged) -> None:
    stage = staged(slow)
    stage.begin()
    stage.seconds(1)
    stage.routes.with_canary(CANARY, 1_000).write(stage.repository)
    stage.seconds(5)
    stage.journal.write("resumed")
    stage.journal.close()
    stage.start()
    stage.seconds(15)
    assert stage.acts[-2:] == [("begun", "", 1_000), ("done", "roll back", 0)]


def test_late_labels_throw_out_a_canary_whose_scores_know_nothing(staged: Staged) -> None:
    shuffle = np.random.default_rng(1)

    def mixed_up(answers: Decisions) -> Decisions:
        score = shuffle.permutation(answers.score)
        verdict = answers.verdict.copy()
        verdict[:, 0] = decisions_of(score)
        return replace(answers, score=score, verdict=verdict)

    stage = staged(mixed_up, PATIENT)
    stage.begin(5_000)
    truth = np.random.default_rng(2)
    for _ in range(60):
        stage.seconds(1)
        stage.traffic.label(0.5, lambda answers: truth.random(len(answers)) < answers.score)
    assert stage.acts == [("begun", "", 5_000), ("done", "roll back", 0)]
    intent = next(one for one in read_journal(stage.home) if one["kind"] == "intent")
    assert intent["test"] == "calibration"


def test_status_and_figures_come_from_the_same_files(
    staged: Staged, tmp_path: Path, log: DecisionLog, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = staged(good, PATIENT)
    stage.begin(2_000)
    stage.seconds(40)
    stage.traffic.label(1.0, lambda answers: answers.score > 0.5)
    where = ["--home", str(tmp_path / "home"), "--json"]
    main_of(["judge", "status", *where])
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["canary"], status["percent"]) == ("on trial", "r0002", 20.0)
    assert status["last_look"]["counts"]["rows"][0] > 0
    figures = ["judge", "ab", "--log", str(log.folder), "--repository", str(stage.repository), "--label-days", "0"]
    main_of([*figures, *where])
    found = json.loads(capsys.readouterr().out)
    assert set(found["arms"]) == {"r0001", "r0002"}
    arms = found["arms"]
    assert arms["r0002"]["transactions"] + arms["r0001"]["transactions"] == 44_000
    assert arms["r0002"]["transactions"] / 44_000 == pytest.approx(0.2, abs=0.02)
    main_of([*figures, "--by-release", "r0001,r0002", *where])
    assert json.loads(capsys.readouterr().out)["arms"]["r0002"]["transactions"] > 5_000


def main_of(arguments: list[str]) -> None:
    """A command that must end well."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code in (None, 0)
