"""Events that wait in batches on one Redis: whoever reads sees them, and each is written once, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest

from fraud_recovery import redis_part
from fraud_recovery.archive import quiet
from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.features import FeatureSet
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.records import RETENTION_DAYS
from fraud_scoring.stores.redis import forgetting, waiting
from fraud_scoring.stores.redis.one_server import OneServer
from fraud_scoring.stores.redis.script import KEPT
from fraud_scoring.stores.redis.store import RedisStore
from fraud_scoring.windows import Folding, Int64
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
from support.stores import answers_for, redis_stores

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

SMALL = KEPT._replace(recent=4, seal_at=40, exact=10_000)

Opened = Callable[..., RedisStore]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}&namespace={token_hex(8)}"


@pytest.fixture
def opened() -> Iterator[Opened]:
    yield from redis_stores()


@pytest.fixture(params=[(0, 1_000), (40, 1_000), (10**9, 3), (10**9, 10**9)], ids=["none", "few", "short", "all"])
def patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many events wait, and in how many batches."""
    most, batches = request.param
    monkeypatch.setattr(waiting, "MOST", most)
    monkeypatch.setattr(waiting, "MOST_BATCHES", batches)


def serve(store: RedisStore | MemoryStore, rows: Int64) -> None:
    """Read, then record, as a server does."""
    store.read(rows)
    store.record(rows, answers_for(rows))


def features(store: RedisStore | MemoryStore, rows: Int64, folding: Folding = SMALL) -> bytes:
    return FeatureSet(DEFAULT_SCHEMA, folding).compute(rows, store.read(rows)).tobytes()


def calls(server: RedisServer) -> dict[bytes, int]:
    """How often each command was called since CONFIG RESETSTAT, by its name."""
    return {
        line.partition(b":")[0].rpartition(b"_")[2]: int(line.split(b"calls=")[1].partition(b",")[0])
        for line in server.ask("INFO", "commandstats").splitlines()
        if b"calls=" in line
    }


def strings(server: RedisServer) -> dict[bytes, bytes]:
    """The strings of entities."""
    return {key: server.ask("GET", key) for key in server.ask("KEYS", "*_key:*")}


def events_in(server: RedisServer) -> int:
    return sum(len(value) for value in strings(server).values()) // 32


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_servers_leaves_what_a_store_in_memory_has(url: str, opened: Opened, seed: int) -> None:
    """Late events, repeats, labels given and taken back; a terminal that gets busy; servers that come and go."""
    rng = np.random.default_rng(seed)
    stores = [opened(url, folding=SMALL) for _ in range(2)]
    expected = MemoryStore(DEFAULT_SCHEMA, folding=SMALL)
    past = seeded_history(rng, 900, days=30, customers=40, terminals=12).rows
    past[rng.random(900) < 0.2, 3] = 10**6
    order = np.argsort(np.arange(900) + rng.exponential(25, 900) * (rng.random(900) < 0.3), kind="stable")
    for step, start in enumerate(range(0, 900, 15)):
        rows = past[order[max(0, start - 2) : start + 15]]
        mine = stores[int(rng.integers(2))]
        if rng.random() < 0.85:
            mine.read(rows)
        assert [one is None for one in mine.record(rows, answers_for(rows))] == [
            one is None for one in expected.record(rows, answers_for(rows))
        ]
        if step % 4 == 1:
            told = np.concatenate(
                [label(int(i), is_fraud=bool(rng.integers(2))) for i in past[order[rng.integers(0, start, 5)], 0]]
            )
            assert mine.label(told).tolist() == expected.label(told).tolist()
        if step % 9 == 8:
            stores[0].close()
            stores[0] = opened(url, folding=SMALL)
        asked = past[rng.integers(0, 900, 20)].copy()
        asked[:, 0] += 10**6
        asked[:, 1] = past[order[: start + 15], 1].max() + 1
        for one in (*stores, opened(url, folding=SMALL)) if step % 10 == 9 else stores:
            assert features(one, asked) == features(expected, asked)
    for name, column in (("customer_key", 2), ("terminal_key", 3)):
        for key in np.unique(past[:, column])[:5].tolist():
            assert stores[0].kept(name, key)[:, 2].sum() == (past[:, column] == key).sum()


