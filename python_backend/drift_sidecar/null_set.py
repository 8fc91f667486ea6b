"""What is NOT drift: for each hour of the week and each bin, between which shares a row may lie there.

The reference is an estimate, days differ, and no one wants to be paged for a change that does not matter. So "nothing
has moved" is not one distribution but a set: every bin's share lies in a band around what the reference foresees for
that hour of the week. Within the set the shares may move as they like, from row to row. A band is

    Wilson's interval of the reference's share (`confidence_sd` wide, at the rows that the estimate rests on, and with
    the day-to-day variance that the reference showed)  ± `share_tolerance` of the share (or of what is left of 1, if
    less) ± `least_share`

Hour of the week: what a feature does in one hour is estimated from that hour's rows and, as far as the hours of the
reference differ no more than chance allows, from all others (empirical Bayes; Robbins, 1956): the Dirichlet prior of an
hour of the week is centred at that hour of the day, on working days or on weekends, and the prior of that at the whole
reference, each with the concentration that the differences show. A flag that follows the clock gets its own hour's rows
alone, a feature that does not gets all rows, and in an hour of the day that the reference never saw nothing is
forbidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

from fraud_scoring.reference import HOURS, Float64, Int64, Reference

_HOURS_A_DAY = 24
_DAYS_A_WEEK = 7
_MONDAY = 3  # 1970-01-01 was a Thursday
_SATURDAY = 5
_LEAST_CONCENTRATION = 0.01


@dataclass(frozen=True)
class Tolerance:
    """How much may change before it counts: of a bin's share, in absolute terms, and how sure the band is."""

    share_tolerance: float = 0.05
    least_share: float = 0.0005
    confidence_sd: float = 3.0


@dataclass(frozen=True)
class NullSet:
    """Bands [168, K, B] for all hours, series and bins; B is the largest series' size, smaller ones are padded by
    zeros.

    `shares` is the centre, `low` and `high` the band; `rows` [168, K] the rows that each centre rests on.
    """

    shares: Float64
    low: Float64
    high: Float64
    rows: Float64
    starts: Int64
    follows_clock: npt.NDArray[np.bool_]
    """[K]: whether the series differs between hours of the week by more than chance."""

    @property
    def series(self) -> int:
        return self.shares.shape[1]

    @property
    def bins(self) -> int:
        return self.shares.shape[2]

    @cached_property
    def _places(self) -> Int64:
        """Index into a flat vector of cells (with one zero appended) for each place [K, B]."""
        sizes = np.diff(self.starts)
        column = np.arange(self.bins)
        return np.where(column < sizes[:, None], self.starts[:-1, None] + column, self.starts[-1]).astype(np.int64)

    def table(self, cells: Int64) -> Float64:
        """A vector of counts [≥ cells] as a padded table [K, B]."""
        flat = np.zeros(int(self.starts[-1]) + 1)
        flat[:-1] = cells[: self.starts[-1]]
        return flat[self._places]

    def size(self, series: int) -> int:
        """How many cells a series has."""
        return int(self.starts[series + 1] - self.starts[series])

    def expected(self, series: int, hour_rows: Float64 | Int64) -> tuple[Float64, float]:
        """(shares of a series' cells, rows that they rest on) for a window with so many rows in each hour [168]."""
        weight = np.asarray(hour_rows, np.float64)
        weight = weight / weight.sum() if weight.sum() > 0 else np.full(HOURS, 1.0 / HOURS)
        shares = weight @ self.shares[:, series, : self.size(series)]
        return shares / shares.sum(), float(1.0 / (weight @ (1.0 / self.rows[:, series])))


def make_null_set(reference: Reference, tolerance: Tolerance) -> NullSet:
    """The bands that a reference and a tolerance give."""
    layout = reference.layout
    series, largest = len(layout.names), int(np.diff(layout.starts).max())
    shares, low, high = (np.zeros((HOURS, series, largest)) for _ in range(3))
    rows = np.zeros((HOURS, series))
    follows = np.zeros(series, bool)
    for number in range(series):
        places = layout.of(number)
        size = places.stop - places.start
        by_hour = reference.by_hour[:, places].astype(np.float64)
        centre, rows[:, number], follows[number] = hourly_shares(by_hour, tolerance.share_tolerance / 2.0)
        spread = day_to_day(reference, places, centre, follows[number])
        bands = band(centre, rows[:, number], spread, reference.rows / max(len(reference.by_day), 1), tolerance)
        shares[:, number, :size], low[:, number, :size], high[:, number, :size] = bands
    return NullSet(shares, low, high, rows, layout.starts, follows)


