"""The Redis store on a real cluster of three primaries: what is spread over servers is whole, whatever dies between."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.errors import InvalidDefinition, StoreUnavailable
from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.stores import WindowStore, open_store
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.redis.address import parse
from fraud_scoring.stores.redis.store import RedisStore
from fraud_scoring.windows import Folding, Int64
from support.redis import HASTY_MS, MISSING, NODE_TIMEOUT_MS, PROGRAM, RedisCluster, RedisServer
from support.rows import DAY_US, DEFAULT_SCHEMA, MONDAY_US, label, matrix, row, seeded_history
from support.server import until
from support.stores import answers_for, numbered_batch, same_bits


@pytest.fixture
def opened() -> Iterator[Callable[[str], WindowStore]]:
    """Opens stores by their URL, and closes them."""
    stores: list[WindowStore] = []

    def begin(url: str) -> WindowStore:
        stores.append(open_store(url, DEFAULT_SCHEMA))
        return stores[-1]

    yield begin
    for store in stores:
        store.close()


def begun(folder: Path, node_timeout_ms: int) -> Iterator[RedisCluster]:
    """A cluster that a test may harm."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisCluster(folder, node_timeout_ms=node_timeout_ms) as running:
        yield running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    yield from begun(tmp_path, NODE_TIMEOUT_MS)


@pytest.fixture
def hasty_cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """One in which a replica takes over soon after its primary fell silent."""
    yield from begun(tmp_path, HASTY_MS)


def windows(store: WindowStore, rows: Int64) -> list[list[list[int]]]:
    """The events of the entity of each of `rows`, per column: a store may give its entities in any order."""
    return [
        [history.events[history.offsets[at] : history.offsets[at + 1]].tolist() for at in history.segment.tolist()]
        for history in store.read(rows)
    ]


def expected_windows(rows: Int64, labels: Int64 | None = None) -> list[list[list[int]]]:
    store = MemoryStore(DEFAULT_SCHEMA, folding=Folding(seal_at=1_000_000))  # so few lie as they are
    store.record(rows)
    if labels is not None:
        store.label(labels)
    return windows(store, rows)


class Interrupted(RedisStore):
    """Dies, as by SIGKILL, after the transactions are entered and before their events are."""

    def _insert_events(self, rows: Int64, events: Int64) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def record_and_die(url: str, rows: Int64, ready: Connection) -> None:
    store = Interrupted(parse(url), DEFAULT_SCHEMA)
    ready.send("go")
    store.record(rows, answers_for(rows))


def die_between_the_steps(url: str, rows: Int64) -> None:
    """Records `rows` in a process that is killed halfway."""
    processes = multiprocessing.get_context("forkserver")
    here, there = processes.Pipe()
    writer = processes.Process(target=record_and_die, args=(url, rows, there), daemon=True)
    writer.start()
    there.close()
    here.recv()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    writer.close()
    here.close()


@pytest.mark.parametrize("asks_first", [True, False], ids=["recalled", "recorded"])
def test_a_batch_whose_writer_was_killed_halfway_is_made_whole_by_its_retry(
    redis_cluster_url: str, opened, asks_first: bool
) -> None:
    url = f"{redis_cluster_url}&namespace=halfway{asks_first}"
    rows = seeded_history(np.random.default_rng(1), 100, days=20).rows
    die_between_the_steps(url, rows)
    store = opened(url)
    assert windows(store, rows) == [[[] for _ in one] for one in windows(store, rows)]
    known = store.recall(rows[:, 0]) if asks_first else store.record(rows, answers_for(rows, release=8))
    for i, one in enumerate(known):
        assert one is not None
        assert one.answer is not None
        assert same_bits(one.answer, answers_for(rows[i : i + 1]))
    assert windows(store, rows) == expected_windows(rows)
    # and once it is whole it stays as it is
    store.record(matrix(row(10**9, customer=100, terminal=100)))
    assert all(opened(url).recall(rows[:, 0]))
    assert windows(store, rows) == expected_windows(rows)