@pytest.mark.usefixtures("patience")
def test_servers_of_two_schemas_see_each_other_s_events(url: str, opened: Opened) -> None:
    """Whose rows have their columns in another order."""
    columns = default_document()["columns"]
    columns[2], columns[3] = columns[3], columns[2]
    stores = [(opened(url), [0, 1, 2, 3, 4]), (opened(url, schema_with(columns=columns)), [0, 1, 3, 2, 4])]
    rng = np.random.default_rng(3)
    past = seeded_history(rng, 400, days=9, customers=9, terminals=5).rows
    expected = MemoryStore(DEFAULT_SCHEMA)
    for start in range(0, 400, 8):
        rows = past[start : start + 8]
        store, order = stores[int(rng.integers(2))]
        store.read(rows[:, order])
        store.record(rows[:, order])
        expected.record(rows)
        asked = past[:40].copy()
        asked[:, 1] = rows[-1, 1] + 1
        its = expected.read(asked)
        for one, order in stores:
            found = one.read(asked[:, order])
            for mine, position in zip(found, (1, 0) if order[2] == 3 else (0, 1), strict=True):
                of_each = [mine.events[mine.offsets[at] : mine.offsets[at + 1]].tolist() for at in mine.segment]
                other = its[position]
                assert of_each == [
                    other.events[other.offsets[at] : other.offsets[at + 1]].tolist() for at in other.segment
                ]


def test_a_server_writes_what_waits_for_entities_that_its_schema_lacks(server: RedisServer, opened: Opened) -> None:
    """Also where their strings get so long that a server that knows them would seal them."""
    document = default_document()
    columns = [*document["columns"], {"name": "device_key", "role": "entity"}]
    features = [*document["features"], {"name": "device_n", "of": "count", "entity": "device_key", "days": [7]}]
    more = schema_with(columns=columns, features=features)
    wide, narrow = opened(server.url, more, folding=SMALL), opened(server.url, folding=SMALL)
    for month in range(2):
        at = MONDAY_US + month * 200 * DAY_US
        rows = matrix(*(row(100 * month + i, at + i, customer=i, terminal=i) for i in range(30)))
        rows = np.column_stack([rows, np.full(30, 5)])
        wide.read(rows)
        wide.record(rows)
        assert narrow.kept("customer_key", 7)[:, 2].sum() >= 1
        narrow.close()
        narrow = opened(server.url, folding=SMALL)
    assert events_in(server) == 3 * 60
    asked = np.column_stack([matrix(row(10**6, MONDAY_US + 201 * DAY_US)), [5]])
    assert len(wide.read(asked)[2].events) == 30


def test_a_batch_of_entities_that_are_held_costs_no_command_for_any_of_them(
    server: RedisServer, opened: Opened
) -> None:
    store, past = opened(server.url), seeded_history(np.random.default_rng(1), 300, days=9).rows
    serve(store, past)
    rows = past.copy()
    rows[:, 0] += 1_000
    rows[:, 1] += 9 * DAY_US
    store.read(rows)
    before = strings(server)
    server.ask("CONFIG", "RESETSTAT")
    store.record(rows, answers_for(rows))
    counted = calls(server)
    assert sum(counted.get(one, 0) for one in (b"append", b"getrange", b"set", b"setrange")) <= 4
    assert strings(server) == before
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(np.concatenate([past, rows]))
    asked = rows.copy()
    asked[:, 1] += DAY_US
    assert features(opened(server.url), asked, KEPT) == features(expected, asked, KEPT)
    store.close()
    assert events_in(server) == 2 * 600
    opened(server.url).close()
    assert events_in(server) == 2 * 600


def test_a_store_that_is_opened_knows_what_waits_before_it_is_asked(server: RedisServer, opened: Opened) -> None:
    busy, past = opened(server.url), seeded_history(np.random.default_rng(1), 600, days=9).rows
    for start in range(0, 600, 20):
        serve(busy, past[start : start + 20])
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = matrix(row(10**6, MONDAY_US + 10 * DAY_US))
    store = opened(server.url)
    server.ask("CONFIG", "RESETSTAT")
    assert features(store, asked, KEPT) == features(expected, asked, KEPT)
    counted = calls(server)
    assert counted.get(b"getrange", 0) == 0
    assert counted[b"get"] == 2  # which store it is, and which batch is the newest


