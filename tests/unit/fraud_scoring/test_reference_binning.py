"""Which bins each feature of a reference gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fraud_scoring.binning import LEAST_ROWS, MOST_VALUES, ValidationPart, bin_values, make_reference
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import SCORE_BOUNDS, hour_of_week
from support.rows import DEFAULT_SCHEMA

DECILES = np.arange(1, 10) / 10
DAY_US = 86_400_000_000


def binned(values: Any) -> tuple[Any, list[int]]:
    """(the series, rows in each regular bin) of values."""
    column = np.asarray(values, np.float32)
    series = bin_values("x", column, DECILES)
    place = np.searchsorted(series.edges, column[np.isfinite(column)], side="right")
    return series, np.bincount(place, minlength=series.bins).tolist()


def part(rows: int = 3000) -> ValidationPart:
    rng = np.random.default_rng(5)
    score = rng.beta(0.3, 8.0, rows).astype(np.float32)
    return ValidationPart(
        features=rng.normal(size=(rows, len(DEFAULT_SCHEMA.features))).astype(np.float32),
        score=score,
        decision=np.digitize(score, [0.2, 0.5]).astype(np.int32),
        amount_minor=rng.integers(1, 1000, rows),
        time_us=rng.integers(100 * DAY_US, 110 * DAY_US, rows),
        is_fraud=(rng.random(rows) < score).astype(np.int8),
    )


def test_a_continuous_feature_gets_ten_bins_of_equal_share() -> None:
    series, rows = binned(np.random.default_rng(1).lognormal(size=10_000))
    assert len(rows) == 10
    assert max(rows) - min(rows) <= 2
    assert not series.discrete


def test_a_feature_of_few_values_gets_a_bin_for_each() -> None:
    series, rows = binned(np.repeat([0.0, 1.0, 5.0], [70, 20, 10]))
    assert series.discrete
    assert series.values.tolist() == [0.0, 1.0, 5.0]
    assert rows == [70, 20, 10]


def test_the_most_values_are_discrete_and_one_more_is_not() -> None:
    assert binned(np.repeat(np.arange(MOST_VALUES), 100))[0].discrete
    assert not binned(np.repeat(np.arange(MOST_VALUES + 1), 100))[0].discrete


def test_a_value_that_many_rows_have_is_a_bin_of_its_own_and_the_rest_is_split_by_its_own_quantiles() -> None:
    rng = np.random.default_rng(2)
    series, rows = binned(np.where(np.arange(20_000) < 19_000, 0.0, rng.random(20_000)))
    assert rows[0] == 19_000
    assert len(rows) >= 9
    assert max(rows[1:]) < 1.5 * min(rows[1:])
    assert series.low == 0.0


def test_heavy_values_in_the_middle_are_bins_of_their_own_too() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(size=5000), np.full(3000, 0.5), np.full(2000, 2.0)])
    series, rows = binned(values)
    assert 3000 in rows
    assert 2000 in rows
    assert sum(rows) == 10_000
    assert (np.diff(series.edges) > 0).all()


def test_no_bin_between_others_is_nearly_empty() -> None:
    values = np.concatenate([np.full(500, 1.0), np.linspace(1.1, 1.2, 5), np.linspace(3, 9, 495)])
    assert min(binned(values)[1]) >= min(LEAST_ROWS, 5)


def test_missing_values_take_no_part_in_the_bins() -> None:
    values = np.concatenate([np.random.default_rng(4).normal(size=1000), [np.nan, np.inf, -np.inf]])
    series, rows = binned(values)
    assert sum(rows) == 1000
    assert np.isfinite([series.low, series.high, series.mean, series.sd]).all()


def test_a_feature_that_is_always_missing_has_one_bin_that_holds_nothing() -> None:
    series = bin_values("x", np.full(10, np.nan, np.float32), DECILES)
    assert series.bins == 1
    assert series.sd == 0.0


def test_the_means_of_the_bins_add_up_to_the_mean() -> None:
    series, rows = binned(np.random.default_rng(6).gamma(2.0, size=5000))
    assert (np.array(rows) * series.means).sum() / 5000 == pytest.approx(series.mean)


def test_a_reference_counts_all_rows_by_hour_and_by_day() -> None:
    rows = part()
    reference = make_reference(1, DEFAULT_SCHEMA, rows, {})
    assert reference.rows == 3000
    assert np.array_equal(reference.by_hour.sum(axis=0), reference.cells)
    assert np.array_equal(reference.by_day.sum(axis=0), reference.cells)
    assert reference.hour_volume.tolist() == np.bincount(hour_of_week(rows.time_us), minlength=168).tolist()
    assert reference.first_day == 100
    assert len(reference.by_day) == 10


def test_a_reference_holds_the_calibration_on_the_bounds_of_the_score() -> None:
    rows = part()
    calibration = make_reference(1, DEFAULT_SCHEMA, rows, {}).calibration
    assert calibration.rows.sum() == 3000
    assert calibration.frauds.sum() == rows.is_fraud.sum()
    inside = (rows.score > SCORE_BOUNDS[3]) & (rows.score <= SCORE_BOUNDS[4])
    assert calibration.rows[4] == pytest.approx(inside.sum(), abs=1)  # a score is rounded to a millionth


@pytest.mark.parametrize("name", ["score", "decision"])
def test_a_feature_may_not_take_the_name_of_another_series(name: str) -> None:
    feature = replace(DEFAULT_SCHEMA.features[0], name=name)
    schema = replace(DEFAULT_SCHEMA, features=(feature, *DEFAULT_SCHEMA.features[1:]))
    with pytest.raises(InvalidDefinition, match=f"a feature is called '{name}'; give it another name"):
        make_reference(1, schema, part(), {})
