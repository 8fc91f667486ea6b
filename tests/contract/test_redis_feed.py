"""Several servers over one Redis: each holds entities in memory, and none reads what is not so any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.features import FeatureSet
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.records import RETENTION_DAYS, Answers
from fraud_scoring.stores.redis import forgetting
from fraud_scoring.stores.redis.layout import HEADER, pack_events, pack_records
from fraud_scoring.stores.redis.partitions import KeyNames, partition_of
from fraud_scoring.stores.redis.script import KEPT
from fraud_scoring.stores.redis.store import RedisStore
from fraud_scoring.windows import Folding, History, Int64
from support.redis import MISSING, PROGRAM, RedisServer
from support.rows import (
    DAY_US,
    DEFAULT_SCHEMA,
    MONDAY_US,
    Clock,
    default_document,
    label,
    matrix,
    row,
    schema_with,
    seeded_history,
)
from support.stores import answers_for, redis_stores, same_bits

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

EXACT = Folding(seal_at=1_000_000)
"""So few lie as they are."""

Opened = Callable[..., RedisStore]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}&namespace={token_hex(8)}"


@pytest.fixture
def opened() -> Iterator[Opened]:
    yield from redis_stores()


def events_by_row(histories: Sequence[History]) -> list[list[list[list[int]]]]:
    """The events of each row's entity, for each entity column."""
    return [
        [history.events[history.offsets[at] : history.offsets[at + 1]].tolist() for at in history.segment.tolist()]
        for history in histories
    ]


def is_the_same(store: RedisStore, expected: MemoryStore, rows: Int64) -> None:
    assert events_by_row(store.read(rows)) == events_by_row(expected.read(rows))
    for mine, its in zip(store.recall(rows[:, 0]), expected.recall(rows[:, 0]), strict=True):
        assert (mine is None) == (its is None)
        if mine is not None and its is not None:
            assert mine.row.tolist() == its.row.tolist()
            assert (mine.answer is None) == (its.answer is None)
            assert mine.answer is None or (its.answer is not None and same_bits(mine.answer, its.answer))


@pytest.mark.parametrize("seed", range(2))
def test_servers_that_take_turns_see_what_one_store_in_memory_has(url: str, opened: Opened, seed: int) -> None:
    """Late events; repeats, the same id in another row, twice in a call; labels given and taken back; history answered
    later. A third server reads now and then, and so has much to follow, or too much.
    """
    rng = np.random.default_rng(seed)
    stores = [opened(url) for _ in range(3)]
    labels_only = opened(url)
    expected = MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    history = seeded_history(rng, 700, days=100)
    order = np.argsort(np.arange(700) + rng.exponential(20, 700) * (rng.random(700) < 0.3), kind="stable")
    for step, start in enumerate(range(0, 700, 10)):
        rows = history.rows[order[max(0, start - 2) : start + 10]]
        rows = rows[rng.integers(0, len(rows), 14)] if step % 5 == 0 else rows
        if step % 4 == 1:
            others = history.rows[order[rng.integers(0, start, 3)]]
            others[:, 1:] = rows[:3, 1:] + (1, 0, 0, 1)
            rows = np.concatenate([rows, others])
        answers: Answers | None = answers_for(rows, release=step) if rng.random() < 0.7 else None
        mine = stores[int(rng.integers(2))]
        if rng.random() < 0.8:
            is_the_same(mine, expected, rows)
        known, its = mine.record(rows, answers), expected.record(rows, answers)
        assert [one is None for one in known] == [one is None for one in its]
        if step % 3 == 0:
            told = np.concatenate(
                [label(int(i), is_fraud=bool(rng.integers(2))) for i in history.rows[order[: start + 14 : 9], 0]]
            )
            teller = (labels_only, mine)[int(rng.integers(2))]
            assert teller.label(told).tolist() == expected.label(told).tolist()
        for one in stores if step % 30 == 29 else stores[:2]:
            is_the_same(one, expected, rows)


def test_servers_that_record_at_once_count_each_event_once_and_agree(url: str, opened: Opened) -> None:
    history = seeded_history(np.random.default_rng(4), 480, days=60)
    stores = [opened(url) for _ in range(2)]
    step = threading.Barrier(2, timeout=300)

    def write(mine: int) -> None:
        try:
            for start in range(0, 480, 40):
                step.wait()
                for part in np.array_split(history.rows[start + 10 * mine : start + 10 * mine + 30], 4):
                    stores[mine].read(part)
                    stores[mine].record(part, answers_for(part))
                stores[mine].label(label(int(history.rows[start + 10 * mine, 0])))
        except BaseException:
            step.abort()
            raise

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, range(2)))
    expected = MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    expected.record(history.rows, answers_for(history.rows))
    for start in range(0, 480, 40):
        expected.label(label(int(history.rows[start, 0])))
        expected.label(label(int(history.rows[start + 10, 0])))
    for one in (*stores, opened(url)):
        is_the_same(one, expected, history.rows)


