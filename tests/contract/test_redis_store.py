"""What is Redis's own, on one server: round trips, logins, TLS, time-outs, a server that goes and comes back."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.errors import InvalidDefinition, StoreUnavailable
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from fraud_scoring.stores import WindowStore, open_store
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.redis.address import Trust, parse, redacted
from fraud_scoring.stores.redis.partitions import PARTITIONS, SLOTS, partition_of, slot, tags
from fraud_scoring.stores.redis.store import SILENT_S, RedisStore
from fraud_scoring.windows import Folding, History
from support.certificates import Certificates
from support.redis import MISSING, PATIENT, PROGRAM, RedisServer
from support.rows import DEFAULT_SCHEMA, MONDAY_US, label, matrix, row, seeded_history
from support.server import until
from support.stores import BATCH, answers_for, numbered_batch, record_by_url_until_killed, same_bits
from support.turns import Turns

needs_redis = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

WHAT_A_USER_NEEDS = (
    "+hello +auth +select +script|load +evalsha +wait +cluster|slots "
    "+mget +get +set +msetnx +append +getrange +setrange +strlen +exists +expire +del"
)
"""As docs/window-stores.md says."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may harm."""
    if PROGRAM is None:
        pytest.skip(MISSING)
    with RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always") as running:
        yield running


@pytest.fixture
def opened() -> Iterator[Callable[[str], RedisStore]]:
    """Opens stores by their URL, and closes them."""
    stores: list[RedisStore] = []

    def begin(url: str) -> RedisStore:
        store = open_store(url, DEFAULT_SCHEMA)
        assert isinstance(store, RedisStore)
        stores.append(store)
        return store

    yield begin
    for store in stores:
        store.close()


def answers(store: WindowStore, rows: np.ndarray | None = None) -> bool:
    """Whether the store can be used, for what it may know of `rows`."""
    try:
        store.recall(np.array([1]) if rows is None else rows[:, 0])
    except StoreUnavailable:
        return False
    return True


def is_there(store: RedisStore, rows: np.ndarray) -> bool:
    """Whether rows of `numbered_batch` are recorded with their answers, and in their windows."""
    known = store.recall(rows[:, 0])
    return all(
        one is not None and one.answer is not None and same_bits(one.answer, answers_for(rows[i : i + 1]))
        for i, one in enumerate(known)
    ) and all(
        set(rows[rows[:, column] == key, 0]) <= set(store.kept(name, key)[:, 1])
        for column, name in DEFAULT_SCHEMA.entities
        for key in np.unique(rows[:, column]).tolist()
    )


def test_each_call_is_one_round_trip_whatever_the_size_of_the_batch(server: RedisServer, opened) -> None:
    with Turns(server.port) as between:
        store = opened(server.url.replace(str(server.port), str(between.port)))
        store.record(matrix(row(10**9)))  # it looks once a day whether there is something to forget
        for number, size in enumerate((1, 64, 1_000)):
            rows = seeded_history(np.random.default_rng(number), size, customers=300, terminals=300).rows
            rows[:, 0] += number * 10_000
            for call, trips in (
                (lambda rows=rows: store.recall(rows[:, 0]), 1),
                (lambda rows=rows: store.read(rows), 1),
                (lambda rows=rows: store.record(rows, answers_for(rows)), 1),
                (lambda rows=rows: store.recall(rows[:, 0]), 2),  # what is known is where references say
                (lambda rows=rows: store.record(rows, answers_for(rows)), 1),
            ):
                before = between.turns
                call()
                # the reply to a batch's first commands may overtake the sending of its last ones
                assert between.turns - before in ((trips,) if size < 1_000 else (trips, trips + 1, 2 * trips))
        store.close()


def events_by_row(history: History) -> list[list[list[int]]]:
    """The events of each row's entity."""
    return [
        history.events[history.offsets[entity] : history.offsets[entity + 1]].tolist()
        for entity in history.segment.tolist()
    ]


