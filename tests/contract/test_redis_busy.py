"""Busy entities in Redis: bounded strings, whoever seals them, and whatever comes late or twice meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex

import numpy as np
import pytest

from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.redis import busy
from fraud_scoring.stores.redis.address import parse
from fraud_scoring.stores.redis.busy import Place
from fraud_scoring.stores.redis.script import KEPT, MOST_AMENDMENTS, Script
from fraud_scoring.stores.redis.store import RedisStore
from fraud_scoring.windows import NEVER, Folding, Int64
from support.redis import MISSING, PROGRAM, RedisServer
from support.rows import DAY_US, DEFAULT_SCHEMA, HOUR_US, MONDAY_US, label, matrix, row
from support.stores import answers_for

SMALL = Folding(exact=60, slot_us=HOUR_US, recent=4, seal_at=12)
"""So that a few events are many."""
EVENT_BYTES = 32

Opened = Callable[..., RedisStore]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens stores by their URL, and closes them."""
    stores: list[RedisStore] = []

    def begin(url: str, folding: Folding = KEPT, kind: type[RedisStore] = RedisStore) -> RedisStore:
        stores.append(kind(parse(url), DEFAULT_SCHEMA, folding=folding))
        return stores[-1]

    yield begin
    for store in stores:
        store.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture(params=["redis_url", "redis_cluster_url"])
def url(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(request.param)}&namespace={token_hex(8)}"


class Unsealed(RedisStore):
    """Dies before it seals, each time."""

    def _seal(self, full: Sequence[Place]) -> None:
        pass


def one_terminal(n: int, step_us: int = 60_000_000, customers: int = 1) -> Int64:
    rows = np.ones((n, DEFAULT_SCHEMA.width), np.int64)
    rows[:, 0] = np.arange(n)
    rows[:, 1] = MONDAY_US + np.arange(n) * step_us
    rows[:, 2] = np.arange(n) % customers
    rows[:, 4] = 100 + np.arange(n) % 977
    return rows


def strings_of(server: RedisServer, name: str = "terminal_key") -> dict[bool, bytes]:
    """The keys of the only entity of a column: whether it is the ledger's, and the key."""
    keys = server.ask("KEYS", f"*{name}:*")
    return {key.endswith(b"l"): key for key in keys}


def features_of(store: RedisStore | MemoryStore, rows: Int64, folding: Folding) -> bytes:
    return FeatureSet(DEFAULT_SCHEMA, folding).compute(rows, store.read(rows)).tobytes()


def sent_bytes(server: RedisServer) -> int:
    for line in server.ask("INFO", "stats").splitlines():
        name, _, number = line.partition(b":")
        if name == b"total_net_output_bytes":
            return int(number)
    raise AssertionError("a server says what it sent")


