"""How often the judge is wrong, and how soon it is right: whole rollouts, simulated, through the judge's own code."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from fraud_judge import worlds
from fraud_judge.course import Action
from fraud_judge.evidence import CANARY
from fraud_judge.rollout import Rollout, Trial
from fraud_judge.settings import WHOLE, JudgeSettings
from fraud_judge.signs import Baseline, Int64
from fraud_judge.worlds import Pool, Traffic
from fraud_scoring.routes import bucket_of

Progress = Callable[[float, str], None]

FRAUD_LABELS: Final = 0.5
OTHER_LABELS: Final = 0.05
CLOSE_S: Final = 180.0
LABEL_DELAY_S: Final = 900.0
"""Labels in the study: half of the frauds and a twentieth of the others, 15 minutes late on average: sooner than in
life, and more for frauds than for others, which must not fool the judge."""


@dataclass(frozen=True)
class Scenario:
    """A kind of canary. `name` says what is wrong with it; `factory` makes its model for a pool; `good`: nothing is."""

    name: str
    factory: Callable[[Pool], worlds.Model]
    good: bool = False
    regulars: bool = False
    level: bool = True
    most_s: float = 6 * 3600.0
    least_share: float | None = None
    """Of the runs, what must be rolled back; None: shown, not judged."""
    most_share: float | None = None
    most_median_s: float | None = None
    required: bool = False
    """It must be reached in the number of runs that the project has set."""


@dataclass(frozen=True)
class Outcome:
    """How a simulated rollout ended: after so many seconds, at which share, by which test."""

    action: str
    seconds: float
    share: int
    test: str
    canary_rows: int


def _always(model: worlds.Model, _pool: Pool) -> worlds.Model:
    return model


def _shift_to(factor: float, pool: Pool) -> worlds.Model:
    return worlds.shifted(worlds.shift_for(pool, factor, lambda by: worlds.shifted_scores(pool.score, by)))


def _tail_shift_to(factor: float, pool: Pool) -> worlds.Model:
    by = worlds.shift_for(pool, factor, lambda by: worlds.tail_shifted_scores(pool.score, pool, by))
    return worlds.tail_shifted(by)


def _thresholds_to(factor: float, pool: Pool) -> worlds.Model:
    return worlds.decline_share(factor)(pool)


SCENARIOS: Final = (
    Scenario("identical", partial(_always, worlds.same), good=True, most_share=0.01, required=True),
    Scenario("identical, daily cycle", partial(_always, worlds.same), good=True, level=False, most_share=0.01),
    Scenario(
        "identical, 5,000 customers only",
        partial(_always, worlds.same),
        good=True,
        regulars=True,
        most_s=7_200.0,
        most_share=0.01,
    ),
    Scenario("another good release", partial(_always, worlds.challenger), good=True),
    Scenario(
        "scores shifted: declines doubled", partial(_shift_to, 2.0), least_share=1.0, most_median_s=120.0, required=True
    ),
    Scenario("scores shifted: declines halved", partial(_shift_to, 0.5)),
    Scenario("highest 5% of scores shifted: declines doubled", partial(_tail_shift_to, 2.0)),
    Scenario("threshold only: declines doubled", partial(_thresholds_to, 2.0)),
    Scenario("threshold only: declines halved", partial(_thresholds_to, 0.5)),
    Scenario("one score for all", partial(_always, worlds.stuck)),
    Scenario("5% NaN, answered by the fallback", partial(_always, worlds.falling_back(0.05))),
    Scenario("50 ms slower", partial(_always, worlds.slower(50_000))),
    Scenario("scores 1.5 times too high", partial(_always, worlds.inflated(1.5))),
    Scenario("scores of other transactions", partial(_always, worlds.mixed_up)),
)


def run_rollout(pool: Pool, scenario: Scenario, settings: JudgeSettings, rate: float, seed: int) -> Outcome:
    """One rollout from the first step to its end."""
    rng = np.random.default_rng(seed)
    model = scenario.factory(pool)
    start_s = int(rng.integers(0, worlds.DAY_S)) if not scenario.level else int(rng.integers(6, 20)) * 3600
    blocks = worlds.traffic(pool, rng, start_s, rate, regulars=scenario.regulars, level=scenario.level)
    salt = f"{seed:016x}"
    labels = _Labels(rng)
    rollout: Rollout | None = None
    canary_rows = 0
    begin_us = 0
    for drawn in blocks:
        rows = drawn.rows._replace(bucket=bucket_of(salt, drawn.rows.customer))
        block = drawn._replace(rows=rows)
        place = 0
        if rollout is None:
            place = min(settings.baseline_rows, len(rows.at_us) - 1)
            begin_us = int(rows.at_us[place])
            baseline = Baseline.of(rows.pick(slice(0, place)))
            trial = Trial(worlds.CANARY, worlds.PRODUCTION, salt)
            rollout = Rollout(trial, settings, baseline, settings.steps[0].share, begin_us)
        labels.add(block)
        answered = worlds.canary_answers(block, rollout.share, model, pool, rng)
        bits = rollout.evidence.events_of(answered)
        end_us = begin_us + worlds.BLOCK_S * 1_000_000 if not len(rows.at_us) else int(rows.at_us[-1])
        look_us = int(rows.at_us[place])
        while look_us <= end_us:
            look_us += _until_next_look_us(rollout.evidence.seconds)
            until = int(np.searchsorted(rows.at_us, look_us))
            if until > place:
                now = answered.pick(slice(place, until))
                rollout.take(now, bits[place:until])
                canary_rows += int((now.bucket < rollout.share).sum())
            place = until
            rollout.label(*labels.due(look_us))
            judgement = rollout.judge()
            seconds = (look_us - begin_us) / 1e6
            if judgement.action is Action.HOLD:
                continue
            if judgement.action is Action.STEP_UP:
                rollout.enter(judgement.share, look_us)
                answered = worlds.canary_answers(block, rollout.share, model, pool, rng)
                bits = rollout.evidence.events_of(answered)
                continue
            return Outcome(judgement.action.value, seconds, rollout.share, judgement.test, canary_rows)
        if (end_us - begin_us) / 1e6 > scenario.most_s:
            break
    assert rollout is not None
    return Outcome(Action.HOLD.value, scenario.most_s, rollout.share, "", canary_rows)


def _until_next_look_us(seconds: float) -> int:
    """A second in the first minutes of a step, as the judge at work has it; later, to save time, five."""
    return 1_000_000 if seconds < CLOSE_S else 5_000_000


class _Labels:
    """Labels on their way."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._at_us = np.empty(0, np.int64)
        self._label = np.empty((0, 2), np.int64)

    def add(self, traffic: Traffic) -> None:
        share = np.where(traffic.is_fraud > 0, FRAUD_LABELS, OTHER_LABELS)
        told = np.flatnonzero(self._rng.random(len(share)) < share)
        delay_us = (1e6 * self._rng.exponential(LABEL_DELAY_S, len(told))).astype(np.int64)
        at_us = np.concatenate([self._at_us, traffic.rows.at_us[told] + delay_us])
        label = np.column_stack([traffic.rows.identifier[told], traffic.is_fraud[told]])
        order = np.argsort(at_us, kind="stable")
        self._at_us, self._label = at_us[order], np.concatenate([self._label, label])[order]

    def due(self, now_us: int) -> tuple[Int64, Int64]:
        """(identifiers, is_fraud) of what has come since."""
        until = int(np.searchsorted(self._at_us, now_us))
        due, self._at_us, self._label = self._label[:until], self._at_us[until:], self._label[until:]
        return due[:, 0], due[:, 1]