def test_a_long_stream_leaves_the_windows_of_a_store_in_memory(redis_url: str, opened) -> None:
    """Late events, repeats, labels, and so many days that the server trims many times."""
    store = opened(f"{redis_url}&namespace=stream")
    expected = MemoryStore(DEFAULT_SCHEMA, folding=Folding(seal_at=1_000_000))  # so few lie as they are
    rng = np.random.default_rng(11)
    history = seeded_history(rng, 6_000, days=400)
    order = np.argsort(np.arange(6_000) + rng.integers(0, 40, 6_000), kind="stable")
    for start in range(0, 6_000, 60):
        rows = history.rows[order[max(0, start - 5) : start + 60]]
        told = np.concatenate([label(int(i), is_fraud=bool(rng.integers(2))) for i in rows[::7, 0]])
        for one in (store, expected):
            one.record(rows, answers_for(rows))
        assert store.label(told).tolist() == expected.label(told).tolist()
        for mine, its in zip(store.read(rows), expected.read(rows), strict=True):
            assert events_by_row(mine) == events_by_row(its)


def test_old_events_do_not_pile_up_on_the_server(server: RedisServer, opened) -> None:
    store = opened(server.url)
    day = MICROSECONDS_PER_DAY
    for start in range(0, 4_000, 50):
        store.record(matrix(*(row(i, MONDAY_US + i * day // 4) for i in range(start, start + 50))))
    kept = [DEFAULT_SCHEMA.keep_us[name] // (day // 4) for _, name in DEFAULT_SCHEMA.entities]
    held = [server.ask("STRLEN", key) // 32 for key in sorted(server.ask("KEYS", "*_key:*"))]
    assert len(held) == 2
    assert all(few <= there < few * 2 + 17 for few, there in zip(kept, held, strict=True))


def test_what_is_past_its_time_goes_by_itself(server: RedisServer, opened) -> None:
    store = opened(server.url)
    store.record(matrix(row(1)), answers_for(matrix(row(1))))
    (reference,) = server.ask("KEYS", "*}t:*")
    assert server.ask("TTL", reference) == -1  # it goes with its batch: test_redis_feed.py
    for _, name in DEFAULT_SCHEMA.entities:
        (entity,) = server.ask("KEYS", f"*{name}:*")
        keep_s = DEFAULT_SCHEMA.keep_us[name] // 1_000_000
        assert keep_s < server.ask("TTL", entity) <= keep_s + SILENT_S
        server.ask("EXPIRE", entity, 1_000)
    store.record(matrix(row(2, MONDAY_US + 1)))
    assert {server.ask("TTL", key) for key in server.ask("KEYS", "*_key:*")} <= set(range(990, 1_001))
    store.record(matrix(row(3, MONDAY_US + 14 * MICROSECONDS_PER_DAY)))
    store.label(label(1))
    store.record(matrix(row(1)))
    assert min(server.ask("TTL", key) for key in server.ask("KEYS", "*_key:*")) > 40 * 86_400


@needs_redis
def test_a_password_or_a_user_with_few_rights_is_enough_and_neither_is_shown(tmp_path: Path, opened, caplog) -> None:
    secret = "p@ss:w/rd%"
    quoted = "p%40ss%3Aw%2Frd%25"
    with RedisServer(tmp_path / "redis", password=secret) as server:
        place = f"127.0.0.1:{server.port}/?{PATIENT}"
        store = opened(f"redis://:{quoted}@{place}")
        store.record(matrix(row(1)))
        server.ask("ACL", "SETUSER", "scorer", "on", f">{secret}", "~fraud{*", *WHAT_A_USER_NEEDS.split())
        limited = opened(f"redis://scorer:{quoted}@{place}&replicas=0")
        rows = seeded_history(np.random.default_rng(1), 80).rows
        limited.record(rows[:40], answers_for(rows[:40]))
        limited.record(rows[20:], answers_for(rows[20:]))
        assert limited.label(label(int(rows[0, 0]))).tolist() == [1]
        busy = np.repeat(matrix(row(10**6, int(rows[-1, 1]), customer=10**6, terminal=10**6)), 600, axis=0)
        busy[:, 0] += np.arange(600)
        limited.record(busy)
        assert len(limited.read(busy[:1])[1].events) < 100
        assert all(limited.recall(rows[:, 0]))
        for login in (f"scorer:wrong{quoted}@", f":{quoted}wrong@", "nobody:x@", ""):
            with pytest.raises(StoreUnavailable, match="user or password is wrong or missing") as refusal:
                open_store(f"redis://{login}{place}", DEFAULT_SCHEMA)
            assert "ss" not in str(refusal.value).replace("missing", "").replace("password", "")
        with pytest.raises(StoreUnavailable, match=r"refused a command \(NOPERM"):
            opened(f"redis://scorer:{quoted}@{place}&namespace=other").recall(np.array([1]))
    assert secret not in caplog.text
    assert quoted not in caplog.text


@needs_redis
def test_tls_is_checked_against_the_given_authority_and_a_certificate_is_shown_where_one_is_wanted(
    tmp_path: Path, opened
) -> None:
    ours, other = Certificates(tmp_path / "ours"), Certificates(tmp_path / "other")
    files = (
        "--tls-cert-file",
        str(ours.certificate),
        "--tls-key-file",
        str(ours.key),
        "--tls-ca-cert-file",
        str(ours.ca),
    )
    with RedisServer(tmp_path / "redis", *files, tls=True) as server:
        url = f"rediss://127.0.0.1:{server.port}/?{PATIENT}"
        shown = f"&cert={ours.certificate}&key={ours.key}"
        store = opened(f"{url}&ca={ours.ca}{shown}")
        rows = seeded_history(np.random.default_rng(1), 50).rows
        store.record(rows, answers_for(rows))
        assert all(store.recall(rows[:, 0]))
        for trust in ("", f"&ca={other.ca}"):
            with pytest.raises(StoreUnavailable, match="its certificate is not trusted"):
                open_store(url + trust + shown, DEFAULT_SCHEMA)
        with pytest.raises(StoreUnavailable, match=r"TLS failed|closed the connection"):
            open_store(f"{url}&ca={ours.ca}", DEFAULT_SCHEMA)
        with pytest.raises(StoreUnavailable, match="no such file") as refusal:
            open_store(f"{url}&ca={tmp_path}/none", DEFAULT_SCHEMA)
        assert str(tmp_path) not in str(refusal.value)
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            open_store(f"redis://127.0.0.1:{server.port}/?timeout_ms=500", DEFAULT_SCHEMA)


def test_a_server_that_goes_is_said_to_be_gone_and_is_used_again_when_it_is_back(
    server: RedisServer, opened, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(server.url)
    rows = numbered_batch(0)
    store.record(rows, answers_for(rows))
    server.kill()
    said = set()
    for call in (
        lambda: store.record(rows),
        lambda: store.recall(rows[:, 0]),
        lambda: store.read(rows),
        lambda: store.label(rows[:, :3]),
        lambda: store.record(rows),
    ):
        with pytest.raises(StoreUnavailable, match=r"the window store \(Redis\) cannot be used: .*; check that") as why:
            call()
        assert "127.0.0.1" not in str(why.value)
        said.add(str(why.value))
    assert any("connection refused; trying again in" in one for one in said)
    server.start()
    until(lambda: answers(store))
    assert is_there(store, rows)
    assert [text.split(" is ")[1].split()[0].strip(":") for text in caplog.messages] == ["gone", "back"]


def test_a_restart_between_two_calls_is_not_noticed_by_one_that_reads(server: RedisServer, opened) -> None:
    store = opened(server.url)
    rows = numbered_batch(0)
    store.record(rows, answers_for(rows))
    server.kill()
    server.start()
    assert is_there(store, rows)


def test_a_server_that_hangs_costs_a_time_out_and_then_nothing_until_it_is_tried_again(
    server: RedisServer, opened
) -> None:
    store = opened(server.url.replace(PATIENT, "timeout_ms=100"))
    rows = numbered_batch(0)
    with server.frozen():
        said = []
        while not said or "trying again in" not in said[-1]:
            with pytest.raises(StoreUnavailable) as why:
                store.recall(rows[:, 0])
            said.append(str(why.value))
        assert all("it did not answer in time" in one for one in said)
        assert len(said) <= 4
    until(lambda: answers(store))
    # a reply of before would be one too many: what is asked now gets its own
    assert store.record(rows, answers_for(rows)) == [None] * BATCH
    assert is_there(store, rows)


def test_scripts_that_somebody_removed_are_loaded_again(server: RedisServer, opened) -> None:
    store = opened(server.url)
    server.ask("SCRIPT", "FLUSH")
    rows = numbered_batch(0)
    assert store.record(rows, answers_for(rows)) == [None] * BATCH
    assert is_there(store, rows)


def test_a_server_without_memory_refuses_the_batch_and_can_still_be_read(server: RedisServer, opened) -> None:
    store = opened(server.url)
    store.record(numbered_batch(0), answers_for(numbered_batch(0)))
    server.ask("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreUnavailable, match=r"refused a command \(OOM .*check its memory limit"):
        store.record(numbered_batch(1), answers_for(numbered_batch(1)))
    assert is_there(store, numbered_batch(0))
    assert not any(store.recall(numbered_batch(1)[:, 0]))
    server.ask("CONFIG", "SET", "maxmemory", 0)
    store.record(numbered_batch(1), answers_for(numbered_batch(1)))
    assert is_there(store, numbered_batch(1))


def test_a_write_that_reaches_too_few_replicas_is_not_acknowledged(tmp_path: Path, server: RedisServer, opened) -> None:
    rows = numbered_batch(0)
    wanting = opened(server.url.replace(PATIENT, "timeout_ms=1000") + "&replicas=1")
    with pytest.raises(StoreUnavailable, match="could not bring a write to 1 replicas in time"):
        wanting.record(rows, answers_for(rows))
    with pytest.raises(StoreUnavailable, match="could not bring a write to 1 replicas in time"):
        wanting.recall(rows[:, 0])
    follow = ("--replicaof", "127.0.0.1", str(server.port), "--repl-diskless-sync-delay", "0")
    with RedisServer(tmp_path / "replica", *follow) as replica:
        until(lambda: b"state=online" in server.ask("INFO", "replication"))
        until(lambda: answers(wanting, rows))
        assert is_there(wanting, rows)
        wanting.record(numbered_batch(1), answers_for(numbered_batch(1)))
        server.kill()
        replica.ask("REPLICAOF", "NO", "ONE")
        assert is_there(opened(replica.url), np.concatenate([rows, numbered_batch(1)]))


def test_of_two_that_record_the_same_one_stands_and_the_other_learns_its_answer(redis_url: str, opened) -> None:
    stores = [opened(f"{redis_url}&namespace=race") for _ in range(2)]
    step = threading.Barrier(2)
    won: list[list[bool]] = [[], []]

    def write(mine: int) -> None:
        for number in range(30):
            rows = numbered_batch(number)[np.random.default_rng(100 * mine + number).permutation(BATCH)]
            step.wait()
            before = stores[mine].record(rows, answers_for(rows, release=mine))
            first = dict(zip(rows[:, 0].tolist(), [one is None for one in before], strict=True))
            won[mine] += [first[i] for i in sorted(first)]
            for one in before:
                assert one is None or (one.answer is not None and one.answer.verdict[0, 4] == 1 - mine)

    others = threading.Thread(target=write, args=(1,))
    others.start()
    write(0)
    others.join()
    assert (np.array(won[0]) ^ np.array(won[1])).all()
    for column, name in DEFAULT_SCHEMA.entities:
        keys = np.unique(numbered_batch(0)[:, column]).tolist()
        kept = np.concatenate([stores[0].kept(name, key) for key in keys])
        assert len(np.unique(kept[:, 1])) == len(kept) == 30 * BATCH


def test_a_process_that_is_killed_while_it_writes_leaves_whole_batches(server: RedisServer, opened) -> None:
    processes = multiprocessing.get_context("forkserver")
    store = opened(server.url)
    there = 0
    for _ in range(2):
        here, other = processes.Pipe()
        writer = processes.Process(target=record_by_url_until_killed, args=(server.url, there, other), daemon=True)
        writer.start()
        other.close()
        last = max(here.recv() for _ in range(3))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        writer.close()
        here.close()
        there = next(n for n in itertools.count(last + 1) if store.recall(numbered_batch(n)[-1:, 0]) == [None])
        assert is_there(store, np.concatenate([numbered_batch(n) for n in range(there)]))
        assert not any(store.recall(numbered_batch(there)[:, 0]))


def test_a_closed_store_is_unavailable(redis_url: str, opened) -> None:
    store = opened(redis_url)
    store.close()
    with pytest.raises(StoreUnavailable, match="the window store is closed"):
        store.recall(np.array([1]))


def test_a_url_says_all_of_an_address() -> None:
    plain = parse("redis://localhost")
    assert (plain.hosts, plain.user, plain.password, plain.tls) == ((("localhost", 6379),), "", "", None)
    assert (plain.timeout_s, plain.replicas, plain.namespace, plain.database) == (0.05, 0, "fraud", 0)
    full = parse("rediss://a%40b:c%2Fd@h1:7000,[::1]:7001/3?timeout_ms=20&replicas=2&namespace=x&ca=/c&cert=/d&key=/e")
    assert full.hosts == (("h1", 7000), ("::1", 7001))
    assert (full.user, full.password, full.database) == ("a@b", "c/d", 3)
    assert full.tls == Trust(Path("/c"), Path("/d"), Path("/e"))
    assert (full.timeout_s, full.replicas, full.namespace) == (0.02, 2, "x")
    assert "c/d" not in repr(full)


@pytest.mark.parametrize(
    "url",
    [
        "redis:",
        "redis://",
        "redis:///0",
        "redis://u:hidden@",
        "redis://u:hidden@host:port",
        "redis://u:hid/den@host",
        "redis://u:hid@den@host:70000",
        "redis://u:hidden@host/name",
        "redis://u:hidden@host?timeout_ms=0",
        "redis://u:hidden@host?timeout_ms=²",
        "redis://u:hidden@host?timeout=1",
        "redis://u:hidden@host?replicas=10",
        "redis://u:hidden@host?namespace={x}",
        "redis://u:hidden@host?ca=/file",
        "rediss://u:hidden@host?cert=/file",
        "redis://u:hidden@host#x",
        "redis://u:hidden@host?password_file=/file",
        "redis://u@host?password_file=/nowhere",
    ],
)
def test_a_url_that_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidDefinition, match="store URL") as refusal:
        open_store(url, DEFAULT_SCHEMA)
    assert "hid" not in str(refusal.value)
    assert "den" not in str(refusal.value)


def test_a_password_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss:w/rd%\n")
    found = parse(f"redis://scorer@host?password_file={tmp_path}/password")
    assert (found.user, found.password) == ("scorer", "p@ss:w/rd%")
    (tmp_path / "password").write_text("\n")
    with pytest.raises(InvalidDefinition, match="the password file, password, is empty"):
        parse(f"redis://host?password_file={tmp_path}/password")


def test_what_is_shown_of_a_url_has_no_password() -> None:
    assert redacted("redis://me:secret@host:1/0?replicas=1") == "redis://***@host:1/0?replicas=1"
    assert redacted("rediss://:se@cr/et@host") == "rediss://***@host"
    assert redacted("redis://host") == "redis://host"
    assert redacted("lmdb:///var/a@b") == "lmdb:///var/a@b"


def test_partitions_are_spread_evenly_over_slots_and_keys_over_partitions() -> None:
    assert slot(b"123456789") == 0x31C3 % SLOTS  # the specification's own example
    assert [slot(tag) * PARTITIONS // SLOTS for tag in tags()] == list(range(PARTITIONS))
    rng = np.random.default_rng(5)
    for keys in (np.arange(48_000), np.arange(48_000) << 20, rng.integers(-(2**63), 2**63 - 1, 48_000)):
        counts = np.bincount(partition_of(keys), minlength=PARTITIONS)
        assert counts.shape == (PARTITIONS,)
        assert counts.min() > 800
        assert counts.max() < 1_200