def test_what_another_server_did_is_seen_at_once(url: str, opened: Opened) -> None:
    """Batch by batch, while an entity grows until it cannot be held any more; and after more than is followed."""
    one, two = opened(url), opened(url)
    asked = matrix(row(10**6, MONDAY_US + DAY_US))
    for i in range(400):
        two.read(asked)
        one.record(matrix(row(i, MONDAY_US + i)))
        assert [len(history.events) for history in two.read(asked)] == [i + 1, i + 1]
    for i in range(400, 700):
        one.record(matrix(row(i, MONDAY_US + i, customer=i, terminal=i)))
    assert [len(history.events) for history in two.read(asked)] == [400, 400]
    assert two.read(matrix(row(10**6, customer=699, terminal=698)))[0].events[:, 1].tolist() == [699]


def test_a_server_with_another_schema_is_followed(url: str, opened: Opened) -> None:
    """Whose rows have their columns in another order."""
    columns = default_document()["columns"]
    columns[2], columns[3] = columns[3], columns[2]
    one, two = opened(url), opened(url, schema_with(columns=columns))
    asked = matrix(row(10**6, MONDAY_US + DAY_US, customer=1, terminal=2))
    for i, (store, order) in enumerate(6 * [(one, [0, 1, 2, 3, 4]), (two, [0, 1, 3, 2, 4])]):
        mine = matrix(row(i, MONDAY_US + i, customer=1, terminal=2))[:, order]
        store.read(mine)
        store.record(mine)
        assert [len(history.events) for history in store.read(asked[:, order])] == [i + 1, i + 1]


def name_of(kind: str, key: int, namespace: str = "fraud") -> bytes:
    keys = np.array([key], np.int64)
    return KeyNames(namespace, kind).arguments(keys, partition_of(keys)).split(b"\r\n", 1)[1][:-2]


@pytest.mark.parametrize("answered", [True, False])
def test_a_store_that_an_earlier_version_wrote_is_read_labelled_and_goes_on(
    server: RedisServer, opened: Opened, answered: bool
) -> None:
    """Then a record lay under its id, and expired by itself."""
    rows = matrix(*(row(i, MONDAY_US + i, customer=1, terminal=i % 2) for i in range(10)))
    day = MONDAY_US // DAY_US
    records = pack_records(rows, answers_for(rows) if answered else None, day, pending=False)
    for identifier, record in zip(rows[:, 0].tolist(), records, strict=True):
        server.ask("SET", name_of("t", identifier), record.tobytes(), "EX", 5_000_000)
    events = pack_events(rows[:, 1], rows[:, 0], rows[:, 4])
    for column, kind in ((2, "customer_key"), (3, "terminal_key")):
        for key in np.unique(rows[:, column]).tolist():
            server.ask("SET", name_of(kind, key), events[rows[:, column] == key].tobytes(), "EX", 5_000_000)
    store, expected = opened(server.url), MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    expected.record(rows, answers_for(rows) if answered else None)
    is_the_same(store, expected, rows)
    for told in (label(3), label(4, is_fraud=False), label(3), label(77)):
        assert store.label(told).tolist() == expected.label(told).tolist()
    more = matrix(*(row(i, MONDAY_US + i, customer=1, terminal=i % 2) for i in range(5, 15)))
    for one in (store, expected):
        assert [known is None for known in one.record(more, answers_for(more, release=9))] == [
            i >= 10 for i in range(5, 15)
        ]
    every = np.concatenate([rows, more[5:]])
    is_the_same(store, expected, every)
    is_the_same(opened(server.url), expected, every)
    assert server.ask("TTL", name_of("t", 5)) > 0
    assert server.ask("STRLEN", name_of("t", 5)) > HEADER.size + 8 * DEFAULT_SCHEMA.width
    assert server.ask("STRLEN", name_of("t", 14)) == 16


def test_a_repeat_of_all_leaves_nothing_behind(server: RedisServer, opened: Opened) -> None:
    store, rows = opened(server.url), seeded_history(np.random.default_rng(2), 50).rows
    store.record(rows, answers_for(rows))
    before = server.ask("DBSIZE")
    for _ in range(3):
        assert all(store.record(rows, answers_for(rows, release=8)))
    assert server.ask("DBSIZE") == before


