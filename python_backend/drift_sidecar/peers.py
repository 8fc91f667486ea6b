"""The rules that the sidecar is compared with: compiled copies of river's PageHinkley and KSWIN, and streams of rows.

A test holds the copies to the originals (river 0.23), row by row. They give the statistic that the rule compares with
its threshold, so that one pass over a stream tells when any threshold would have alarmed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from drift_sidecar.betting import jit
from fraud_scoring.reference import Float64

PH_DELTA: Final = 0.005
PH_ALPHA: Final = 0.9999
PH_LEAST_ROWS: Final = 30
PUBLISHED_PH_THRESHOLD: Final = 50.0
KSWIN_WINDOW: Final = 100
KSWIN_RECENT: Final = 30
PUBLISHED_KSWIN_ALPHA: Final = 0.005
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Stream:
    """Rows of one feature in units of its standard deviation: what the mean does, and the shape of a row."""

    name: str
    rows_per_second: float
    cycle: float = 0.0
    day_sd: float = 0.0
    log_sd: float = 0.0
    """0: Gaussian rows; else log-normal ones with this standard deviation of the logarithm."""

    def rows(self, rng: np.random.Generator, first: int, count: int, shift: float = 0.0) -> Float64:
        """Rows from number `first` on; the stream begins at 09:00, where the cycle crosses its mean."""
        values = self.values(rng.normal(size=count))
        if self.cycle or self.day_sd:
            at = (first + np.arange(count)) / self.rows_per_second
            days = np.floor(at / DAY_S).astype(np.int64)
            values += self.cycle * np.sin(2.0 * np.pi * at / DAY_S)
            values += self.day_sd * _day_effect(days)
        moved: Float64 = values + shift
        return moved

    def values(self, scores: Float64) -> Float64:
        """Rows of which these are the standard normal scores, where neither the clock nor the day moves them."""
        if not self.log_sd:
            return scores.copy()
        sd = math.exp(self.log_sd**2 / 2) * math.sqrt(math.exp(self.log_sd**2) - 1)
        drawn: Float64 = np.exp(self.log_sd * scores) / sd
        return drawn


def _day_effect(days: Any) -> Float64:
    first, last = int(days[0]), int(days[-1])
    effects = np.array([np.random.default_rng(day).normal() for day in range(first, last + 1)])
    found: Float64 = effects[days - first]
    return found


# ---------------------------------------------------------------------------------------------------- PageHinkley


@jit
def page_hinkley(rows: Float64, state: Float64, statistic: Float64) -> None:
    """river's PageHinkley (0.23) without its reset: statistic [N] of rows [N]; `state` [6] is new when it is all 0."""
    for i in range(len(rows)):
        if state[0] == 0.0:
            state[4], state[5] = np.inf, -1.0
        state[0] += 1.0
        state[1] += (rows[i] - state[1]) / state[0]
        deviation = rows[i] - state[1]
        state[2] = PH_ALPHA * state[2] + deviation - PH_DELTA
        state[3] = PH_ALPHA * state[3] + deviation + PH_DELTA
        state[4] = min(state[4], state[2])
        state[5] = max(state[5], state[3])
        statistic[i] = max(state[2] - state[4], state[5] - state[3]) if state[0] >= PH_LEAST_ROWS else 0.0


@jit
def cusum(rows: Float64, shift: float, state: Float64, statistic: Float64) -> None:
    """Page's CUSUM of Gaussian rows for a known shift [N]; `state` [1]."""
    for i in range(len(rows)):
        state[0] = max(state[0] + rows[i] - shift / 2.0, 0.0)
        statistic[i] = state[0]


def cusum_threshold(shift: float, rows: float) -> float:
    """The threshold at which `cusum` alarms once in so many stationary rows on average (Siegmund, "Sequential
    Analysis", 1985, 2.58)."""
    low, high = 0.0, 1e4
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        reach = shift * (middle + 1.166)
        above = reach > 700.0 or 2.0 / shift**2 * (math.exp(reach) - 1.0 - reach) > rows
        low, high = (low, middle) if above else (middle, high)
    return high


