from __future__ import annotations

import decimal
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_client import CardNumberRefused, InvalidRequest, Token, Transaction

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
LINE = {"transaction_id": 17, "event_time": "2026-03-01T12:30:00Z", "customer": "C-42", "terminal": 9, "amount": 12.5}

Make = Callable[..., Transaction]


def line(**fields: Any) -> dict[str, Any]:
    """LINE with other fields; `None` takes one out."""
    return {name: value for name, value in (LINE | fields).items() if value is not None}


# Money


@given(st.integers(1, 2**63 - 1))
def test_minor_units_survive_the_way_through_an_amount(minor: int) -> None:
    assert Transaction.from_minor_units(17, NOW, 42, 9, minor).amount_minor == minor


@given(st.integers(1, 10**15), st.integers(0, 20))
def test_an_amount_is_exact_however_it_is_written(minor: int, zeros: int) -> None:
    amount = Decimal(f"{minor // 100}.{minor % 100:02d}{'0' * zeros}")
    assert Transaction(17, NOW, 42, 9, amount).amount_minor == minor


@given(st.integers(1, 10**15), st.integers(1, 40))
def test_an_amount_with_more_than_two_decimals_is_refused_however_small_the_rest(minor: int, zeros: int) -> None:
    amount = Decimal(f"{minor // 100}.{minor % 100:02d}{'0' * zeros}1")
    with pytest.raises(InvalidRequest, match=r"amount .* at most 2 decimals"):
        Transaction(17, NOW, 42, 9, amount)


def test_amounts_do_not_depend_on_the_callers_decimal_context() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        assert Transaction(17, NOW, 42, 9, Decimal("123456.78")).amount_minor == 12_345_678


@pytest.mark.parametrize(
    "amount", ["0", "-1", "0.001", "1E+400000", "1E-400000", "NaN", "sNaN", "Infinity", "92233720368547758.08"]
)
def test_amounts_that_are_no_payment_are_refused(amount: str) -> None:
    with pytest.raises(InvalidRequest, match="amount"):
        Transaction(17, NOW, 42, 9, Decimal(amount))


@pytest.mark.parametrize("amount", [12.5, 12, "12.50", None])
def test_an_amount_that_is_no_decimal_is_refused_with_the_remedy(amount: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"Decimal\('12.50'\)"):
        Transaction(17, NOW, 42, 9, amount)


@pytest.mark.parametrize("minor", [0, -1, 12.5, True, 2**63])
def test_minor_units_are_whole_numbers_above_zero(minor: Any) -> None:
    with pytest.raises(InvalidRequest, match="amount_minor"):
        Transaction.from_minor_units(17, NOW, 42, 9, minor)


# Time, id and identifiers


def test_the_event_time_is_exact_in_microseconds_and_any_time_zone(transaction: Make) -> None:
    moment = datetime(2026, 3, 1, 13, 30, 0, 1, tzinfo=timezone(timedelta(hours=1)))
    assert transaction(event_time=moment).event_time_us == 1_772_368_200_000_001


@pytest.mark.parametrize("event_time", [datetime(2026, 3, 1), "2026-03-01T12:30:00Z", 1_772_368_200_000_000])
def test_an_event_time_that_is_no_datetime_with_a_time_zone_is_refused(transaction: Make, event_time: Any) -> None:
    with pytest.raises(InvalidRequest, match="event_time must be a datetime with a time zone"):
        transaction(event_time=event_time)


@pytest.mark.parametrize("transaction_id", [-1, 2**63, 1.0, "17", True, None])
def test_a_transaction_id_is_a_whole_number_from_zero_on(transaction: Make, transaction_id: Any) -> None:
    with pytest.raises(InvalidRequest, match="transaction_id"):
        transaction(transaction_id)


def test_numpy_integers_count_as_whole_numbers(transaction: Make) -> None:
    made = transaction(np.int64(3), customer=np.int64(-8))
    assert (type(made.transaction_id), type(made.customer)) == (int, int)


@pytest.mark.parametrize("field", ["customer", "terminal"])
@pytest.mark.parametrize("value", [4111111111111111, -4111111111111111, "4111-1111-1111-1111"])
def test_a_card_number_is_refused_and_not_repeated(transaction: Make, field: str, value: Any) -> None:
    with pytest.raises(CardNumberRefused, match=f"{field} looks like a card number") as refusal:
        transaction(**{field: value})
    assert "1111" not in repr(refusal.value)


def test_a_number_that_is_marked_as_a_token_is_not_looked_at_as_a_card_number(transaction: Make) -> None:
    assert transaction(customer=Token(4111111111111111)).customer == 4111111111111111


