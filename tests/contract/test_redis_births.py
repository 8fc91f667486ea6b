"""A Redis that lost its data, in part or whole, is never read as if nothing had happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.errors import StoreEmptied, StoreFenced, StoreUnavailable
from fraud_scoring.stores import WindowStore, open_store
from fraud_scoring.stores.births import accept, fence, status
from fraud_scoring.stores.guarded import open_guarded
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import tags
from fraud_scoring.stores.redis.store import RedisStore
from support.redis import MISSING, PROGRAM, RedisServer
from support.rows import DEFAULT_SCHEMA
from support.server import until
from support.stores import answers_for, numbered_batch

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

Opened = Callable[[], WindowStore]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps nothing beyond its life."""
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store-ids"


@pytest.fixture
def opened(server: RedisServer, ids: Path) -> Iterator[Opened]:
    stores: list[WindowStore] = []

    def begin() -> WindowStore:
        stores.append(open_store(server.url, DEFAULT_SCHEMA, ids))
        return stores[-1]

    yield begin
    for store in stores:
        store.close()


ROWS = numbered_batch(0)


def test_a_new_store_gets_an_id_that_every_process_and_the_next_ones_know(server: RedisServer, opened: Opened) -> None:
    opened().record(ROWS, answers_for(ROWS))
    markers = {server.ask("GET", f"fraud{{{tag.decode()}}}birth") for tag in tags()}
    assert len(markers) == 1
    assert None not in markers
    assert all(opened().recall(ROWS[:, 0]))


def test_several_may_use_a_new_store_first(server: RedisServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda i: open_store(server.url, DEFAULT_SCHEMA, tmp_path / str(i)), range(8)))
    for store in stores:
        store.recall(ROWS[:, 0])
        store.close()


def test_a_store_of_before_there_were_ids_is_taken_as_it_is(server: RedisServer, opened: Opened) -> None:
    store = opened()
    store.record(ROWS, answers_for(ROWS))
    store.close()
    for tag in tags():
        server.ask("DEL", f"fraud{{{tag.decode()}}}birth")
    other = open_store(server.url, DEFAULT_SCHEMA)
    assert all(other.recall(ROWS[:, 0]))
    other.close()


def calls(store: WindowStore) -> list[Callable[[], object]]:
    return [
        lambda: store.read(ROWS),
        lambda: store.recall(ROWS[:, 0]),
        lambda: store.record(ROWS, answers_for(ROWS)),
        lambda: store.label(np.array([[ROWS[0, 0], 1, ROWS[0, 1]]])),
    ]


@pytest.mark.parametrize("how", ["restarted", "flushed"])
def test_a_server_that_lost_its_data_is_not_read_written_or_labelled(
    server: RedisServer, opened: Opened, how: str
) -> None:
    store = opened()
    store.record(ROWS, answers_for(ROWS))
    if how == "restarted":
        server.kill()
        server.start()
    else:
        server.ask("FLUSHALL")
    for call in calls(store):
        with pytest.raises(StoreEmptied, match="was emptied, in part or whole, or is another one than before"):
            until_emptied(call)
    with pytest.raises(StoreEmptied):
        opened()


def until_emptied(call: Callable[[], object]) -> None:
    """A write is not sent again where the connection broke; the next call says why."""
    try:
        call()
    except StoreEmptied:
        raise
    except StoreUnavailable:
        call()


def test_without_a_folder_it_is_known_as_long_as_the_store_is_open(server: RedisServer) -> None:
    store = open_store(server.url, DEFAULT_SCHEMA)
    server.kill()
    server.start()
    with pytest.raises(StoreEmptied):
        store.recall(ROWS[:, 0])
    store.close()


def test_another_store_at_the_same_place_is_noticed(server: RedisServer, opened: Opened) -> None:
    opened().close()
    server.ask("FLUSHALL")
    open_store(server.url, DEFAULT_SCHEMA).close()  # somebody who knows nothing
    with pytest.raises(StoreEmptied):
        opened()


def test_what_was_emptied_is_used_again_once_it_is_accepted_with_what_waited_for_it(
    server: RedisServer, ids: Path
) -> None:
    guard = open_guarded(server.url, DEFAULT_SCHEMA, ids)
    guard.record(ROWS[:1], answers_for(ROWS[:1]))
    assert status(server.url, ids).is_right
    server.kill()
    server.start()
    found = status(server.url, ids)
    assert (found.is_right, found.missing) == (False, len(tags()))
    with pytest.raises(StoreEmptied):
        guard.read(ROWS[:1])
    guard.record(ROWS[1:3], answers_for(ROWS[1:3]))
    accept(server.url, ids)
    until(lambda: not guard.is_away)
    assert [bool(one) for one in guard.recall(ROWS[:3, 0])] == [False, True, True]
    guard.close()
    assert status(server.url, ids).is_right


