"""The benchmark's transactions: new in every round, and as dense in time as the history behind them."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_bench.feed import Feed, History, even_history, simulated_history
from fraud_scoring.errors import FraudError
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from support.rows import DEFAULT_SCHEMA, MONDAY_US

ID, TIME, CUSTOMER, TERMINAL = 0, 1, 2, 3


@pytest.fixture(scope="module")
def history() -> History:
    return simulated_history(50, 100, 7, DEFAULT_SCHEMA)


def test_a_feed_goes_on_where_the_history_ends_at_its_pace(history: History) -> None:
    rows = Feed(history, DEFAULT_SCHEMA, first_id=10**12).take(3_000)
    assert history.data.rows[-1, TIME] < history.until_us < rows[0, TIME]
    assert set(np.diff(rows[:, TIME])) == {history.gap_us}
    days = (rows[-1, TIME] - rows[0, TIME]) / MICROSECONDS_PER_DAY
    last_month = (history.data.rows[:, TIME] >= history.until_us - 30 * MICROSECONDS_PER_DAY).sum()
    assert 3_000 / days == pytest.approx(last_month / 30, rel=0.01)


def test_no_id_comes_twice_whether_its_row_was_used_or_not(history: History) -> None:
    feed = Feed(history, DEFAULT_SCHEMA, first_id=10**12)
    first = feed.take(100)
    feed.used(40)
    second = feed.take(100)
    assert len(np.intersect1d(first[:, ID], second[:, ID])) == 0
    assert history.data.rows[:, ID].max() < first[:, ID].min()


def test_time_goes_on_only_with_what_was_used(history: History) -> None:
    feed = Feed(history, DEFAULT_SCHEMA, first_id=10**12)
    first = feed.take(100)
    feed.used(40)
    assert feed.take(1)[0, TIME] == first[40, TIME]


def test_customers_come_as_often_as_in_the_history_and_only_those(history: History) -> None:
    rows = Feed(history, DEFAULT_SCHEMA, first_id=10**12).take(20_000)
    before, after = (np.bincount(part[:, CUSTOMER], minlength=60) / len(part) for part in (history.data.rows, rows))
    assert np.abs(before - after).max() < 0.01


def test_a_feed_does_not_reach_the_present(history: History) -> None:
    feed = Feed(history, DEFAULT_SCHEMA, first_id=1, now_us=lambda: history.until_us + 10 * history.gap_us)
    assert len(feed.take(10)) == 10
    with pytest.raises(FraudError, match="have reached the present; run fewer rounds"):
        feed.take(11)


@pytest.mark.parametrize("times", [1, 100])
def test_an_even_history_gives_each_customer_its_share(times: int) -> None:
    history = even_history(4, 8, times, (10, 1_000), MONDAY_US, DEFAULT_SCHEMA)
    rows = history.data.rows
    last_month = rows[rows[:, TIME] >= MONDAY_US - 30 * MICROSECONDS_PER_DAY]
    assert np.bincount(last_month[:, CUSTOMER] - 1_000).tolist() == [60 * times] * 4
    assert np.bincount(last_month[:, TERMINAL] - 1_000).tolist() == [30 * times] * 8
    assert (np.diff(rows[:, TIME]) > 0).all()
    assert rows[-1, TIME] < history.until_us == MONDAY_US


def test_a_feed_in_order_names_every_customer_before_it_names_one_again() -> None:
    history = even_history(4, 8, 1, (10, 1_000), MONDAY_US, DEFAULT_SCHEMA)
    feed = Feed(history, DEFAULT_SCHEMA, first_id=10**12, in_order=True)
    for _ in range(3):
        assert sorted(feed.take(4)[:, CUSTOMER]) == [1_000, 1_001, 1_002, 1_003]
        feed.used(4)
