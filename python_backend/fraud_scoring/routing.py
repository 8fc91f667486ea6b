"""Who answers a row, and who instead: the routed release, the last production release, the scorecard, the amount.

The store is read once for a batch, and features are made once for each schema: releases that agree on it (a canary, a
fallback, a shadow) decide on the same matrix. Only the model lies elsewhere, and is asked with a limit in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.breaker import Breaker
from fraud_scoring.decision_log import Context
from fraud_scoring.errors import FraudError, ReleaseLate, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Margin, Pipeline
from fraud_scoring.releases import check_columns, release_name
from fraud_scoring.routes import Routes, bucket_of
from fraud_scoring.schema import Schema
from fraud_scoring.scorecard import Scorecard, by_amount
from fraud_scoring.stores import Answers, each, together
from fraud_scoring.windows import History, Int64

REASONS_SHARE: Final = 0.5
"""Of the time that a release has, for a batch's reasons, too: what has none by then is answered without."""
LEAST_LIMIT_S: Final = 0.005
"""A release that has less time than this left is not asked."""
LONGEST_LIMIT_S: Final = 1.0
"""However long a deadline is, a release that takes longer than this counts as failed."""
ALONE: Final = 0.75
"""The share of the time left that a release gets which no other release stands behind."""
TRIAL_S: Final = 1.0
"""How long a trial with golden vectors may take."""


class Model(Protocol):
    """A release's model where it runs."""

    def __call__(self, features: Float32, until: float) -> Float32:
        """Margins FP32 [N, 1] for features FP32 [N, F]; ReleaseUnavailable if it fails, ReleaseLate at `until`.

        `until` is a moment of time.monotonic.
        """

    def close(self) -> None:
        """Let go what asking it needs."""


class InlineModel:
    """A release's graph in this process. It cannot be interrupted; it is not begun when time is over."""

    def __init__(self, release: int, margin: Margin) -> None:
        self._release = release
        self._margin = margin

    def __call__(self, features: Float32, until: float) -> Float32:
        if time.monotonic() >= until:
            raise ReleaseUnavailable(f"there is no time left to ask release {release_name(self._release)}")
        return self._margin(features)

    def close(self) -> None:
        """It holds nothing but memory."""


@dataclass(frozen=True)
class Golden:
    """What a release answered when it was made: features FP32 [N, F], score FP32 [N, 1], verdict INT32 [N, 6]."""

    features: Float32
    score: Float32
    verdict: npt.NDArray[np.int32]


class ServedRelease:
    """A release that may be asked: its rules in this process, its model elsewhere, its breaker between them."""

    def __init__(
        self, pipeline: Pipeline, model: Model, golden: Golden | None = None, breaker: Breaker | None = None
    ) -> None:
        self.pipeline = pipeline
        self.breaker = breaker or Breaker()
        self._model = model
        self._golden = golden

    @property
    def number(self) -> int:
        return self.pipeline.rule.release

    @property
    def schema(self) -> Schema:
        return self.pipeline.schema

    def decide(self, features: Float32, until: float) -> Answers:
        """Score and verdict of features FP32 [N, F]; ReleaseUnavailable where it is out or does not answer."""
        if self.breaker.is_open:
            raise ReleaseUnavailable(f"release {release_name(self.number)} is out until its golden vectors are right")
        began = time.monotonic()
        reasons_until = began + REASONS_SHARE * (until - began)
        try:
            answers = self.pipeline.decide(
                features,
                lambda chosen: self._model(chosen, until),
                lambda mixed: self._model(mixed, reasons_until),
            )
        except ReleaseUnavailable as failure:
            self.breaker.failed(time.monotonic(), in_vain=isinstance(failure, ReleaseLate))
            raise
        self.breaker.succeeded()
        return answers

    def close(self) -> None:
        """Nobody will ask it any more."""
        self._model.close()

    def try_again(self) -> bool:
        """Ask the golden vectors where a trial is due; whether the release is in again."""
        if not self.breaker.trial_due(time.monotonic()):
            return False
        with suppress(FraudError):
            if self._is_right():
                self.breaker.close()
                return True
        return False

    def _is_right(self) -> bool:
        if self._golden is None:
            return True
        until = time.monotonic() + TRIAL_S
        found = self.pipeline.decide(self._golden.features, lambda chosen: self._model(chosen, until))
        wanted = self._golden
        return (
            found.score.tobytes() == wanted.score.tobytes()
            and found.verdict[:, : wire.VERDICT_SOURCE].tobytes() == wanted.verdict[:, : wire.VERDICT_SOURCE].tobytes()
        )


