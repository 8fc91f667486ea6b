"""Challengers score what the champion scored, after the reply, from the state that the champion saw.

The request path hands over references and one small copy, and wakes nobody. A thread looks twice a second at what
has gathered: one call of a challenger's model for hundreds of rows, so that few requests meet it at work. It does
nothing while the front door is busy; what then has waited too long, or finds no room, is dropped and counted. Nothing
here can record anything: histories come from the batch that was answered, and the log is a writer's of its own.

The thread keeps the priority of its process. It shares the interpreter's lock with the request path, and a thread that
was made to yield the processor while it holds that lock would keep the requests waiting.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.breaker import Breaker, Patience
from fraud_scoring.decision import Int32
from fraud_scoring.decision_log import Context, LogUnavailable
from fraud_scoring.decision_log.contents import Shadowed
from fraud_scoring.errors import FraudError, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import release_name
from fraud_scoring.routing import Answered, BatchFeatures, Model
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64

EVERY_S: Final = 0.5
"""How long rows gather. The longer, the fewer requests meet the shadow at work."""
LATE_S: Final = 2.0
"""Rows that waited longer than this are dropped."""
MOST_ROWS: Final = 4_000
"""Rows that may wait."""
MOST_CALL_ROWS: Final = 256
"""Rows of one call of a challenger's model: a millisecond or two of a processor."""
MOST_BUSY: Final = 0.8
"""The share of its time that the front door may have spent on answers since the last look, or nothing is done."""
YIELD_S: Final = 0.0005
"""A pause between steps that hold the interpreter's lock."""
CALL_S: Final = 1.0
"""How long a challenger's model may take."""
SYNC_EVERY_S: Final = 10.0
"""How often the shadow's log is brought to the disk: the champion's log waits for the disk while that lasts."""
TELL_AFTER_S: Final = 1.0
"""Dropped rows wait so long for a frame of scores to carry their number; then a frame without rows does."""
_AGAIN: Final = Patience(failures=1, pause_s=5.0)
"""A challenger that did not answer is left alone for so long."""
_LOG = logging.getLogger(__name__)


class ShadowLog(Protocol):
    """What a shadow needs of a `decision_log.LogWriter`."""

    def set_context(self, context: Context) -> None:
        """Say what the columns from here on mean, where that is not what they meant before."""

    def append(self, content: Shadowed) -> None:
        """Write a frame; LogUnavailable: it is not in the log."""

    def close(self) -> None:
        """End the log."""


@dataclass(eq=False)
class Challenger:
    """A release that shadows: its rules here, its model elsewhere, what it did not score since it was last logged."""

    pipeline: Pipeline
    model: Model
    clock: Callable[[], float] = time.monotonic
    breaker: Breaker = field(default_factory=lambda: Breaker(_AGAIN))
    full: int = 0
    """Rows that found no room; the request path counts them."""
    full_told: int = 0
    late: int = 0
    failed: int = 0
    told_at: float = float("-inf")

    @property
    def number(self) -> int:
        return self.pipeline.rule.release

    def score(self, features: Float32, until: float) -> tuple[Float32, Int32]:
        """(score FP32 [N], decision INT32 [N]) of features FP32 [N, F]; ReleaseUnavailable where there is none.

        Reasons are left out: they would cost as much again, and are no one's to read.
        """
        if self.breaker.is_open and not self.breaker.trial_due(self.clock()):
            raise ReleaseUnavailable(f"release {release_name(self.number)} did not answer a moment ago")
        try:
            margin = self.model(features, until)
            if not np.isfinite(margin).all():
                raise ReleaseUnavailable(f"release {release_name(self.number)} gave a margin that is no number")
        except ReleaseUnavailable:
            self.breaker.failed(self.clock())
            raise
        self.breaker.close()
        score = self.pipeline.rule.calibrate(margin[:, 0])
        return score, self.pipeline.rule.verdict(score)[:, wire.VERDICT_DECISION]

    def dropped(self) -> Int64:
        """Rows by DROPPED, int64 [3]."""
        return np.array([self.full - self.full_told, self.late, self.failed], np.int64)

    def told(self, dropped: Int64, now: float) -> None:
        """What `dropped` gave is in the log."""
        self.full_told += int(dropped[0])
        self.late = self.failed = 0
        self.told_at = now