@dataclass(frozen=True)
class Result:
    """What the runs of a scenario brought. Shares with 95% intervals (Clopper, Pearson, 1934)."""

    scenario: Scenario
    outcomes: tuple[Outcome, ...]

    def ended(self, action: Action) -> list[Outcome]:
        return [one for one in self.outcomes if one.action == action.value]

    @property
    def missed(self) -> list[str]:
        """Targets that were missed."""
        found, name = [], self.scenario.name
        back, runs = self.ended(Action.ROLL_BACK), len(self.outcomes)
        if self.scenario.most_share is not None and len(back) > self.scenario.most_share * runs:
            found.append(f"{name}: {len(back)} of {runs} rolled back; at most {self.scenario.most_share:.0%} may be")
        if self.scenario.least_share is not None and len(back) < self.scenario.least_share * runs:
            found.append(f"{name}: {len(back)} of {runs} rolled back; {self.scenario.least_share:.0%} must be")
        limit = self.scenario.most_median_s
        if limit is not None and not (back and float(np.median([one.seconds for one in back])) < limit):
            found.append(f"{name}: the median delay is not below {limit:g} s")
        return found

    def document(self) -> dict[str, Any]:
        back, up = self.ended(Action.ROLL_BACK), self.ended(Action.PROMOTE)
        low, high = interval(len(back), len(self.outcomes))
        delays = [one.seconds for one in back]
        return {
            "scenario": self.scenario.name,
            "good": self.scenario.good,
            "runs": len(self.outcomes),
            "rolled_back": len(back),
            "rolled_back_share_95": [low, high],
            "promoted": len(up),
            "undecided": len(self.outcomes) - len(back) - len(up),
            "delay_s": _quantiles(delays),
            "promoted_after_s": _quantiles([one.seconds for one in up]),
            "canary_rows_until_rollback": _quantiles([float(one.canary_rows) for one in back]),
            "by_test": dict(Counter(one.test for one in back)),
            "at_share": {str(share): count for share, count in Counter(one.share for one in back).items()},
            "delays_s": [round(one, 1) for one in sorted(delays)],
            "promotions_s": [round(one.seconds, 1) for one in sorted(up, key=lambda one: one.seconds)],
        }


