"""When labels become known: after their transactions, as the data says or so many days later."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_data import Transactions
from fraud_data.labels import DEFAULT_LABEL_DAYS, fraud_known_at, label_known_at
from fraud_scoring.errors import InvalidInput
from fraud_scoring.windows import NEVER
from support.rows import DAY_US, DEFAULT_SCHEMA, HOUR_US, MONDAY_US, matrix, row

ROWS = matrix(row(1, MONDAY_US), row(2, MONDAY_US + HOUR_US), row(3, MONDAY_US + DAY_US))
TIMES = ROWS[:, 1]
IS_FRAUD = np.array([1, 0, 1], np.int8)


def test_labels_are_known_so_many_days_after_their_transactions() -> None:
    data = Transactions(ROWS, IS_FRAUD)
    assert (label_known_at(data, DEFAULT_SCHEMA, 2.5) - TIMES).tolist() == [2 * DAY_US + 12 * HOUR_US] * 3
    assert (label_known_at(data, DEFAULT_SCHEMA) - TIMES).tolist() == [DEFAULT_LABEL_DAYS * DAY_US] * 3


def test_the_default_is_in_time_for_every_delayed_window_of_the_default_schema() -> None:
    delays = [feature.delay_us for feature in DEFAULT_SCHEMA.features if feature.of == "fraud_rate"]
    assert min(delays) >= DEFAULT_LABEL_DAYS * DAY_US


def test_labels_that_are_dated_are_known_when_the_data_says() -> None:
    known_at = TIMES + np.array([5, 7, 9])
    data = Transactions(ROWS, IS_FRAUD, None, known_at)
    assert label_known_at(data, DEFAULT_SCHEMA, 2.5).tolist() == known_at.tolist()


@pytest.mark.parametrize("dated", [False, True])
def test_no_label_is_known_before_a_feed_could_tell_it(dated: bool) -> None:
    data = Transactions(ROWS, IS_FRAUD, None, TIMES.copy() if dated else None)
    assert (label_known_at(data, DEFAULT_SCHEMA, 0.0) - TIMES).tolist() == [1, 1, 1]


def test_only_frauds_become_known_as_fraud() -> None:
    data = Transactions(ROWS, IS_FRAUD)
    assert fraud_known_at(data, DEFAULT_SCHEMA, 1.0).tolist() == [TIMES[0] + DAY_US, NEVER, TIMES[2] + DAY_US]


def test_without_labels_nothing_is_ever_known_as_fraud() -> None:
    assert fraud_known_at(Transactions(ROWS), DEFAULT_SCHEMA).tolist() == [NEVER] * 3


@pytest.mark.parametrize("days", [-0.5, float("nan"), float("inf"), 3_651])
def test_a_delay_that_is_none_is_refused(days: float) -> None:
    with pytest.raises(InvalidInput, match="write a number of days from 0 to 3,650"):
        label_known_at(Transactions(ROWS, IS_FRAUD), DEFAULT_SCHEMA, days)