# ---------------------------------------------------------------------------------------------------------- KSWIN


@jit
def kswin(rows: Float64, seed: int, statistic: Float64) -> None:
    """KSWIN's statistic [N]: the KS distance of the last 30 of 100 rows from 30 of the 70 before, drawn at random."""
    np.random.seed(seed)
    older = KSWIN_WINDOW - KSWIN_RECENT
    place = np.arange(older)
    recent, sample = np.empty(KSWIN_RECENT), np.empty(KSWIN_RECENT)
    statistic[: KSWIN_WINDOW - 1] = 0.0
    for i in range(KSWIN_WINDOW - 1, len(rows)):
        start = i - KSWIN_WINDOW + 1
        for j in range(KSWIN_RECENT):
            other = j + np.random.randint(0, older - j)
            place[j], place[other] = place[other], place[j]
            sample[j] = rows[start + place[j]]
            recent[j] = rows[start + older + j]
        statistic[i] = ks_distance(np.sort(sample), np.sort(recent))


@jit
def ks_distance(first: Float64, second: Float64) -> float:
    """Kolmogorov–Smirnov distance of two sorted samples of equal size."""
    a, b, largest, size = 0, 0, 0, len(first)
    while a < size and b < size:
        value = min(first[a], second[b])
        while a < size and first[a] <= value:
            a += 1
        while b < size and second[b] <= value:
            b += 1
        largest = max(largest, abs(a - b))
    return largest / size


class PageHinkley:
    """The compiled PageHinkley, which goes on from call to call."""

    name = "PageHinkley"
    rows_to_recover = 1_000
    warm_rows = 50_000
    published = PUBLISHED_PH_THRESHOLD

    def __init__(self, state: Float64 | None = None) -> None:
        self._state = np.zeros(6) if state is None else state.copy()

    def copy(self) -> PageHinkley:
        return PageHinkley(self._state)

    def statistic(self, rows: Float64) -> Float64:
        out = np.empty(len(rows))
        page_hinkley(rows, self._state, out)
        return out

    def setting(self, threshold: float) -> float:
        return threshold


class Kswin:
    """The compiled KSWIN, which goes on from call to call."""

    name = "KSWIN"
    rows_to_recover = KSWIN_WINDOW - KSWIN_RECENT
    warm_rows = KSWIN_WINDOW

    def __init__(self, last: Float64 | None = None, calls: int = 0) -> None:
        self.published = kswin_distance(PUBLISHED_KSWIN_ALPHA)
        self._last = np.empty(0) if last is None else last
        self._calls = calls

    def copy(self) -> Kswin:
        return Kswin(self._last.copy(), self._calls)

    def statistic(self, rows: Float64) -> Float64:
        joined = np.concatenate([self._last, rows])
        out = np.empty(len(joined))
        self._calls += 1
        kswin(joined, self._calls, out)
        out, self._last = out[len(self._last) :], joined[1 - KSWIN_WINDOW :]
        return out

    def setting(self, threshold: float) -> float:
        """The α that belongs to a distance."""
        return kswin_alpha(threshold)


def kswin_alpha(distance: float) -> float:
    """Exact p-value of a distance between two samples of 30, as river takes it (Gnedenko and Korolyuk, 1951)."""
    n, steps = KSWIN_RECENT, math.ceil(distance * KSWIN_RECENT - 1e-9)
    if steps <= 0:
        return 1.0
    ways = sum((-1) ** (j + 1) * math.comb(2 * n, n - j * steps) for j in range(1, n // steps + 1))
    return float(2.0 * ways / math.comb(2 * n, n))


def kswin_distance(alpha: float) -> float:
    """The least distance whose p-value is at most α."""
    steps = next(n for n in range(1, KSWIN_RECENT + 1) if kswin_alpha(n / KSWIN_RECENT) <= alpha)
    return steps / KSWIN_RECENT