Answered = Answers | list[Answers]
"""Answers to all rows, or one for each row where their features are of several schemas."""


class Router:
    """Answers rows by the table that it was given last.

    `read` gives the histories of rows (`WindowStore.read`); `open_release` makes a release ready to be asked, by its
    number; it is called once for each.
    """

    def __init__(
        self, routes: Routes, read: Callable[[Int64], Sequence[History]], open_release: Callable[[int], ServedRelease]
    ) -> None:
        self._read = read
        self._open_release = open_release
        self._releases: dict[int, ServedRelease] = {}
        self._trials = _Trials()
        self.seen: BatchFeatures | None = None
        """What `answer` saw of the rows that it was given last."""
        self.follow(routes)

    def follow(self, routes: Routes) -> None:
        """Answer by `routes` from the next batch on.

        Raises, and stays with the table before, where a release of it cannot be had.
        """
        releases = {number: self._releases.get(number) or self._open_release(number) for number in routes.loaded}
        check_columns({number: release.schema for number, release in releases.items()}, routes.production)
        gone = [release for number, release in self._releases.items() if number not in releases]
        self.routes = routes
        self._releases = releases
        self._production = releases[routes.production]
        self._scorecard = Scorecard(self._production.schema, self._production.pipeline.rule)
        self._customer = self._production.schema.entities[0][0]
        self._trials.of = releases
        own = Context(routes.production, self.schema.document)
        self._contexts = {
            number: own if release.schema.document == own.schema else Context(number, release.schema.document)
            for number, release in releases.items()
        }
        for release in gone:
            release.close()

    @property
    def schema(self) -> Schema:
        """Of the release in production."""
        return self._production.schema

    def pipeline_of(self, release: int) -> Pipeline:
        """The rules of a release of the table."""
        return self._releases[release].pipeline

    def context_of(self, release: int) -> Context | None:
        """What the log is to know of a release's features; None for a release that is not in the table."""
        return self._contexts.get(release)

    def answer(self, rows: Int64, until: float) -> Answered:
        """Answers to `rows` int64 [N, C] before `until` (time.monotonic), each with who answered it in its verdict."""
        routes = self.routes
        features = self.seen = BatchFeatures(rows, self._read(rows))
        if not routes.slices:
            return self._answer_by(routes.production, rows, features, until)
        takers = routes.release_of(bucket_of(routes.salt, np.ascontiguousarray(rows[:, self._customer])))
        parts = []
        for number in np.unique(takers).tolist():
            mine = np.flatnonzero(takers == number)
            parts.append((mine, self._answer_by(number, rows[mine], features.of(mine), until)))
        return self._put_together(parts)

    def answer_by_production(self, rows: Int64, until: float) -> Answered:
        """The same without regard to customers: what a dry run gets."""
        return self._answer_by(self.routes.production, rows, BatchFeatures(rows, self._read(rows)), until)

    def last_resort(self, rows: Int64) -> Answers:
        """Answers that need neither store nor release."""
        fallback = self.routes.fallback
        if fallback.scorecard:
            return self._scorecard(rows)
        amounts = rows[:, self._production.schema.amount_index]
        return by_amount(self._production.pipeline.rule, fallback.by_amount, amounts)

    def close(self) -> None:
        """End the thread that tries releases again, and what releases hold."""
        self._trials.close()
        for release in self._releases.values():
            release.close()

    def _answer_by(self, number: int, rows: Int64, features: BatchFeatures, until: float) -> Answers:
        """The first answer of the chain for rows that `number` is to answer."""
        routes = self.routes
        other = routes.fallback_of(number)
        left = until - time.monotonic()
        share = routes.deadline.release if other is not None else ALONE
        try:
            answers = self._decide(number, features, time.monotonic() + share * left)
            if number != routes.production:
                answers.verdict[:, wire.VERDICT_SOURCE] = wire.Source.CANARY
            return answers
        except ReleaseUnavailable:
            if other is not None:
                with suppress(ReleaseUnavailable):
                    left = until - time.monotonic()
                    answers = self._decide(other, features, time.monotonic() + routes.deadline.fallback * left)
                    answers.verdict[:, wire.VERDICT_SOURCE] = wire.Source.FALLBACK_RELEASE
                    return answers
        return self.last_resort(rows)

    def _put_together(self, parts: Sequence[tuple[Int64, Answers]]) -> Answered:
        order = np.argsort(np.concatenate([mine for mine, _ in parts]))
        answers = [part for _, part in parts]
        if len({self._kind_of_features(part) for part in answers}) > 1:
            alone = [row for part in answers for row in each(part)]
            return [alone[i] for i in order.tolist()]
        joined = together(answers)
        return Answers(joined.score[order], joined.verdict[order], joined.features[order])

    def _kind_of_features(self, answers: Answers) -> str:
        if not answers.features.shape[1]:
            return ""
        return self._releases[int(answers.verdict[0, wire.VERDICT_RELEASE])].schema.document

    def _decide(self, number: int, features: BatchFeatures, until: float) -> Answers:
        release = self._releases[number]
        if until - time.monotonic() < LEAST_LIMIT_S:
            raise ReleaseUnavailable(f"there is no time left to ask release {release_name(number)}")
        try:
            return release.decide(features.by(release.pipeline), min(until, time.monotonic() + LONGEST_LIMIT_S))
        except ReleaseUnavailable:
            if release.breaker.is_open:
                self._trials.begin()
            raise


