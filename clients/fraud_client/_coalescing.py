"""Joins single calls that wait at the same time into one request; a request's cost is then shared by its rows.

A call leaves at once while fewer than `in_flight` requests are out. Otherwise it waits, and leaves, joined with what
waits beside it, as soon as one of them is back. Nothing waits on a timer, so a lone call is not slower.

At most `max_waiting` calls wait. One more is `Overloaded` at once and does not wait for a place: to wait here is
already the wait within its deadline, and with 10,000 ahead of it that deadline would nearly always be lost in line. So
its caller learns in microseconds what it can still act on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from fraud_client._errors import DeadlineExceeded, FraudClientError, InvalidRequest, Overloaded, Unavailable
from fraud_client._protocol import Rows, Scored
from fraud_scoring import wire

REQUESTS_IN_FLIGHT: Final = 3


class Options(NamedTuple):
    """What calls must have in common to travel together."""

    deadline: float
    dry_run: bool
    with_features: bool


@dataclass(eq=False)
class _Waiting:
    row: Rows
    expires: float
    answer: asyncio.Future[Scored]


Send = Callable[[Rows, float, Options], Awaitable[Scored]]
"""(rows [N, C], seconds left, options) → the answer to all rows."""


class Coalescer:
    """Every call ends by its own deadline, and a row that the server refuses fails its own call alone."""

    def __init__(self, send: Send, in_flight: int, max_waiting: int) -> None:
        self._send = send
        self._free = in_flight
        self._max_waiting = max_waiting
        self._queues: dict[Options, dict[_Waiting, None]] = {}
        self._out: set[asyncio.Task[None]] = set()
        self.waiting = 0
        """Calls that wait for a request to come back."""
        self.overloaded = 0
        """Calls that were not let in."""

    async def score(self, row: Rows, options: Options) -> Scored:
        """The answer to one row [1, C]."""
        if self.waiting >= self._max_waiting:
            self.overloaded += 1
            raise overloaded(self._max_waiting)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(row, loop.time() + options.deadline, loop.create_future())
        self._queues.setdefault(options, {})[waiting] = None
        self.waiting += 1
        loop.call_soon(self._dispatch)
        expiry = loop.call_later(options.deadline, _expire, waiting, options.deadline)
        try:
            return await waiting.answer
        except BaseException:
            queue = self._queues.get(options, {})
            if waiting in queue:  # its time was over, or it was cancelled, before it was sent
                del queue[waiting]
                self.waiting -= 1
            raise
        finally:
            expiry.cancel()

    async def drain(self) -> None:
        """Wait until every call that was made has its answer."""
        await asyncio.sleep(0)
        while self._out:
            await asyncio.wait(self._out)

    def _dispatch(self) -> None:
        while self._free and self._queues:
            options = next(iter(self._queues))
            if batch := self._take(options):
                self._free -= 1
                task = asyncio.create_task(self._deliver(batch, options))
                self._out.add(task)
                task.add_done_callback(partial(self._returned, batch))

    def _take(self, options: Options) -> list[_Waiting]:
        """What waits under these options, up to a request's limit; what is left goes to the end of the line."""
        queue = self._queues.pop(options)
        batch = list(islice(queue, wire.MAX_ROWS))
        if len(batch) < len(queue):
            for waiting in batch:
                del queue[waiting]
            self._queues[options] = queue
        self.waiting -= len(batch)
        return [waiting for waiting in batch if not waiting.answer.done()]

    async def _deliver(self, batch: list[_Waiting], options: Options) -> None:
        earliest = min(waiting.expires for waiting in batch)
        left = seconds_left(earliest, asyncio.get_running_loop().time(), options.deadline)
        try:
            answer = await self._send(np.concatenate([waiting.row for waiting in batch]), left, options)
        except InvalidRequest as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            half = len(batch) // 2  # nothing was recorded: halve until the refused row is alone
            await asyncio.gather(self._deliver(batch[:half], options), self._deliver(batch[half:], options))
            return
        except FraudClientError as error:
            _fail(batch, error)
            return
        for i, waiting in enumerate(batch):
            if not waiting.answer.done():
                waiting.answer.set_result(part(answer, i))

    def _returned(self, batch: list[_Waiting], task: asyncio.Task[None]) -> None:
        self._out.discard(task)
        self._free += 1
        error = None if task.cancelled() else task.exception()
        _fail(batch, error or Unavailable("the client was closed before the answer came"))
        self._dispatch()


def part(answer: Scored, i: int) -> Scored:
    """The answer to row `i` of a joined request."""
    features = None if answer.features is None else answer.features[i : i + 1]
    return Scored(answer.score[i : i + 1], answer.verdict[i : i + 1], features)


def expired(deadline: float) -> DeadlineExceeded:
    """What a call gets whose time of so many seconds passed while it waited."""
    return DeadlineExceeded(f"no answer within {deadline * 1e3:g} ms; send it again, or allow more")


def overloaded(most: int) -> Overloaded:
    """What a call gets that finds so many in line."""
    return Overloaded(
        f"{most:,} calls wait in this client already, the most that may; send less, add servers or clients, or raise "
        "Policy.max_waiting"
    )


def seconds_left(earliest: float, now: float, deadline: float) -> float:
    """For a joined request: what its most urgent call has, and half of what the others were given at least."""
    return max(earliest - now, deadline / 2)


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    """Each caller that still waits gets an exception object of its own, with a traceback of its own."""
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(type(error)(*error.args))


def _expire(waiting: _Waiting, deadline: float) -> None:
    _fail([waiting], expired(deadline))
