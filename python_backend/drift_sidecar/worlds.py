"""Simulated worlds: what a stream of transactions truly is, hour by hour, and how it may drift.

A world is a share for each cell of each series in each hour of the week. Its reference is drawn from it, with all the
errors of a finite sample, and so are its minutes. Stationary does not mean constant: volume and some features follow
the clock, and every day differs a little from the others (`day_sd`), as real days do: in the Fraud Detection
Handbook's data the mean of a feature differs between days by up to 0.010 standard deviations beyond what chance gives
(customer_count_30d: days' variance 1.9 times that of chance at 9,600 rows a day, √(0.9 / 9,600) = 0.0097).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from drift_sidecar.betting import normal_scores
from fraud_scoring.reference import (
    DECISIONS,
    HOURS,
    OWN_BINS,
    SCORE_BOUNDS,
    SCORE_SERIES,
    BinnedReference,
    Calibration,
    Float64,
    Reference,
)

DECILES: Final = stats.norm.ppf(np.arange(1, 10) / 10)
LOG_SD: Final = 0.8
"""Of the logarithm of a simulated amount."""
CYCLE_SD: Final = 0.1
"""How far the mean of a feature that follows the clock goes up and down over a day, in standard deviations."""
SCORE_SHARES: Final = (0.1,) * 9 + (0.05, 0.03, 0.01, 0.005, 0.003, 0.002)
REFERENCE_DAYS: Final = 14

Cells = Callable[[float], Float64]
"""Shares of the regular bins where the feature's mean is shifted by so many standard deviations."""


@dataclass(frozen=True)
class Truth:
    """One series: `cells(shift)` its regular bins' shares, how it follows the clock, and what share of it is
    missing."""

    name: str
    cells: Cells
    cycle: float = 0.0
    missing: float = 0.0
    own_bins: bool = True

    def shares(self, hour: int, shift: float = 0.0) -> Float64:
        """Shares of all cells in an hour of the week."""
        wave = self.cycle * np.sin(2.0 * np.pi * (hour % 24 - 9) / 24.0)
        regular = self.cells(wave + shift)
        if not self.own_bins:
            return regular
        own = np.zeros(len(OWN_BINS))
        own[-1] = self.missing
        return np.concatenate([(1.0 - self.missing) * regular, own])


def gaussian(shift: float) -> Float64:
    """Deciles of a Gaussian feature."""
    return np.diff(stats.norm.cdf(DECILES - shift), prepend=0.0, append=1.0)


def amount(shift: float) -> Float64:
    """Deciles of a log-normal amount; the shift adds to the amount itself."""
    sd = np.exp(LOG_SD**2 / 2) * np.sqrt(np.exp(LOG_SD**2) - 1)
    edges = np.exp(LOG_SD * DECILES) - shift * sd
    below = np.where(edges > 0, stats.norm.cdf(np.log(np.maximum(edges, 1e-12)) / LOG_SD), 0.0)
    return np.diff(below, prepend=0.0, append=1.0)


def number(mean: float, most: int) -> Cells:
    """A Poisson number, each value a bin."""

    def cells(shift: float) -> Float64:
        shares = stats.poisson.pmf(np.arange(most), max(mean + shift * np.sqrt(mean), 0.05))
        return np.append(shares, 1.0 - shares.sum())

    return cells


def rate(positive: float) -> Cells:
    """Zero but for a share of `positive` rows, whose values fill the upper bins; the shift adds to that share."""

    def cells(shift: float) -> Float64:
        share = float(np.clip(positive + shift * np.sqrt(positive * (1.0 - positive)), 1e-4, 0.9))
        return np.concatenate([[1.0 - share], np.full(8, share / 8)])

    return cells


def tail(shares: tuple[float, ...]) -> Cells:
    """Ordered bins of given shares, shifted along their normal scores."""
    base = np.array(shares)
    scores = normal_scores(np.rint(base * 1_000_000).astype(np.int64))

    def cells(shift: float) -> Float64:
        tilted = base * np.exp(shift * scores)
        moved: Float64 = tilted / tilted.sum()
        return moved

    return cells


@dataclass(frozen=True)
class Flag(Truth):
    """A flag that the clock sets: night, weekend."""

    weekend: bool = False

    def shares(self, hour: int, shift: float = 0.0) -> Float64:
        is_set = hour // 24 >= 5 if self.weekend else hour % 24 <= 6
        own = np.zeros(len(OWN_BINS))
        return np.concatenate([[0.0, 1.0] if is_set else [1.0, 0.0], own])


