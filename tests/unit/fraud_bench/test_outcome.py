"""What a generator counts: the answers of its window, and every error."""

from __future__ import annotations

import asyncio

import pytest

from fraud_bench.generators import outcome
from fraud_bench.generators.outcome import Outcome, Tally, closed_loop

MS = 1_000_000


class Clock:
    """`time.time_ns` that a test sets."""

    def __init__(self) -> None:
        self.ns = 10**18

    def time_ns(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(outcome, "time", clock)
    return clock


def answered(clock: Clock, tally: Tally, after_ms: int, latency_ms: int) -> bool:
    clock.ns += after_ms * MS
    return tally.answered(clock.ns - latency_ms * MS)


def test_only_what_was_answered_in_the_window_counts(clock: Clock) -> None:
    tally = Tally(8, warm_s=0.1, seconds=0.2)
    assert answered(clock, tally, 50, latency_ms=40)  # warm-up
    assert answered(clock, tally, 100, latency_ms=2)
    assert answered(clock, tally, 100, latency_ms=4)
    assert not answered(clock, tally, 100, latency_ms=9)  # too late
    found = tally.outcome()
    assert (found.rows, found.sent_rows) == (16, 32)
    assert found.to_ns - found.from_ns == 200 * MS
    assert found.latency_ms[0] == 3.0


def test_a_window_ends_with_its_last_answer(clock: Clock) -> None:
    tally = Tally(1, warm_s=0.0, seconds=10.0)
    answered(clock, tally, 500, latency_ms=1)
    found = tally.outcome()
    assert found.to_ns - found.from_ns == 500 * MS


def test_errors_are_counted_and_the_first_is_told(clock: Clock) -> None:
    tally = Tally(1, warm_s=0.0, seconds=1.0)
    assert tally.failed(ValueError("the first"))
    clock.ns += 2_000 * MS
    assert not tally.failed(ValueError("the second"))
    found = tally.outcome()
    assert (found.errors, found.first_error, found.rows, found.sent_rows) == (2, "the first", 0, 2)
    assert found.latency_ms == ()


def test_an_outcome_comes_back_from_its_text() -> None:
    one = Outcome(1, 2, 3, 4, 5, "why", (1.0, 2.0, 3.0))
    assert Outcome.parse(one.text()) == one


def test_a_closed_loop_sends_each_request_once_and_goes_on_after_an_error() -> None:
    sent: list[int] = []

    async def send(number: int) -> None:
        sent.append(number)
        await asyncio.sleep(0)
        if number == 3:
            raise ValueError("no")

    tally = Tally(1, warm_s=0.0, seconds=60.0)
    asyncio.run(closed_loop(send, 10, 4, tally, ValueError))
    assert sorted(sent) == list(range(10))
    assert tally.outcome().errors == 1
