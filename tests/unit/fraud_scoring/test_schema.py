"""The schema: what the default one says, and that each broken rule is named with its entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.schema import (
    AMOUNT_LIMIT,
    EARLIEST_TIME_US,
    INT64_MAX,
    INT64_MIN,
    MICROSECONDS_PER_DAY,
    Schema,
    default_schema,
    load_schema,
    packaged_schema,
)
from fraud_scoring.stores.records import RETENTION_DAYS
from fraud_scoring.validation import RowRules
from support.rows import DAY_US, DEFAULT_SCHEMA, SEEDED, default_document, schema_with

COUNT = {"name": "n_{days}d", "of": "count", "entity": "customer_key", "days": [1]}


def test_the_default_columns_are_those_of_the_wire_contract() -> None:
    assert DEFAULT_SCHEMA.column_names == (
        "transaction_id",
        "event_time_us",
        "customer_key",
        "terminal_key",
        "amount_minor",
    )
    assert (DEFAULT_SCHEMA.id_index, DEFAULT_SCHEMA.time_index, DEFAULT_SCHEMA.amount_index) == (0, 1, 4)
    assert DEFAULT_SCHEMA.entities == ((2, "customer_key"), (3, "terminal_key"))
    assert DEFAULT_SCHEMA.width == 5


def test_the_default_features_are_the_handbooks_and_amount_ratios() -> None:
    assert DEFAULT_SCHEMA.feature_names == (
        "amount",
        "is_weekend",
        "is_night",
        "customer_count_1d",
        "customer_count_7d",
        "customer_count_30d",
        "customer_mean_amount_1d",
        "customer_mean_amount_7d",
        "customer_mean_amount_30d",
        "terminal_count_1d",
        "terminal_count_7d",
        "terminal_count_30d",
        "terminal_fraud_rate_1d",
        "terminal_fraud_rate_7d",
        "terminal_fraud_rate_30d",
        "customer_amount_ratio_7d",
        "customer_amount_ratio_30d",
    )


def test_only_the_terminals_features_wait_a_week_for_labels() -> None:
    delays = {feature.name: feature.delay_us for feature in DEFAULT_SCHEMA.features if feature.entity}
    assert {name: delay // DAY_US for name, delay in delays.items()} == {
        name: 7 if name.startswith("terminal") else 0 for name in delays
    }


def test_an_amount_is_above_zero_and_a_time_is_after_2000() -> None:
    amount = DEFAULT_SCHEMA.columns[DEFAULT_SCHEMA.amount_index]
    assert (amount.minimum, amount.minor_units) == (1, 100)
    assert DEFAULT_SCHEMA.columns[DEFAULT_SCHEMA.time_index].minimum == EARLIEST_TIME_US


def test_what_the_store_keeps_is_the_longest_reach_and_the_lateness() -> None:
    assert DEFAULT_SCHEMA.keep_us == {"customer_key": 32 * DAY_US, "terminal_key": 39 * DAY_US}
    assert schema_with(late_by_days=1.5).keep_us["customer_key"] == 31.5 * DAY_US


def test_an_entity_without_features_is_kept_for_its_lateness_only() -> None:
    schema = schema_with(features=[COUNT])
    assert schema.keep_us == {"customer_key": 3 * DAY_US, "terminal_key": 2 * DAY_US}


def test_one_entry_defines_a_feature_for_each_of_its_windows() -> None:
    schema = schema_with(features=[{**COUNT, "days": [0.5, 1, 10]}])
    assert schema.feature_names == ("n_0.5d", "n_1d", "n_10d")
    assert [feature.window_us for feature in schema.features] == [DAY_US // 2, DAY_US, 10 * DAY_US]


def test_a_single_window_needs_no_placeholder_in_its_name() -> None:
    assert schema_with(features=[{**COUNT, "name": "recent"}]).feature_names == ("recent",)


def test_the_pinned_document_parses_to_the_same_schema() -> None:
    again = Schema.parse(json.loads(DEFAULT_SCHEMA.document))
    assert again == DEFAULT_SCHEMA
    assert again.document == DEFAULT_SCHEMA.document


def test_a_schema_file_may_be_yaml_or_json(tmp_path: Path) -> None:
    as_json, as_yaml = tmp_path / "schema.json", tmp_path / "schema.yaml"
    as_json.write_text(DEFAULT_SCHEMA.document, encoding="utf-8")
    as_yaml.write_text(
        "name: tiny\n"
        "columns:\n"
        "  - {name: id, role: id}\n"
        "  - {name: at, role: time}\n"
        "  - {name: who, role: entity}\n"
        "  - {name: cents, role: amount, maximum: 100_000}\n"
        "features:\n"
        "  - {name: cents, of: value, column: cents}\n",
        encoding="utf-8",
    )
    assert load_schema(as_json) == DEFAULT_SCHEMA
    assert load_schema(as_yaml).columns[3].maximum == 100_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "schema file s.yaml cannot be read: No such file or directory"),
        (b"a: [", "schema file s.yaml is not YAML"),
        (b"\xff\xfe\x00", "schema file s.yaml is not"),
        (b"- just\n- a list\n", "a schema is a mapping with the entries name, columns and features"),
        (b"", "a schema is a mapping"),
    ],
)
def test_a_broken_schema_file_is_named_without_its_path(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "s.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidDefinition, match=message) as refusal:
        load_schema(path)
    assert str(tmp_path) not in str(refusal.value)


def test_a_column_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(InvalidDefinition, match=r"no column 'amount'; it has transaction_id, .*amount_minor"):
        DEFAULT_SCHEMA.index("amount")


def columns_with(position: int, **changes: Any) -> list[dict[str, Any]]:
    columns = default_document()["columns"]
    columns[position] = {**columns[position], **changes}
    return columns


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "schema: the entry 'name' is missing"),
        ({"name": 7}, "schema: the entry 'name' is missing; write a text"),
        (
            {"late_by_day": 3},
            "schema card-default: unknown entry 'late_by_day'; known are columns, features, late_by_days",
        ),
        ({"columns": []}, "schema card-default: 'columns' must be a list of entries"),
        ({"columns": {}}, "schema card-default: 'columns' must be a list of entries"),
        ({"columns": ["id"]}, "schema card-default: 'columns' must be a list of entries, each a mapping"),
        ({"features": []}, "schema card-default: 'features' must be a list of entries"),
        ({"features": None}, "schema card-default: 'features' must be a list of entries"),
        ({"late_by_days": 0.5}, "late_by_days is 0.5; write a number of days from 1 to 36,500"),
        ({"late_by_days": "2"}, "late_by_days is '2'; write a number of days"),
        ({"late_by_days": True}, "late_by_days is True; write a number of days"),
        ({"late_by_days": float("nan")}, "late_by_days is nan; write a number of days"),
        ({"late_by_days": float("inf")}, "late_by_days is inf; write a number of days"),
    ],
)
def test_a_broken_entry_of_the_schema_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        schema_with(**changes)


@pytest.mark.parametrize(
    ("position", "changes", "message"),
    [
        (0, {"name": "transaction id"}, "column 'transaction id': a column's name is letters, digits and underscores"),
        (0, {"name": 5}, "column 5: a column's name is letters, digits and underscores"),
        (0, {"colour": "red"}, "column 'transaction_id': unknown entry 'colour'; known are file, maximum, meaning"),
        (
            2,
            {"role": "customer"},
            "column 'customer_key': role is 'customer'; write one of id, time, entity, category, am",
        ),
        (2, {"role": None}, "column 'customer_key': role is None; write one of"),
        (0, {"role": "category"}, "schema card-default: 0 columns have the role id; exactly one must"),
        (2, {"role": "id"}, "schema card-default: 2 columns have the role id; exactly one must"),
        (1, {"role": "entity"}, "0 columns have the role time; exactly one must"),
        (4, {"role": "entity"}, "0 columns have the role amount; exactly one must"),
        (2, {"role": "amount"}, "2 columns have the role amount; exactly one must"),
        (3, {"name": "customer_key"}, "column 'customer_key' is defined twice; give each a name of its own"),
        (
            4,
            {"minimum": 10, "maximum": 9},
            "column 'amount_minor': minimum and maximum are whole numbers, minimum ≤ max",
        ),
        (4, {"minimum": 0.5}, "column 'amount_minor': minimum and maximum are whole numbers"),
        (4, {"maximum": "1e6"}, "column 'amount_minor': minimum and maximum are whole numbers"),
        (4, {"maximum": AMOUNT_LIMIT + 1}, "column 'amount_minor': .* within -10000000000000 to 10000000000000"),
        (2, {"maximum": INT64_MAX + 1}, "column 'customer_key': minimum and maximum .* to 9223372036854775807"),
        (4, {"minor_units": 0}, "column 'amount_minor': minor_units is 0; write a whole number from 1 on"),
        (4, {"minor_units": 100.0}, "column 'amount_minor': minor_units is 100.0; write a whole number"),
        (4, {"meaning": 3}, "column 'amount_minor': file and meaning are texts"),
    ],
)
def test_a_broken_column_is_named(position: int, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        schema_with(columns=columns_with(position, **changes))


def test_a_schema_without_an_entity_is_refused() -> None:
    columns = [c for c in default_document()["columns"] if c["role"] != "entity"]
    with pytest.raises(InvalidDefinition, match="no column has the role entity; at least one must"):
        schema_with(columns=columns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "feature None: 'name' is missing"),
        ({"name": 3}, "feature 3: 'name' is missing; write a text"),
        (
            {"of": "median"},
            "of is 'median'; write one of value, weekend, night, count, sum, mean, ratio, fraud_rate, unu",
        ),
        ({"of": ["count"]}, r"of is \['count'\]; write one of"),
        ({"window": 3}, "unknown entry 'window'; known are days, delay_days, entity, name, of, reason"),
        ({"column": "amount_minor"}, "unknown entry 'column'; known are days"),
        ({"until_hour": 6}, "unknown entry 'until_hour'; known are days"),
        ({"entity": "device_key"}, "entity is 'device_key'; name a column with the role entity"),
        ({"entity": "amount_minor"}, "entity is 'amount_minor'; name a column with the role entity"),
        ({"entity": None}, "entity is None; name a column with the role entity"),
        ({"days": []}, r"days is \[\]; write a list of numbers of days, each above 0"),
        ({"days": 7}, "days is 7; write a list of numbers of days"),
        ({"days": [1, 0]}, r"days is \[1, 0\]; write a list of numbers of days, each above 0"),
        ({"days": ["1"]}, "days is .*; write a list of numbers of days"),
        ({"days": [float("nan")]}, "days is .*; write a list of numbers of days"),
        ({"days": [36_501]}, "days is .*; write a list of numbers of days, each above 0 and at most 36,500"),
        ({"days": [7, 7]}, "feature 'n_7d' is defined twice; give each a name of its own"),
        ({"delay_days": -1}, "delay_days is -1; write a number of days from 0 to 36,500"),
        ({"delay_days": None}, "delay_days is None; write a number of days"),
        ({"name": "n", "days": [1, 7]}, "feature 'n': it has several windows; write {days} in its name"),
        ({"of": "fraud_streak"}, "newest is None; write how many events it looks at, 1 to 256"),
        ({"of": "fraud_streak", "newest": 257}, "newest is 257; write how many events it looks at, 1 to 256"),
        ({"of": "fraud_streak", "newest": 8, "times": 2}, "unknown entry 'times'; known are days, delay_days, entity"),
        ({"of": "peak_ratio", "newest": 8}, "usual_days and usual_delay_days are None and 0; write the length"),
        ({"of": "peak_ratio", "newest": 8, "delay_days": 1}, "unknown entry 'delay_days'; known are days, entity"),
        (
            {"of": "unusual_count", "newest": 8, "usual_days": 30, "times": 0},
            "times is 0; write from how many times the usual on, 0.01 to 100",
        ),
        ({"reason": -1}, "reason is -1; write 0 for none, a code from 1 to 7, or one of your own from 1000 on"),
        ({"reason": 50}, "reason is 50; write 0 for none, a code from 1 to 7, or one of your own from 1000 on"),
        ({"reason": "5"}, "reason is '5'; write 0 for none"),
        ({"reason": 2**31}, "reason is 2147483648; write 0 for none"),
    ],
)
def test_a_broken_window_feature_is_named(changes: dict[str, Any], message: str) -> None:
    entry = {**COUNT, **changes}
    with pytest.raises(InvalidDefinition, match=f"^schema card-default: .*{message}") as refusal:
        schema_with(features=[entry])
    assert "feature" in str(refusal.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"of": "value"}, "feature 'f': column is ''; name a column with the role amount or category"),
        (
            {"of": "value", "column": "customer_key"},
            "feature 'f': column is 'customer_key'; name a column with the role",
        ),
        (
            {"of": "weekend", "entity": "customer_key"},
            "feature 'f': unknown entry 'entity'; known are name, of, reason",
        ),
        ({"of": "night", "days": [1]}, "feature 'f': unknown entry 'days'; known are name, of, reason, until_hour"),
        ({"of": "night", "until_hour": 24}, "feature 'f': until_hour is 24; write the last hour of the night, 0 to 23"),
        ({"of": "night", "until_hour": "six"}, "feature 'f': until_hour is 'six'; write the last hour of the night"),
    ],
)
def test_a_broken_feature_of_the_transaction_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        schema_with(features=[{"name": "f", **entry}])


def test_two_features_of_one_name_are_refused() -> None:
    amount = {"name": "amount", "of": "value", "column": "amount_minor"}
    with pytest.raises(InvalidDefinition, match="feature 'amount' is defined twice"):
        schema_with(features=[amount, amount])


def test_a_reason_of_ones_own_is_welcome() -> None:
    assert schema_with(features=[{**COUNT, "reason": 1000}]).features[0].reason == 1000


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["id", "count", "n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a document."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in entries:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += places(value, (*path, key))
    return found


PLACES = places(default_document())


@given(st.lists(st.tuples(st.sampled_from(PLACES), ANYTHING), min_size=1, max_size=2))
@settings(SEEDED, max_examples=400)
def test_whatever_stands_in_a_document_it_is_refused_by_name_or_it_works(changes) -> None:
    document = default_document()
    for path, value in changes:
        try:
            holder: Any = document
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            pass  # the first change took the second one's place away
    try:
        schema = Schema.parse(document)
    except InvalidDefinition:
        return
    assert Schema.parse(json.loads(schema.document)) == schema
    rows = np.ones((2, schema.width), np.int64)
    RowRules(schema).broken(rows, EARLIEST_TIME_US)
    FeatureSet(schema)
    assert replay(schema, rows).shape == (2, len(schema.features))


@pytest.mark.parametrize("key", [INT64_MIN, INT64_MAX])
def test_a_key_takes_all_64_bits(key: int) -> None:
    customer = DEFAULT_SCHEMA.columns[2]
    assert customer.minimum <= key <= customer.maximum


def test_the_rich_schema_has_all_that_the_default_has_and_keeps_less_than_records_are_kept() -> None:
    rich, default = packaged_schema("rich"), default_schema()
    assert rich.columns == default.columns
    assert rich.features[: len(default.features)] == default.features
    assert max(rich.keep_us.values()) < RETENTION_DAYS * MICROSECONDS_PER_DAY
