"""Bets against "nothing has moved": which alternatives are bet on, and at what odds a bet is fair.

A bet is a distribution q over a series' cells. Its fair price is p*, the member of the null set that is nearest to q
in the sense of Kullback and Leibler: then q/p* of one row has mean at most 1 under EVERY member of the set, and so has
the product over rows that follow one another, even where the member changes from row to row (reverse information
projection: Li, 1999; Grünwald, de Heide, Koolen, "Safe testing", J. R. Stat. Soc. B, 2024; Larsson, Ramdas, Ruf, "The
numeraire e-variable", 2024). Where q lies within the set, q = p* and nothing is bet.

Fixed bets (known shapes of drift, ready at once) and learning bets (what the last minutes looked like: the mean of a
Dirichlet posterior whose prior is centred at the reference).
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from scipy import stats

from drift_sidecar.null_set import NullSet
from fraud_scoring.reference import OWN_BINS, Float64, Int64, Reference

TILTS: Final = (0.2, -0.2, 0.6, -0.6)
"""Exponential tilts along the normal score: for a Gaussian feature, a shift of the mean by so many standard
deviations."""
SPREADS: Final = (0.25, -0.2)
"""Tilts along the square of the normal score: wider, narrower."""
SURGE: Final = 0.02
"""Share of the rows that moves into bins that were empty."""
UPPER_TAIL: Final = 0.05
UPPER_FACTOR: Final = 2.0
"""The bins of the uppermost 5% hold so many times as many rows: a wave of fraud, in the score."""
MEMORY_MINUTES: Final = (5.0, 60.0, 720.0)
"""How fast the learning bets forget."""
PRIOR_ROWS: Final = 500.0
"""Concentration of the learning bets' Dirichlet prior."""

FIXED_WEIGHTS: Final = (0.24, 0.24, 0.03, 0.03, 0.08, 0.08, 0.06, 0.06, 0.06)
LEARNING_WEIGHTS: Final = (0.04, 0.04, 0.04)
WEIGHTS: Final = np.array(FIXED_WEIGHTS + LEARNING_WEIGHTS)
"""What each bet gets of one unit; they add up to 1. Weight is time: a bet that gains g nats a second sees a drift
ln(1/weight)/g seconds later than one that had it all; so most goes to what gains slowest, the small shifts of a
mean."""


def jit(function: Any) -> Any:
    return numba.njit(cache=True, error_model="numpy")(function)


@jit
def fair_price(bet: Float64, low: Float64, high: Float64, price: Float64) -> None:
    """Write the member of {p: low ≤ p ≤ high, Σ p = 1} nearest to `bet` in KL(bet ‖ p) into `price`; all [B].

    By Lagrange p = clip(c·q, low, high); c is found by bisection.
    """
    inside = True
    for b in range(len(bet)):
        price[b] = bet[b]
        inside = inside and low[b] <= bet[b] <= high[b]
    if inside:
        return
    below, above = 1e-9, 1e9
    while above / below - 1.0 > 1e-14:
        middle = np.sqrt(below * above)
        total = 0.0
        for b in range(len(bet)):
            total += min(max(middle * bet[b], low[b]), high[b])
        if total > 1.0:
            above = middle
        else:
            below = middle
    for b in range(len(bet)):  # their sum is 1 or a rounding more, so that no bet is better than fair
        price[b] = min(max(above * bet[b], low[b]), high[b])


@jit
def learning_odds(
    seen: Float64, foreseen: Float64, shares: Float64, low: Float64, high: Float64, first: int, odds: Float64
) -> None:
    """Write log q/p* of the learning bets into odds[:, :, first:]; seen, foreseen [K, A, B], odds [K, B, J], others
    [K, B].

    q is the hour's share times (rows seen + prior) / (rows foreseen + prior), so that it carries over to the next hour.
    """
    series, memories, bins = seen.shape
    bet, price = np.empty(bins), np.empty(bins)
    for k in range(series):
        for a in range(memories):
            total = 0.0
            for b in range(bins):
                prior = PRIOR_ROWS * shares[k, b]
                bet[b] = shares[k, b] * (seen[k, a, b] + prior) / (foreseen[k, a, b] + prior) if prior > 0 else 0.0
                total += bet[b]
            for b in range(bins):
                bet[b] /= total
            fair_price(bet, low[k], high[k], price)
            for b in range(bins):
                odds[k, b, first + a] = np.log(bet[b] / price[b]) if bet[b] > 0 else 0.0


