"""The in-memory form: parts keep their labels, and arrays that do not fit together are refused."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_data import SimulatorSettings, Transactions, describe, simulate

TWO = Transactions(
    np.array([[0, 1_522_540_800_000_000, 1, 2, 1250], [1, 1_522_584_000_000_000, 1, 3, 98]], np.int64),
    np.array([0, 1], np.int8),
    np.array([0, 2], np.int8),
    np.array([1_522_600_000_000_000, 1_522_600_000_000_001], np.int64),
)


def test_a_slice_keeps_the_labels_of_its_rows_and_shares_the_memory() -> None:
    last = TWO.slice(1)
    assert len(last) == 1
    assert last.is_fraud is not None
    assert last.scenario is not None
    assert last.label_known_at_us is not None
    assert (last.rows[0, 0], last.is_fraud[0], last.scenario[0]) == (1, 1, 2)
    assert last.label_known_at_us[0] == 1_522_600_000_000_001
    assert np.shares_memory(last.rows, TWO.rows)


def test_rows_are_selected_by_mask_or_by_position() -> None:
    by_mask = TWO.select(np.array([False, True]))
    by_position = TWO.select(np.array([1]))
    np.testing.assert_array_equal(by_mask.rows, TWO.rows[1:])
    np.testing.assert_array_equal(by_position.rows, TWO.rows[1:])


def test_labels_that_are_not_there_stay_away() -> None:
    bare = Transactions(TWO.rows).slice(0, 1)
    assert bare.is_fraud is None
    assert bare.scenario is None
    assert bare.label_known_at_us is None


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"is_fraud has the shape \(1,\); give one value a row: 2"):
        Transactions(TWO.rows, np.zeros(1, np.int8))
    with pytest.raises(ValueError, match="give an int64 matrix"):
        Transactions(TWO.rows.astype(np.float64))


def test_a_description_counts_rows_entities_and_frauds() -> None:
    assert describe(TWO) == {
        "transactions": 2,
        "first_event": "2018-04-01T00:00:00+00:00",
        "last_event": "2018-04-01T12:00:00+00:00",
        "days": 0.5,
        "entities": {"customer_id": 1, "terminal_id": 2},
        "amount": {"least": 0.98, "median": 6.74, "mean": 6.74, "greatest": 12.5},
        "frauds": 1,
        "fraud_share": 0.5,
        "frauds_by_scenario": {"2": 1},
        "labels_dated": True,
    }


def test_a_description_says_nothing_of_frauds_where_there_are_no_labels() -> None:
    unlabelled = describe(Transactions(simulate(SimulatorSettings(300, 600, 2)).rows))
    assert (unlabelled["frauds"], unlabelled["fraud_share"], unlabelled["frauds_by_scenario"]) == (None, None, None)