def _quantiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    median, most = np.quantile(values, [0.5, 0.9])
    return {"median": float(median), "p90": float(most), "most": max(values)}


def interval(hits: int, runs: int) -> tuple[float, float]:
    """95% interval of a share (Clopper and Pearson, 1934)."""
    from scipy import stats

    low = float(stats.beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0
    return low, high


_task: dict[str, Any] = {}
"""What every run of this process shares."""


def _set_task(pool: Pool, settings: JudgeSettings, rate: float) -> None:
    _task.update(pool=pool, settings=settings, rate=rate)


def _run(job: tuple[int, int]) -> Outcome:
    scenario, seed = job
    return run_rollout(_task["pool"], SCENARIOS[scenario], _task["settings"], _task["rate"], seed)


def run_study(
    pool: Pool,
    settings: JudgeSettings,
    runs: Mapping[str, int],
    *,
    rate: float = 100.0,
    seed: int = 7,
    processes: int | None = None,
    report: Progress = lambda _share, _text: None,
) -> list[Result]:
    """Run so many rollouts of each scenario that `runs` names, in several processes."""
    jobs = [
        (place, seed * 1_000_003 + place * 100_003 + run)
        for place, scenario in enumerate(SCENARIOS)
        for run in range(runs.get(scenario.name, 0))
    ]
    outcomes: list[list[Outcome]] = [[] for _ in SCENARIOS]
    for done, ((place, _), outcome) in enumerate(zip(jobs, _all(jobs, pool, settings, rate, processes), strict=True)):
        outcomes[place].append(outcome)
        report(done / len(jobs), SCENARIOS[place].name)
    return [Result(scenario, tuple(found)) for scenario, found in zip(SCENARIOS, outcomes, strict=True) if found]


def _all(
    jobs: list[tuple[int, int]], pool: Pool, settings: JudgeSettings, rate: float, processes: int | None
) -> Iterator[Outcome]:
    """The outcomes of jobs in their order; one process is this one."""
    workers = processes or os.cpu_count() or 1
    if workers == 1:
        _set_task(pool, settings, rate)
        yield from map(_run, jobs)
        return
    # not forked: whoever has threads, as readers of Parquet do, must not be
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _set_task, (pool, settings, rate)) as executor:
        yield from executor.map(_run, jobs, chunksize=4)


def documents(results: Iterable[Result], settings: JudgeSettings, rate: float) -> dict[str, Any]:
    """The study as one JSON object."""
    found = list(results)
    return {
        "rows_per_second": rate,
        "budget": settings.budget,
        "steps": [[step.share / WHOLE, step.least_s, step.least_answers] for step in settings.steps],
        "scenarios": [one.document() for one in found],
        "missed": [line for one in found for line in one.missed],
        "canary_arm": CANARY,
    }