class BatchFeatures:
    """The features of a batch, made when a schema first asks for them; `of` some of its rows."""

    def __init__(self, rows: Int64, histories: Sequence[History]) -> None:
        self._rows = rows
        self._histories = histories
        self._made: dict[str, Float32] = {}
        self._mine: Int64 | None = None

    def of(self, mine: Int64) -> BatchFeatures:
        some = BatchFeatures(self._rows, self._histories)
        some._made, some._mine = self._made, mine
        return some

    def with_rows(self, rows: Int64) -> BatchFeatures:
        """The same of a copy of the rows: those of a request are Triton's memory, and gone once it is answered."""
        own = BatchFeatures(rows, self._histories)
        own._made = self._made
        return own

    def has(self, pipeline: Pipeline) -> bool:
        """Whether `by` has nothing to compute."""
        return pipeline.schema.document in self._made

    def by(self, pipeline: Pipeline) -> Float32:
        """FP32 [N, F] as the pipeline's schema has them."""
        made = self._made.get(pipeline.schema.document)
        if made is None:
            made = self._made[pipeline.schema.document] = pipeline.features(self._rows, self._histories)
        return made if self._mine is None else made[self._mine]


class _Trials:
    """Tries releases that are out, in a thread that lives while there are any."""

    def __init__(self) -> None:
        self.of: Mapping[int, ServedRelease] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def begin(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="release-trials", daemon=True)
                self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while True:
            out = [release for release in self.of.values() if release.breaker.is_open]
            for release in out:
                release.try_again()
            with self._lock:
                if self._closed.is_set() or not any(release.breaker.is_open for release in self.of.values()):
                    self._thread = None
                    return
            self._closed.wait(0.05)
