"""Bets at a fair price: no member of the null set can gain by them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from drift_sidecar import worlds
from drift_sidecar.betting import (
    FIXED_WEIGHTS,
    MEMORY_MINUTES,
    WEIGHTS,
    FixedBets,
    fair_price,
    learning_odds,
    normal_scores,
)
from drift_sidecar.null_set import NullSet, Tolerance, make_null_set
from fraud_scoring.reference import Float64
from support.rows import SEEDED

REFERENCE = worlds.draw_reference(np.random.default_rng(1), 200_000, 0.01)
NULL = make_null_set(REFERENCE, Tolerance())
BETS = FixedBets(REFERENCE, NULL)
NOON, NIGHT = 36, 27


def price_of(bet: Float64, low: Float64, high: Float64) -> Float64:
    price = np.empty(len(bet))
    fair_price(bet, low, high, price)
    return price


def best_gain(odds: Float64, low: Float64, high: Float64) -> float:
    """The highest mean of exp(odds) that a member of {low ≤ p ≤ high, Σ p = 1} can have, by linear programming."""
    bounds = list(zip(low, high, strict=True))
    found = linprog(-np.exp(odds), A_eq=np.ones((1, len(odds))), b_eq=[1.0], bounds=bounds)
    assert found.status == 0
    return -float(found.fun)


@given(st.integers(0, 10_000))
@settings(SEEDED, max_examples=60)
def test_no_member_of_the_band_gains_by_a_bet_at_its_fair_price(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bins = int(rng.integers(2, 16))
    centre, bet = rng.dirichlet(np.ones(bins)), rng.dirichlet(np.full(bins, 0.7)) + 1e-9
    bet /= bet.sum()
    low, high = centre * rng.uniform(0.3, 1.0, bins), np.minimum(centre * rng.uniform(1.0, 2.0, bins) + 1e-4, 1.0)
    price = price_of(bet, low, high)
    assert price.sum() == pytest.approx(1.0, abs=1e-10)
    assert (price >= low - 1e-12).all()
    assert (price <= high + 1e-12).all()
    assert best_gain(np.log(bet / price), low, high) <= 1.0 + 1e-9


def test_the_fair_price_is_the_nearest_member_of_the_band() -> None:
    rng = np.random.default_rng(4)
    centre, bet = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))
    low, high = 0.8 * centre, 1.2 * centre
    found = minimize(
        lambda p: float((bet * np.log(bet / p)).sum()),
        centre,
        bounds=list(zip(low, high, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1.0},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert price_of(bet, low, high) == pytest.approx(found.x, abs=1e-5)


def test_within_the_band_nothing_is_bet() -> None:
    bet = np.array([0.3, 0.3, 0.4])
    assert price_of(bet, bet - 0.01, bet + 0.01).tolist() == bet.tolist()


def test_the_stakes_add_up_to_one() -> None:
    assert WEIGHTS.sum() == pytest.approx(1.0)
    assert len(WEIGHTS) == len(FIXED_WEIGHTS) + len(MEMORY_MINUTES)


@pytest.mark.parametrize("hour", [NOON, NIGHT])
def test_each_fixed_bet_is_a_distribution(hour: int) -> None:
    bets = BETS.bets(hour)
    assert (bets >= 0).all()
    assert np.allclose(bets.sum(axis=2), 1.0)


@pytest.mark.parametrize("hour", [NOON, NIGHT])
def test_no_member_of_the_null_set_gains_by_any_fixed_bet(hour: int) -> None:
    odds = BETS.odds(hour)
    for series in range(NULL.series):
        cells = NULL.size(series)
        low, high = NULL.low[hour, series, :cells], NULL.high[hour, series, :cells]
        for bet in range(len(FIXED_WEIGHTS)):
            assert best_gain(odds[series, :cells, bet], low, high) <= 1.0 + 1e-7


def learned(seen_shares: Float64, rows: float, hour: int = NOON, before: int = NOON) -> Float64:
    """Odds [B, A] that the learning bets give for the first series after rows of such shares in the hour `before`."""
    shape = (NULL.series, len(MEMORY_MINUTES), NULL.bins)
    seen, foreseen = np.zeros(shape), np.zeros(shape)
    seen[0], foreseen[0] = rows * seen_shares, rows * NULL.shares[before, 0]
    odds = np.zeros((NULL.series, NULL.bins, len(MEMORY_MINUTES)))
    learning_odds(seen, foreseen, NULL.shares[hour], NULL.low[hour], NULL.high[hour], 0, odds)
    return odds[0]


def test_a_learning_bet_that_has_seen_nothing_bets_nothing() -> None:
    assert not learned(NULL.shares[NOON, 0], 0.0).any()


def test_a_learning_bet_bets_on_what_it_has_seen_and_no_member_gains_by_it() -> None:
    shares = np.zeros(NULL.bins)
    shares[:10] = worlds.gaussian(0.4)
    odds = learned(shares, 5_000.0)
    assert odds[0, 0] < -0.1
    assert odds[9, 0] > 0.1
    assert (shares * odds[:, 0]).sum() > 0.03
    assert best_gain(odds[:, 0], NULL.low[NOON, 0], NULL.high[NOON, 0]) <= 1.0 + 1e-7


def test_what_was_learned_in_one_hour_is_a_change_against_that_hour() -> None:
    """A feature that was as foreseen at night is not bet on by day, though day and night differ."""
    series = worlds.FEATURES[1].name
    number = REFERENCE.layout.names.index(series)
    assert NULL.follows_clock[number]
    shape = (NULL.series, len(MEMORY_MINUTES), NULL.bins)
    seen, foreseen = np.zeros(shape), np.zeros(shape)
    seen[number] = foreseen[number] = 1e5 * NULL.shares[NIGHT, number]
    odds = np.zeros((NULL.series, NULL.bins, len(MEMORY_MINUTES)))
    learning_odds(seen, foreseen, NULL.shares[NOON], NULL.low[NOON], NULL.high[NOON], 0, odds)
    assert not odds[number].any()


def test_normal_scores_are_centred_and_rise() -> None:
    counts = np.array([500, 100, 300, 90, 10])
    scores = normal_scores(counts)
    assert (np.diff(scores) > 0).all()
    assert (scores * counts).sum() / counts.sum() == pytest.approx(0.0, abs=0.01)


def test_a_null_set_keeps_the_padding_out() -> None:
    assert isinstance(NULL, NullSet)
    for series in range(NULL.series):
        assert not NULL.shares[:, series, NULL.size(series) :].any()
        assert not NULL.high[:, series, NULL.size(series) :].any()
