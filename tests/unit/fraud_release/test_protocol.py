"""The Handbook's folds, rule by rule, and against its own words written out a row at a time."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from fraud_release.protocol import Cards, Protocol, make_fold
from fraud_scoring.errors import InvalidInput

FIRST = (date(2018, 7, 25) - date(1970, 1, 1)).days
PROTOCOL = Protocol()


def payments(*of: tuple[int, int, int]) -> Cards:
    """(day after the first training day, card, whether it is fraud); with one of each class in both parts."""
    both = [*of, (0, 900, 0), (0, 901, 1), (14, 902, 0), (14, 903, 1)]
    day, customer, is_fraud = np.array(both, np.int64).T
    return Cards(day + FIRST, customer, is_fraud.astype(np.int8))


def test_four_folds_begin_on_the_days_that_are_published() -> None:
    days = [date.fromordinal(date(1970, 1, 1).toordinal() + start).isoformat() for start in PROTOCOL.starts]
    assert days == ["2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15"]


def test_seven_days_are_trained_on_seven_are_left_out_and_seven_are_tested() -> None:
    of = payments(*((day, 1, 0) for day in range(-3, 25)))
    fold = make_fold(PROTOCOL, FIRST, of)
    assert set(of.day[fold.train] - FIRST) == set(range(7))
    assert set(of.day[fold.test] - FIRST) == set(range(14, 21))


def test_history_trains_on_all_days_before_the_delay_and_tests_the_same_rows() -> None:
    of = payments(*((day, 1, 0) for day in range(-30, 25)))
    usual, longer = make_fold(PROTOCOL, FIRST, of), make_fold(Protocol(history=True), FIRST, of)
    assert set(of.day[longer.train] - FIRST) == set(range(-30, 7))
    assert (usual.test == longer.test).all()


@pytest.mark.parametrize(
    ("fraud_on", "tested"),
    [
        (-1, range(14, 21)),  # before the training days: the card was replaced
        (0, ()),
        (6, ()),  # known as its seven days of delay end
        (7, (14,)),  # the next one is known when day 15 begins
        (9, (14, 15, 16)),
        (13, range(14, 21)),  # known when day 21 begins, after the test
        (14, range(14, 21)),
    ],
)
def test_a_card_is_out_of_the_test_from_the_day_that_its_fraud_is_known(fraud_on: int, tested: range) -> None:
    of = payments((fraud_on, 1, 1), *((day, 1, 0) for day in range(14, 21)))
    fold = make_fold(PROTOCOL, FIRST, of)
    kept = of.day[fold.test & (of.customer == 1) & (of.is_fraud == 0)] - FIRST
    assert kept.tolist() == list(tested)


def test_settings_are_chosen_on_days_that_end_before_the_first_test_fold_is_trained() -> None:
    earlier = PROTOCOL.for_validation()
    last_tested = earlier.starts[-1] + earlier.train_days + earlier.delay_days + earlier.test_days - 1
    assert last_tested < FIRST + PROTOCOL.train_days
    assert len(earlier.starts) == PROTOCOL.folds


def test_a_fold_without_frauds_in_a_part_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the training days of the fold that begins on 2018-10-24 hold 0 frauds"):
        make_fold(PROTOCOL, FIRST + 91, payments())
