"""Rollouts for tests: a pool of scored transactions, a repository with two releases in name, traffic in a real log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from fraud_judge.settings import JudgeSettings, Step
from fraud_judge.signs import Rows
from fraud_judge.worlds import Pool
from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, Labels, LogWriter
from fraud_scoring.releases import MANIFEST_FILE, SCHEMA_FILE, ensemble_name, part_name
from fraud_scoring.routes import Routes, bucket_of
from support.decision_logs import DecisionLog, Traffic
from support.rows import DEFAULT_SCHEMA

CHAMPION: Final = 1
CANARY: Final = 2
THRESHOLDS: Final = (0.04, 0.6)
QUICK: Final = JudgeSettings(
    steps=(Step(500, 10.0, 50), Step(2_500, 10.0, 100), Step(5_000, 10.0, 200)),
    window_s=60.0,
    settle_s=1.0,
    baseline_rows=1_000,
    slots=1 << 14,
)
"""Steps of seconds, for logs that a test can write."""
PATIENT: Final = replace(QUICK, steps=tuple(replace(step, least_s=1e6) for step in QUICK.steps))
"""The same, and no step is ever long enough to go forward."""
Answer = Callable[[Decisions], Decisions]


def pool(rows: int = 40_000, seed: int = 3) -> Pool:
    """Days of 1,000 cardholders: scores calibrated, 1% fraud, most of it seen, daily cycle; alike within a customer."""
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, 1_000, rows)
    habit = rng.normal(0.0, 0.4, 1_000)[customer]
    score = 1.0 / (1.0 + np.exp(6.3 - habit - rng.normal(0.0, 0.5, rows)))
    suspicious = rng.random(rows) < 0.015
    score[suspicious] = rng.beta(0.6, 0.5, suspicious.sum())
    second = rng.integers(0, 20, rows) * 86_400 + np.clip(rng.normal(43_200, 20_000, rows), 0, 86_399)
    return Pool(
        customer=customer,
        second=second.astype(np.int64),
        score=score.astype(np.float32),
        decision=decisions_of(score),
        is_fraud=(rng.random(rows) < score).astype(np.int64),
        thresholds=THRESHOLDS,
    )


def decisions_of(score: np.ndarray) -> np.ndarray:
    """What the thresholds make of scores."""
    review, decline = THRESHOLDS
    return (score >= review).astype(np.int64) + (score >= decline)


def raised(answers: Decisions, factor: float) -> Decisions:
    """Answers with scores so many times as high, and what the thresholds make of them."""
    score = np.minimum(answers.score * np.float32(factor), np.float32(1.0))
    verdict = answers.verdict.copy()
    verdict[:, 0] = decisions_of(score)
    return replace(answers, score=score, verdict=verdict)


def rows(n: int, *, at_us: int = 0, seed: int = 1, bucket: int | None = None, **columns: object) -> Rows:
    """Rows of distinct customers, of which 2% are declined; `columns` replace whole columns."""
    rng = np.random.default_rng(seed)
    score = np.where(rng.random(n) < 0.02, 0.9, rng.beta(0.5, 60.0, n)).astype(np.float32)
    made = Rows(
        at_us=np.full(n, at_us, np.int64),
        identifier=rng.integers(0, 2**62, n),
        customer=rng.integers(0, 2**62, n),
        bucket=np.full(n, bucket) if bucket is not None else rng.integers(0, 10_000, n),
        score=score,
        decision=decisions_of(score),
        release=np.full(n, CHAMPION),
        source=np.zeros(n, np.int64),
        latency_us=rng.lognormal(8.3, 0.4, n).astype(np.int64),
    )
    full = {name: np.full(n, value) if np.isscalar(value) else value for name, value in columns.items()}
    return made._replace(**full)


def repository(folder: Path) -> Path:
    """A repository in which releases 1 and 2 exist by name and schema, and 1 is in production."""
    for release in (CHAMPION, CANARY):
        schema = folder / part_name("features", release) / "1" / SCHEMA_FILE
        schema.parent.mkdir(parents=True)
        schema.write_text(DEFAULT_SCHEMA.document, encoding="utf-8")
        manifest = folder / ensemble_name(release) / MANIFEST_FILE
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}", encoding="utf-8")
    Routes(CHAMPION).write(folder)
    return folder


class RoutedLog:
    """Real decision logs of two releases' answers: whoever the routes send a customer to answers it.

    `others` are the logs of more servers that follow the same table: each payment goes to any of them.
    """

    def __init__(
        self,
        log: DecisionLog,
        repository: Path,
        canary: Answer = lambda answers: answers,
        others: Sequence[DecisionLog] = (),
    ) -> None:
        self.log = log
        self.servers = [log, *others]
        self.down: set[int] = set()
        """Servers that get nothing."""
        self.without_canary: set[int] = set()
        """Servers that follow a table that has no canary."""
        self.repository = repository
        self._canary = canary
        self._rng = np.random.default_rng(5)
        self._balancer = np.random.default_rng(6)

    @property
    def clock(self) -> Callable[[], int]:
        return self.log.clock

    def seconds(self, count: float, rows_per_second: int = 200) -> None:
        """So much traffic, in frames of half a second, one for each release."""
        for _ in range(round(count * 2)):
            self._frames(rows_per_second // 2)
            self.log.clock.now_us += 500_000

    def label(self, share: float, frauds: Callable[[Decisions], np.ndarray]) -> None:
        """Labels for a share of what `frame` wrote last."""
        chosen = self._rng.random(len(self.last)) < share
        truth = frauds(self.last)
        ids = self.last.transaction[:, DEFAULT_SCHEMA.id_index]
        label = np.column_stack([ids, truth, np.full(len(ids), self.log.clock.now_us)])[chosen]
        told = self.servers[-1]
        told.writer("feedback-0", Context(CHAMPION, DEFAULT_SCHEMA.document)).append(Labels(label.astype(np.int64)))

    def _frames(self, n: int) -> None:
        routes = Routes.read(self.repository)
        answers = self.log.traffic.decisions(n, self.log.clock.now_us)
        customer = self._rng.integers(1, 2**62, n)
        answers.transaction[:, DEFAULT_SCHEMA.entities[0][0]] = customer
        release = routes.release_of(bucket_of(routes.salt, customer))
        up = [place for place in range(len(self.servers)) if place not in self.down]
        server = self._balancer.choice(up, n)
        release[np.isin(server, list(self.without_canary))] = CHAMPION
        verdict = answers.verdict.copy()
        verdict[:, 0] = decisions_of(answers.score)
        verdict[:, 4], verdict[:, 5] = release, wire.Source.PRIMARY
        answers = replace(answers, verdict=verdict, repeat=np.zeros(n, np.bool_))
        self.last = answers
        for one in np.unique(release).tolist():
            made = answers.rows(release == one)
            made = made if one == CHAMPION else self._canary(made)
            place = server[release == one]
            for each in np.unique(place).tolist():
                self._writer(each).append(made.rows(place == each))

    def _writer(self, server: int) -> LogWriter:
        return self.servers[server].writer(context=Context(CHAMPION, DEFAULT_SCHEMA.document))


def routed_log(log: DecisionLog, repository: Path, canary: Answer = lambda answers: answers) -> RoutedLog:
    """A log whose traffic is all new customers' first answers."""
    assert isinstance(log.traffic, Traffic)
    return RoutedLog(log, repository, canary)