def hourly_shares(by_hour: Float64, immaterial: float = 0.0) -> tuple[Float64, Float64, bool]:
    """(shares [168, B], rows that each hour's rest on [168], whether the hours differ) from counts [168, B].

    Two steps: hours of the day, on working days and on weekends, towards the whole; hours of the week towards these.
    """
    total = by_hour.sum(axis=0)
    rows = float(total.sum())
    whole = (total + 0.5) / (rows + 0.5 * len(total))
    part = _part_of_hour()
    by_part = np.zeros((2 * _HOURS_A_DAY, by_hour.shape[1]))
    np.add.at(by_part, part, by_hour)
    shares, rests_on, daily = _shrunk(
        by_part, np.tile(whole, (len(by_part), 1)), np.full(len(by_part), rows), 1, immaterial
    )
    shares, rests_on, weekly = _shrunk(by_hour, shares[part], rests_on[part], len(by_part) if daily else 1, immaterial)
    # of an hour of the day that the reference never saw, nothing is known
    rests_on = np.where(by_part.sum(axis=1)[part] > 0, rests_on, _LEAST_CONCENTRATION)
    return shares, rests_on, daily or weekly


def _part_of_hour() -> Int64:
    """The hour of the day, 0 to 23 on working days and 24 to 47 on weekends, of each hour of the week."""
    hour = np.arange(HOURS)
    weekend = hour // _HOURS_A_DAY >= _SATURDAY
    return hour % _HOURS_A_DAY + _HOURS_A_DAY * weekend


def _shrunk(
    counts: Float64, centre: Float64, centre_rows: Float64, centres: int, immaterial: float
) -> tuple[Float64, Float64, bool]:
    """(shares [G, B], rows [G], whether the groups differ from `centre` [G, B], which was estimated as `centres`
    groups).

    The concentration κ of the groups around their centre is that at which their χ² distance is what it is expected to
    be: for a Dirichlet-multinomial (B − 1)(n + κ)/(1 + κ) in a group of n rows (Mosimann, 1962). Where the distance is
    within 4 standard deviations of what chance gives, or the shares differ by less than `immaterial` of themselves, the
    groups are taken to be as their centre.
    """
    seen = counts.sum(axis=1)
    used = counts.sum(axis=0) > 0
    degrees = int(used.sum()) - 1
    expected = seen[:, None] * centre[:, used]
    distance = ((counts[:, used] - expected) ** 2 / np.maximum(expected, 1e-12)).sum()
    chance = degrees * max(int((seen > 0).sum()) - centres, 1)
    if degrees < 1 or distance <= chance + 4.0 * np.sqrt(2.0 * chance):
        return centre, centre_rows, False
    estimate = degrees * np.maximum(seen - 1.0, 0.0).sum() / (distance - chance) - 1.0
    # (B − 1)/(1 + κ) is the mean square of how far the shares differ from their centre, relative to it
    if degrees / (1.0 + estimate) < immaterial**2:
        return centre, centre_rows, False
    concentration = np.minimum(max(estimate, _LEAST_CONCENTRATION), centre_rows)
    shares = (counts + concentration[:, None] * centre) / (seen + concentration)[:, None]
    return shares, seen + concentration, True


def day_to_day(reference: Reference, places: slice, centre: Float64, follows_clock: bool) -> float:
    """How many times larger the variance between days is than chance makes it; at least 1.

    The lower end (95%) of the variance ratio's confidence interval, so that chance alone widens no band. Days of the
    same weekday are compared where the series follows the clock.
    """
    by_day = reference.by_day[:, places].astype(np.float64)
    days = len(by_day)
    weekday = (reference.first_day + _MONDAY + np.arange(days)) % _DAYS_A_WEEK
    volume = np.maximum(reference.hour_volume.reshape(_DAYS_A_WEEK, _HOURS_A_DAY), 1e-9)
    if follows_clock:
        by_weekday = centre.reshape(_DAYS_A_WEEK, _HOURS_A_DAY, -1)
        share = (by_weekday * volume[:, :, None]).sum(axis=1) / volume.sum(axis=1)[:, None]
        groups = len(np.unique(weekday))
    else:
        share, groups = np.repeat(centre[:1], _DAYS_A_WEEK, axis=0), 1
    expected = by_day.sum(axis=1)[:, None] * share[weekday]
    large = expected.min(axis=0, initial=np.inf) >= 5.0
    degrees = (days - groups) * (int(large.sum()) - int(large.all()))
    if degrees < 1:
        return 1.0
    distance = ((by_day - expected)[:, large] ** 2 / expected[:, large]).sum()
    return max(float(distance / stats.chi2.ppf(0.95, degrees)), 1.0)


def band(
    shares: Float64, rows: Float64, spread: float, day_rows: float, tolerance: Tolerance
) -> tuple[Float64, Float64, Float64]:
    """(centre, low, high) [168, B]; `spread` from `day_to_day`, `day_rows` the rows of a day of the reference.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    # variance of the estimate, and of a day around it
    per_row = spread / rows + (spread - 1.0) / max(day_rows, 1.0)
    z2 = tolerance.confidence_sd**2 * per_row[:, None]
    middle = (shares + z2 / 2.0) / (1.0 + z2)
    half = np.sqrt(z2 * shares * (1.0 - shares) + z2**2 / 4.0) / (1.0 + z2)
    slack = tolerance.share_tolerance * np.minimum(shares, 1.0 - shares) + tolerance.least_share
    low = np.clip(middle - half - slack, 0.0, shares)
    high = np.clip(middle + half + slack, shares, 1.0)
    return shares, low, high