def test_a_store_that_stood_by_has_followed_the_others_when_it_is_asked(server: RedisServer, opened: Opened) -> None:
    past = seeded_history(np.random.default_rng(1), 600, days=9).rows
    by, busy = opened(server.url), opened(server.url)
    by.read(past[:20])
    for start in range(0, 600, 20):
        serve(busy, past[start : start + 20])
    by.bound(time.monotonic() - 1)  # no time of the caller's is taken
    with ThreadPoolExecutor(1) as other:
        other.submit(by.catch_up).result()
    by.bound(time.monotonic() + 60)
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = past[:20] + np.array([10**6, 20 * DAY_US, 0, 0, 0, 0][: past.shape[1]])
    assert features(by, asked, KEPT) == features(expected, asked, KEPT)
    again = asked + np.array([100, DAY_US, 0, 0, 0, 0][: past.shape[1]])
    with ThreadPoolExecutor(1) as other:
        other.submit(by.catch_up).result()
    server.ask("CONFIG", "RESETSTAT")
    assert features(by, again, KEPT) == features(expected, again, KEPT)
    assert calls(server)[b"get"] == 2


def test_a_store_whose_redis_ends_while_it_is_opened_goes_on_where_it_was(
    server: RedisServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = seeded_history(np.random.default_rng(1), 60, days=9).rows
    serve(opened(server.url), past)

    def gone(one: OneServer) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(OneServer, "catch_up", gone)
        store = opened(server.url)
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = matrix(row(10**6, MONDAY_US + 10 * DAY_US))
    assert features(store, asked, KEPT) == features(expected, asked, KEPT)


@pytest.mark.parametrize("most", [0, 200])
def test_servers_that_write_at_once_write_each_event_once(
    server: RedisServer, opened: Opened, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(waiting, "MOST", most)
    past = seeded_history(np.random.default_rng(4), 1_800, days=20, customers=90, terminals=60).rows
    stores = [opened(server.url) for _ in range(3)]
    step = threading.Barrier(3, timeout=300)

    def write(mine: int) -> None:
        try:
            for start in range(0, 1_800, 60):
                step.wait()
                for part in np.array_split(past[start + mine : start + 60 : 3], 4):
                    serve(stores[mine], part)
        except BaseException:
            step.abort()
            raise

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = past[:200].copy()
    asked[:, 1] = past[-1, 1] + 1
    for one in (*stores, opened(server.url)):
        assert features(one, asked, KEPT) == features(expected, asked, KEPT)
    for one in stores:
        one.close()
    assert events_in(server) == 2 * 1_800


def test_an_entity_that_gets_busy_while_its_events_wait_has_all_of_them(url: str, opened: Opened) -> None:
    """While it is held they wait; once it has too many they are written with their batches."""
    one, two = opened(url, folding=SMALL), opened(url, folding=SMALL)
    expected = MemoryStore(DEFAULT_SCHEMA, folding=SMALL)
    past = matrix(*(row(i, MONDAY_US + i * 3_600_000_000, customer=i % 50, terminal=1) for i in range(300)))
    late = past[5::40]
    early = np.delete(past, np.arange(5, 300, 40), axis=0)
    for i, rows in enumerate([*np.array_split(early, 40), *np.array_split(late, 4)]):
        serve((one, two)[i % 3 == 2], rows)
        expected.record(rows)
        asked = matrix(*(row(10**6 + k, MONDAY_US + 13 * DAY_US + k, customer=k, terminal=1) for k in range(9)))
        for store in (one, two, opened(url, folding=SMALL)):
            assert features(store, asked) == features(expected, asked)
    assert two.kept("terminal_key", 1)[:, 2].sum() == 300


def test_a_redis_that_lost_what_was_written_last_has_it_written_again(server: RedisServer, opened: Opened) -> None:
    """As after a failover: batches are there, and what was moved from them into entities is not."""
    store, past = opened(server.url), seeded_history(np.random.default_rng(5), 300, days=9).rows
    expected = MemoryStore(DEFAULT_SCHEMA)
    serve(store, past[:100])
    serve(store, past[100:200])
    kept = {key: server.ask("DUMP", key) for key in server.ask("KEYS", "*")}
    store.kept("customer_key", int(past[0, 2]))
    for key in past[:200, 2:4].reshape(-1).tolist():
        store.kept("customer_key", key)
    for key, value in kept.items():
        server.ask("RESTORE", key, 0, value, "REPLACE")
    asked = past.copy()
    asked[:, 1] = past[-1, 1] + DAY_US
    expected.record(past[:200])
    for one in (store, opened(server.url)):
        assert features(one, asked, KEPT) == features(expected, asked, KEPT)
    serve(store, past[200:])
    expected.record(past[200:])
    for one in (store, opened(server.url)):
        assert features(one, asked, KEPT) == features(expected, asked, KEPT)
    store.close()
    assert events_in(server) == 2 * 300


def test_batches_are_not_forgotten_before_their_events_are_written(
    server: RedisServer, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "EACH_CALLS", 2)
    clock = Clock()
    store = opened(server.url, clock=clock)
    past = matrix(*(row(i, MONDAY_US + i, customer=i % 7, terminal=i % 3) for i in range(50)))
    for part in np.array_split(past, 5):
        serve(store, part)
    first = server.ask("KEYS", "*}#" + "\0" * 7 + "\1")
    assert first
    clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    for i in range(4):
        serve(store, matrix(row(100 + i, MONDAY_US + DAY_US + i, customer=99, terminal=99)))
    assert not server.ask("EXISTS", *first)
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = matrix(*(row(10**6 + k, MONDAY_US + 2 * DAY_US, customer=k, terminal=k % 3) for k in range(7)))
    for one in (store, opened(server.url)):
        assert features(one, asked, KEPT) == features(expected, asked, KEPT)


def test_a_server_that_starts_follows_what_waits_in_many_batches(server: RedisServer, opened: Opened) -> None:
    store, past = opened(server.url), seeded_history(np.random.default_rng(8), 900, days=9, customers=30).rows
    store.read(past)
    for i in range(900):
        store.record(past[i : i + 1])
    assert events_in(server) < 2 * 900 / 2
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = past[:100].copy()
    asked[:, 1] = past[-1, 1] + 1
    assert features(opened(server.url), asked, KEPT) == features(expected, asked, KEPT)


def test_a_server_that_failed_goes_on_from_where_it_was(server: RedisServer, opened: Opened) -> None:
    store, past = opened(server.url), seeded_history(np.random.default_rng(6), 200, days=9).rows
    serve(store, past[:100])
    server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        serve(store, past[100:])
    server.ask("CONFIG", "SET", "maxmemory", 0)
    serve(store, past[100:])
    expected = MemoryStore(DEFAULT_SCHEMA)
    expected.record(past)
    asked = past.copy()
    asked[:, 1] = past[-1, 1] + 1
    assert features(store, asked, KEPT) == features(expected, asked, KEPT)


def test_a_copy_of_a_store_in_which_events_wait_has_the_same_windows(
    server: RedisServer, opened: Opened, tmp_path: Path
) -> None:
    ids = tmp_path / "ids"
    store = opened(server.url, ids=ids)
    past = seeded_history(np.random.default_rng(9), 500, days=9, customers=40, terminals=20).rows
    for part in np.array_split(past, 10):
        serve(store, part)
    redis_part.export(server.url, ids, tmp_path / "copy", quiet)
    with RedisServer(tmp_path / "two") as two:
        redis_part.put(tmp_path / "copy", two.url, quiet)
        asked = past.copy()
        asked[:, 1] = past[-1, 1] + 1
        with_waiting = opened(two.url)
        assert features(with_waiting, asked, KEPT) == features(store, asked, KEPT)
        with_waiting.close()
        assert events_in(two) == 2 * 500
