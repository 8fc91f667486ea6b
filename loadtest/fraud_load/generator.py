"""One generator process: an event loop that sends its share of a plan, open-loop, and keeps the times of each arrival.

When something is sent depends on the plan alone. An arrival is taken up as soon as its intended time has come, to the
millisecond of an event loop's timer; how late that was is the generator's own lag. Then it goes out at once, or, where
the scenario coalesces, with all that waits as soon as fewer than `in_flight` requests of this process are out: the rule
of the client library (`AsyncFraudClient`), on slices of one matrix instead of on single calls, so that ten thousand
transactions a second cost a small part of a core.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_client import AsyncTransport, Call, DeadlineExceeded, FraudClientError, InvalidRequest, Unavailable
from fraud_load.result import NO_SOURCE, Requests, Status
from fraud_load.scenario import Sending
from fraud_load.workload import Int64, Plan
from fraud_scoring.wire import (
    MAX_ROWS,
    PARAMETER_DEADLINE,
    PARAMETER_PURPOSE,
    PURPOSE_SCORE,
    SCORE,
    SCORE_MODEL,
    TRANSACTION,
    VERDICT,
    VERDICT_COLUMNS,
    VERDICT_SOURCE,
)

_LOOK_EVERY_S: Final = 0.25
"""How soon a stop is noticed between arrivals."""


@dataclass(frozen=True, eq=False)
class Ended:
    """Arrivals that ended since the last look: their positions in the plan, and latency in seconds."""

    position: npt.NDArray[np.int64]
    latency_s: npt.NDArray[np.float64]


class Record:
    """What became of each arrival of a plan; times on the sender's clock until `requests` subtracts the start."""

    def __init__(self, plan: Plan) -> None:
        n = len(plan)
        self.plan = plan
        self.taken, self.sent, self.done = (np.full(n, np.nan) for _ in range(3))
        self.status = np.full(n, Status.UNSENT, np.int8)
        self.source = np.full(n, NO_SOURCE, np.int8)
        self.call = np.full(n, -1, np.int32)

    def requests(self, start: float) -> Requests:
        """All of it, second 0 being `start` on the clock."""
        return Requests(
            intended_s=self.plan.intended_s,
            taken_s=self.taken - start,
            sent_s=self.sent - start,
            done_s=self.done - start,
            rows=np.diff(self.plan.first).astype(np.int16),
            status=self.status,
            source=self.source,
            kind=self.plan.kind,
            call=self.call,
        )


def score_call(rows: Int64, sending: Sending, purpose: str) -> Call:
    """The request with these rows: the server is told the deadline, and we wait longer, to see how late it is."""
    parameters: dict[str, int | str] = {PARAMETER_DEADLINE: round(sending.deadline_ms * 1e3)}
    if purpose != PURPOSE_SCORE:
        parameters[PARAMETER_PURPOSE] = purpose
    return Call(SCORE_MODEL, TRANSACTION, rows, (SCORE, VERDICT), sending.give_up_s, parameters)


def sources(answer: Mapping[str, npt.NDArray[Any]], rows: int) -> npt.NDArray[np.int32] | None:
    """[N] the source of each row; None where the answer breaks the contract."""
    verdict = answer.get(VERDICT)
    if verdict is None or verdict.shape != (rows, len(VERDICT_COLUMNS)):
        return None
    column: npt.NDArray[np.int32] = verdict[:, VERDICT_SOURCE]
    return column