class FixedBets:
    """The fixed bets of a reference: exponential tilts of an hour's shares [K, J, B], and surges into empty bins."""

    def __init__(self, reference: Reference, null: NullSet) -> None:
        bets = len(FIXED_WEIGHTS)
        self._null = null
        self._odds: dict[int, Float64] = {}
        self._tilts = np.zeros((null.series, bets, null.bins))
        self._ordered = np.zeros((null.series, 1, null.bins), bool)
        self._surge = np.zeros((null.series, bets, null.bins))
        for k in range(null.series):
            ordered = null.size(k) if k >= len(reference.binned) else reference.binned[k].bins
            counts = reference.cells[reference.layout.of(k)][:ordered]
            self._ordered[k, 0, :ordered] = True
            self._tilts[k, : bets - 2, :ordered] = _exponents(counts)
            if null.size(k) > ordered:
                for bet, own in ((bets - 2, ("missing", "unseen")), (bets - 1, ("below", "above"))):
                    self._surge[k, bet, [ordered + OWN_BINS.index(name) for name in own]] = SURGE / len(own)

    def bets(self, hour: int) -> Float64:
        """q in an hour of the week [K, J, B]."""
        null = self._null
        shares = null.shares[hour][:, None, :]
        tilted = np.where(self._ordered, shares * np.exp(self._tilts), 0.0)
        held = np.where(self._ordered, shares, 0.0).sum(axis=2, keepdims=True)
        # what the ordered cells hold together stays
        bets = np.where(self._ordered, tilted * held / tilted.sum(axis=2, keepdims=True), shares)
        placed: Float64 = bets * (1.0 - self._surge.sum(axis=2, keepdims=True)) + self._surge
        return placed

    def odds(self, hour: int) -> Float64:
        """log q/p* in an hour of the week [K, B, J]; made when it is first asked for."""
        if hour not in self._odds:
            null = self._null
            odds = np.zeros((null.series, null.bins, len(FIXED_WEIGHTS)))
            _price_all(self.bets(hour), null.low[hour], null.high[hour], odds)
            self._odds[hour] = odds
        return self._odds[hour]


@jit
def _price_all(bets: Float64, low: Float64, high: Float64, odds: Float64) -> None:
    """Write log q/p* of bets [K, J, B] into odds [K, B, J]."""
    price = np.empty(bets.shape[2])
    for k in range(bets.shape[0]):
        for j in range(bets.shape[1]):
            fair_price(bets[k, j], low[k], high[k], price)
            for b in range(bets.shape[2]):
                odds[k, b, j] = np.log(bets[k, j, b] / price[b]) if bets[k, j, b] > 0.0 else 0.0


def normal_scores(counts: Int64) -> Float64:
    """What a standard normal variable is at the middle of each bin [B] of `counts`, by rank (van der Waerden, 1952)."""
    shares = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    scores = stats.norm.ppf(np.cumsum(shares) - shares / 2.0)
    centred: Float64 = scores - (shares * scores).sum()
    return centred


def _exponents(counts: Int64) -> Float64:
    """By what the logarithms of ordered bins' shares are changed [J − 2, B]: tilts, spreads, upper tail."""
    score = normal_scores(counts)
    upper = np.cumsum(counts[::-1])[::-1] <= UPPER_TAIL * counts.sum()
    upper[-1] = True
    return np.stack(
        [tilt * score for tilt in TILTS]
        + [spread * (score**2 - 1.0) for spread in SPREADS]
        + [np.where(upper, np.log(UPPER_FACTOR), 0.0)]
    )
