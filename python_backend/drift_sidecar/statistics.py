"""Effect sizes between two histograms on the same bins, and how large they come out where nothing has moved.

All are functions of `expected`, the shares [B] that the reference foresees, the `rows` that these rest on, and the
counts [B] of a window. Cells are in the order of the reference: regular bins, then below, above, unseen, missing.

Empty bins: each side is smoothed by one row that is spread as the reference is, the reference itself by half a row per
bin (Krichevsky and Trofimov, "The performance of universal encoding", 1981). So no logarithm meets a zero, and a bin
that is empty on both sides adds nothing worth naming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import special, stats

from fraud_scoring.reference import OWN_BINS, BinnedReference, Float64, Int64

SMOOTHING_ROWS: Final = 1.0
LEAST_EXPECTED: Final = 5.0
"""Cells in which fewer rows are expected are taken together where a χ² distribution is used (Cochran, 1954)."""


@dataclass(frozen=True)
class Effect:
    """How far a window lies from what the reference foresees.

    `psi` population stability index; `psi_expected` what it is on average where nothing moved; `psi_threshold` what it
    does not exceed, at the level, where the true PSI is within the tolerance; `ks` 0 to 1 (a lower bound: it is taken
    on the grid); `js` Jensen–Shannon divergence in bits, 0 to 1; `wasserstein` in standard deviations of the reference;
    `chi2_p` p-value of the χ² test of equal shares, for one look (not for many).
    """

    rows: int
    psi: float
    psi_expected: float
    psi_threshold: float
    ks: float
    js: float
    wasserstein: float
    chi2_p: float

    @property
    def psi_excess(self) -> float:
        """PSI without what chance adds on average; at least 0."""
        return max(self.psi - self.psi_expected, 0.0)


def smoothed(counts: Float64 | Int64) -> Float64:
    """Shares of a reference's counts [B], half a row added to each bin."""
    total: Float64 = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return total


def window_shares(expected: Float64, counts: Float64 | Int64) -> Float64:
    """Shares of a window's counts [B], smoothed by one row spread as `expected`."""
    shares: Float64 = (counts + SMOOTHING_ROWS * expected) / (counts.sum() + SMOOTHING_ROWS)
    return shares


def psi(expected: Float64, counts: Float64 | Int64) -> float:
    """Population stability index Σ (p − q) ln(p / q): the symmetric divergence J of Jeffreys (1946); Siddiqi (2006)."""
    shares = window_shares(expected, counts)
    return float(((shares - expected) * np.log(shares / expected)).sum())


def psi_scale(window_rows: float, reference_rows: float) -> float:
    """1/N + 1/M: PSI divided by it is about χ² distributed with B − 1 degrees of freedom where nothing moved.

    Yurdakul and Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation 14(4),
    2020.
    """
    return 1.0 / max(window_rows, 1.0) + 1.0 / max(reference_rows, 1.0)


def degrees(expected: Float64, rows: float) -> int:
    """B − 1 for the cells that count: those with LEAST_EXPECTED rows expected, and all others as one."""
    large = int((expected * rows >= LEAST_EXPECTED).sum())
    return max(large + int(large < len(expected)) - 1, 1)


def psi_expected(bins: int, window_rows: float, reference_rows: float) -> float:
    """What PSI is on average where nothing moved: (B − 1)(1/N + 1/M); Yurdakul and Naranjo (2020)."""
    return (bins - 1) * psi_scale(window_rows, reference_rows)


def psi_threshold(
    bins: int, window_rows: float, reference_rows: float, tolerance: float = 0.0, level: float = 0.95
) -> float:
    """What PSI exceeds with probability 1 − `level` where the true PSI is `tolerance`, and more rarely where it is
    less.

    With n = 1 / (1/N + 1/M), n·PSI is about non-central χ² with B − 1 degrees of freedom and non-centrality
    n·tolerance: as every divergence of the power family it agrees to second order with Pearson's (Cressie and Read,
    "Multinomial goodness-of-fit tests", 1984), whose law under local alternatives is that (Patnaik, 1949).
    """
    scale = psi_scale(window_rows, reference_rows)
    return float(scale * special.chndtrix(level, bins - 1, tolerance / scale))


