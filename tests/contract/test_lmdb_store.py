"""What is LMDB's own: several processes at once, a process that dies, a disk that is full, and the store's URL."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud_scoring.errors import InvalidDefinition, StoreUnavailable
from fraud_scoring.stores import Answers, WindowStore, open_store
from fraud_scoring.stores.embedded import LmdbStore
from fraud_scoring.stores.memory import MemoryStore
from support.rows import DAY_US, DEFAULT_SCHEMA, matrix, row
from support.stores import (
    BATCH,
    answers_for,
    numbered_batch,
    same_bits,
    write_in_step,
    write_on_a_full_disk,
    write_until_killed,
    write_when_told,
)

CUSTOMERS, TERMINALS = 5, BATCH

Start = Callable[..., tuple[ForkServerProcess, Connection]]


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Real processes, forked from a server that knows nothing of this one and has the imports behind it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fraud_scoring.stores.embedded"])
    return context


@pytest.fixture
def start(processes: multiprocessing.context.ForkServerContext) -> Iterator[Start]:
    """Starts a process of a function that takes the other end of a pipe as its last argument."""
    started: list[tuple[ForkServerProcess, Connection]] = []

    def begin(work: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Connection]:
        here, there = processes.Pipe()
        process = processes.Process(target=work, args=(*arguments, there), daemon=True)
        process.start()
        there.close()
        started.append((process, here))
        return process, here

    yield begin
    for process, connection in started:
        process.kill()
        process.join()
        process.close()
        connection.close()


def open_and_close(folder: Path, **options: Any) -> Iterator[LmdbStore]:
    store = LmdbStore(folder, DEFAULT_SCHEMA, **options)
    yield store
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    yield from open_and_close(tmp_path / "store")


def all_answers(store: WindowStore, rows: np.ndarray) -> list[Answers | None]:
    return [None if known is None else known.answer for known in store.recall(rows[:, 0])]


def holds_exactly(store: LmdbStore, batches: int) -> None:
    """Asserts that the numbered batches below `batches` are there, records and windows, and nothing else is."""
    for number in range(batches):
        rows = numbered_batch(number)
        expected = answers_for(rows)
        for i, found in enumerate(all_answers(store, rows)):
            assert found is not None
            mine = slice(i, i + 1)
            assert same_bits(found, Answers(expected.score[mine], expected.verdict[mine], expected.features[mine]))
    beyond = np.concatenate([numbered_batch(number) for number in range(batches, batches + 3)])
    assert not any(store.recall(beyond[:, 0]))
    ids = np.arange(batches * BATCH)
    for name, entities in (("customer_key", CUSTOMERS), ("terminal_key", TERMINALS)):
        found = [store.kept(name, entity)[:, 1].tolist() for entity in range(entities)]
        assert found == [ids[ids % entities == entity].tolist() for entity in range(entities)]


def record_without_end(store: WindowStore) -> None:
    for number in itertools.count():
        store.record(numbered_batch(number), answers_for(numbered_batch(number)))


def batches_in(store: WindowStore) -> int:
    """How many of the numbered batches the store knows the last row of."""
    return next(number for number in itertools.count() if store.recall(numbered_batch(number)[-1:, 0]) == [None])


def test_two_processes_that_write_at_once_lose_nothing_and_count_each_id_once(start: Start, tmp_path: Path, processes):
    rounds, writers = 25, (1, 2)
    step = processes.Barrier(len(writers))
    started = [start(write_in_step, tmp_path, writer, rounds, step) for writer in writers]
    won = [connection.recv() for _, connection in started]
    assert (won[0] ^ won[1]).all()

    store = LmdbStore(tmp_path, DEFAULT_SCHEMA)
    for number in range(rounds):
        shared = store.recall(numbered_batch(number)[:, 0])
        releases = [known.answer.verdict[0, 4] for known in shared if known is not None and known.answer is not None]
        assert releases == np.where(won[0][number], *writers).tolist()
        for writer in writers:
            own = numbered_batch(number, first_id=writer * 1_000_000)
            assert all(known is not None for known in store.recall(own[:, 0]))
    for name, entities in (("customer_key", CUSTOMERS), ("terminal_key", TERMINALS)):
        ids = np.concatenate([store.kept(name, entity)[:, 1] for entity in range(entities)])
        assert len(ids) == len(np.unique(ids)) == rounds * BATCH * (1 + len(writers))
    store.close()


def test_a_reader_beside_a_writer_sees_whole_batches_only(start: Start, tmp_path: Path) -> None:
    rounds, batches = 8, 6
    writer, told = start(write_when_told, tmp_path, rounds, batches)
    told.send("go")
    store = LmdbStore(tmp_path, DEFAULT_SCHEMA)
    asked, seen, sent = numbered_batch(0), [0], 1
    asked[:, 1] += DAY_US  # after all that is written, and with all of it in the longest window
    while seen[-1] < rounds * batches:
        customers, terminals = store.read(asked)
        assert writer.exitcode in (None, 0)
        older = [int(customers.spans[a:b, 2].sum()) for a, b in pairwise(customers.span_offsets)] or [0] * CUSTOMERS
        held = np.diff(customers.offsets) + older
        whole, part = divmod(int(held.sum()), BATCH)
        assert part == 0
        assert held.tolist() == [whole * BATCH // CUSTOMERS] * CUSTOMERS
        assert np.diff(terminals.offsets).tolist() == [whole] * TERMINALS
        assert whole >= seen[-1]
        seen.append(whole)
        if sent < rounds and whole >= sent * batches:
            told.send("go")
            sent += 1
    assert len(set(seen)) > rounds
    assert told.recv() == "done"
    store.close()


@pytest.mark.parametrize("power_safe", [False, True], ids=["background", "commit"])
def test_a_process_that_is_killed_while_it_writes_loses_nothing_that_was_acknowledged(
    start: Start, tmp_path: Path, power_safe: bool
) -> None:
    rng = np.random.default_rng(int(power_safe))
    there = 0
    for _ in range(10):
        writer, acknowledged = start(write_until_killed, tmp_path, power_safe, there)
        last = there - 1
        for _ in range(rng.integers(1, 6)):
            last = acknowledged.recv()
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        while acknowledged.poll():
            try:
                last = acknowledged.recv()
            except EOFError:
                break
        store = LmdbStore(tmp_path, DEFAULT_SCHEMA, power_safe=power_safe)
        # the batch that it was writing is there as a whole, or not at all
        there = last + 2 if any(store.recall(numbered_batch(last + 1)[:, 0])) else last + 1
        holds_exactly(store, there)
        store.close()


def test_a_store_that_has_reached_its_limit_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, DEFAULT_SCHEMA, limit_bytes=1 << 20)
    message = "the window store has reached its limit of 0.000976562 GiB; raise limit_gib in the store URL"
    with pytest.raises(StoreUnavailable, match=f"^{message}$"):
        record_without_end(store)
    number = batches_in(store)
    assert number > 1
    holds_exactly(store, number)
    store.close()

    larger = LmdbStore(tmp_path, DEFAULT_SCHEMA, limit_bytes=16 << 20)
    larger.record(numbered_batch(number), answers_for(numbered_batch(number)))
    holds_exactly(larger, number + 1)
    larger.close()


def test_a_full_disk_refuses_the_batch_loses_nothing_and_goes_on_when_there_is_room(
    start: Start, tmp_path: Path
) -> None:
    _, report = start(write_on_a_full_disk, tmp_path, 200_000)
    refused, message, readable = report.recv()
    # LMDB calls a write that got half of its room an input/output error
    assert re.fullmatch(
        r"the window store cannot be used \(\w+: (File too large|Input/output error)\); "
        r"check the disk's free space and the folder's permissions",
        message,
    )
    assert readable
    store = LmdbStore(tmp_path, DEFAULT_SCHEMA)
    holds_exactly(store, refused + 1)
    store.close()


def test_a_folder_that_cannot_be_made_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreUnavailable, match="the window store cannot be used") as refusal:
            LmdbStore(folder, DEFAULT_SCHEMA)
        assert str(tmp_path) not in str(refusal.value)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"not a store" * 1_000)
    with pytest.raises(StoreUnavailable, match=r"the window store cannot be used \(.*not an LMDB file\)"):
        LmdbStore(tmp_path, DEFAULT_SCHEMA)


def test_a_closed_store_is_unavailable(store: LmdbStore) -> None:
    store.close()
    rows = matrix(row(1))
    for call in (
        lambda: store.read(rows),
        lambda: store.recall(rows[:, 0]),
        lambda: store.record(rows),
        lambda: store.label(rows[:, :3]),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_closing_waits_for_a_sync_that_is_under_way_and_leaves_no_thread(tmp_path: Path) -> None:
    for number in range(40):
        store = LmdbStore(tmp_path, DEFAULT_SCHEMA, sync_interval_s=0)
        for part in np.split(numbered_batch(number), 4):
            store.record(part, answers_for(part))
        store.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name == "store-sync"]


def test_the_url_names_the_store(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:", DEFAULT_SCHEMA), MemoryStore)
    for options in ("", "?sync=commit", "?sync=background&limit_gib=1"):
        opened = open_store(f"lmdb://{tmp_path}{options}", DEFAULT_SCHEMA)
        assert isinstance(opened, LmdbStore)
        opened.close()
    assert (tmp_path / "data.mdb").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", r"store URL '': write lmdb:///folder \(an absolute path, without #\), redis://host:port or memory:"),
        ("/var/store", "store URL '/var/store': write lmdb:///folder"),
        ("lmdb:", "store URL 'lmdb:': write lmdb:///folder"),
        ("lmdb://", "store URL 'lmdb://': write lmdb:///folder"),
        ("lmdb://var/store", "store URL 'lmdb://var/store': write lmdb:///folder"),
        ("lmdb:var/store", "store URL 'lmdb:var/store': write lmdb:///folder"),
        ("lmdb:///var/store#2", "store URL 'lmdb:///var/store#2': write lmdb:///folder"),
        ("memory:?limit_gib=1", "store URL 'memory:\\?limit_gib=1': write lmdb:///folder"),
        (
            "lmdb:///dev/null/x?sync=always",
            "options are sync=background or sync=commit, and limit_gib=<whole number from 1 on>",
        ),
        ("lmdb:///dev/null/x?sync=", "options are sync=background or sync=commit"),
        ("lmdb:///dev/null/x?limit_gib=0", "limit_gib=<whole number from 1 on>"),
        ("lmdb:///dev/null/x?limit_gib=0.5", "limit_gib=<whole number from 1 on>"),
        ("lmdb:///dev/null/x?limit_gib=²", "limit_gib=<whole number from 1 on>"),
        ("lmdb:///dev/null/x?limit_gib=99999999999", "limit_gib=<whole number from 1 on>"),
        ("lmdb:///dev/null/x?limit=5", "options are sync=background or sync=commit"),
    ],
)
def test_a_url_that_names_no_store_is_refused_before_anything_is_made(
    url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidDefinition, match=message):
        open_store(url, DEFAULT_SCHEMA)
    assert not list(tmp_path.iterdir())
