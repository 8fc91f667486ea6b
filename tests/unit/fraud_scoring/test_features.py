"""Features against their definitions in words, written out slowly below."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.schema import AMOUNT_LOOKS, LOOK_KINDS, Feature, Schema
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import NEVER
from support.rows import (
    DAY_US,
    DEFAULT_SCHEMA,
    HOUR_US,
    MONDAY_US,
    Int64,
    label,
    matrix,
    row,
    schema_with,
    seeded_history,
    utc_us,
)

SHOP = Schema.parse(
    {
        "name": "shop",
        "columns": [
            {"name": "merchant_category", "role": "category", "minimum": 0, "maximum": 9_999},
            {"name": "device_key", "role": "entity"},
            {"name": "when", "role": "time"},
            {"name": "cents", "role": "amount", "minimum": 1, "maximum": 10_000_000, "minor_units": 1_000},
            {"name": "payment", "role": "id"},
            {"name": "account_key", "role": "entity"},
            {"name": "country", "role": "category", "minor_units": 10},
        ],
        "features": [
            {"name": "fraud_{days}d", "of": "fraud_rate", "entity": "account_key", "days": [1.5, 3]},
            {"name": "category", "of": "value", "column": "merchant_category"},
            {"name": "spent_{days}d", "of": "sum", "entity": "device_key", "days": [2], "delay_days": 0.25},
            {"name": "mean_{days}d", "of": "mean", "entity": "device_key", "days": [2], "delay_days": 0.25},
            {"name": "ratio", "of": "ratio", "entity": "account_key", "days": [3]},
            {"name": "evening", "of": "night", "until_hour": 11},
            {"name": "count_{days}d", "of": "count", "entity": "device_key", "days": [0.25, 10]},
            {"name": "land", "of": "value", "column": "country"},
            {"name": "late_ratio", "of": "ratio", "entity": "account_key", "days": [4], "delay_days": 2},
            {"name": "unusual", "of": "unusual_count", "entity": "account_key", "days": [9], "newest": 5, "times": 1.5}
            | {"usual_days": 20, "usual_delay_days": 1},
            {"name": "unusual_ago", "of": "unusual_days", "entity": "account_key", "days": [9], "newest": 5}
            | {"times": 1.5, "usual_days": 20},
            {"name": "peak", "of": "peak_ratio", "entity": "device_key", "days": [9], "newest": 3, "usual_days": 4},
            {"name": "streak", "of": "fraud_streak", "entity": "account_key", "days": [15], "delay_days": 1}
            | {"newest": 4},
            {"name": "streak_ago", "of": "fraud_streak_days", "entity": "account_key", "days": [15], "newest": 4},
            {"name": "genuine_ago", "of": "genuine_days", "entity": "device_key", "days": [5], "delay_days": 0.5}
            | {"newest": 2},
        ],
    }
)
"""Columns in another order, another entity, categories, half days, fraud that counts without delay."""


def value_by_hand(schema: Schema, feature: Feature, me: list[int], before: list[tuple[list[int], int]]) -> np.float32:
    """One feature of one row; `before` holds the rows up to it, itself included, and when each was known as fraud."""
    column = {name: position for position, name in enumerate(schema.column_names)}
    time, amount = schema.time_index, schema.amount_index
    minor_units = schema.columns[amount].minor_units
    day, of_day = divmod(me[time], DAY_US)
    if feature.of == "weekend":
        return np.float32(day % 7 in (2, 3))  # 1970-01-01 was a Thursday
    if feature.of == "night":
        return np.float32(of_day // HOUR_US <= feature.until_hour)
    if feature.of == "value":
        position = column[feature.column]
        return np.float32(me[position] / schema.columns[position].minor_units)
    if feature.of in LOOK_KINDS:
        return np.float32(look_by_hand(schema, feature, me, before))
    until, entity = me[time] - feature.delay_us, column[feature.entity]
    inside = [
        (other[amount], known_at <= me[time])
        for other, known_at in before
        if other[entity] == me[entity] and until - feature.window_us < other[time] <= until
    ]
    total, frauds = sum(amount for amount, _ in inside), sum(known for _, known in inside)
    by_hand = {
        "count": lambda: len(inside),
        "sum": lambda: total / minor_units,
        "mean": lambda: total / (len(inside) * minor_units) if inside else 0,
        "ratio": lambda: me[amount] * len(inside) / total if total else 0,
        "fraud_rate": lambda: frauds / len(inside) if inside else 0,
    }
    return np.float32(by_hand[feature.of]())


def look_by_hand(schema: Schema, feature: Feature, me: list[int], before: list[tuple[list[int], int]]) -> float:
    """One feature that looks at events one by one, the newest first."""
    time, amount, entity = schema.time_index, schema.amount_index, schema.index(feature.entity)

    def within(delay: int, length: int) -> list[tuple[list[int], int]]:
        until = me[time] - delay
        mine = [one for one in before if one[0][entity] == me[entity] and until - length < one[0][time] <= until]
        return sorted(mine, key=lambda one: (one[0][time], one[0][schema.id_index]), reverse=True)

    others = [
        one for one in within(feature.delay_us, feature.window_us) if one[0][schema.id_index] != me[schema.id_index]
    ]
    looked = others[: feature.newest]
    ago = [(me[time] - other[time]) / DAY_US for other, _ in looked]
    longest = (feature.delay_us + feature.window_us) / DAY_US
    if feature.of in AMOUNT_LOOKS:
        usual = [other[amount] for other, _ in within(feature.usual_delay_us, feature.usual_us)]
        if feature.of == "peak_ratio":
            return max(other[amount] for other, _ in looked) * len(usual) / sum(usual) if usual and looked else 0
        mean = sum(usual) // len(usual) if usual else 0
        unusual = [i for i, (other, _) in enumerate(looked) if usual and other[amount] * 100 > mean * feature.percent]
        return len(unusual) if feature.of == "unusual_count" else ago[unusual[0]] if unusual else longest
    known = [known_at <= me[time] for _, known_at in looked]
    streak = known.index(False) if False in known else len(known)
    if feature.of == "genuine_days":
        return ago[streak] if streak < len(known) else longest
    return streak if feature.of == "fraud_streak" else ago[streak - 1] if streak else 0


def replay_by_hand(schema: Schema, rows: Int64, fraud_known_at: Int64) -> np.ndarray:
    """The definition: each row sees the rows up to (its time, its id), each id once, labels known by its time."""
    first: dict[int, tuple[list[int], int]] = {}
    for one, known_at in zip(rows.tolist(), fraud_known_at.tolist(), strict=True):
        first.setdefault(one[schema.id_index], (one, known_at))
    out = np.empty((len(rows), len(schema.features)), np.float32)
    for i, me in enumerate(rows.tolist()):
        order = (me[schema.time_index], me[schema.id_index])
        before = [
            (other, known_at)
            for other, known_at in first.values()
            if (other[schema.time_index], other[schema.id_index]) <= order
        ]
        out[i] = [value_by_hand(schema, feature, me, before) for feature in schema.features]
    return out


def as_shop(rows: Int64, rng: np.random.Generator) -> Int64:
    """The default schema's rows as rows of SHOP."""
    identifier, time, customer, terminal, amount = rows.T
    category = rng.integers(0, 9_999, len(rows))
    return np.stack([category, terminal, time, amount, identifier, customer, -category], axis=1)


