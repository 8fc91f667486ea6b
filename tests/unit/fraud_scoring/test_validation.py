"""Each rule for what a caller sends: what is refused, in which words, and that nothing valid ever is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import wire
from fraud_scoring.card_numbers import pass_for_card_numbers
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import EARLIEST_TIME_US, INT64_MAX, INT64_MIN
from fraud_scoring.validation import RowRules, check_labels, read_parameters
from support.rows import DAY_US, DEFAULT_SCHEMA, MONDAY_US, SEEDED, default_document, label, matrix, row, schema_with

NOW_US = MONDAY_US
AMOUNT_MAX = DEFAULT_SCHEMA.columns[DEFAULT_SCHEMA.amount_index].maximum
RULES = RowRules(DEFAULT_SCHEMA)

VALID = st.builds(
    row,
    st.integers(0, INT64_MAX),
    st.integers(EARLIEST_TIME_US, NOW_US + DAY_US),
    st.integers(INT64_MIN, INT64_MAX),
    st.integers(INT64_MIN, INT64_MAX),
    st.integers(1, AMOUNT_MAX),
).filter(lambda one: not pass_for_card_numbers(np.array([one[0], *one[2:]])).any())
BROKEN = {
    "negative id": row(-1),
    "smallest id": row(INT64_MIN),
    "time in seconds": row(1, NOW_US // 1_000_000),
    "time in milliseconds": row(1, NOW_US // 1_000),
    "time in nanoseconds": row(1, NOW_US * 1_000),
    "a microsecond before 2000": row(1, EARLIEST_TIME_US - 1),
    "a day and a microsecond ahead": row(1, NOW_US + DAY_US + 1),
    "no amount": row(1, amount=0),
    "negative amount": row(1, amount=-5),
    "amount too large": row(1, amount=AMOUNT_MAX + 1),
}


@given(st.lists(VALID, min_size=1, max_size=20, unique_by=lambda one: one[0]))
@settings(SEEDED, max_examples=200)
def test_a_valid_matrix_is_never_refused(rows: list[list[int]]) -> None:
    sent = matrix(*rows)
    RULES.check_shape(sent)
    RULES.check_repeats(sent)
    assert not RULES.broken(sent, NOW_US).any()


@given(st.lists(VALID | st.sampled_from(list(BROKEN.values())), min_size=1, max_size=20))
@settings(SEEDED, max_examples=200)
def test_exactly_the_broken_rows_are_found_and_the_first_is_explained(rows: list[list[int]]) -> None:
    expected = [one in BROKEN.values() for one in rows]
    assert RULES.broken(matrix(*rows), NOW_US).tolist() == expected
    if any(expected):
        assert str(RULES.explain(matrix(*rows), NOW_US)).startswith(f"row {expected.index(True)}: ")


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("negative id", "row 1: transaction_id is -1; send at least 0 (unique number of the transaction)"),
        (
            "time in seconds",
            f"row 1: event_time_us is {NOW_US // 1_000_000}: it lies before 2000; send UTC microseconds since 1970",
        ),
        (
            "a microsecond before 2000",
            f"row 1: event_time_us is {EARLIEST_TIME_US - 1}: it lies before 2000; send UTC microseconds since 1970",
        ),
        (
            "a day and a microsecond ahead",
            f"row 1: event_time_us is {NOW_US + DAY_US + 1}: it lies more than a day ahead of the server's clock; "
            "send UTC microseconds since 1970",
        ),
        ("no amount", "row 1: amount_minor is 0; send 1 to 100000000000 (minor units of the account currency)"),
    ],
)
def test_a_refusal_names_row_field_value_rule_and_remedy(which: str, message: str) -> None:
    assert str(RULES.explain(matrix(row(7), BROKEN[which], row(-9)), NOW_US)) == message


@pytest.mark.parametrize("column", DEFAULT_SCHEMA.column_names)
def test_a_card_number_is_refused_in_every_column_and_not_repeated(column: str) -> None:
    names = list(DEFAULT_SCHEMA.column_names)
    rows = matrix(row(1), row(2))
    rows[1, names.index(column)] = card = 4_111_111_111_111_111
    assert RULES.any_broken(rows, NOW_US)
    assert RULES.broken(rows, NOW_US).tolist() == [False, True]
    said = str(RULES.explain(rows, NOW_US))
    assert said.startswith(f"row 1: {column} passes for a card number")
    assert str(card) not in said


def test_a_label_of_a_card_number_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="row 0: transaction_id passes for a card number") as why:
        check_labels(label(4_111_111_111_111_111))
    assert "4111" not in str(why.value)


def test_the_clock_moves_what_is_ahead() -> None:
    tomorrow = matrix(row(1, NOW_US + DAY_US + 1))
    assert RULES.broken(tomorrow, NOW_US).tolist() == [True]
    assert RULES.broken(tomorrow, NOW_US + 1).tolist() == [False]


def rules_with(position: int, **changes: Any) -> RowRules:
    columns = default_document()["columns"]
    columns[position] = {**columns[position], **changes}
    return RowRules(schema_with(columns=columns))


@pytest.mark.parametrize(
    ("rules", "broken", "message"),
    [
        (rules_with(2, maximum=99), row(1, customer=100), "row 0: customer_key is 100; send at most 99"),
        (rules_with(2, minimum=5), row(1, customer=4), "row 0: customer_key is 4; send at least 5"),
        (rules_with(3, minimum=5, maximum=6, meaning=""), row(1, terminal=4), "row 0: terminal_key is 4; send 5 to 6$"),
        (
            rules_with(1, minimum=MONDAY_US),
            row(1, MONDAY_US - 1),
            f"event_time_us is {MONDAY_US - 1}: it lies before {MONDAY_US}, the schema's earliest time; send UTC",
        ),
    ],
)
def test_a_schemas_own_range_is_explained(rules: RowRules, broken: list[int], message: str) -> None:
    assert rules.broken(matrix(broken), NOW_US).tolist() == [True]
    with pytest.raises(InvalidInput, match=message):
        raise rules.explain(matrix(broken), NOW_US)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((1, 5), np.int32), "transaction: the type is int32; send INT64"),
        (np.ones((1, 5), np.float64), "transaction: the type is float64; send INT64"),
        (np.ones((1, 4), np.int64), "transaction: 4 columns; schema card-default has 5: transaction_id, event_time_us"),
        (np.ones((1, 6), np.int64), "transaction: 6 columns; schema card-default has 5"),
        (np.ones(5, np.int64), r"transaction: shape \[5\] and not columns; schema card-default has 5"),
        (np.ones((1, 5, 1), np.int64), r"transaction: shape \[1, 5, 1\] and not columns; schema card-default has 5"),
        (np.ones((0, 5), np.int64), "transaction: 0 rows; send 1 to 1,024 a request"),
        (np.ones((1_025, 5), np.int64), "transaction: 1025 rows; send 1 to 1,024 a request"),
    ],
)
def test_a_tensor_of_another_type_or_shape_is_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        RULES.check_shape(rows)


def test_the_largest_request_is_welcome() -> None:
    RULES.check_shape(np.ones((wire.MAX_ROWS, 5), np.int64))


@given(st.permutations(range(8)), st.integers(0, 7))
@settings(SEEDED, max_examples=50)
def test_an_id_that_stands_twice_is_named_where_it_stands_again(ids: list[int], again: int) -> None:
    rows = matrix(*map(row, [*ids, ids[again]]))
    message = f"^row 8: transaction_id {ids[again]} stands twice in this request; send each transaction once$"
    with pytest.raises(InvalidInput, match=message):
        RULES.check_repeats(rows)


@pytest.mark.parametrize("text", ["", "{}", '{"triton_enable_empty_final_response": false}'])
def test_without_parameters_a_request_is_scored_within_80_milliseconds(text: str) -> None:
    assert read_parameters(text) == ("score", 80_000)


def test_purpose_and_deadline_are_read() -> None:
    assert read_parameters('{"purpose": "dry_run", "deadline_us": 5000}') == ("dry_run", 5_000)
    assert read_parameters('{"deadline_us": 60000000}') == ("score", 60_000_000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"purpose": "test"}', "parameter purpose is 'test'; send one of score, dry_run"),
        ('{"purpose": 1}', "parameter purpose is 1; send one of score, dry_run"),
        ('{"deadline_us": 0}', "parameter deadline_us is 0; send whole microseconds from 1 to 60,000,000"),
        ('{"deadline_us": 60000001}', "parameter deadline_us is 60000001; send whole microseconds"),
        ('{"deadline_us": "80000"}', "parameter deadline_us is '80000'; send whole microseconds"),
        ('{"deadline_us": 0.5}', "parameter deadline_us is 0.5; send whole microseconds"),
        ('{"deadline_us": true}', "parameter deadline_us is True; send whole microseconds"),
        ('{"deadline": 5}', "parameter 'deadline' is not known; known are deadline_us, purpose"),
    ],
)
def test_a_broken_parameter_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        read_parameters(text)


LABELS = st.tuples(st.integers(INT64_MIN, INT64_MAX), st.integers(0, 1), st.integers(EARLIEST_TIME_US, INT64_MAX))


@given(st.lists(LABELS, min_size=1, max_size=20))
@settings(SEEDED, max_examples=50)
def test_valid_labels_are_never_refused(labels: list[tuple[int, int, int]]) -> None:
    check_labels(np.array(labels, np.int64))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (label(1).astype(np.int32), r"label: send INT64 \[N, 3\]: transaction_id, is_fraud, known_at_us"),
        (label(1)[:, :2], r"label: send INT64 \[N, 3\]: transaction_id, is_fraud, known_at_us"),
        (label(1)[0], r"label: send INT64 \[N, 3\]"),
        (label(1)[:0], "label: 0 rows; send 1 to 1,024 a request"),
        (np.repeat(label(1), 1_025, axis=0), "label: 1025 rows; send 1 to 1,024 a request"),
        (np.array([[1, 0, MONDAY_US], [2, 2, MONDAY_US]]), r"row 1: is_fraud is 2; send 0 \(genuine\) or 1 \(fraud\)"),
        (np.array([[1, -1, MONDAY_US]]), "row 0: is_fraud is -1; send 0"),
        (
            np.array([[1, 1, EARLIEST_TIME_US], [2, 1, EARLIEST_TIME_US - 1]]),
            f"row 1: known_at_us is {EARLIEST_TIME_US - 1}: it lies before 2000; send UTC microseconds since 1970",
        ),
    ],
)
def test_a_broken_label_is_named(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        check_labels(labels)
