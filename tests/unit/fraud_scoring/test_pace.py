"""What is left of a deadline when a batch begins."""

from __future__ import annotations

import pytest

from fraud_scoring.pace import KEPT_BACK, LEAST_S, Pace


class Seconds:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_a_pause_nothing_has_waited() -> None:
    clock = Seconds()
    pace = Pace(clock)
    pace.begin()
    assert pace.until(80_000) == pytest.approx(100.0 + (1 - KEPT_BACK) * 0.080)


def test_what_begins_at_once_has_waited_since_the_batch_before_began() -> None:
    clock = Seconds()
    pace = Pace(clock)
    pace.begin()
    clock.now = 100.05
    pace.end()
    pace.begin()
    assert pace.until(80_000) == pytest.approx(100.0 + (1 - KEPT_BACK) * 0.080)
    clock.now = 100.06
    pace.end()
    clock.now = 101.0
    pace.begin()
    assert pace.until(80_000) == pytest.approx(101.0 + (1 - KEPT_BACK) * 0.080)


def test_a_very_short_deadline_does_not_take_the_time_of_the_others() -> None:
    pace = Pace(Seconds())
    pace.begin()
    assert pace.until(1) == pytest.approx(100.0 + (1 - KEPT_BACK) * LEAST_S)
