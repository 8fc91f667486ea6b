"""The same joining of single calls for threads, without a thread of its own: one of the callers sends for all.

A call leaves at once while fewer than `in_flight` requests are out. Otherwise its thread waits. Whoever comes back with
an answer hands the place to one of those that wait, and that one takes the others along. A thread that is interrupted
(KeyboardInterrupt) hands on what it had been given. At most `max_waiting` calls wait, for the reason in `_coalescing`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from fraud_client._coalescing import Options, expired, overloaded, part, seconds_left
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
    queued: bool = False
    """Whether it is in line."""
    sent: bool = False
    """Whether this one's thread has begun to send."""

    def finish(self, answer: Scored | FraudClientError) -> None:
        """The first answer stands."""
        if self.answer is None:
            self.answer = answer
            self.woken.set()


class ThreadCoalescer:
    """Every call ends by its own deadline, and a row that the server refuses fails its own call alone."""

    def __init__(self, send: Send, in_flight: int, max_waiting: int) -> None:
        self._send = send
        self._free = in_flight
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._queues: dict[Options, dict[_Call, None]] = {}
        self._waiting = 0
        self.overloaded = 0
        """Calls that were not let in."""

    @property
    def waiting(self) -> int:
        """Calls that wait for a request to come back."""
        with self._lock:
            return self._waiting

    def score(self, row: Rows, options: Options) -> Scored:
        """The answer to one row [1, C]."""
        mine = _Call(row, time.monotonic() + options.deadline)
        try:
            with self._lock:
                if self._waiting >= self._max_waiting:
                    self.overloaded += 1
                    raise overloaded(self._max_waiting)
                self._queues.setdefault(options, {})[mine] = None
                mine.queued = True
                self._waiting += 1
                self._appoint()
                at_once = mine.leads == [mine]
            if mine.leads is None and not mine.woken.wait(options.deadline):
                self._expire(mine, options)
            if mine.leads is not None:
                mine.sent = True
                self._deliver(mine.leads, options, options.deadline if at_once else _left(mine.leads, options))
        finally:
            if mine.leads is not None or mine.answer is None:
                self._leave(mine, options)
        if isinstance(mine.answer, Scored):
            return mine.answer
        assert mine.answer is not None
        raise mine.answer

    def _appoint(self) -> None:
        """With the lock: while requests may go out, let one of the calls that wait send for all of its kind."""
        while self._free and self._queues:
            options = next(iter(self._queues))
            queue = self._queues.pop(options)
            batch = list(islice(queue, wire.MAX_ROWS))
            if len(batch) < len(queue):
                for call in batch:
                    del queue[call]
                self._queues[options] = queue
            for call in batch:
                call.queued = False
            self._waiting -= len(batch)
            if batch:
                self._free -= 1
                batch[0].leads = batch
                batch[0].woken.set()

    def _expire(self, mine: _Call, options: Options) -> None:
        """Its time is over, unless it was appointed, or answered, at the last moment."""
        with self._lock:
            if mine.leads is None:
                mine.finish(expired(options.deadline))
                self._unqueue(mine, options)

    def _unqueue(self, mine: _Call, options: Options) -> None:
        """With the lock."""
        if mine.queued:
            mine.queued = False
            self._waiting -= 1
            queue = self._queues[options]
            del queue[mine]
            if not queue:
                del self._queues[options]

    def _leave(self, mine: _Call, options: Options) -> None:
        """However this thread's call ended: it is not in line, and the place of the request that it led is free.

        What it was to send and did not, others send: they go to the head of their line.
        """
        with self._lock:
            self._unqueue(mine, options)
            batch, mine.leads = mine.leads, None
            if batch is None:
                return
            if not mine.sent:
                self._put_back([call for call in batch if call is not mine and call.answer is None], options)
            self._free += 1
            self._appoint()
        if mine.sent:
            for call in batch:
                if call.answer is None:  # what ended this thread must not keep the others waiting
                    call.finish(Unavailable("the thread that sent this call was ended before the answer came"))

    def _put_back(self, calls: list[_Call], options: Options) -> None:
        """With the lock."""
        if calls:
            for call in calls:
                call.queued = True
            self._waiting += len(calls)
            self._queues = {options: dict.fromkeys(calls) | self._queues.pop(options, {}), **self._queues}

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
