from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_client._card_numbers import contains_card_number, passes_luhn

BODIES = st.integers(10**11, 10**18 - 1).map(str)


def with_check_digit(body: str) -> str:
    return next(body + str(digit) for digit in range(10) if passes_luhn(body + str(digit)))


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "378282246310005",
        "5555555555554444",
        "6304000000000000",
        "4222222222222",
        "6799990100000000019",
    ],
)
def test_published_test_numbers_of_the_card_schemes_look_like_card_numbers(number: str) -> None:
    assert contains_card_number(number)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111 - 1111 – 1111 - 1111",
        "card:4111111111111111;exp",
        "4111 1111 1111 1111 12/27",
        "7 4111111111111111",
        "0004111111111111111",
        "４１１１１１１１１１１１１１１１",
    ],
)
def test_a_card_number_is_found_whatever_stands_around_or_between_its_digits(text: str) -> None:
    assert contains_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "customer-17",
        "4111111111111112",
        "411111111111",
        "4111x1111x1111x1111",
        "0000000000000018",
        "41111111111111111111111111",
        "7b0c9e8a-0d5b-4b7e-9a51-6f1f2d3c4b5a",
    ],
)
def test_other_identifiers_do_not_look_like_card_numbers(text: str) -> None:
    assert not contains_card_number(text)


@given(BODIES)
def test_exactly_one_check_digit_passes_luhn(body: str) -> None:
    assert sum(passes_luhn(body + str(digit)) for digit in range(10)) == 1


@given(BODIES, st.data())
def test_luhn_finds_every_single_wrong_digit(body: str, data: st.DataObject) -> None:
    number = with_check_digit(body)
    place = data.draw(st.integers(0, len(number) - 1))
    wrong = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != number[place]]))
    assert not passes_luhn(number[:place] + wrong + number[place + 1 :])


@given(
    BODIES,
    st.lists(st.sampled_from(["", " ", "-", " - "]), min_size=19, max_size=19),
    st.sampled_from(["", "id ", "#"]),
)
def test_gaps_and_neighbours_hide_no_card_number(body: str, gaps: list[str], before: str) -> None:
    number = with_check_digit(body)
    text = before + "".join(digit + gap for digit, gap in zip(number, gaps, strict=False))
    assert contains_card_number(text)