def shuffled_with_repeats(rows: Int64, known_at: Int64, rng: np.random.Generator) -> tuple[Int64, Int64]:
    order = rng.permutation(np.concatenate([np.arange(len(rows)), rng.integers(0, len(rows), len(rows) // 10)]))
    return rows[order], known_at[order]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("of", [lambda rows, _: rows, as_shop], ids=["default", "shop"])
def test_a_replay_is_what_the_definitions_say(of: Callable[..., Int64], seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = SHOP if of is as_shop else DEFAULT_SCHEMA
    history = seeded_history(rng, 160, days=20 + 40 * seed)
    rows, known_at = shuffled_with_repeats(of(history.rows, rng), history.fraud_known_at, rng)
    found, expected = replay(schema, rows, known_at), replay_by_hand(schema, rows, known_at)
    assert found.dtype == np.float32
    assert found.tobytes() == expected.tobytes()


def test_a_seeded_history_shows_every_window_something() -> None:
    """Else the test above would compare zeros."""
    rng = np.random.default_rng(0)
    history = seeded_history(rng, 160, days=60)
    for schema, rows in ((DEFAULT_SCHEMA, history.rows), (SHOP, as_shop(history.rows, rng))):
        found = replay(schema, rows, history.fraud_known_at)
        flat = [name for name, column in zip(schema.feature_names, found.T, strict=True) if np.ptp(column) == 0]
        assert flat == []


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_of_requests_is_each_request_alone_to_the_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = seeded_history(rng, 120)
    store = MemoryStore(DEFAULT_SCHEMA)
    store.record(history.rows[:80])
    store.label(np.concatenate([label(i, known_at_us=MONDAY_US) for i in history.rows[:20, 0]]))
    features = FeatureSet(DEFAULT_SCHEMA)
    rows = history.rows[rng.permutation(np.arange(60, 120))]
    group = rng.integers(0, 25, len(rows))
    together = features.compute(rows, store.read(rows), group)
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)
        alone = features.compute(rows[mine], store.read(rows[mine]))
        assert together[mine].tobytes() == alone.tobytes()


def test_single_rows_in_one_batch_are_single_rows_to_the_bit() -> None:
    history = seeded_history(np.random.default_rng(5), 60)
    store = MemoryStore(DEFAULT_SCHEMA)
    store.record(history.rows[:50])
    features, rows = FeatureSet(DEFAULT_SCHEMA), history.rows[40:]
    together = features.compute(rows, store.read(rows), np.arange(len(rows)))
    for i in range(len(rows)):
        one = rows[i : i + 1]
        assert features.compute(one, store.read(one)).tobytes() == together[i : i + 1].tobytes()


def test_computing_features_leaves_the_store_as_it_was() -> None:
    history = seeded_history(np.random.default_rng(6), 40)
    store = MemoryStore(DEFAULT_SCHEMA)
    store.record(history.rows[:30])
    features, rows = FeatureSet(DEFAULT_SCHEMA), history.rows[30:]
    first = features.compute(rows, store.read(rows))
    assert features.compute(rows, store.read(rows)).tobytes() == first.tobytes()


def default_features(*rows: list[int], known_at: list[int] | None = None) -> dict[str, list[float]]:
    """Each default feature's values over a short history."""
    rows_ = matrix(*rows)
    labels = None if known_at is None else np.array(known_at, np.int64)
    found = replay(DEFAULT_SCHEMA, rows_, labels)
    return dict(zip(DEFAULT_SCHEMA.feature_names, found.T.tolist(), strict=True))


@pytest.mark.parametrize(
    ("time", "weekend"),
    [
        ("2026-03-06T23:59:59", 0),  # Friday
        ("2026-03-07T00:00:00", 1),  # Saturday
        ("2026-03-08T23:59:59", 1),  # Sunday
        ("2026-03-09T00:00:00", 0),  # Monday
        ("2000-01-01T00:00:00", 1),  # Saturday
        ("2024-02-29T12:00:00", 0),  # a leap day, Thursday
    ],
)
def test_the_weekend_is_saturday_and_sunday_in_utc(time: str, weekend: int) -> None:
    assert default_features(row(1, utc_us(time)))["is_weekend"] == [weekend]


def test_the_weekend_changes_at_the_microsecond() -> None:
    saturday, monday = utc_us("2026-03-07T00:00:00"), utc_us("2026-03-09T00:00:00")
    times = [saturday - 1, saturday, monday - 1, monday]
    assert default_features(*(row(i, time) for i, time in enumerate(times)))["is_weekend"] == [0, 1, 1, 0]


def test_the_night_lasts_until_the_end_of_its_last_hour() -> None:
    times = [-1, 0, 7 * HOUR_US - 1, 7 * HOUR_US, 12 * HOUR_US]
    found = default_features(*(row(i, MONDAY_US + time) for i, time in enumerate(times)))
    assert found["is_night"] == [0, 1, 1, 0, 0]


def test_the_night_ends_where_the_schema_says() -> None:
    schema = schema_with(features=[{"name": "late", "of": "night", "until_hour": 2}])
    rows = matrix(row(1, MONDAY_US + 3 * HOUR_US - 1), row(2, MONDAY_US + 3 * HOUR_US))
    assert replay(schema, rows).tolist() == [[1], [0]]


def test_amounts_are_in_major_units_rounded_once() -> None:
    amounts = [1, 10, 1_999, 16_777_217, 100_000_000_000]
    found = replay(DEFAULT_SCHEMA, matrix(*(row(i, amount=amount) for i, amount in enumerate(amounts))))
    assert found[:, 0].tobytes() == np.array([amount / 100 for amount in amounts], np.float32).tobytes()


def test_a_customer_is_compared_with_itself_and_not_with_others() -> None:
    found = default_features(
        row(1, MONDAY_US, customer=1, amount=1_000),
        row(2, MONDAY_US + 1, customer=2, amount=9_000),
        row(3, MONDAY_US + DAY_US, customer=1, amount=3_000),
    )
    assert found["customer_count_1d"] == [1, 1, 1]
    assert found["customer_count_7d"] == [1, 1, 2]
    assert found["customer_mean_amount_7d"] == [10, 90, 20]
    assert found["customer_amount_ratio_7d"] == [1, 1, 1.5]


def test_a_terminals_windows_end_a_week_before_the_transaction() -> None:
    week = 7 * DAY_US
    found = default_features(
        row(1, MONDAY_US - 1, customer=1),
        row(2, MONDAY_US, customer=2),
        row(3, MONDAY_US + 1, customer=3),
        row(4, MONDAY_US + week, customer=4),
        known_at=[MONDAY_US + week, MONDAY_US + week + 1, MONDAY_US + 2, NEVER],
    )
    assert found["terminal_count_1d"][-1] == 2
    assert found["terminal_fraud_rate_1d"][-1] == 0.5


def test_a_terminal_without_history_has_no_fraud() -> None:
    found = default_features(row(1))
    assert {found[name][0] for name in found if name.startswith("terminal")} == {0}


def test_a_negative_key_is_a_key_like_any_other() -> None:
    low, high = -(2**63), 2**63 - 1
    found = default_features(*(row(i, MONDAY_US + i, customer=key) for i, key in enumerate([low, high, low])))
    assert found["customer_count_1d"] == [1, 1, 2]


def test_a_schema_without_windows_for_an_entity_needs_none() -> None:
    schema = schema_with(
        features=[
            {"name": "amount", "of": "value", "column": "amount_minor"},
            {"name": "sum_{days}d", "of": "sum", "entity": "terminal_key", "days": [1]},
        ]
    )
    found = replay(schema, matrix(row(1, amount=150), row(2, amount=250)))
    assert found.tolist() == [[1.5, 1.5], [2.5, 4.0]]
