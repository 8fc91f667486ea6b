"""Effect sizes against independent computations, and their thresholds against Monte Carlo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from drift_sidecar import statistics
from drift_sidecar.worlds import gaussian
from fraud_scoring.reference import BinnedReference

RNG_SEED = 11
DECILES = np.full(10, 0.1)


def series(means: Any, low: float, high: float, sd: float = 1.0) -> BinnedReference:
    """A feature with regular bins at `means`."""
    places = np.asarray(means, np.float64)
    edges = (places[1:] + places[:-1]) / 2.0
    return BinnedReference("x", edges, low, high, False, places, np.zeros(len(places) + 4, np.int64), 0.0, sd)


def test_psi_of_many_rows_is_the_textbooks_sum() -> None:
    counts = np.array([200_000, 300_000, 500_000])
    expected = np.array([0.3, 0.3, 0.4])
    shares = counts / counts.sum()
    by_hand = sum((q - p) * np.log(q / p) for p, q in zip(expected, shares, strict=True))
    assert statistics.psi(expected, counts) == pytest.approx(by_hand, rel=1e-4)


def test_psi_of_a_gaussian_shift_is_about_its_square() -> None:
    """The symmetric divergence of N(0, 1) and N(d, 1) is d²; deciles lose a little."""
    assert statistics.psi(DECILES, 1e6 * gaussian(0.25)) == pytest.approx(0.25**2, rel=0.06)
    assert statistics.psi(DECILES, 1e6 * gaussian(0.14)) == pytest.approx(0.02, rel=0.08)


def test_an_empty_bin_gives_a_finite_psi() -> None:
    assert 0.0 < statistics.psi(np.array([0.5, 0.5]), np.array([10, 0])) < 10.0
    assert statistics.psi(statistics.smoothed(np.array([100_000, 0])), np.array([50, 0])) < 1e-4


@pytest.mark.parametrize(("rows", "reference_rows"), [(500, 5_000), (6_000, 130_000), (3_000, 3_000)])
def test_psi_of_chance_has_the_mean_and_the_95_percent_point_that_are_stated(rows: int, reference_rows: int) -> None:
    rng = np.random.default_rng(RNG_SEED)
    pairs = zip(rng.multinomial(reference_rows, DECILES, 4000), rng.multinomial(rows, DECILES, 4000), strict=True)
    found = np.array([statistics.psi(statistics.smoothed(reference), window) for reference, window in pairs])
    expected = statistics.psi_expected(10, rows, reference_rows)
    assert expected == pytest.approx(9 * (1 / rows + 1 / reference_rows))
    assert found.mean() == pytest.approx(expected, rel=0.03)
    assert (found > statistics.psi_threshold(10, rows, reference_rows)).mean() == pytest.approx(0.05, abs=0.014)


@pytest.mark.parametrize("shift", [0.1, 0.145, 0.25])
def test_a_true_psi_at_the_tolerance_exceeds_the_threshold_in_5_of_100_windows(shift: float) -> None:
    rng = np.random.default_rng(RNG_SEED)
    shares = gaussian(shift)
    tolerance = float(((shares - DECILES) * np.log(shares / DECILES)).sum())
    references, windows = rng.multinomial(100_000, DECILES, 4000), rng.multinomial(2_000, shares, 4000)
    found = [statistics.psi(statistics.smoothed(a), b) for a, b in zip(references, windows, strict=True)]
    threshold = statistics.psi_threshold(10, 2_000, 100_000, tolerance)
    assert (np.array(found) > threshold).mean() == pytest.approx(0.05, abs=0.016)


def test_the_threshold_is_the_non_central_chi_squares() -> None:
    scale = 1 / 700 + 1 / 9_000
    expected = scale * stats.ncx2.ppf(0.95, 13, 0.02 / scale)
    assert statistics.psi_threshold(14, 700, 9_000, 0.02) == pytest.approx(expected, rel=1e-6)
    assert statistics.psi_threshold(14, 700, 9_000) == pytest.approx(scale * stats.chi2.ppf(0.95, 13), rel=1e-6)


def test_kolmogorov_smirnov_on_the_grid_is_scipys_on_rows_at_the_bins() -> None:
    rng = np.random.default_rng(RNG_SEED)
    reference, window = rng.integers(0, 40, 12), rng.integers(0, 40, 12)
    # below, regular bins, above; missing and unseen take no part
    order = [8, *range(8), 9]
    rows = [np.repeat(np.arange(10), counts[order]) for counts in (reference, window)]
    expected = stats.ks_2samp(*rows).statistic
    assert statistics.kolmogorov_smirnov(reference / reference.sum(), window, 8) == pytest.approx(expected)


def test_jensen_shannon_is_scipys_squared() -> None:
    rng = np.random.default_rng(RNG_SEED)
    expected, counts = rng.dirichlet(np.ones(6)), rng.integers(1000, 50_000, 6)
    found = statistics.jensen_shannon(expected, counts)
    assert found == pytest.approx(jensenshannon(expected, counts / counts.sum(), base=2) ** 2, abs=1e-4)
    assert statistics.jensen_shannon(np.array([1 - 1e-9, 1e-9]), np.array([0, 10**9])) == pytest.approx(1.0, abs=1e-3)


def test_wasserstein_is_scipys_on_rows_at_the_means_of_the_bins_in_standard_deviations() -> None:
    rng = np.random.default_rng(RNG_SEED)
    feature = series([1.0, 2.0, 4.0, 9.0], low=0.5, high=12.0, sd=2.5)
    reference, window = rng.integers(1, 100, 8), rng.integers(1, 100, 8)
    places = [*feature.means, 0.5, 12.0]
    expected = stats.wasserstein_distance(places, places, reference[:6], window[:6]) / 2.5
    assert statistics.wasserstein(reference / reference.sum(), window, feature) == pytest.approx(expected)


def test_a_feature_that_never_changes_has_no_distance() -> None:
    assert statistics.wasserstein(np.array([1.0, 0, 0, 0, 0]), np.array([5, 0, 0, 0, 0]), series([3.0], 3, 3, 0)) == 0.0


def test_chi_square_is_scipys_where_all_cells_are_full() -> None:
    reference, window = np.array([4000, 3000, 3000]), np.array([430, 290, 280])
    expected = stats.chi2_contingency(np.stack([reference, window]), correction=False).pvalue
    assert statistics.chi2_p(reference / 10_000, 10_000, window) == pytest.approx(expected, rel=1e-6)


def test_chi_square_takes_rare_cells_together() -> None:
    expected = np.array([0.9, 0.0999, 0.0001])
    assert 0.0 <= statistics.chi2_p(expected, 1e5, np.array([90, 10, 0])) <= 1.0
    assert statistics.chi2_p(np.array([1.0, 0.0]), 1e5, np.array([9, 0])) == 1.0


def test_p_values_of_chance_are_uniform() -> None:
    rng = np.random.default_rng(RNG_SEED)
    windows, references = rng.multinomial(1000, DECILES, 2000), rng.multinomial(20_000, DECILES, 2000)
    found = [statistics.chi2_p(a / 20_000, 20_000, b) for a, b in zip(references, windows, strict=True)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_window_without_rows_has_no_effect() -> None:
    found = statistics.effect(np.full(14, 1 / 14), 1e5, np.zeros(14), series(range(10), 0, 9), tolerance=0.02)
    assert (found.rows, found.psi, found.ks, found.js, found.wasserstein, found.chi2_p) == (0, 0, 0, 0, 0, 1.0)
    assert found.psi_excess == 0.0


def test_a_decision_has_no_distance_but_all_else() -> None:
    found = statistics.effect(np.array([0.9, 0.06, 0.04]), 1e5, np.array([800, 120, 80]), None, tolerance=0.02)
    assert found.wasserstein == found.ks == 0.0
    assert found.psi > found.psi_threshold
