"""When to send: intended times, and nothing else. Whether the server keeps up has no influence on them.

A `Profile` is a rate over time, straight lines between knots. Its integral Λ(t) is the number of arrivals expected by
t; arrivals lie at Λ⁻¹ of positions 0.5, 1.5, … (`regular`) or of a Poisson process of rate one (`poisson`), which makes
an inhomogeneous Poisson process of the profile (Lewis and Shedler 1979, time-scale transformation). The same profile
and seed give the same times, bit for bit. Cost: some 100 ns an arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DAY_PEAK_HOUR: Final = 12.0
DAY_SPREAD_HOURS: Final = 20_000 / 3_600
"""A day's payments are spread around noon as in the Fraud Detection Handbook's simulator: sd 20,000 s."""
_DAY_KNOTS: Final = 97


@dataclass(frozen=True, eq=False)
class Profile:
    """`rate` float64 [K], arrivals a second, at `at_s` float64 [K], seconds from 0, that do not fall.

    Two knots at one time are a jump.
    """

    at_s: Floats
    rate: Floats

    def __post_init__(self) -> None:
        if len(self.at_s) != len(self.rate) or len(self.at_s) < 2 or self.at_s[0] != 0.0:
            raise ValueError("a profile has two knots or more, the first at 0")
        if (np.diff(self.at_s) < 0).any() or (self.rate < 0).any():
            raise ValueError("a profile's times do not fall, its rates are not negative")

    @property
    def duration_s(self) -> float:
        return float(self.at_s[-1])

    @property
    def peak(self) -> float:
        return float(self.rate.max())

    @property
    def expected(self) -> float:
        """Arrivals in all."""
        return float(self._cumulative()[-1])

    def rate_at(self, t_s: npt.ArrayLike) -> Floats:
        """Arrivals a second at some times; 0 outside, and after a jump's moment the new rate."""
        t = np.asarray(t_s, np.float64)
        right = np.searchsorted(self.at_s, t, side="right")
        i = np.clip(right, 1, len(self.at_s) - 1)
        width = self.at_s[i] - self.at_s[i - 1]
        share = np.where(width > 0, (t - self.at_s[i - 1]) / np.where(width > 0, width, 1.0), 1.0)
        rate = self.rate[i - 1] + share * (self.rate[i] - self.rate[i - 1])
        return np.where((t < 0) | (t >= self.duration_s), 0.0, rate)

    def regular(self) -> Floats:
        """Evenly spaced where the rate is constant: one arrival for each whole unit of the integral."""
        return self._at(np.arange(int(self.expected + 0.5), dtype=np.float64) + 0.5)

    def poisson(self, rng: np.random.Generator) -> Floats:
        """Independent arrivals at the profile's rate; their number is random too."""
        expected = self.expected
        positions = np.cumsum(rng.exponential(size=int(expected + 8 * np.sqrt(expected) + 32)))
        while positions[-1] < expected:  # nearly never
            positions = np.concatenate([positions, positions[-1] + np.cumsum(rng.exponential(size=1_000))])
        return self._at(positions[positions < expected])

    def _cumulative(self) -> Floats:
        """Λ at the knots [K]."""
        areas = np.diff(self.at_s) * (self.rate[:-1] + self.rate[1:]) / 2
        return np.concatenate([[0.0], np.cumsum(areas)])

    def _at(self, positions: Floats) -> Floats:
        """Λ⁻¹: the times at which the integral reaches `positions`, all below `expected`."""
        cumulative = self._cumulative()
        i = np.clip(np.searchsorted(cumulative, positions, side="right"), 1, len(cumulative) - 1) - 1
        area = positions - cumulative[i]
        width = self.at_s[i + 1] - self.at_s[i]
        slope = (self.rate[i + 1] - self.rate[i]) / np.where(width > 0, width, 1.0)
        root = np.sqrt(np.maximum(self.rate[i] ** 2 + 2 * slope * area, 0.0))
        below = self.rate[i] + root
        step = np.where(below > 0, 2 * area / np.where(below > 0, below, 1.0), 0.0)
        return np.asarray(np.minimum(self.at_s[i] + np.minimum(step, width), self.duration_s))


def constant(rate: float, duration_s: float) -> Profile:
    """The same rate all the time."""
    return _profile((0.0, rate), (duration_s, rate))


def ramp(first: float, last: float, duration_s: float) -> Profile:
    """A rate that changes evenly from `first` to `last`."""
    return _profile((0.0, first), (duration_s, last))


def steps(rates: npt.ArrayLike, hold_s: float) -> Profile:
    """Each of `rates` [S] for `hold_s` seconds, one after the other."""
    each = np.asarray(rates, np.float64)
    edges = np.arange(len(each) + 1) * hold_s
    return Profile(np.repeat(edges, 2)[1:-1], np.repeat(each, 2))


def geometric_rates(first: float, last: float, factor: float) -> Floats:
    """The rates of steps to the knee: from `first`, each `factor` times the one before, up to `last`."""
    count = int(np.floor(np.log(last / first) / np.log(factor) + 1e-9)) + 1
    return np.asarray(first * factor ** np.arange(count))


def spike(rate: float, times: float, at_s: float, for_s: float, duration_s: float) -> Profile:
    """`rate`, but `times` as much in [at_s, at_s + for_s)."""
    high = rate * times
    return _profile(
        (0, rate), (at_s, rate), (at_s, high), (at_s + for_s, high), (at_s + for_s, rate), (duration_s, rate)
    )


def day(peak: float, lowest_share: float, duration_s: float) -> Profile:
    """A whole day from midnight in `duration_s` seconds: `peak` at noon, `lowest_share` of it added at all hours.

    The day of `fraud_data.simulator`: normal around noon with a standard deviation of 20,000 s.
    """
    hours = np.linspace(0.0, 24.0, _DAY_KNOTS)
    bell = np.exp(-(((hours - DAY_PEAK_HOUR) / DAY_SPREAD_HOURS) ** 2) / 2)
    return Profile(hours / 24 * duration_s, peak * (lowest_share + (1 - lowest_share) * bell))


def replayed(event_time_us: npt.NDArray[np.int64], speed: float, duration_s: float) -> Floats:
    """Recorded event times int64 [N] (UTC microseconds), `speed` times as fast, the first at 0, cut at `duration_s`."""
    times = np.sort(event_time_us)
    since = (times - times[0]) / 1e6 / speed
    return np.asarray(since[since < duration_s], np.float64)


def profile_of(times: Floats, duration_s: float, bins: int = 50) -> Profile:
    """The rate of given times, in equal parts of the duration: for those who need a rate and have only a recording."""
    counts, edges = np.histogram(times, bins, (0.0, duration_s))
    return Profile(np.repeat(edges, 2)[1:-1], np.repeat(counts / np.diff(edges), 2))


def _profile(*knots: tuple[float, float]) -> Profile:
    at, rate = np.array(knots, np.float64).T
    return Profile(at, rate)