def test_what_was_emptied_can_be_filled_before_it_is_accepted(server: RedisServer, opened: Opened, ids: Path) -> None:
    serving = opened()
    server.ask("FLUSHALL")
    filling = open_store(server.url, DEFAULT_SCHEMA, filling=True)
    filling.record(ROWS, answers_for(ROWS))
    filling.close()
    with pytest.raises(StoreEmptied):
        serving.recall(ROWS[:, 0])
    accept(server.url, ids)
    assert all(serving.recall(ROWS[:, 0]))


def test_a_look_changes_nothing(server: RedisServer, ids: Path) -> None:
    found = status(server.url, ids)
    assert (found.remembered, found.is_right) == (False, True)
    assert server.ask("DBSIZE") == 0
    assert not ids.exists()


def test_a_primary_of_a_cluster_that_lost_its_data_is_noticed_and_mended_by_accepting(
    redis_cluster_url: str, ids: Path
) -> None:
    url = f"{redis_cluster_url}&namespace=births"
    store = open_store(url, DEFAULT_SCHEMA, ids)
    store.record(ROWS, answers_for(ROWS))
    forget = open_store(url, DEFAULT_SCHEMA)
    names = [f"births{{{tag.decode()}}}birth".encode() for tag in tags()]
    assert isinstance(forget, RedisStore)
    forgets = [(one, command(b"DEL", names[one])) for one in range(16)]
    forget._servers._ask_each(forgets, time.monotonic() + 20)
    with pytest.raises(StoreEmptied):
        store.recall(ROWS[:, 0])
    with pytest.raises(StoreEmptied):
        open_store(url, DEFAULT_SCHEMA)
    accept(url, ids)
    assert all(store.recall(ROWS[:, 0]))
    assert all(forget.recall(ROWS[:, 0]))
    forget.close()
    store.close()


def test_from_a_fenced_store_nobody_answers_and_nobody_begins_to(
    server: RedisServer, opened: Opened, ids: Path, tmp_path: Path
) -> None:
    store = opened()
    store.record(ROWS, answers_for(ROWS))
    found = fence(server.url, tmp_path / "of-the-operator")
    assert (found.is_right, found.fenced) == (False, len(tags()))
    for call in calls(store):
        with pytest.raises(StoreFenced, match="another region answers now"):
            call()
    with pytest.raises(StoreFenced):
        opened()
    with pytest.raises(StoreFenced):
        open_store(server.url, DEFAULT_SCHEMA, tmp_path / "who-knows-nothing")
    assert status(server.url, ids).fenced == len(tags())


def test_a_fence_that_is_raised_twice_is_taken_away_once_with_all_that_was_there(
    server: RedisServer, opened: Opened, ids: Path, tmp_path: Path
) -> None:
    store = opened()
    store.record(ROWS, answers_for(ROWS))
    fence(server.url, tmp_path / "of-the-operator")
    fence(server.url, ids)
    assert accept(server.url, tmp_path / "another").is_right
    assert status(server.url, ids).is_right, "it is the store that was there"
    assert all(store.recall(ROWS[:, 0]))


def test_a_store_that_came_back_empty_can_be_fenced(server: RedisServer, opened: Opened, ids: Path) -> None:
    opened()
    server.ask("FLUSHALL")
    fence(server.url, ids)
    with pytest.raises(StoreFenced):
        opened()


def test_behind_its_guard_a_fenced_store_takes_no_answers_for_later(server: RedisServer, ids: Path) -> None:
    guard = open_guarded(server.url, DEFAULT_SCHEMA, ids)
    guard.record(ROWS[:1], answers_for(ROWS[:1]))
    fence(server.url, ids)
    for _ in range(2):
        for call in calls(guard):
            with pytest.raises(StoreFenced):
                call()
    assert guard.waiting == 0
    server.kill()  # it does not answer again since the Redis that told it of the fence is gone
    with pytest.raises(StoreFenced):
        guard.record(ROWS, answers_for(ROWS))
    guard.close()


def test_a_store_that_was_away_and_is_fenced_meanwhile_takes_no_more(server: RedisServer, ids: Path) -> None:
    guard = open_guarded(server.url, DEFAULT_SCHEMA, ids)
    guard.record(ROWS[:1], answers_for(ROWS[:1]))
    server.kill()
    guard.record(ROWS[1:2], answers_for(ROWS[1:2]))
    assert guard.waiting == 1
    server.start()
    fence(server.url, ids)
    until(lambda: refuses(guard))
    accept(server.url, ids)
    until(lambda: not guard.is_away)
    assert all(guard.recall(ROWS[1:2, 0]))
    guard.close()


def refuses(store: WindowStore) -> bool:
    try:
        store.recall(ROWS[:, 0])
    except StoreFenced:
        return True
    return False