FEATURES: Final[tuple[Truth, ...]] = (
    Truth("gaussian", gaussian),
    Truth("gaussian_with_cycle", gaussian, cycle=CYCLE_SD),
    Truth("amount", amount),
    Truth("amount_with_cycle", amount, cycle=CYCLE_SD),
    Flag("is_weekend", gaussian, weekend=True),
    Flag("is_night", gaussian),
    Truth("customer_count_1d", number(3.5, 12), cycle=CYCLE_SD),
    Truth("customer_count_7d", gaussian),
    Truth("customer_mean_amount_7d", gaussian),
    Truth("customer_mean_amount_30d", gaussian),
    Truth("terminal_count_1d", number(1.0, 7), cycle=CYCLE_SD),
    Truth("terminal_count_30d", gaussian),
    Truth("terminal_fraud_rate_1d", rate(0.01)),
    Truth("terminal_fraud_rate_30d", rate(0.08)),
    Truth("entry_mode_age", gaussian, missing=0.01),
)
"""The 15 features of the simulated streams."""
SCORE: Final = Truth(SCORE_SERIES, tail(SCORE_SHARES))
DECISION: Final = Truth("decision", tail((0.986, 0.008, 0.006)), own_bins=False)
SERIES: Final = (*FEATURES, SCORE, DECISION)
GAUSSIAN: Final = 0
CYCLE: Final = 1
AMOUNT: Final = 2


def volume_shares() -> Float64:
    """Share of a day's volume in each hour of the day [24]: times of day are normal around noon, sd 20,000 s
    (Handbook)."""
    edges = (np.arange(25) - 12.0) * 3600.0 / 20_000.0
    inside: Float64 = np.diff(stats.norm.cdf(edges))
    shares: Float64 = inside / inside.sum()
    return shares


def day_tilts(rng: np.random.Generator, sd: float) -> Float64:
    """How far each series' mean lies from its usual on one day [K]; flags follow the clock alone."""
    tilts = rng.normal(0.0, sd, len(SERIES))
    return np.where([isinstance(series, Flag) for series in SERIES], 0.0, tilts)


def draw_reference(rng: np.random.Generator, rows: int, day_sd: float) -> Reference:
    """The reference that a release would carry from two weeks of this world, of `rows` rows."""
    sizes = [len(series.shares(0)) for series in SERIES]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    by_hour = np.zeros((HOURS, starts[-1]), np.int64)
    by_day = np.zeros((REFERENCE_DAYS, starts[-1]), np.int64)
    volume = volume_shares() * rows / REFERENCE_DAYS
    for day in range(REFERENCE_DAYS):
        tilts = day_tilts(rng, day_sd)
        for hour in range(24):
            of_week = day % 7 * 24 + hour
            total = rng.poisson(volume[hour])
            for k, series in enumerate(SERIES):
                drawn = rng.multinomial(total, series.shares(of_week, tilts[k]))
                by_hour[of_week, starts[k] : starts[k + 1]] += drawn
                by_day[day, starts[k] : starts[k + 1]] += drawn
    total = by_hour.sum(axis=0)
    binned = tuple(_binned(series, total[starts[k] : starts[k + 1]]) for k, series in enumerate(SERIES[:-1]))
    return Reference(
        release=1,
        schema_sha256="",
        time_column=1,
        amount_column=4,
        features=binned[:-1],
        score=binned[-1],
        decisions=total[-DECISIONS:],
        by_hour=by_hour,
        by_day=by_day,
        first_day=4,  # a Monday
        calibration=draw_calibration(rng, rows),
        costs={},
        rows=int(total[-DECISIONS:].sum()),
    )


CALIBRATION_SHARES: Final = np.array([0.03, 0.88, 0.06, 0.013, 0.005, 0.003, 0.002, 0.001, 0.001, 0.001, 0.002, 0.002])
CALIBRATION_MEANS: Final = np.array([8e-4, 0.0018, 0.0045, 0.017, 0.058, 0.17, 0.38, 0.6, 0.81, 0.94, 0.983, 0.994])
"""Share and mean score of the bins of SCORE_BOUNDS, about as in a release trained on the Handbook's data."""


def draw_calibration(rng: np.random.Generator, rows: int) -> Calibration:
    """A calibrated score's calibration on `rows` rows."""
    seen = rng.multinomial(rows, CALIBRATION_SHARES / CALIBRATION_SHARES.sum())
    return Calibration(seen.astype(np.int64), seen * CALIBRATION_MEANS, rng.binomial(seen, CALIBRATION_MEANS))


def _binned(series: Truth, counts: Float64) -> BinnedReference:
    """Bins at 0, 1, 2, …: only their order matters here."""
    bins = len(counts) - len(OWN_BINS)
    edges = np.arange(1.0, bins)
    return BinnedReference(
        name=series.name,
        edges=edges,
        low=0.0,
        high=float(bins),
        discrete=False,
        means=np.arange(bins) + 0.5,
        counts=counts.astype(np.int64),
        mean=bins / 2.0,
        sd=bins / np.sqrt(12.0),
    )


assert len(SCORE_BOUNDS) + 1 == len(CALIBRATION_MEANS)