class Seen(NamedTuple):
    """A batch as the champion answered it, at a moment of `time.monotonic`."""

    at: float
    challengers: tuple[Challenger, ...]
    rows: Int64
    answers: Answered
    features: BatchFeatures


class _Part(NamedTuple):
    """Rows that a challenger is to score, and what was answered to them."""

    rows: Int64
    score: Float32
    verdict: Int32
    features: Float32


class Shadow:
    """Hands batches from the request path to the challengers that `follow` named last.

    `open_log` opens the shadow's log, when first there is a challenger; it is called in the shadow's thread.
    """

    def __init__(
        self,
        open_log: Callable[[Context], ShadowLog],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_log = open_log
        self._every_s = every_s
        self._clock = clock
        self._challengers: tuple[Challenger, ...] = ()
        self._context: Context | None = None
        self._waiting: deque[Seen] = deque()
        self._taken = self._done = 0  # rows: the one is the request path's, the other the thread's
        self._worked_s = 0.0
        self._looked = (clock(), 0.0)
        self._log: ShadowLog | None = None
        self._log_fails = False
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @property
    def is_on(self) -> bool:
        return bool(self._challengers)

    def follow(self, challengers: Mapping[int, Callable[[], Challenger]], context: Context) -> None:
        """Let `challengers`, by their release, score from the next batch on; those that are new are opened.

        `context`: the release in production; its columns are those of all releases of the table.
        """
        known = {one.number: one for one in self._challengers}
        self._context = context
        self._challengers = tuple(
            known.pop(number) if number in known else begin() for number, begin in challengers.items()
        )
        for gone in known.values():
            gone.model.close()
        if self._challengers and self._thread is None:
            self._looked = (self._clock(), self._worked_s)
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()

    def take(self, rows: Int64, answers: Answered, features: BatchFeatures) -> None:
        """What the champion answered to rows int64 [N, C] that it saw for the first time, and what it saw."""
        challengers = self._challengers
        if self._taken - self._done + len(rows) > MOST_ROWS:
            for challenger in challengers:
                challenger.full += len(rows)
            return
        self._taken += len(rows)
        own = rows.copy()  # a request's rows are Triton's memory
        self._waiting.append(Seen(self._clock(), challengers, own, answers, features.with_rows(own)))

    def worked(self, seconds: float) -> None:
        """The front door was at work so long."""
        self._worked_s += seconds

    def close(self) -> None:
        """Let go what waits, end the thread and its log."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(CALL_S + 1.0)

    def look(self) -> None:
        """Score what has gathered; the thread's work, twice a second."""
        self._drop_late()
        seen = [self._waiting.popleft() for _ in range(len(self._waiting))]  # more may come meanwhile
        try:
            if not self._is_busy():
                while seen and not self._closed.is_set():
                    self._score(_some(seen))
        finally:
            self._waiting.extendleft(reversed(seen))
        for challenger in self._challengers:
            self._tell(challenger)
        if not self._challengers and self._log is not None:
            self._log.close()
            self._log = None

    def _run(self) -> None:
        try:
            while not self._closed.wait(self._every_s):
                try:
                    self.look()
                except Exception:  # noqa: BLE001 - the thread must live
                    _LOG.exception("shadow: a look failed, and what it had taken is not scored")
        finally:
            if self._log is not None:
                self._log.close()

    def _is_busy(self) -> bool:
        """Whether the front door had hardly any time left since the last look."""
        now, worked_s = self._clock(), self._worked_s
        began, before_s = self._looked
        self._looked = (now, worked_s)
        return worked_s - before_s > MOST_BUSY * max(now - began, 1e-9)

    def _drop_late(self) -> None:
        too_old = self._clock() - LATE_S
        while self._waiting and self._waiting[0].at < too_old:
            late = self._waiting.popleft()
            self._done += len(late.rows)
            for challenger in late.challengers:
                challenger.late += len(late.rows)

    def _score(self, seen: list[Seen]) -> None:
        """Let the challengers of `seen` score it, and log what they say."""
        try:
            for challenger in self._challengers:
                parts = [self._part(challenger, one) for one in seen if challenger in one.challengers]
                if there := [part for part in parts if part is not None]:
                    self._score_by(challenger, _Part(*(np.concatenate(column) for column in zip(*there, strict=True))))
        finally:
            self._done += sum(len(one.rows) for one in seen)

    def _part(self, challenger: Challenger, seen: Seen) -> _Part | None:
        """What a challenger is to score of a batch: rows that another release answered by features."""
        score, verdict, has_features = _columns(seen.answers)
        mine = has_features & (verdict[:, wire.VERDICT_RELEASE] != challenger.number)
        if not mine.any():
            return None
        made = seen.features.has(challenger.pipeline)
        features = seen.features.by(challenger.pipeline)
        if not made:
            time.sleep(YIELD_S)
        return _Part(seen.rows[mine], score[mine], verdict[mine], features[mine])

    def _score_by(self, challenger: Challenger, part: _Part) -> None:
        try:
            score, decision = challenger.score(part.features, challenger.clock() + CALL_S)
        except FraudError:
            challenger.failed += len(part.rows)
            return
        champion = part.verdict[:, [wire.VERDICT_RELEASE, wire.VERDICT_SOURCE, wire.VERDICT_DECISION]]
        if not self._append(challenger, part.rows, champion, part.score, score, decision):
            challenger.failed += len(part.rows)

    def _tell(self, challenger: Challenger) -> None:
        """Log what was dropped where no frame of scores carries it."""
        if challenger.dropped().any() and self._clock() - challenger.told_at >= TELL_AFTER_S:
            rows, champion = np.empty((0, challenger.pipeline.schema.width), np.int64), np.empty((0, 3), np.int32)
            nothing = np.empty(0, np.float32)
            self._append(challenger, rows, champion, nothing, nothing, champion[:, 0])

    def _append(
        self,
        challenger: Challenger,
        rows: Int64,
        champion: Int32,
        champion_score: Float32,
        score: Float32,
        decision: Int32,
    ) -> bool:
        """Whether the log has the frame."""
        dropped = challenger.dropped()
        try:
            assert self._context is not None, "who has challengers has a context"
            if self._log is None:
                self._log = self._open_log(self._context)
            self._log.set_context(self._context)
            self._log.append(Shadowed(challenger.number, rows, champion, champion_score, score, decision, dropped))
        except LogUnavailable as failure:
            if not self._log_fails:
                _LOG.error("shadow: %s", failure)
            self._log_fails = True
            return False
        self._log_fails = False
        challenger.told(dropped, self._clock())
        return True


def _some(seen: list[Seen]) -> list[Seen]:
    """The oldest batches, taken out of `seen`: about as many rows as one call may have."""
    rows, count = 0, 0
    while count < len(seen) and (count == 0 or rows + len(seen[count].rows) <= MOST_CALL_ROWS):
        rows += len(seen[count].rows)
        count += 1
    taken = seen[:count]
    del seen[:count]
    return taken


def _columns(answered: Answered) -> tuple[Float32, Int32, npt.NDArray[np.bool_]]:
    """(score [N], verdict [N, 6], whether a row was answered by features [N])."""
    parts = [answered] if isinstance(answered, Answers) else answered
    return (
        np.concatenate([part.score.reshape(-1) for part in parts]),
        np.concatenate([part.verdict for part in parts]),
        np.concatenate([np.full(len(part.verdict), part.features.shape[1] > 0) for part in parts]),
    )