class Generator:
    """Sends `plan` (with `rows` as stamped) through `transport`; `clock` is monotonic and in seconds."""

    def __init__(
        self,
        plan: Plan,
        rows: Int64,
        sending: Sending,
        transport: AsyncTransport,
        *,
        purpose: str = PURPOSE_SCORE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._rows, self._sending = plan, rows, sending
        self._transport, self._clock = transport, clock
        self._purpose = purpose
        self._record = Record(plan)
        self._first: list[int] = plan.first.tolist()
        self._calls = 0
        self._head = self._tail = 0
        """Arrivals [head, tail) were taken up and wait to be sent."""
        self._out: set[asyncio.Task[None]] = set()
        self._ended: list[tuple[int, int]] = []
        self._stopped = False
        self._failure: BaseException | None = None
        self._start = 0.0

    def stop(self) -> None:
        """Take up nothing more; what was taken up is sent and waited for."""
        self._stopped = True

    @property
    def taken(self) -> int:
        """Arrivals that were taken up until now."""
        return self._tail

    def ended(self) -> Ended:
        """What ended since the last call."""
        ranges, self._ended = self._ended, []
        if not ranges:
            return Ended(np.empty(0, np.int64), np.empty(0))
        position = np.concatenate([np.arange(a, b) for a, b in ranges])
        return Ended(position, self._record.done[position] - self._start - self._plan.intended_s[position])

    async def run(self, start: float) -> Requests:
        """Send everything, the first arrival's second 0 being `start` on the clock; ends with the last answer."""
        self._start = start
        due = self._plan.intended_s + start
        while self._tail < len(due) and not self._stopped:
            now = self._clock()
            wait = due[self._tail] - now
            if wait > 0:
                await asyncio.sleep(min(wait, _LOOK_EVERY_S))
                continue
            upto = int(np.searchsorted(due, now, side="right"))
            self._record.taken[self._tail : upto] = now
            self._tail = upto
            self._dispatch()
            await asyncio.sleep(0)
        self._dispatch()
        while self._out:
            await asyncio.wait(self._out)
        if self._failure is not None:
            raise self._failure
        return self._record.requests(start)

    def _dispatch(self) -> None:
        """Send what waits, as far as it may go out now."""
        self._give_up_on_what_waits()
        while self._head < self._tail:
            stop = self._head + 1
            if self._sending.coalesce:
                if len(self._out) >= self._sending.in_flight:
                    return
                most = self._first[self._head] + MAX_ROWS
                stop = max(stop, min(self._tail, int(np.searchsorted(self._plan.first, most, side="right")) - 1))
            task = asyncio.create_task(self._carry(self._head, stop))
            self._head = stop
            self._out.add(task)
            task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._out.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure, self._stopped = error, True
        else:
            self._dispatch()

    def _give_up_on_what_waits(self) -> None:
        """While nothing comes back, what has waited as long as a caller would is over, so that a run ends."""
        if not self._sending.coalesce or self._head == self._tail:
            return
        now = self._clock()
        oldest = now - self._start - self._sending.give_up_s
        over = int(np.searchsorted(self._plan.intended_s[: self._tail], oldest, side="left"))
        if over > self._head:
            self._record.sent[self._head : over] = now
            self._end(self._head, over, Status.TIMEOUT, now)
            self._head = over

    async def _carry(self, a: int, b: int) -> None:
        """One request with the arrivals [a, b)."""
        rows = self._rows[self._first[a] : self._first[b]]
        record = self._record
        record.call[a:b] = self._calls
        self._calls += 1
        record.sent[a:b] = self._clock()
        try:
            answer = await self._transport.infer(score_call(rows, self._sending, self._purpose))
        except FraudClientError as error:
            self._end(a, b, status_of(error), self._clock())
            return
        now = self._clock()
        found = sources(answer, len(rows))
        if found is None:
            self._end(a, b, Status.OTHER, now)
            return
        record.source[a:b] = np.maximum.reduceat(found, np.subtract(self._first[a:b], self._first[a]))
        self._end(a, b, Status.OK, now)

    def _end(self, a: int, b: int, status: Status, now: float) -> None:
        self._record.done[a:b] = now
        self._record.status[a:b] = status
        self._ended.append((a, b))


def status_of(error: FraudClientError) -> Status:
    """How a call ended that raised this."""
    if isinstance(error, InvalidRequest):
        return Status.REFUSED
    if isinstance(error, DeadlineExceeded):
        return Status.TIMEOUT
    return Status.UNAVAILABLE if isinstance(error, Unavailable) else Status.OTHER
