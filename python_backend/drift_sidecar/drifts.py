"""Drifts that are injected into a simulated world, and how long the sidecar takes to page.

Each begins at a random moment of a stationary stream and stays. The delay runs from its first row to the end of the
look in which the first page is raised; what the sidecar's own clockwork adds (poll, settling of the writers) is not in
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from scipy import stats

from drift_sidecar import worlds
from drift_sidecar.quality import FRAUD, LABEL_SERIES, UNLABELLED, LabelEvidence, label_threshold
from drift_sidecar.simulation import World
from fraud_scoring.reference import Float64

NOON: Final = 36
"""Tuesday 12:00: the hour of the week in which drifts are injected."""
WARM_UP_S: Final = 1800.0
SHIFTS: Final = (0.1, 0.25, 0.5, 1.0)

Change = Callable[[Float64], Float64]
"""From the shares [K, B] of the hour to what they are once the drift is there."""


@dataclass(frozen=True)
class Drift:
    """A drift by name; `change` makes it."""

    name: str
    change: Change


def _index(name: str) -> int:
    return next(k for k, series in enumerate(worlds.SERIES) if series.name == name)


def shifted(shares: Float64, name: str, sd: float) -> Float64:
    """The mean of one feature moves by `sd` standard deviations."""
    k = _index(name)
    out = shares.copy()
    cells = worlds.SERIES[k].shares(NOON, sd)
    out[k, : len(cells)] = cells
    return out


def widened(shares: Float64, factor: float) -> Float64:
    """The standard deviation of the Gaussian feature grows to `factor` times what it was."""
    out = shares.copy()
    cells = np.diff(stats.norm.cdf(worlds.DECILES / factor), prepend=0.0, append=1.0)
    out[worlds.GAUSSIAN, : len(cells)] = cells
    return out


def missing(shares: Float64, share: float) -> Float64:
    """A feature comes without a value in `share` of the rows."""
    out = shares.copy()
    cells = len(worlds.SERIES[worlds.GAUSSIAN].shares(NOON))
    out[worlds.GAUSSIAN] *= 1.0 - share
    out[worlds.GAUSSIAN, cells - 1] += share
    return out


def new_terminals(shares: Float64, share: float) -> Float64:
    """`share` of the rows come from terminals that nothing is known of: no transactions, no fraud."""
    out = shares.copy()
    for name in ("terminal_count_1d", "terminal_count_30d", "terminal_fraud_rate_1d", "terminal_fraud_rate_30d"):
        k = _index(name)
        out[k] *= 1.0 - share
        out[k, 0] += share
    return out


def fraud_wave(shares: Float64, factor: float) -> Float64:
    """There is `factor` times as much fraud: in the terminals' fraud rates, the highest 2% of scores, the decisions."""
    out = shares.copy()
    rates = ("terminal_fraud_rate_1d", "terminal_fraud_rate_30d", "decision")
    for name, first in (*((rate, 1) for rate in rates), ("score", 11)):
        k = _index(name)
        before = out[k, first:].sum()
        out[k, first:] *= factor
        out[k, :first] *= (1.0 - factor * before) / (1.0 - before)
    return out


DRIFTS: Final[tuple[Drift, ...]] = (
    *(Drift(f"mean of one feature + {sd:g} sd", partial(shifted, name="gaussian", sd=sd)) for sd in SHIFTS),
    Drift("mean of a feature with a daily cycle + 0.25 sd", partial(shifted, name="gaussian_with_cycle", sd=0.25)),
    Drift("mean of the amount + 0.25 sd", partial(shifted, name="amount", sd=0.25)),
    *(
        Drift(f"standard deviation of one feature × {factor:g}", partial(widened, factor=factor))
        for factor in (0.75, 1.25, 1.5, 2.0)
    ),
    *(Drift(f"{share:.0%} of one feature missing", partial(missing, share=share)) for share in (0.01, 0.05, 0.2)),
    *(
        Drift(f"{share:.0%} of rows from new terminals", partial(new_terminals, share=share))
        for share in (0.1, 0.2, 0.4)
    ),
    *(
        Drift(f"fraud wave: {factor:g} times the fraud", partial(fraud_wave, factor=factor))
        for factor in (1.5, 2.0, 4.0)
    ),
)


