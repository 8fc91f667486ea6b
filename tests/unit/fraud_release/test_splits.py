"""Train, validation, test by time: what each part holds, counted a day at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_release.splits import MINIMUM_TRAIN_DAYS, SplitDays, split_by_time
from fraud_scoring.errors import InvalidInput
from support.rows import DAY_US, SEEDED, Int64

FIRST_DAY = 17_000


def one_row_a_day(days: int) -> Int64:
    """Event times at odd hours of `days` days in a row."""
    return np.array([(FIRST_DAY + day) * DAY_US + (day * 7_919 % 86_400) * 1_000_000 for day in range(days)], np.int64)


def days_of(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask).tolist()


SPLITS = st.builds(
    SplitDays, st.integers(MINIMUM_TRAIN_DAYS, 20), st.integers(1, 6), st.integers(1, 6), st.integers(0, 5)
)


@given(SPLITS, st.integers(0, 30))
@settings(SEEDED, max_examples=300)
def test_the_parts_follow_each_other_with_the_delay_between_them_and_nothing_in_it(days: SplitDays, spare: int) -> None:
    needed = MINIMUM_TRAIN_DAYS + days.validation + days.test + 2 * days.delay
    total = needed + spare
    split = split_by_time(one_row_a_day(total), days)
    train, validation, test = days_of(split.train), days_of(split.validation), days_of(split.test)
    assert test == list(range(total - days.test, total))
    assert validation == list(range(test[0] - days.delay - days.validation, test[0] - days.delay))
    train_end = validation[0] - days.delay
    assert train == list(range(max(0, train_end - days.train), train_end))
    assert split.test_from_us == (FIRST_DAY + test[0]) * DAY_US


def test_a_day_belongs_to_one_part_from_its_first_to_its_last_microsecond() -> None:
    days = SplitDays(train=7, validation=1, test=1, delay=0)
    edges = [(FIRST_DAY + day) * DAY_US + offset for day in range(9) for offset in (0, DAY_US - 1)]
    split = split_by_time(np.array(edges, np.int64), days)
    assert days_of(split.train) == list(range(14))
    assert days_of(split.validation) == [14, 15]
    assert days_of(split.test) == [16, 17]


def test_an_event_at_midnight_opens_a_day_of_its_own() -> None:
    times = np.append(one_row_a_day(9), (FIRST_DAY + 9) * DAY_US)
    split = split_by_time(times, SplitDays(train=7, validation=1, test=1, delay=0))
    assert days_of(split.test) == [9]


def test_data_that_is_a_day_too_short_is_told_how_many_days_are_needed() -> None:
    days = SplitDays(train=84, validation=14, test=14, delay=7)
    assert days_of(split_by_time(one_row_a_day(49), days).train) == list(range(7))
    with pytest.raises(InvalidInput, match=r"spans 48 days; 49 are needed \(7 train, 14 validation, 14 test, twice 7"):
        split_by_time(one_row_a_day(48), days)


@pytest.mark.parametrize("wrong", [{"train": 6}, {"validation": 0}, {"test": 0}, {"delay": -1}])
def test_a_part_that_is_too_short_to_be_one_is_refused_before_any_data_is_seen(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="train takes 7 days or more, validation and test 1 or more, delay 0"):
        SplitDays(**wrong)
