"""A circuit breaker: when it opens, who may try, and what closes it."""

from __future__ import annotations

from fraud_scoring.breaker import Breaker, Patience


def opened(at: float = 10.0) -> Breaker:
    breaker = Breaker(Patience(failures=2, pause_s=1.0))
    assert not breaker.failed(at - 1.0)
    assert breaker.failed(at)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = opened(10.0)
    assert breaker.is_open


def test_one_that_was_waited_for_in_vain_opens_it_alone_and_a_trial_is_due_at_once() -> None:
    breaker = Breaker(Patience(failures=2, pause_s=1.0))
    assert breaker.failed(10.0, in_vain=True)
    assert breaker.is_open
    assert [breaker.trial_due(moment) for moment in (10.0, 10.9, 11.0)] == [True, False, True]


def test_an_answer_between_two_failures_keeps_it_closed() -> None:
    breaker = Breaker(Patience(failures=2))
    for moment in range(10):
        assert not breaker.failed(float(moment))
        breaker.succeeded()
    assert not breaker.is_open


def test_it_tells_once_that_it_opened() -> None:
    assert not opened().failed(11.0)


def test_one_trial_is_due_after_each_pause() -> None:
    breaker = opened(10.0)
    assert [breaker.trial_due(moment) for moment in (10.5, 11.0, 11.1, 11.9, 12.0)] == [False, True, False, False, True]


def test_a_late_success_does_not_close_it_and_a_trial_does() -> None:
    breaker = opened()
    breaker.succeeded()
    assert breaker.is_open
    breaker.close()
    assert not breaker.is_open
    assert not breaker.trial_due(1e9)
    assert not breaker.failed(1e9), "it counts from the beginning"