def test_the_strings_of_a_hot_entity_and_what_a_read_of_it_moves_are_bounded(server: RedisServer, opened) -> None:
    n = 40_000
    past = one_terminal(n, 36 * DAY_US // n, customers=500)
    store, strings = opened(server.url), set()
    for start in range(0, n, 1_000):
        store.record(past[start : start + 1_000])
        store.label(np.array([[i, 1, past[i, 1]] for i in range(start, start + 1_000, 40)], np.int64))
        keys = strings_of(server)
        strings.add((server.ask("STRLEN", keys[False]), server.ask("STRLEN", keys[True])))
    most_recent, most_older = max(recent for recent, _ in strings), max(older for _, older in strings)
    assert most_recent <= EVENT_BYTES * (KEPT.seal_at + 1) + 16
    assert most_older <= EVENT_BYTES * 2 * (KEPT.exact + 512 + 37 * 24) + 40 * 2 * MOST_AMENDMENTS
    rows = matrix(*(row(10**6 + i, int(past[-1, 1]) + i) for i in range(64)))
    seen = [store.read(rows)[1]]
    before = sent_bytes(server)
    for _ in range(10):
        seen.append(store.read(rows)[1])
    assert (sent_bytes(server) - before) / 10 < most_recent + 4_096
    assert len({history.spans.tobytes() + history.events.tobytes() for history in seen}) == 1
    fresh, before = opened(server.url), sent_bytes(server)
    assert fresh.read(rows)[1].spans.tobytes() == seen[0].spans.tobytes()
    assert sent_bytes(server) - before < most_older + 2 * most_recent + 10_000


@pytest.mark.parametrize("seed", range(2))
def test_any_mixture_leaves_what_a_store_in_memory_has(url: str, opened, seed: int) -> None:
    """Late events, repeats, labels given and taken back, from three clients of which one never seals."""
    folding = SMALL._replace(exact=10_000)
    stores = [opened(url, folding), opened(url, folding), opened(url, folding, Unsealed)]
    expected, rng = MemoryStore(DEFAULT_SCHEMA, folding=folding), np.random.default_rng(seed)
    past = one_terminal(1_200, 20 * 60_000_000, customers=7)
    order = np.argsort(np.arange(1_200) + rng.exponential(30, 1_200) * (rng.random(1_200) < 0.3), kind="stable")
    for step, start in enumerate(range(0, 1_200, 20)):
        rows = past[order[max(0, start - 3) : start + 20]]
        told = np.concatenate(
            [
                label(int(past[i, 0]), is_fraud=bool(rng.integers(2)), known_at_us=int(past[i, 1]) + DAY_US)
                for i in order[rng.integers(0, start + 20, 12)]
            ]
        )
        mine = stores[step % 3]
        mine.record(rows, answers_for(rows))
        expected.record(rows, answers_for(rows))
        assert mine.label(told).tolist() == expected.label(told).tolist()
        now = int(past[order[start : start + 20], 1].max())
        asked = matrix(*(row(10**6 + i, now + i * DAY_US // 2, customer=i % 7) for i in range(8)))
        for one in stores:
            assert features_of(one, asked, folding) == features_of(expected, asked, folding)


def test_a_hot_entity_is_folded_as_in_a_replay(url: str, opened) -> None:
    store, past = opened(url, SMALL), one_terminal(1_000, 7 * 60_000_000)
    known_at = np.full(1_000, NEVER)
    for start in range(0, 1_000, 50):
        store.record(past[start : start + 50])
        now = int(past[start + 49, 1])
        due = [i for i in range(0, start, 9) if known_at[i] == NEVER]
        known_at[due] = now
        store.label(np.array([[i, 1, now] for i in due], np.int64).reshape(-1, 3))
        rows = matrix(*(row(10**6 + i, now + i * 6 * HOUR_US) for i in range(4)))
        every = np.concatenate([past[: start + 50], rows])
        known = np.append(known_at[: start + 50], np.full(4, NEVER))
        assert features_of(store, rows, SMALL) == replay(DEFAULT_SCHEMA, every, known, SMALL)[start + 50 :].tobytes()


def test_clients_that_seal_and_label_at_once_lose_nothing_and_count_nothing_twice(url: str, opened) -> None:
    folding = SMALL._replace(exact=10_000)
    past = one_terminal(3_000, 60_000_000)
    step = threading.Barrier(3, timeout=60)
    stores = [opened(url, folding) for _ in range(3)]

    def write(mine: int) -> None:
        try:
            for start in range(0, 3_000, 100):
                step.wait()
                for part in np.array_split(past[start + mine : start + 100 : 3], 5):
                    stores[mine].record(part)
                    stores[mine].label(np.array([[i, 1, MONDAY_US] for i in part[:, 0] if i % 10 == 0]).reshape(-1, 3))
        except BaseException:
            step.abort()
            raise

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    known_at = np.where(np.arange(3_000) % 10 == 0, MONDAY_US, NEVER)
    rows = matrix(*(row(10**6 + i, int(past[-1, 1]) + 1 + i * DAY_US) for i in range(9)))
    every, known = np.concatenate([past, rows]), np.append(known_at, np.full(9, NEVER))
    for one in stores:
        assert features_of(one, rows, folding) == replay(DEFAULT_SCHEMA, every, known, folding)[3_000:].tobytes()
        kept = one.kept("terminal_key", 1)
        assert kept[:, 2].sum() == 3_000
        assert kept[:, 4].sum() == 300


@pytest.mark.parametrize("change", ["late", "label", "amendment", "sealed", "newer"])
def test_a_seal_takes_effect_only_on_what_its_client_saw(server: RedisServer, opened, change: str) -> None:
    store, past = opened(server.url, SMALL, Unsealed), one_terminal(60, customers=60)
    opened(server.url, SMALL).record(past[:40])
    store.record(past[[*range(40, 45), *range(46, 60)]])
    keys = strings_of(server)
    value, stored = server.ask("MGET", keys[False], keys[True])
    sealed = busy.seal(value, stored, DEFAULT_SCHEMA.keep_us["terminal_key"], SMALL)
    assert sealed is not None
    if change == "late":
        store.record(past[45:46])
    elif change == "label":
        store.label(label(44, known_at_us=MONDAY_US))
    elif change == "amendment":
        store.label(label(3, known_at_us=MONDAY_US))
    elif change == "newer":
        store.record(matrix(row(70, int(past[-1, 1]) + 1)))
    else:
        opened(server.url, SMALL).record(matrix(row(70, int(past[-1, 1]) + 1)))
    before = store.kept("terminal_key", 1).tolist()
    parts = (sealed.digest, sealed.size, sealed.stamp, sealed.ledger, 1_000)
    done = server.ask("EVAL", Script("seal").text, 2, keys[False], keys[True], *parts)
    assert done == (change == "newer")
    assert store.kept("terminal_key", 1).tolist() == before


def test_what_a_client_that_died_left_unsealed_is_sealed_with_the_next_event(server: RedisServer, opened) -> None:
    past = one_terminal(200)
    opened(server.url, SMALL, Unsealed).record(past[:199])
    assert True not in strings_of(server)
    store = opened(server.url, SMALL)
    store.record(past[199:])
    keys = strings_of(server)
    assert server.ask("STRLEN", keys[False]) == EVENT_BYTES * SMALL.recent + 16
    assert store.kept("terminal_key", 1)[:, 2].sum() == 200


def test_amendments_are_bounded_by_whoever_tells_them(server: RedisServer, opened) -> None:
    store, past = opened(server.url, SMALL._replace(exact=10_000)), one_terminal(3_000)
    store.record(past[::2])
    for start in range(1, 2_000, 20):
        store.record(past[start : start + 20 : 2])
        store.label(np.array([[i, 1, MONDAY_US] for i in range(start, start + 20, 2)], np.int64))
        whole = EVENT_BYTES * len(store.kept("terminal_key", 1)) + 48
        assert server.ask("STRLEN", strings_of(server)[True]) < whole + 40 * (MOST_AMENDMENTS + 20)
    assert store.kept("terminal_key", 1)[:, 2].sum() == 2_500


def test_a_ledger_goes_with_its_entity_and_once_all_of_it_is_past(server: RedisServer, opened) -> None:
    store, past = opened(server.url, SMALL), one_terminal(100)
    store.record(past)
    for fortnight in (1, 2):
        keys = strings_of(server)
        ends = [server.ask("PEXPIRETIME", key) for key in keys.values()]
        assert 0 < max(ends) - 10 < min(ends)  # Redis reads its clock for each of them
        for key in keys.values():
            server.ask("EXPIRE", key, 1_000)
        store.record(matrix(row(200 + fortnight, int(past[-1, 1]) + fortnight * 14 * DAY_US)))
        assert server.ask("TTL", keys[True]) > 40 * 86_400
    unsealed = opened(server.url, SMALL, Unsealed)
    much_later = one_terminal(40)
    much_later[:, 0] += 1_000
    much_later[:, 1] += 200 * DAY_US
    unsealed.record(much_later)
    assert True not in strings_of(server)
    assert unsealed.kept("terminal_key", 1)[:, 1].tolist() == much_later[:, 0].tolist()
    assert store.read(much_later)[1].events[:, 1].tolist() == much_later[:, 0].tolist()
