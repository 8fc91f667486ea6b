"""Rates of false alarms that are too low to be counted: importance sampling.

A rule that alarms once in years on stationary rows is made to alarm: from a random row ν of m on, `lasting` rows are
drawn from a tilted distribution q_j instead of p. An alarm at row T then counts with the inverse likelihood ratio of
what was seen,

    m J / Σ_j Σ_{ν ≤ m} Π_{i = ν .. T} q_j(x_i) / p(x_i)        (a ν after T contributes 1)

so that its mean over runs is the probability of an alarm within m stationary rows, without bias, whatever the q_j are
(Siegmund, "Importance sampling in the Monte Carlo study of sequential tests", 1976; the mixture over ν: Lai and Shan,
"Efficient recursive algorithms for detection of abrupt changes", 1999). The q_j decide the variance, which is seen only
where they cover the ways that lead to an alarm: so there are many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import optimize

from drift_sidecar.betting import FIXED_WEIGHTS, WEIGHTS
from drift_sidecar.evidence import MINUTES_A_MONTH, take_look
from drift_sidecar.simulation import World
from fraud_scoring.reference import Float64

_RESAMPLES: Final = 1_000


@dataclass(frozen=True)
class Tilt:
    """Standard normal scores get `shift` added, for so many rows (0: to the end)."""

    shift: float
    lasting: int = 0


GAUSSIAN_TILTS: Final = tuple(Tilt(sign * size) for size in (0.08, 0.15, 0.25, 0.4, 0.7, 1.2, 2.0) for sign in (1, -1))
SKEWED_TILTS: Final = (
    *(Tilt(size) for size in (-0.25, 0.15, 0.4, 1.2)),
    *(Tilt(size, 1) for size in (3.5, 4.5, 5.0, 5.5, 6.0, 7.0)),
    *(Tilt(size, 4) for size in (2.5, 3.5)),
)
"""A long tail alarms by a single value, too."""


@dataclass(frozen=True)
class Rate:
    """Alarms per row (or look): the estimate, and its 95% interval (bootstrap)."""

    estimate: float
    low: float
    high: float

    def per_month(self, steps_a_month: float) -> Rate:
        """The same in alarms a month."""
        return Rate(*(steps_a_month * rate for rate in (self.estimate, self.low, self.high)))


def rate_of(chances: Float64, span: int) -> Rate:
    """The rate that runs [N] over so many rows (looks) each show."""
    again = np.random.default_rng(0).choice(chances, (_RESAMPLES, len(chances))).mean(axis=1)
    low, high = np.quantile(again, (0.025, 0.975))
    return Rate(float(chances.mean()) / span, float(low) / span, float(high) / span)


def alarm_rate(
    alarm_at: Callable[[Float64], int], tilts: tuple[Tilt, ...], span: int, runs: int, rng: np.random.Generator
) -> Rate:
    """How often a rule alarms per row. `alarm_at` takes standard normal scores [span] of stationary rows and says after
    how many rows the rule, in its steady state, alarms; 0 if it does not."""
    chances = np.zeros(runs)
    for run in range(runs):
        scores = rng.normal(size=span)
        tilt, first = tilts[rng.integers(len(tilts))], int(rng.integers(span))
        scores[first : first + tilt.lasting if tilt.lasting else span] += tilt.shift
        if seen := alarm_at(scores):
            total = sum(float(_ratios(scores[:seen], one).sum()) for one in tilts)
            chances[run] = span * len(tilts) / (total + len(tilts) * (span - seen))
    return rate_of(chances, span)


def _ratios(scores: Float64, tilt: Tilt) -> Float64:
    """Likelihood ratio of all that was seen, for a tilt that begins at each of the rows [T]."""
    gained = np.concatenate([[0.0], np.cumsum(tilt.shift * scores - tilt.shift**2 / 2.0)])
    begin = np.arange(len(scores))
    end = np.minimum(begin + tilt.lasting, len(scores)) if tilt.lasting else len(scores)
    ratios: Float64 = np.exp(gained[end] - gained[begin])
    return ratios


def setting_at(rate_at: Callable[[float], Rate], budget: float, first: float, steps: int = 7) -> tuple[float, Rate]:
    """(log of a setting, rate there) at which the rate per row is `budget` or less than half off: secants in log-log.

    `rate_at` takes the logarithm of the setting, and grows with it; `first` is where to begin.
    """
    at, found = first, rate_at(first)
    slope = 1.0
    for _ in range(steps):
        off = math.log(budget / max(found.estimate, 1e-300))
        if abs(off) < math.log(1.5):
            break
        step = off / slope
        after = rate_at(at + step)
        rise = (math.log(max(after.estimate, 1e-300)) - math.log(max(found.estimate, 1e-300))) / step
        slope = min(max(rise, 0.02), 3.0)
        at, found = at + step, after
    return at, found


# ------------------------------------------------------------------------------------------------ the sidecar's own


def crossing_rates(seed: int, hour: int, rows_per_second: float, runs: int, looks: int = 60) -> tuple[Rate, ...]:
    """Crossings per look of each series of a world whose days are all alike, in one hour of the week."""
    world = World(seed, day_sd=0.0, rows_per_second=rows_per_second)
    world.monitor.detector.enter(hour)
    rng = np.random.default_rng(seed)
    return tuple(
        _crossings(world, k, world.truth[hour, k] * rows_per_second * world.look_seconds, runs, looks, rng)
        for k in range(world.monitor.null.series)
    )


def _crossings(world: World, k: int, means: Float64, runs: int, looks: int, rng: np.random.Generator) -> Rate:
    """Crossings per look of series k, whose counts are Poisson numbers with these means [B]."""
    detector = world.monitor.detector
    tilted = list(_ways_to_cross(means, detector.state.odds[k, :, : len(FIXED_WEIGHTS)]))
    if not tilted:
        return Rate(0.0, 0.0, 0.0)
    gains = np.stack([np.log(np.where(means > 0, way / np.where(means > 0, means, 1.0), 1.0)) for way in tilted])
    series = detector.null.series
    fresh = [array[k : k + 1] if len(array) == series else array for array in detector.arrays()]
    minutes, warm = world.look_seconds / 60.0, 20
    chances = np.zeros(runs)
    for run in range(runs):
        state = [array.copy() for array in fresh]
        wealth = state[3]
        way, first = tilted[rng.integers(len(tilted))], int(rng.integers(looks)) + warm
        ratio = np.zeros(len(tilted))
        for look in range(looks + warm):
            counts = rng.poisson(means if look < first else way).astype(np.float64)
            take_look(counts[None, :], minutes, *state)
            if look >= warm:
                ratio = (ratio + 1.0) * np.exp(gains @ counts)
                if wealth[0] @ WEIGHTS >= detector.threshold:
                    after = looks + warm - look - 1
                    chances[run] = looks * len(tilted) / (ratio + after).sum()
                    break
    return rate_of(chances, looks)


def _ways_to_cross(means: Float64, odds: Float64) -> Iterator[Float64]:
    """For each bet, odds [B, J], the likeliest means [B] under which it grows: tilted along the bet until
    E (q/p*)^ω = 1 (Wald's second root)."""
    shares = means / means.sum()
    for bet in odds.T:
        at = shares > 0
        if (shares[at] * bet[at]).sum() >= 0.0 or bet[at].max() <= 0.0:
            continue

        def excess(power: float, bet: Float64 = bet, at: Float64 = at) -> float:
            return math.log(float((shares[at] * np.exp(power * bet[at])).sum()))

        if excess(100.0) <= 0.0 or excess(0.5) >= 0.0:
            continue
        power = float(optimize.brentq(excess, 0.5, 100.0))
        way = np.where(at, means * np.exp(np.where(at, power * bet, 0.0)), 0.0)
        yield way * means.sum() / way.sum()


def per_month(rates: tuple[Rate, ...], looks_a_second: float) -> Rate:
    """All series together, in crossings a month; the intervals' half-widths add as independent ones do."""
    a_month = 60.0 * MINUTES_A_MONTH * looks_a_second
    total = sum(rate.estimate for rate in rates)
    below = math.sqrt(sum((rate.estimate - rate.low) ** 2 for rate in rates))
    above = math.sqrt(sum((rate.high - rate.estimate) ** 2 for rate in rates))
    return Rate(total, max(total - below, 0.0), total + above).per_month(a_month)