@pytest.mark.parametrize("value", [None, "", 1.5, True, 2**63, b"C-42"])
def test_an_identifier_is_text_or_a_whole_number(transaction: Make, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="terminal must"):
        transaction(terminal=value)


def test_a_transaction_cannot_be_changed(transaction: Make) -> None:
    with pytest.raises(FrozenInstanceError):
        transaction().amount = Decimal(1)


# One JSON object


def test_a_mapping_gives_the_same_transaction_as_the_constructor() -> None:
    assert Transaction.from_mapping(LINE) == Transaction(17, NOW, "C-42", 9, Decimal("12.50"))


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": "12.50"},
        {"amount": Decimal("12.5")},
        {"amount": None, "amount_minor": 1250},
        {"event_time": None, "event_time_us": 1_772_368_200_000_000},
        {"event_time": NOW},
        {"customer": None, "customer_id": "C-42"},
        {"customer": None, "customer_key": "C-42", "terminal": None, "terminal_key": 9},
        {"terminal": None, "terminal_token": 9},
    ],
)
def test_every_spelling_of_the_fields_means_the_same(fields: dict[str, Any]) -> None:
    assert Transaction.from_mapping(line(**fields)) == Transaction.from_mapping(LINE)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-03-01T12:30:00Z", 0),
        ("2026-03-01 12:30:00+00:00", 0),
        ("2026-03-01T12:30z", 0),
        ("2026-03-01T13:30:00.25+01:00", 250_000),
        ("2026-03-01T07:30:00.000001-0500", 1),
        ("2026-03-01T12:30:00.123456789Z", 123_456),
    ],
)
def test_iso_8601_is_read_in_its_usual_forms(text: str, microsecond: int) -> None:
    assert Transaction.from_mapping(line(event_time=text)).event_time == NOW.replace(microsecond=microsecond)


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_event_times_survive_the_way_through_text_and_through_microseconds(moment: datetime) -> None:
    through_text = Transaction.from_mapping(line(event_time=moment.isoformat()))
    assert through_text.event_time == moment
    through_number = line(event_time=None, event_time_us=through_text.event_time_us)
    assert Transaction.from_mapping(through_number).event_time == moment


@pytest.mark.parametrize(
    "text", ["2026-03-01T12:30:00", "2026-03-01", "yesterday", "2026-13-01T12:30:00Z", "2026-03-01T12:30:00+99:00", ""]
)
def test_a_time_without_offset_or_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="event_time must be ISO 8601 with an offset or Z"):
        Transaction.from_mapping(line(event_time=text))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transaction_id": None}, "transaction_id is missing"),
        ({"event_time": None}, "event_time is missing; give event_time or event_time_us"),
        ({"amount": None}, "amount is missing; give amount or amount_minor"),
        ({"customer": None}, "customer is missing; give customer or customer_id or"),
        ({"amount_minor": 1250}, "amount and amount_minor say the same thing"),
        ({"currency": "EUR"}, "unknown field 'currency'; known are amount, "),
        ({"amount": "twelve"}, "amount must be a number in major units"),
        ({"amount": True}, "amount must be a number"),
        ({"amount": 0.1 + 0.2}, "amount .* at most 2 decimals"),
        ({"event_time": 5}, "event_time must be a datetime"),
        ({"event_time": None, "event_time_us": 10**18}, "event_time_us must be UTC microseconds"),
        ({"event_time": None, "event_time_us": "5"}, "event_time_us must be a whole number"),
        ({"terminal": None, "terminal_token": "T"}, "terminal_token must be a whole number"),
        ({"customer": [1]}, "customer must be text or a whole number"),
    ],
)
def test_a_line_that_breaks_a_rule_is_refused_with_the_field_and_the_rule(fields: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        Transaction.from_mapping(line(**fields))


@pytest.mark.parametrize("value", [[], "text", 5, None])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="a transaction is an object"):
        Transaction.from_mapping(value)


@pytest.mark.parametrize("field", ["transaction_id", "event_time", "customer", "terminal", "amount", "note"])
@pytest.mark.parametrize("value", ["4111 1111 1111 1111", "4111111111111111"])
def test_a_card_number_in_the_wrong_field_is_not_repeated_either(field: str, value: str) -> None:
    fields = line(amount_minor=None, **{field: value})
    if field == "amount" and " " not in value:
        fields["customer"] = None  # as text it is an amount; another field breaks its rule
    with pytest.raises(InvalidRequest) as refusal:
        Transaction.from_mapping(fields)
    assert "1111" not in repr(refusal.value)


def test_a_card_number_as_a_fields_name_is_not_repeated_either() -> None:
    with pytest.raises(CardNumberRefused) as refusal:
        Transaction.from_mapping(LINE | {"4111111111111111": 1})
    assert "1111" not in repr(refusal.value)
