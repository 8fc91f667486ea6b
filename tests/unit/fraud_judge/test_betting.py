"""Bets are fair: under the hypothesis the wealth has mean 1, exactly, and is seldom large, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fraud_judge import betting

SHARES = (0.05, 0.25, 0.5)


def mean_wealth(log_wealth: np.ndarray, events: int, chance: float) -> float:
    return float(np.exp(log_wealth) @ stats.binom.pmf(np.arange(events + 1), events, chance))


def above(canary: np.ndarray, champion: np.ndarray, share: float, ratio: float) -> np.ndarray:
    return sides(canary, champion, share, ratio)[..., 0]


def below(canary: np.ndarray, champion: np.ndarray, share: float, ratio: float) -> np.ndarray:
    return sides(canary, champion, share, ratio)[..., 1]


def sides(canary: np.ndarray, champion: np.ndarray, share: float, ratio: float) -> np.ndarray:
    bets = betting.band_bets(share, np.array([ratio]))
    return bets.log_wealth(canary[..., None], champion[..., None])[..., 0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("events", [1, 7, 60])
def test_the_mean_wealth_is_one_at_the_edge_of_the_tolerance(share: float, events: int) -> None:
    canary = np.arange(events + 1)
    edge = float(betting.share_of(1.25, share))
    assert mean_wealth(above(canary, events - canary, share, 1.25), events, edge) == pytest.approx(1.0)
    edge = float(betting.share_of(1 / 1.25, share))
    assert mean_wealth(below(canary, events - canary, share, 1.25), events, edge) == pytest.approx(1.0)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("ratio", [0.81, 1.0, 1.24])
def test_the_mean_wealth_is_below_one_within_the_tolerance(share: float, ratio: float) -> None:
    canary, chance = np.arange(41), float(betting.share_of(ratio, share))
    assert mean_wealth(above(canary, 40 - canary, share, 1.25), 40, chance) < 1.0
    assert mean_wealth(below(canary, 40 - canary, share, 1.25), 40, chance) < 1.0


@pytest.mark.parametrize("share", SHARES)
def test_harm_is_ruled_out_by_fair_bets(share: float) -> None:
    canary = np.arange(31)
    wealth = betting.harm_bets(share, 2.0).log_wealth(canary[:, None], 30 - canary[:, None])[..., 0]
    for side, harm in enumerate((2.0, 0.5)):
        chance = float(betting.share_of(harm, share))
        assert mean_wealth(wealth[:, side], 30, chance) == pytest.approx(1.0)


def test_bets_on_a_share_are_fair_at_its_limit_and_lose_below() -> None:
    events = np.arange(51)
    wealth = betting.ShareBets(np.array([0.03])).log_wealth(events[:, None], np.full(51, 50))[:, 0]
    assert mean_wealth(wealth, 50, 0.03) == pytest.approx(1.0)
    assert mean_wealth(wealth, 50, 0.01) < 1.0
    assert mean_wealth(wealth, 50, 0.10) > 10.0


def test_looking_after_each_event_does_not_fool_the_bets() -> None:
    """2,000 streams at the edge, 1,000 looks each: the wealth reaches 20 in at most 5% of them (Ville)."""
    rng = np.random.default_rng(1)
    canary = np.cumsum(rng.random((2_000, 1_000)) < betting.share_of(1.25, 0.05), axis=1)
    champion = np.arange(1, 1_001) - canary
    reached = (above(canary, champion, 0.05, 1.25) >= np.log(20)).any(axis=1)
    assert 0.001 < reached.mean() <= 0.05


def test_a_fixed_sample_test_looked_at_as_often_is_fooled() -> None:
    """What the bets are for: the same streams, judged by a p-value of 5% after each event."""
    rng = np.random.default_rng(1)
    canary = np.cumsum(rng.random((500, 1_000)) < 0.05, axis=1)
    p = stats.binom.sf(canary - 1, np.arange(1, 1_001), 0.05)
    assert (p <= 0.05).any(axis=1).mean() > 0.2