def test_a_label_that_comes_before_the_retry_is_in_the_windows_after_it(redis_cluster_url: str, opened) -> None:
    url = f"{redis_cluster_url}&namespace=labelled"
    rows = matrix(*(row(i, MONDAY_US + i, customer=i % 3, terminal=i % 5) for i in range(1, 30)))
    die_between_the_steps(url, rows)
    store = opened(url)
    labels = np.concatenate([label(i, is_fraud=bool(i % 2), known_at_us=MONDAY_US + DAY_US) for i in range(1, 20)])
    store.label(labels)
    assert all(store.recall(rows[:, 0]))
    assert windows(store, rows) == expected_windows(rows, labels)


def test_a_failover_in_the_middle_of_a_stream_loses_nothing_that_was_acknowledged(
    hasty_cluster: RedisCluster, opened
) -> None:
    """With `replicas=1`; and the features after it are those of the replay, to the bit.

    The new primary has no replica at first: writes are refused until the old one is back and follows it.
    """
    store = opened(f"{hasty_cluster.url.replace('timeout_ms=20000', 'timeout_ms=1000')}&replicas=1")
    history = seeded_history(np.random.default_rng(2), 3_000, days=60, customers=40, terminals=30).rows
    batches = np.split(history, 60)
    refused = 0
    features = FeatureSet(DEFAULT_SCHEMA)
    seen = []
    for number, rows in enumerate(batches):
        if number == 30:
            assert hasty_cluster.is_whole()
            hasty_cluster.primaries[1].kill()
        computed = None
        while computed is None:
            try:
                computed = features.compute(rows, store.read(rows))
                store.record(rows, answers_for(rows))
                assert all(store.recall(rows[:, 0]))
            except StoreUnavailable:
                computed, refused = None, refused + 1
                until(lambda: b"role:master" in hasty_cluster.replicas[1].ask("INFO", "replication"), 30)
                if refused == 3:
                    hasty_cluster.primaries[1].start()
                    until(lambda: b"master_link_status:up" in hasty_cluster.primaries[1].ask("INFO", "replication"), 30)
        seen.append(computed)
    assert refused >= 3
    assert np.concatenate(seen).tobytes() == replay(DEFAULT_SCHEMA, history).tobytes()
    assert windows(store, history) == expected_windows(history)
    assert all(one is not None and one.answer is not None for one in store.recall(history[:, 0]))


def test_slots_that_moved_to_another_server_are_found_there(cluster: RedisCluster, opened) -> None:
    store = opened(cluster.url)
    store.record(numbered_batch(0), answers_for(numbered_batch(0)))
    old, new = cluster.primaries[0], cluster.replicas[0]
    new.ask("CLUSTER", "FAILOVER")
    until(lambda: b"role:master" in new.ask("INFO", "replication"), 30)
    until(lambda: b"role:slave" in old.ask("INFO", "replication"), 30)
    store.record(numbered_batch(1), answers_for(numbered_batch(1)))
    both = np.concatenate([numbered_batch(0), numbered_batch(1)])
    assert all(store.recall(both[:, 0]))
    assert windows(store, both) == expected_windows(both)


def test_while_a_primary_is_gone_what_needs_it_is_refused_and_the_rest_of_the_cluster_is_not_harmed(
    cluster: RedisCluster, opened
) -> None:
    store = opened(cluster.url.replace("timeout_ms=20000", "timeout_ms=500"))
    rows = numbered_batch(0)
    store.record(rows, answers_for(rows))
    for server in cluster.replicas:
        server.kill()
    with cluster.primaries[2].frozen():
        for call in (lambda: store.recall(rows[:, 0]), lambda: store.read(rows), lambda: store.record(rows)):
            with pytest.raises(StoreUnavailable, match=r"the window store \(Redis\) can"):
                call()
    # its two peers may hold it for lost for a while

    def whole() -> bool:
        with suppress(StoreUnavailable):
            return all(store.recall(rows[:, 0]))
        return False

    until(whole, 30)
    assert windows(store, rows) == expected_windows(rows)


def test_what_no_cluster_can_do_is_said_when_it_is_opened(redis_cluster_url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidDefinition, match="a Redis Cluster has database 0 only"):
        open_store(redis_cluster_url.replace("/?", "/1?"), DEFAULT_SCHEMA)
    with RedisServer(tmp_path) as alone:
        several = alone.url.replace(str(alone.port), f"{alone.port},localhost:{alone.port}")
        with pytest.raises(InvalidDefinition, match="several hosts are given, and they are no cluster"):
            open_store(several, DEFAULT_SCHEMA)