def jensen_shannon(expected: Float64, counts: Float64 | Int64) -> float:
    """Jensen–Shannon divergence in bits, 0 to 1 (Lin, "Divergence measures based on the Shannon entropy", 1991)."""
    shares = window_shares(expected, counts)
    middle = 0.5 * (shares + expected)
    divergence = special.rel_entr(shares, middle).sum() + special.rel_entr(expected, middle).sum()
    return max(float(0.5 * divergence / math.log(2.0)), 0.0)


def _line(cells: Float64, regular: int) -> Float64:
    """The cells that lie on a line, in order, as shares: below, regular bins, above."""
    ordered = np.concatenate([cells[regular : regular + 1], cells[:regular], cells[regular + 1 : regular + 2]])
    total = ordered.sum()
    shares: Float64 = ordered / total if total > 0 else ordered
    return shares


def kolmogorov_smirnov(expected: Float64, counts: Float64 | Int64, regular: int) -> float:
    """Largest gap between the two distribution functions at the bins' edges; of the values that are there and seen.

    Between the edges the gap may be larger: a lower bound of the statistic of Kolmogorov (1933) and Smirnov (1939).
    """
    gap = np.cumsum(_line(np.asarray(counts, np.float64), regular)) - np.cumsum(_line(expected, regular))
    return float(np.abs(gap).max())


def wasserstein(expected: Float64, counts: Float64 | Int64, series: BinnedReference) -> float:
    """Wasserstein-1 distance ∫ |F − G| in standard deviations of the reference (Vallender, 1974).

    A bin's rows are taken to lie at the bin's mean in the reference, those outside its range at its ends, so that what
    moves within a bin is not seen.
    """
    if series.sd <= 0.0:
        return 0.0
    regular = series.bins
    gap = np.cumsum(_line(np.asarray(counts, np.float64), regular) - _line(expected, regular))[:-1]
    places = np.concatenate([[series.low], series.means, [series.high]])
    return float((np.abs(gap) * np.maximum(np.diff(places), 0.0)).sum() / series.sd)


def chi2_p(expected: Float64, reference_rows: float, counts: Float64 | Int64) -> float:
    """p-value of Pearson's χ² test that window and reference have the same shares; rare cells are taken together."""
    rows = float(counts.sum())
    if rows <= 0:
        return 1.0
    pooled = (reference_rows * expected + counts) / (reference_rows + rows)
    rare = pooled * min(rows, reference_rows) < LEAST_EXPECTED
    observed, base, both = (
        np.append(cells[~rare], cells[rare].sum()) for cells in (counts / rows, expected, np.asarray(pooled))
    )
    kept = both > 0
    if kept.sum() < 2:
        return 1.0
    distance = (observed[kept] - base[kept]) ** 2 / both[kept]
    statistic = distance.sum() / psi_scale(rows, reference_rows)
    return float(stats.chi2.sf(statistic, int(kept.sum()) - 1))


def effect(
    expected: Float64,
    reference_rows: float,
    counts: Float64 | Int64,
    series: BinnedReference | None,
    *,
    tolerance: float,
    level: float = 0.95,
) -> Effect:
    """All effect sizes of a window; `series` is None for the decision, which has no order and no distance."""
    rows = float(counts.sum())
    bins = degrees(expected, rows) + 1
    ordered = series is not None and len(expected) == series.bins + len(OWN_BINS)
    return Effect(
        rows=round(rows),
        psi=psi(expected, counts) if rows else 0.0,
        psi_expected=psi_expected(bins, rows, reference_rows),
        psi_threshold=psi_threshold(bins, rows, reference_rows, tolerance, level),
        ks=kolmogorov_smirnov(expected, counts, series.bins) if ordered and series and rows else 0.0,
        js=jensen_shannon(expected, counts) if rows else 0.0,
        wasserstein=wasserstein(expected, counts, series) if ordered and series and rows else 0.0,
        chi2_p=chi2_p(expected, reference_rows, counts),
    )
