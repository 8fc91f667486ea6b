"""What is not drift: the hour of the week, the days' differences, the errors of a finite reference, the tolerance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from drift_sidecar import worlds
from drift_sidecar.null_set import Tolerance, band, day_to_day, hourly_shares, make_null_set
from fraud_scoring.reference import HOURS, Float64

ROWS = 300_000
TOLERANCE = Tolerance()
MONDAY_NOON, MONDAY_NIGHT, SUNDAY_NOON = 12, 3, 156


def index(name: str) -> int:
    return next(k for k, series in enumerate(worlds.SERIES) if series.name == name)


def drawn(shares_of_hour: Float64, rows: int, seed: int = 1) -> Float64:
    """Counts [168, B] of hours with shares [168, B]."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.multinomial(rows // HOURS, shares) for shares in shares_of_hour]).astype(np.float64)


REFERENCE = worlds.draw_reference(np.random.default_rng(2), ROWS, 0.0)
NULL = make_null_set(REFERENCE, TOLERANCE)


def test_a_feature_that_does_not_follow_the_clock_rests_on_all_rows() -> None:
    series = index("gaussian")
    assert not NULL.follows_clock[series]
    assert NULL.rows[:, series] == pytest.approx(REFERENCE.rows)
    assert np.ptp(NULL.shares[:, series], axis=0).max() == 0.0


def test_flags_are_what_the_clock_says() -> None:
    night, weekend = index("is_night"), index("is_weekend")
    assert NULL.follows_clock[[night, weekend]].all()
    assert NULL.shares[MONDAY_NIGHT, night, 1] > 0.99
    assert NULL.shares[MONDAY_NOON, night, 1] < 0.01
    assert NULL.shares[SUNDAY_NOON, weekend, 1] > 0.99
    assert NULL.high[MONDAY_NOON, night, 1] < 0.02


def test_a_daily_cycle_is_followed_hour_by_hour() -> None:
    series = index("gaussian_with_cycle")
    truth = np.stack([worlds.FEATURES[series].shares(hour) for hour in range(HOURS)])
    found = NULL.shares[:, series, : truth.shape[1]]
    assert np.abs(found - truth)[:, :10].max() < 0.02
    assert np.abs(found - truth).mean() < 0.7 * np.abs(truth - truth.mean(axis=0)).mean()


def test_an_hour_of_the_week_borrows_from_the_same_hour_of_other_days() -> None:
    series = index("gaussian_with_cycle")
    own = REFERENCE.hour_volume[MONDAY_NOON]
    assert own < NULL.rows[MONDAY_NOON, series] < REFERENCE.rows / 10


def test_in_an_hour_that_the_reference_never_saw_nothing_is_forbidden() -> None:
    by_hour = REFERENCE.by_hour.copy()
    by_hour[np.arange(HOURS) % 24 == 3] = 0
    part = replace(REFERENCE, by_hour=by_hour)
    null = make_null_set(part, TOLERANCE)
    cells = null.size(0)
    assert null.low[MONDAY_NIGHT, 0, :cells].max() < 0.01
    assert null.high[MONDAY_NIGHT, 0, :cells].min() > 0.9
    assert null.high[MONDAY_NOON, 0, :10].max() < 0.15


def test_the_bands_hold_the_truth_of_nearly_all_references() -> None:
    """3 standard deviations alone miss a bin in 370; the tolerance adds to them."""
    truth = worlds.gaussian(0.0)
    missed = 0
    rng = np.random.default_rng(3)
    for _ in range(300):
        counts = rng.multinomial(20_000, truth)
        shares = np.tile((counts + 0.5) / (20_000 + 5.0), (HOURS, 1))
        _, low, high = band(
            shares, np.full(HOURS, 20_000.0), 1.0, 1e5, replace(TOLERANCE, share_tolerance=0.0, least_share=0.0)
        )
        missed += int(((truth < low[0]) | (truth > high[0])).sum())
    assert missed / 3000 == pytest.approx(2 * stats.norm.sf(3.0), abs=0.003)


def test_the_tolerance_is_a_part_of_the_share_or_of_what_is_left_of_one() -> None:
    shares = np.tile([0.9, 0.1], (HOURS, 1))
    _, low, high = band(shares, np.full(HOURS, 1e12), 1.0, 1e12, Tolerance(0.05, 0.0, 3.0))
    assert low[0] == pytest.approx([0.895, 0.095], abs=1e-4)
    assert high[0] == pytest.approx([0.905, 0.105], abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_hours_that_are_alike_are_not_told_apart(seed: int) -> None:
    counts = drawn(np.tile(worlds.gaussian(0.0), (HOURS, 1)), 100_000, seed)
    assert not hourly_shares(counts)[2]


def test_hours_that_differ_by_less_than_matters_are_not_told_apart() -> None:
    wave = 0.01 * np.sin(2 * np.pi * np.arange(HOURS) / 24)
    counts = drawn(np.stack([worlds.gaussian(shift) for shift in wave]), 50_000_000)
    assert hourly_shares(counts)[2]
    assert not hourly_shares(counts, 0.025)[2]


def test_the_whole_span_of_hours_is_one_estimate_where_they_differ_strongly() -> None:
    flag = np.where(np.arange(HOURS)[:, None] % 24 <= 6, [0.0, 1.0], [1.0, 0.0])
    shares, rows, follows = hourly_shares(drawn(flag, 100_000))
    assert follows
    assert np.abs(shares - flag).max() < 0.001
    assert (rows < 10_000).all()


def test_days_that_differ_by_chance_widen_nothing() -> None:
    places = REFERENCE.layout.of(index("gaussian"))
    assert day_to_day(REFERENCE, places, NULL.shares[:, 0, :14], False) == pytest.approx(1.0, abs=0.1)


def test_days_that_differ_by_more_widen_the_band() -> None:
    restless = worlds.draw_reference(np.random.default_rng(4), ROWS, 0.05)
    wide = make_null_set(restless, TOLERANCE)
    series = index("gaussian")
    before, after = (null.high[MONDAY_NOON] - null.low[MONDAY_NOON] for null in (NULL, wide))
    assert after[series, :10].min() > 1.3 * before[series, :10].max()
    flag = index("is_night")
    assert after[flag].max() == pytest.approx(before[flag].max(), rel=0.05)


def test_a_window_is_compared_with_its_own_hours() -> None:
    night = index("is_night")
    rows = np.zeros(HOURS)
    rows[MONDAY_NIGHT], rows[MONDAY_NOON] = 100, 300
    shares, rests_on = NULL.expected(night, rows)
    assert shares[1] == pytest.approx(0.25, abs=0.01)
    assert shares.sum() == pytest.approx(1.0)
    assert 0 < rests_on < REFERENCE.rows


def test_a_window_without_rows_is_compared_with_all_hours() -> None:
    shares, _ = NULL.expected(index("gaussian"), np.zeros(HOURS))
    assert shares.sum() == pytest.approx(1.0)


def test_a_vector_of_counts_becomes_a_table_of_series_and_bins() -> None:
    cells = np.arange(REFERENCE.layout.width)
    table = NULL.table(cells)
    for series in range(NULL.series):
        places = REFERENCE.layout.of(series)
        assert table[series, : NULL.size(series)].tolist() == cells[places].tolist()
        assert not table[series, NULL.size(series) :].any()
