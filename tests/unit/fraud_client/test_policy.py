"""Budgets, quantiles, breakers and the choice of an endpoint, on a clock that the tests turn."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_client import DeadlineExceeded, InvalidRequest, Policy, ServerFailed, Unavailable
from fraud_client._breaker import Breaker, BreakerState
from fraud_client._endpoints import Attempt, Endpoints, named_transports
from fraud_client._hedging import Race
from fraud_client._latencies import Latencies
from fraud_client._recent import SLOTS, Budget, Recent
from support.rows import SEEDED

WINDOW = Policy().window


def middle() -> float:
    """The jitter that changes nothing."""
    return 0.5


def endpoints(count: int = 2, **settings: float) -> Endpoints:
    return Endpoints([f"server-{i}" for i in range(count)], Policy(**settings), middle)  # type: ignore[arg-type]


def with_latencies(found: Endpoints, seconds: float = 0.010, count: int = 100) -> Endpoints:
    """Every request so far took so long."""
    for _ in range(count):
        found.answered(found.first(0.0), seconds)
    return found


# Settings


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"retry_share": 1.1}, "retry_share must be a share from 0 to 1"),
        ({"hedge_share": -0.1}, "hedge_share must be a share from 0 to 1"),
        ({"hedge_quantile": 1.0}, "hedge_quantile must be a share between 0 and 1"),
        ({"breaker_share": 0.0}, "breaker_share must be a share above 0, at most 1"),
        ({"retry_reserve": -1}, "retry_reserve must be 0 or more"),
        ({"max_waiting": 0}, "max_waiting must be 1 or more"),
        ({"retry_pause": -1.0}, "retry_pause must be 0 seconds or more"),
        ({"window": 0.0}, "window must be above 0 seconds"),
        ({"breaker_open": 3.0}, "breaker_open_most must be at least breaker_open"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_refused_by_name(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InvalidRequest, match=rule):
        Policy(**settings)  # type: ignore[arg-type]


def test_several_servers_are_named_with_commas_or_as_a_sequence() -> None:
    assert named_transports("a:1, b:2", None, str.upper) == (("a:1", "b:2"), ["A:1", "B:2"])
    assert named_transports(["a:1", "b:2"], None, str.upper) == (("a:1", "b:2"), ["A:1", "B:2"])
    for wrong, remedy in (("", "must name a server"), ("a:1,", "must name a server"), ("a:1,a:1", "name each once")):
        with pytest.raises(InvalidRequest, match=remedy):
            named_transports(wrong, None, str.upper)


# Budgets


def test_a_window_forgets_what_is_older() -> None:
    recent = Recent(10.0)
    recent.add(0.5, 5, 2)
    recent.add(5.0, 3, 1)
    recent.look(9.9)
    assert (recent.count, recent.marked) == (8, 3)
    recent.look(10.0)
    assert (recent.count, recent.marked) == (3, 1)
    recent.look(4.0)  # a clock that goes back
    assert (recent.count, recent.marked) == (3, 1)
    recent.look(1e6)
    assert (recent.count, recent.marked) == (0, 0)


def test_a_share_of_nothing_grants_nothing() -> None:
    budget = Budget(0.0, 10, WINDOW)
    budget.request(0.0)
    assert not budget.grant(0.0)


@SEEDED
@given(
    seed=st.integers(0, 2**32),
    share=st.sampled_from([0.05, 0.1, 0.3]),
    reserve=st.integers(0, 12),
    rate=st.floats(0.2, 500),
)
def test_extra_requests_never_exceed_the_budget(seed: int, share: float, reserve: int, rate: float) -> None:
    """Counted anew from what was granted: per window that ends in a grant, and over the whole time."""
    dice = random.Random(seed)
    budget = Budget(share, reserve, WINDOW)
    now, requests, extras = 0.0, list[int](), list[int]()
    for _ in range(1_500):
        now += dice.expovariate(rate)
        slot = int(now / (WINDOW / SLOTS))
        if dice.random() < 0.6:
            budget.request(now)
            requests.append(slot)
        elif budget.grant(now):
            extras.append(slot)
            spent = sum(one > slot - SLOTS for one in extras)
            assert spent <= reserve + share * sum(one > slot - SLOTS for one in requests) + 1e-9
    windows = int(now / WINDOW) + 1
    assert len(extras) <= reserve * windows + share * len(requests) + 1e-9


@SEEDED
@given(seed=st.integers(0, 2**32), servers=st.integers(1, 4), failing=st.floats(0, 1), rate=st.floats(1, 1_000))
def test_whatever_servers_do_retries_and_hedges_stay_within_their_budgets(
    seed: int, servers: int, failing: float, rate: float
) -> None:
    dice = random.Random(seed)
    found = Endpoints([f"s{i}" for i in range(servers)], Policy(), dice.random)
    now, sent, retries, hedges = 0.0, 0, 0, 0

    def ends(attempt: Attempt) -> bool:
        """Whether it got UNAVAILABLE."""
        if dice.random() < failing:
            error = dice.choice([Unavailable, Unavailable, DeadlineExceeded, ServerFailed])("no")
            found.failed(attempt, error, now)
            return isinstance(error, Unavailable)
        found.answered(attempt, now)
        return False

    for _ in range(1_500):
        now += dice.expovariate(rate)
        for one in found.health_calls(now) if servers > 1 else ():
            found.examined(one, dice.random() > failing, now)
        try:
            attempt = found.first(now)
        except Unavailable:
            continue
        sent += 1
        now += dice.expovariate(200)
        hedge = found.hedge(attempt, 0.08, now, late=dice.random() < 0.5) if found.hedge_delay is not None else None
        if hedge is not None:
            hedges += 1
            assert hedge.endpoint is not attempt.endpoint
            if dice.random() < 0.5:
                found.answered(hedge, now, hedge=True)
                found.given_up(attempt, now, beaten=True)
                continue
            found.given_up(hedge, now, beaten=False)
        if ends(attempt):
            again = found.retry(attempt, 0.05, now)
            if again is not None:
                retries += 1
                ends(again)
    stats = found.stats(waiting=0, overloaded=0)
    assert (stats.requests, stats.retries, stats.hedges) == (sent, retries, hedges)
    assert retries <= Policy().retry_share * sent + Policy().retry_reserve * (int(now / WINDOW) + 1)
    assert hedges <= Policy().hedge_share * sent
    assert hedges == 0 or servers > 1
    assert all(one.in_flight == 0 for one in stats.endpoints)
    assert sum(one.requests for one in stats.endpoints) == sent + retries + hedges


# Quantiles


def test_quantiles_are_those_of_the_last_answers_and_unknown_at_first() -> None:
    latencies = Latencies(0.95)
    for i in range(63):
        latencies.add(i / 1_000)
    assert latencies.slow is None
    latencies.add(0.063)
    assert (latencies.median, latencies.slow) == (0.032, 0.060)
    for _ in range(512):
        latencies.add(0.5)
    assert (latencies.median, latencies.slow) == (0.5, 0.5)


# Breakers


def failing(breaker: Breaker, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        breaker.failed(now, trial=False)


def test_failures_in_a_row_open_a_breaker_and_a_success_between_them_does_not() -> None:
    breaker = Breaker(Policy(), middle)
    failing(breaker, 4)
    breaker.succeeded(0.0, trial=False)
    failing(breaker, 4)
    assert breaker.closed
    failing(breaker, 1)
    assert (breaker.state, breaker.opened, breaker.until) == (BreakerState.OPEN, 1, 0.5)


def test_a_share_of_failures_opens_a_breaker_too_when_it_is_of_enough_requests() -> None:
    breaker = Breaker(Policy(), middle)
    for _ in range(9):
        breaker.failed(0.0, trial=False)
        breaker.succeeded(0.0, trial=False)
    breaker.failed(0.0, trial=False)
    assert breaker.closed
    breaker.failed(0.0, trial=False)
    assert not breaker.closed


def test_an_open_breaker_waits_then_lets_one_trial_out_and_closes_when_it_is_good() -> None:
    breaker = Breaker(Policy(), middle)
    failing(breaker, 5)
    assert not breaker.wants_trial(0.49)
    assert breaker.wants_trial(0.5)
    breaker.begin_trial()
    assert (breaker.state, breaker.wants_trial(0.6)) == (BreakerState.HALF_OPEN, False)
    breaker.succeeded(0.6, trial=False)  # one that left before it opened
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.succeeded(0.7, trial=True)
    assert breaker.closed


def test_each_trial_that_fails_doubles_the_wait_up_to_the_most() -> None:
    breaker, now, waits = Breaker(Policy(), middle), 0.0, []
    failing(breaker, 5)
    for _ in range(4):
        waits.append(breaker.until - now)
        now = breaker.until
        breaker.begin_trial()
        breaker.failed(now, trial=True)
    assert waits == [0.5, 1.0, 2.0, 2.0]


def test_a_trial_that_was_given_up_leaves_its_place_to_another() -> None:
    breaker = Breaker(Policy(), middle)
    failing(breaker, 5)
    breaker.begin_trial()
    breaker.given_up(trial=True)
    assert breaker.wants_trial(0.0)


def test_clients_do_not_come_back_at_the_same_moment() -> None:
    waits = set()
    for seed in range(20):
        breaker = Breaker(Policy(), random.Random(seed).random)
        failing(breaker, 5)
        waits.add(breaker.until)
    assert len(waits) == 20
    assert all(0.375 <= wait <= 0.625 for wait in waits)


def test_breakers_can_be_switched_off() -> None:
    breaker = Breaker(Policy(breaker_failures=0), middle)
    failing(breaker, 100)
    assert breaker.closed


# Which endpoint


def test_a_request_goes_to_the_endpoint_with_the_fewest_in_flight_in_turn_where_they_tie() -> None:
    found = endpoints(3)
    sent = [found.first(0.0) for _ in range(6)]
    assert sorted(one.endpoint.index for one in sent) == [0, 0, 1, 1, 2, 2]
    free = sent[4].endpoint
    found.answered(sent[4], 0.0)
    assert found.first(0.0).endpoint is free


def opened(found: Endpoints, index: int) -> None:
    """Open the breaker of one endpoint at time 0."""
    failing(found._all[index].breaker, 5)


def test_an_open_endpoint_gets_no_request_until_a_health_call_was_good() -> None:
    found = endpoints(2)
    opened(found, 0)
    assert {found.first(0.1).endpoint.index for _ in range(5)} == {1}
    assert found.health_calls(0.4) == []
    [asked] = found.health_calls(0.6)
    assert asked.index == 0
    assert found.health_calls(0.6) == []
    assert {found.first(0.6).endpoint.index for _ in range(5)} == {1}
    found.examined(asked, True, 0.7)
    trial = found.first(0.7)
    assert trial.endpoint.index == 0
    assert {found.first(0.7).endpoint.index for _ in range(5)} == {1}
    found.answered(trial, 0.8)
    assert found.first(0.8).endpoint.index == 0


def test_a_bad_health_call_keeps_an_endpoint_away_for_longer() -> None:
    found = endpoints(2)
    opened(found, 0)
    [asked] = found.health_calls(0.6)
    found.examined(asked, False, 0.6)
    assert found.health_calls(1.5) == []
    assert found.health_calls(1.7) == [asked]


def test_where_every_breaker_is_open_calls_are_refused_at_once_until_one_is_due_for_trial() -> None:
    found = endpoints(2)
    opened(found, 0)
    opened(found, 1)
    with pytest.raises(Unavailable, match=r"server-0, server-1 takes no requests now: .* tried again in 0\.4 s"):
        found.first(0.1)
    assert found.first(0.6).trial
    assert found.first(0.6).trial
    with pytest.raises(Unavailable):
        found.first(0.6)
    assert found.stats(waiting=0, overloaded=0).refused == 2


# Retry


def failed(found: Endpoints) -> Attempt:
    attempt = found.first(0.0)
    found.failed(attempt, Unavailable("gone"), 0.0)
    return attempt


def test_a_retry_goes_to_another_endpoint_without_a_pause() -> None:
    found = endpoints(2)
    attempt = failed(found)
    assert found.retry_pause(attempt, 0.08, 0.0) == 0
    again = found.retry(attempt, 0.08, 0.0)
    assert again is not None
    assert again.endpoint is not attempt.endpoint


def test_a_retry_to_the_same_endpoint_comes_after_a_pause_that_leaves_time() -> None:
    found = endpoints(1)
    attempt = failed(found)
    assert found.retry_pause(attempt, 10.0, 0.0) == pytest.approx(0.015)
    assert found.retry_pause(attempt, 0.004, 0.0) == pytest.approx(0.00075)
    again = found.retry(attempt, 0.08, 0.0)
    assert again is not None
    assert again.endpoint is attempt.endpoint


def test_there_is_no_retry_without_time_without_a_budget_or_where_the_breaker_has_opened() -> None:
    found = endpoints(1)
    assert found.retry(failed(found), 0.0005, 0.0) is None
    found = endpoints(1, breaker_failures=0)
    granted = [found.retry(failed(found), 0.08, 0.0) is not None for _ in range(12)]
    assert granted == [True] * 11 + [False]  # a reserve of ten, and a tenth of the requests
    assert found.stats(waiting=0, overloaded=0).retries_refused == 1
    found = endpoints(1)
    for _ in range(4):
        failed(found)
    assert found.retry(failed(found), 0.08, 0.0) is None


# Hedge


def test_one_endpoint_is_never_hedged() -> None:
    assert with_latencies(endpoints(1)).hedge_delay is None


def test_a_hedge_leaves_after_the_quantile_to_another_endpoint() -> None:
    found = with_latencies(endpoints(2))
    slow = found.first(0.0)
    assert found.hedge_delay == pytest.approx(0.010)
    hedge = found.hedge(slow, 0.07, 0.010, late=True)
    assert hedge is not None
    assert hedge.endpoint is not slow.endpoint


def test_there_is_no_hedge_without_time_without_a_budget_or_without_a_good_endpoint() -> None:
    found = with_latencies(endpoints(2))
    assert found.hedge(found.first(0.0), 0.009, 0.0, late=True) is None
    granted = [found.hedge(found.first(0.0), 0.07, 0.0, late=True) is not None for _ in range(10)]
    assert granted == [True] * 5 + [False] * 5  # a twentieth of some hundred requests
    found = with_latencies(endpoints(2))
    granted = [found.hedge(found.first(0.0), 0.07, 0.0, late=False) is not None for _ in range(10)]
    assert granted == [True] * 3 + [False] * 7  # two fifths of them are kept for what is later still
    assert found.hedge(found.first(0.0), 0.07, 0.0, late=True) is not None
    found = with_latencies(endpoints(2))
    slow = found.first(0.0)
    opened(found, 1 - slow.endpoint.index)
    assert found.hedge(slow, 0.07, 0.0, late=True) is None


def test_a_request_that_gets_no_hedge_asks_again_at_twice_four_and_eight_times_the_delay_while_there_is_time() -> None:
    found = with_latencies(endpoints(2))
    for _ in range(5):  # the budget is spent
        assert found.hedge(found.first(0.0), 0.07, 0.0, late=True) is not None
    race, moments = Race(found, found.first(0.0), 0.010, 0.080), [0.0]
    while race.wait is not None:
        moments.append(moments[-1] + race.wait)
        assert race.hedge(moments[-1]) is None
    assert moments == pytest.approx([0.0, 0.010, 0.020, 0.040, 0.080])


def test_a_request_that_was_refused_a_hedge_gets_one_of_those_that_are_kept() -> None:
    found = with_latencies(endpoints(2))
    while found.hedge(found.first(0.0), 0.07, 0.0, late=False) is not None:
        pass
    race = Race(found, found.first(0.0), 0.010, 0.080)
    assert race.hedge(0.010) is None
    assert race.hedge(0.020) is not None
    assert race.wait is None


def test_of_two_outcomes_the_first_answer_counts_and_a_failure_only_when_it_is_the_last() -> None:
    found = with_latencies(endpoints(2))
    first = found.first(0.0)
    race = Race(found, first, 0.010, 0.080)
    hedge = race.hedge(0.010)
    assert hedge is not None
    assert not race.settles(first, Unavailable("gone"), 0.020, other_out=True)
    assert race.settles(hedge, {}, 0.021, other_out=False)
    assert race.beaten
    first = found.first(0.0)
    race = Race(found, first, 0.010, 0.080)
    assert race.settles(first, InvalidRequest("wrong"), 0.020, other_out=True)
    assert not race.beaten


def test_an_endpoint_that_is_beaten_again_and_again_is_left_alone() -> None:
    """It hangs: each of its requests is cancelled when the hedge has answered, so it never has a failure of its own."""
    found = with_latencies(endpoints(2), count=400)
    hangs = found._all[0]
    for _ in range(40):
        attempt = found.first(0.0)
        if attempt.endpoint is hangs:
            hedge = found.hedge(attempt, 0.07, 0.0, late=True)
            assert hedge is not None
            found.answered(hedge, 0.012, hedge=True)
            found.given_up(attempt, 0.012, beaten=True)
        else:
            found.answered(attempt, 0.010)
    assert not hangs.breaker.closed
    assert found.stats(waiting=0, overloaded=0).hedges_won == 5


def test_one_server_alone_stays_asked_however_late_it_is() -> None:
    found = endpoints(1)
    for _ in range(20):
        found.failed(found.first(0.0), DeadlineExceeded("late"), 0.0)
    assert found.stats(waiting=0, overloaded=0).endpoints[0].breaker is BreakerState.CLOSED


def test_of_several_servers_those_that_are_late_rest() -> None:
    found = endpoints(2)
    for _ in range(10):
        found.failed(found.first(0.0), DeadlineExceeded("late"), 0.0)
    assert {one.breaker for one in found.stats(waiting=0, overloaded=0).endpoints} == {BreakerState.OPEN}


def test_one_server_alone_that_is_away_is_left_in_peace() -> None:
    found = endpoints(1)
    for _ in range(5):
        found.failed(found.first(0.0), Unavailable("away"), 0.0)
    with pytest.raises(Unavailable, match="takes no requests now"):
        found.first(0.0)
