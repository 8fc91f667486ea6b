"""What a generator found, and the closed loop that most of them are."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PERCENTILES = (50.0, 99.0, 99.9)


class CallFailed(Exception):
    """A request that was not answered as it should; the text says how."""


@dataclass(frozen=True)
class Outcome:
    """Requests that were answered in the window [`from_ns`, `to_ns`] of `time.time_ns`, after the warm-up."""

    from_ns: int
    to_ns: int
    rows: int
    """Transactions answered in the window."""
    sent_rows: int
    """Transactions sent in all, the warm-up's too."""
    errors: int
    first_error: str
    latency_ms: tuple[float, ...]
    """PERCENTILES of the requests answered in the window; empty where there is none."""

    @classmethod
    def parse(cls, text: str) -> Outcome:
        """What a generator printed."""
        found = json.loads(text)
        return cls(**{**found, "latency_ms": tuple(found["latency_ms"])})

    def text(self) -> str:
        return json.dumps(asdict(self))


class Tally:
    """Requests of `rows_each` transactions as they are answered; `outcome` counts those of the window."""

    def __init__(self, rows_each: int, warm_s: float, seconds: float) -> None:
        self._rows_each = rows_each
        self.from_ns = time.time_ns() + round(warm_s * 1e9)
        self.stop_ns = self.from_ns + round(seconds * 1e9)
        self._sent: list[int] = []
        self._answered: list[int] = []
        self._errors = 0
        self._first_error = ""

    def answered(self, sent_ns: int) -> bool:
        """Count a request that has its answer now; False once the time is over."""
        now = time.time_ns()
        self._sent.append(sent_ns)
        self._answered.append(now)
        return now < self.stop_ns

    def failed(self, error: Exception) -> bool:
        """Count a request that got none; False once the time is over."""
        self._errors += 1
        self._first_error = self._first_error or str(error)[:300]
        return time.time_ns() < self.stop_ns

    def outcome(self) -> Outcome:
        sent, answered = np.array(self._sent, np.int64), np.array(self._answered, np.int64)
        to_ns = min(self.stop_ns, int(answered.max(initial=self.from_ns)))
        inside = (answered >= self.from_ns) & (answered <= to_ns)
        latency = (answered - sent)[inside] / 1e6
        return Outcome(
            from_ns=self.from_ns,
            to_ns=to_ns,
            rows=int(inside.sum()) * self._rows_each,
            sent_rows=(len(sent) + self._errors) * self._rows_each,
            errors=self._errors,
            first_error=self._first_error,
            latency_ms=tuple(np.percentile(latency, PERCENTILES).round(4).tolist()) if len(latency) else (),
        )


async def closed_loop(
    send: Callable[[int], Awaitable[object]],
    count: int,
    callers: int,
    tally: Tally,
    failures: type[Exception] | tuple[type[Exception], ...],
) -> None:
    """`callers` send requests 0, 1, … one after the other until the time, or what there is to send, is over."""
    numbers = iter(range(count))

    async def call() -> None:
        for number in numbers:
            sent = time.time_ns()
            try:
                await send(number)
                go_on = tally.answered(sent)
            except failures as error:
                go_on = tally.failed(error)
            if not go_on:
                return

    await asyncio.gather(*(call() for _ in range(callers)))


def specification() -> dict[str, Any]:
    """What this generator is asked to do."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found


def settle() -> None:
    """What was prepared until now is not looked at again by the garbage collector while it is measured."""
    gc.collect()
    gc.freeze()


def finish(outcome: Outcome) -> None:
    """Print what was found and wait until somebody has read what this process used."""
    sys.stdout.write(outcome.text() + "\n")
    sys.stdout.flush()
    sys.stdin.read()
