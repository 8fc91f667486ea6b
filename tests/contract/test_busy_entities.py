"""Entities with long histories, hot ones and silent ones: features stay those of a replay, whatever is kept how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest

from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.schema import packaged_schema
from fraud_scoring.stores import WindowStore
from fraud_scoring.stores.records import RETENTION_DAYS
from fraud_scoring.windows import FOLDING, NEVER
from support.rows import DAY_US, DEFAULT_SCHEMA, HOUR_US, MONDAY_US, Int64, label, matrix, row
from support.stores import STORE_KINDS, StoreKind, StorePlace

FEATURES = FeatureSet(DEFAULT_SCHEMA)
RICH_SCHEMA = packaged_schema("rich")
SECOND_US = 1_000_000


@pytest.fixture(params=STORE_KINDS, ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    kind: StoreKind = request.param
    where = f"{request.getfixturevalue(kind.server)}&namespace={token_hex(8)}" if kind.server else tmp_path / "store"
    opened = StorePlace(kind, where)
    yield opened
    opened.close()


def busy_history(n: int, step_us: int, first_id: int = 0, amount: int = 100) -> Int64:
    """`n` rows of one customer and one terminal, `step_us` apart."""
    rows = np.ones((n, DEFAULT_SCHEMA.width), np.int64)
    rows[:, 0] = first_id + np.arange(n)
    rows[:, 1] = MONDAY_US + np.arange(n) * step_us
    rows[:, 4] = amount + np.arange(n) % 977
    return rows


def seen_by(store: WindowStore, rows: Int64) -> bytes:
    """The features of rows that come together, as bits."""
    return FEATURES.compute(rows, store.read(rows)).tobytes()


def replayed(past: Int64, rows: Int64, known_at: Int64 | None = None) -> bytes:
    known = np.full(len(past), NEVER) if known_at is None else known_at
    every = np.concatenate([past, rows])
    return replay(DEFAULT_SCHEMA, every, np.append(known, np.full(len(rows), NEVER)))[len(past) :].tobytes()


def after(past: Int64, *delays_us: int) -> Int64:
    """New rows of the same customer and terminal, so long after the last one."""
    return matrix(*(row(10**6 + i, int(past[-1, 1]) + delay, amount=50) for i, delay in enumerate(delays_us)))


def test_five_thousand_events_of_an_entity_are_exact(place: StorePlace) -> None:
    store, past = place.open(), busy_history(5_000, 30 * DAY_US // 5_000)
    for start in range(0, 5_000, 700):
        store.record(past[start : start + 700])
    for delays in ([1], [HOUR_US], [8 * DAY_US], [20 * DAY_US, 21 * DAY_US], [40 * DAY_US]):
        assert seen_by(store, after(past, *delays)) == replayed(past, after(past, *delays))


def test_rows_of_many_entities_with_and_without_long_histories_come_together(place: StorePlace) -> None:
    store, long = place.open(), busy_history(1_000, HOUR_US // 2)
    others = [long[:size].copy() for size in (0, 1, 100, 121, 130, 999)]
    for i, part in enumerate(others):
        part[:, 0] += 10_000 * (i + 1)
        part[:, 2:4] = i + 2
    past = np.concatenate([long, *others])
    store.record(past)
    rows = matrix(*(row(10**6 + i, int(long[-1, 1]) + i, customer=i, terminal=7 - i) for i in range(8)))
    past = past[np.lexsort((past[:, 0], past[:, 1]))]
    assert seen_by(store, rows) == replayed(past, rows)


def test_late_events_repeats_and_labels_reach_what_is_long_past(place: StorePlace) -> None:
    store, past = place.open(), busy_history(3_000, 15 * 60 * SECOND_US)
    late = np.random.default_rng(1).choice(3_000, 200, replace=False)
    in_time = np.setdiff1d(np.arange(3_000), late)
    store.record(past[in_time])
    store.record(past[late[:150]])
    for one in late[150:]:
        store.record(past[one : one + 1])
        store.record(past[one - 1 : one + 2])
    known_at = np.full(3_000, NEVER)
    now = int(past[-1, 1])
    for one in range(0, 3_000, 7):
        known_at[one] = past[one, 1] + DAY_US if one % 3 else now + DAY_US
        store.label(label(one, known_at_us=int(known_at[one])))
    for one in range(0, 3_000, 35):
        known_at[one] = NEVER
        store.label(label(one, is_fraud=False, known_at_us=now))
    for delays in ([1], [DAY_US - 1], [DAY_US], [3 * DAY_US, 9 * DAY_US]):
        assert seen_by(store, after(past, *delays)) == replayed(past, after(past, *delays), known_at)


@pytest.mark.parametrize("step_us", [3 * HOUR_US, 31 * DAY_US // (2 * FOLDING.exact)], ids=["busy", "hot"])
def test_what_is_looked_at_one_by_one_is_in_recent_events_and_in_ledgers(place: StorePlace, step_us: int) -> None:
    """The rich schema: amounts that jump, frauds that follow on each other, and rows that look in all places."""
    store, n = place.open(RICH_SCHEMA), min(50 * DAY_US // step_us, 2 * FOLDING.exact)
    past = busy_history(n, step_us)
    past[::11, 4] *= 5
    store.record(past)
    known_at = np.full(n, NEVER)
    for one in [i for i in range(0, n, max(1, n // 300)) if i % 9 < 6][-60:]:
        known_at[one] = past[one, 1] + DAY_US
        store.label(label(one, known_at_us=int(known_at[one])))
    features = FeatureSet(RICH_SCHEMA)
    late = [[-DAY_US - 1]] if step_us == 3 * HOUR_US else []  # what a hot entity has folded stays folded
    for delays in ([1], [DAY_US], [7 * DAY_US, 9 * DAY_US], *late):
        rows = after(past, *delays)
        every = np.concatenate([past, rows])
        expected = replay(RICH_SCHEMA, every, np.append(known_at, np.full(len(rows), NEVER)))[n:]
        assert features.compute(rows, store.read(rows)).tobytes() == expected.tobytes()
    again = past[-3:-2]  # one that was recorded before it is scored looks at others, and not at itself
    expected = replay(RICH_SCHEMA, past, known_at)[-3:-2]
    assert features.compute(again, store.read(again)).tobytes() == expected.tobytes()


def test_a_row_that_was_recorded_before_it_is_scored_counts_once(place: StorePlace) -> None:
    store, past = place.open(), busy_history(2_000, 1_000 * SECOND_US)
    store.record(past)
    for one in (1_999, 1_500, 300):
        assert seen_by(store, past[one : one + 1]) == replay(DEFAULT_SCHEMA, past)[one : one + 1].tobytes()


def test_a_hot_entity_is_served_as_a_replay_computes_it(place: StorePlace) -> None:
    """Twice as many events as are kept exact, in time, with labels as they become known."""
    store, n = place.open(), 2 * FOLDING.exact
    past = busy_history(n, 35 * DAY_US // n)
    known_at = np.full(n, NEVER)
    known_at[::50] = past[::50, 1] + 8 * DAY_US
    told = 0
    for start in range(0, n, 2_048):
        store.record(past[start : start + 2_048])
        now = past[min(start + 2_048, n) - 1, 1]
        due = [i for i in range(told, start + 2_048, 50) if known_at[i] <= now]
        if due:
            store.label(np.array([[i, 1, known_at[i]] for i in due], np.int64))
        told += 50 * len(due)
    known_at[known_at > now] = NEVER
    for delays in ([1], [HOUR_US + 1], [5 * DAY_US, 5 * DAY_US + 1, 6 * DAY_US], [31 * DAY_US]):
        found = seen_by(store, after(past, *delays))
        assert found == replayed(past, after(past, *delays), known_at)
    rows, exact = after(past, 0), FOLDING._replace(exact=n + 1)
    every = np.concatenate([past, rows])
    assert replay(DEFAULT_SCHEMA, every, np.append(known_at, [NEVER]), exact)[n:].tobytes() != seen_by(store, rows)


REMOVING = [kind for kind in STORE_KINDS if kind.sweeps]
"""Those that remove silent entities themselves, by the records that they forget; a Redis server lets them expire."""


@pytest.mark.parametrize("kind", REMOVING, ids=lambda kind: kind.name)
@pytest.mark.parametrize("n", [1, 500])
def test_an_entity_that_fell_silent_is_removed_with_the_record_of_its_newest_event(tmp_path: Path, kind, n) -> None:
    place = StorePlace(kind, tmp_path)
    store, past = place.open(), busy_history(n, HOUR_US)
    store.record(past)
    place.clock.now_us += RETENTION_DAYS * DAY_US
    store.record(matrix(row(10**6, customer=2, terminal=2)))
    assert len(store.kept("customer_key", 1)) == len(store.kept("terminal_key", 1)) == n
    place.clock.now_us += DAY_US
    for i in range(n // 16 + 1):
        store.record(matrix(row(10**6 + 1 + i, customer=3, terminal=3)))
    assert len(store.kept("customer_key", 1)) == len(store.kept("terminal_key", 1)) == 0
    assert len(store.kept("customer_key", 2)) == 1
    place.close()


@pytest.mark.parametrize("kind", REMOVING, ids=lambda kind: kind.name)
def test_an_entity_that_still_has_events_keeps_all_that_is_in_a_window(tmp_path: Path, kind) -> None:
    place = StorePlace(kind, tmp_path)
    store = place.open()
    for day in range(100):
        place.clock.now_us = MONDAY_US + day * DAY_US
        store.record(matrix(row(day, place.clock.now_us, customer=1, terminal=day % 2)))
    assert store.kept("customer_key", 1)[:, 1].tolist() == list(range(68, 100))
    assert store.kept("terminal_key", 0)[:, 1].tolist() == list(range(60, 100, 2))
    place.close()
