"""The same joining of single calls for threads, without a thread of its own: one of the callers sends for all.

A call leaves at once while fewer than `in_flight` requests are out. Otherwise its thread waits. Whoever comes back with
an answer hands the place to one of those that wait, and that one takes the others along.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fraud_client._coalescing import Options, expired, part, seconds_left
from fraud_client._errors import FraudClientError, InvalidRequest, Unavailable
from fraud_client._protocol import Rows, Scored
from fraud_scoring import wire

Send = Callable[[Rows, float, Options], Scored]
"""(rows [N, C], seconds left, options) → the answer to all rows."""


@dataclass(eq=False)
class _Call:
    row: Rows
    expires: float
    woken: threading.Event = field(default_factory=threading.Event)
    leads: list[_Call] | None = None
    """The calls that this one's thread is to send, itself among them."""
    answer: Scored | FraudClientError | None = None

    def finish(self, answer: Scored | FraudClientError) -> None:
        """The first answer stands."""
        if self.answer is None:
            self.answer = answer
            self.woken.set()


class ThreadCoalescer:
    """Every call ends by its own deadline, and a row that the server refuses fails its own call alone."""

    def __init__(self, send: Send, in_flight: int) -> None:
        self._send = send
        self._free = in_flight
        self._lock = threading.Lock()
        self._queues: dict[Options, deque[_Call]] = {}

    @property
    def waiting(self) -> int:
        """Calls that wait for a request to come back."""
        with self._lock:
            return sum(map(len, self._queues.values()))

    def score(self, row: Rows, options: Options) -> Scored:
        """The answer to one row [1, C]."""
        mine = _Call(row, time.monotonic() + options.deadline)
        with self._lock:
            self._queues.setdefault(options, deque()).append(mine)
            self._appoint()
            at_once = mine.leads == [mine]
        if mine.leads is None:
            mine.woken.wait(options.deadline)
        with self._lock:
            leads = mine.leads
            if leads is None and mine.answer is None:
                mine.finish(expired(options.deadline))
        if leads is not None:
            self._lead(leads, options, options.deadline if at_once else _left(leads, options))
        if isinstance(mine.answer, Scored):
            return mine.answer
        assert mine.answer is not None
        raise mine.answer

    def _appoint(self) -> None:
        """With the lock: while requests may go out, let one of the calls that wait send for all of its kind."""
        while self._free and self._queues:
            options = next(iter(self._queues))
            queue = self._queues.pop(options)
            batch = [queue.popleft() for _ in range(min(len(queue), wire.MAX_ROWS))]
            if queue:
                self._queues[options] = queue
            if batch := [call for call in batch if call.answer is None]:
                self._free -= 1
                batch[0].leads = batch
                batch[0].woken.set()

    def _lead(self, batch: list[_Call], options: Options, left: float) -> None:
        try:
            self._deliver(batch, options, left)
        finally:
            with self._lock:
                self._free += 1
                self._appoint()
            for call in batch:  # what ended this thread must not keep the others waiting
                call.finish(Unavailable("the thread that sent this call was ended before the answer came"))

    def _deliver(self, batch: list[_Call], options: Options, left: float) -> None:
        try:
            answer = self._send(np.concatenate([call.row for call in batch]), left, options)
        except InvalidRequest as error:
            if len(batch) == 1:
                batch[0].finish(error)
                return
            half = len(batch) // 2  # nothing was recorded: halve until the refused row is alone
            for some in (batch[:half], batch[half:]):
                self._deliver(some, options, _left(some, options))
            return
        except FraudClientError as error:
            for call in batch:
                call.finish(type(error)(*error.args))
            return
        for i, call in enumerate(batch):
            call.finish(part(answer, i))


def _left(batch: list[_Call], options: Options) -> float:
    return seconds_left(min(call.expires for call in batch), time.monotonic(), options.deadline)