@pytest.mark.parametrize("size", [1, 50, 1_500])
def test_records_are_forgotten_with_their_batches_and_what_came_again_stays(
    server: RedisServer, opened: Opened, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "EACH_CALLS", 4)
    clock = Clock()
    store = opened(server.url, clock=clock)
    ids = np.arange(3_000 if size > 50 else 40 * size)
    rows = matrix(*(row(int(i), MONDAY_US + int(i), customer=int(i) % 7) for i in ids))
    for start in range(0, len(rows), size):
        store.record(rows[start : start + size], answers_for(rows[start : start + size]))
    store.label(label(int(ids[-1])))
    clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    again = rows[: len(rows) // 2 : 3].copy()
    again[:, 1] += 70 * DAY_US
    assert not any(store.record(again, answers_for(again, release=8)))
    added = 0
    while server.ask("DBSIZE") > 48 + 2 + 7 + 1 + len(again) + 2 * added + 8:
        assert added < 400, "old batches go as new ones come"
        store.record(matrix(row(10**7 + added, MONDAY_US + 80 * DAY_US + added, customer=1)))
        added += 1
    gone = np.setdiff1d(ids, again[:, 0])
    assert not any(store.recall(gone))
    assert all(one is not None and one.answer is not None for one in store.recall(again[:, 0]))
    assert all(store.recall(10**7 + np.arange(added)))


def test_a_redis_that_lost_the_last_writes_is_followed_from_where_it_is(server: RedisServer, opened: Opened) -> None:
    """As after a failover: it is the same store, its newest batches are gone, and their numbers come again."""
    one, rows = opened(server.url), seeded_history(np.random.default_rng(5), 60, days=20).rows
    one.record(rows[:20])
    one.read(rows)
    keys = [key for key in server.ask("KEYS", "*") if b"birth" not in key]
    kept = {key: server.ask("DUMP", key) for key in keys}
    one.record(rows[20:40])
    one.read(rows)
    for key in [key for key in server.ask("KEYS", "*") if b"birth" not in key]:
        server.ask("DEL", key)
    for key, value in kept.items():
        server.ask("RESTORE", key, 0, value)
    two, expected = opened(server.url), MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    two.record(rows[40:50])
    two.record(rows[50:])
    expected.record(np.concatenate([rows[:20], rows[40:]]))
    is_the_same(one, expected, rows)
    one.record(rows[20:30])
    expected.record(rows[20:30])
    is_the_same(one, expected, rows)
    is_the_same(two, expected, rows)


def test_what_failed_is_forgotten_and_read_again(server: RedisServer, opened: Opened) -> None:
    store, rows = opened(server.url), seeded_history(np.random.default_rng(6), 60, days=20).rows
    expected = MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    for one in (store, expected):
        one.record(rows[:30])
    store.read(rows)
    server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        store.record(rows[30:])
    server.ask("CONFIG", "SET", "maxmemory", 0)
    is_the_same(store, expected, rows)
    for one in (store, expected):
        one.record(rows[30:])
    server.kill()
    server.start()
    is_the_same(store, expected, rows)


def test_an_entity_that_expired_while_it_was_held_expires_again(server: RedisServer, opened: Opened) -> None:
    store = opened(server.url)
    store.record(matrix(row(1)))
    store.read(matrix(row(2)))
    server.ask("DEL", name_of("customer_key", 1))
    store.record(matrix(row(2, MONDAY_US + 1)))
    assert store.kept("customer_key", 1)[:, 2].sum() == 1
    assert server.ask("TTL", name_of("customer_key", 1)) > 40 * 86_400


def test_a_user_who_may_not_enter_many_ids_at_once_enters_them_one_by_one(server: RedisServer, opened: Opened) -> None:
    """As one that was made for an earlier version."""
    server.ask("ACL", "SETUSER", "old", "on", ">secret", "~fraud{*", "+@all", "-msetnx")
    store, rows = opened(server.url.replace("//", "//old:secret@")), seeded_history(np.random.default_rng(7), 40).rows
    expected = MemoryStore(DEFAULT_SCHEMA, folding=EXACT)
    for part in (rows[:20], rows[10:30]):
        for one in (store, expected):
            one.record(part, answers_for(part))
    assert not store.record_new(rows[25:], answers_for(rows[25:]))
    assert store.record_new(rows[30:], answers_for(rows[30:]))
    expected.record(rows[30:], answers_for(rows[30:]))
    is_the_same(store, expected, rows)


@pytest.mark.parametrize("customers", [1, 3])
def test_busy_and_idle_entities_in_one_call(url: str, opened: Opened, customers: int) -> None:
    """What is held and what has a ledger come in one history."""
    folding = KEPT._replace(recent=4, seal_at=12)
    one, two = opened(url, folding=folding), opened(url, folding=folding)
    expected = MemoryStore(DEFAULT_SCHEMA, folding=folding)
    busy = matrix(*(row(i, MONDAY_US + i, customer=i % customers, terminal=1) for i in range(60)))
    idle = matrix(*(row(100 + i, MONDAY_US + i, customer=10 + i % 5, terminal=10 + i % 3) for i in range(9)))
    for part in (busy[:30], idle, busy[30:]):
        one.read(part)
        for store in (one, expected):
            store.record(part)
    asked = np.concatenate([idle[:4], busy[:2], idle[4:], matrix(row(200, customer=99, terminal=1))])
    asked[:, 0] += 10_000
    asked[:, 1] = MONDAY_US + DAY_US
    features = FeatureSet(DEFAULT_SCHEMA, folding)
    for store in (one, two):
        assert (
            features.compute(asked, store.read(asked)).tobytes()
            == features.compute(asked, expected.read(asked)).tobytes()
        )
        assert store.kept("terminal_key", 1)[:, 2].sum() == 60
