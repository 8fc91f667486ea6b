"""Which whole numbers pass for a payment card's: the networks' published test numbers, and what is near them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_scoring.card_numbers import any_near, pass_for_card_numbers
from support.rows import MONDAY_US, SEEDED

CARDS = {
    "Visa": 4111_1111_1111_1111,
    "Mastercard": 5555_5555_5555_4444,
    "Mastercard, 2-series": 2223_0031_2200_3222,
    "American Express": 3782_822463_10005,
    "Discover": 6011_1111_1111_1117,
    "Diners Club": 3056_930902_5904,
    "JCB": 3530_1113_3330_0000,
    "UnionPay": 6200_0000_0000_0005,
}


@pytest.mark.parametrize("number", CARDS.values(), ids=CARDS)
def test_a_card_number_is_known_and_with_another_check_digit_it_is_none(number: int) -> None:
    beside = np.array([[number], [number - number % 10 + (number + 1) % 10], [-number], [number * 100]])
    assert pass_for_card_numbers(beside)[:, 0].tolist() == [True, False, False, False]
    assert any_near(beside[:1])


def test_times_small_numbers_and_those_of_nobodys_cards_are_let_be() -> None:
    others = np.array([0, 7, MONDAY_US, 1_000_000_000_000_008, 9_111_111_111_111_119, 10**12, 2**62])
    assert not pass_for_card_numbers(others).any()


@SEEDED
@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from(list(CARDS.values()))), max_size=50))
def test_no_card_number_is_missed_by_the_question_that_every_batch_is_asked(numbers: list[int]) -> None:
    values = np.array(numbers, np.int64)
    assert any_near(values) or not pass_for_card_numbers(values).any()