@dataclass(frozen=True)
class Delay:
    """Seconds from a drift's first row to the first page; infinite where more than half (a tenth) of the runs had
    none."""

    name: str
    runs: int
    median_s: float
    p90_s: float
    without_page: int
    first_series: str
    """The series that paged first most often."""


def delays(world: World, drift: Drift, runs: int, *, rows_per_second: float, limit_s: float) -> Delay:
    """How long a drift takes to page, injected `runs` times; a run without a page counts as infinite."""
    found, first = np.full(runs, np.inf), []
    for run in range(runs):
        world.new_day()
        world.forget()
        stationary = world.shares(NOON)
        for _ in world.run(NOON, math.ceil(WARM_UP_S / world.look_seconds), stationary, rows_per_second):
            pass
        drifted = drift.change(stationary)
        # it begins somewhere within a look, whose rows are then of both kinds
        part = float(world.rng.random())
        mixed = part * drifted + (1.0 - part) * stationary
        looks = round(limit_s / world.look_seconds)
        for before, shares, most in ((0.0, mixed, 1), (1.0, drifted, looks)):
            pages = ((done, page) for done, page in world.run(NOON, most, shares, rows_per_second) if page is not None)
            if (paged := next(pages, None)) is not None:
                found[run] = (before + paged[0] - 1.0 + part) * world.look_seconds
                first.append(paged[1].series)
                break
    return _summary(drift.name, found, first)


LABEL_DRIFTS: Final = (
    ("label flip: 0.25% of the legitimate turn to fraud", 1.0, 0.0025),
    ("label flip: 0.5% of the legitimate turn to fraud", 1.0, 0.005),
    ("label flip: 1% of the legitimate turn to fraud", 1.0, 0.01),
    ("labels: fraud at twice the odds at the same score", 2.0, 0.0),
)
"""(name, factor of the odds of fraud in each bin of the score, share of the others that are labelled fraud as well)."""


def label_delays(seed: int, runs: int, rows_per_minute: int = 6000, minutes: int = 600) -> tuple[Delay, ...]:
    """How long after its first labels mature a change of what is fraud takes to be told, looked at every minute.

    Nothing that is known before the labels moves, so that the delay of the labels themselves comes on top.
    """
    rng = np.random.default_rng(seed)
    share = worlds.CALIBRATION_SHARES / worlds.CALIBRATION_SHARES.sum()
    out = []
    for name, factor, flipped in LABEL_DRIFTS:
        odds = factor * worlds.CALIBRATION_MEANS / (1.0 - worlds.CALIBRATION_MEANS)
        fraud = odds / (1.0 + odds) * (1.0 - flipped) + flipped
        found = np.full(runs, np.inf)
        for run in range(runs):
            calibration = worlds.draw_calibration(rng, 1_000_000)
            evidence = LabelEvidence(calibration, label_threshold(len(worlds.SERIES)))
            for minute in range(-60, minutes):
                rows = rng.multinomial(rows_per_minute, share)
                outcomes = np.zeros((len(rows), 3, 3), np.int64)
                outcomes[:, 0, FRAUD] = rng.binomial(rows, worlds.CALIBRATION_MEANS if minute < 0 else fraud)
                outcomes[:, 0, UNLABELLED] = rows - outcomes[:, 0, FRAUD]
                if evidence.look(outcomes, 1.0) and minute >= 0:
                    found[run] = 60.0 * (minute + 1)
                    break
        out.append(_summary(name, found, [LABEL_SERIES]))
    return tuple(out)


def _summary(name: str, found: Float64, first: list[str]) -> Delay:
    return Delay(
        name=name,
        runs=len(found),
        median_s=float(np.quantile(found, 0.5, method="higher")),
        p90_s=float(np.quantile(found, 0.9, method="higher")),
        without_page=int((~np.isfinite(found)).sum()),
        first_series=max(set(first), key=first.count) if first else "",
    )
