"""Several stores on the same tables, as processes have them: each sees what all did, whatever is drained when."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest

from fraud_scoring import events
from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.stores import arena
from fraud_scoring.stores.batches import number_key, parse
from fraud_scoring.stores.memory import MemoryTables
from fraud_scoring.stores.packed import PackedStore
from fraud_scoring.stores.records import RETENTION_DAYS
from fraud_scoring.windows import NEVER, Folding
from support.rows import (
    DAY_US,
    DEFAULT_SCHEMA,
    HOUR_US,
    MONDAY_US,
    Clock,
    Int64,
    default_document,
    label,
    matrix,
    row,
    schema_with,
)
from support.stores import answers_for

SMALL = Folding(exact=100_000, recent=4, seal_at=10, join_at=30)
"""A ledger from eleven events on, whose older part is written once in some thirty; and nothing is folded."""
SHORT = schema_with(
    name="short",
    late_by_days=1,
    features=[
        {"name": "c_count_{days}d", "of": "count", "entity": "customer_key", "days": [0.25, 2]},
        {"name": "c_mean_{days}d", "of": "mean", "entity": "customer_key", "days": [2]},
        {"name": "t_fraud_{days}d", "of": "fraud_rate", "entity": "terminal_key", "days": [1, 4]},
        {"name": "t_sum_{days}d", "of": "sum", "entity": "terminal_key", "days": [4], "delay_days": 1},
    ],
)
CUSTOMERS, TERMINALS = 3, 5


class WatchedTables(MemoryTables):
    """Tables whose next transaction fails after so many values were put; they count the batches that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.fails_after: int | None = None
        self.batches_read = 0

    def put(self, table: str, key: bytes, value: bytes) -> None:
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                self.fails_after = None
                raise OSError("no room")
        super().put(table, key, value)

    def get(self, table: str, key: bytes) -> bytes | None:
        self.batches_read += table == "batches"
        return super().get(table, key)


class World:
    """Stores on the same tables, a stream of rows in nearly the order of time, and all that was recorded."""

    def __init__(self, seed: int, drain_at: int, stores: int = 3) -> None:
        self.rng = np.random.default_rng(seed)
        self.tables = WatchedTables()
        self.drain_at = drain_at
        self.clock = Clock()
        self.stores = [self.open() for _ in range(stores)]
        self.rows = np.empty((0, SHORT.width), np.int64)
        self.known_at = np.empty(0, np.int64)
        self.now_us = MONDAY_US

    def open(self) -> PackedStore:
        return PackedStore(self.tables, SHORT, self.clock, SMALL, self.drain_at)

    def any_store(self) -> PackedStore:
        return self.stores[int(self.rng.integers(len(self.stores)))]

    def new_rows(self) -> Int64:
        n = int(self.rng.integers(1, 12))
        self.now_us += int(self.rng.integers(1, HOUR_US))
        rows = np.empty((n, SHORT.width), np.int64)
        rows[:, 0] = len(self.rows) + np.arange(n)
        rows[:, 1] = self.now_us + self.rng.integers(0, HOUR_US, n)
        late = self.rng.random(n) < 0.2
        rows[late, 1] -= self.rng.integers(0, DAY_US // 2, late.sum())
        rows[:, 2] = self.rng.integers(0, CUSTOMERS, n)
        rows[:, 3] = self.rng.integers(0, TERMINALS, n)
        rows[:, 4] = self.rng.integers(1, 10_000, n)
        return rows

    def record(self) -> None:
        rows = self.new_rows()
        assert self.any_store().record(rows, answers_for(rows)) == [None] * len(rows)
        self.rows = np.concatenate([self.rows, rows])
        self.known_at = np.append(self.known_at, np.full(len(rows), NEVER))

    def fail(self) -> None:
        rows = self.new_rows()
        self.tables.fails_after = int(self.rng.integers(0, 2))
        with pytest.raises(OSError, match="no room"):
            self.any_store().record(rows, answers_for(rows))

    def send_again(self) -> None:
        some = self.rng.integers(0, len(self.rows), 3)
        for before, mine in zip(self.any_store().record(self.rows[some]), some, strict=True):
            assert before is not None
            assert before.row.tolist() == self.rows[mine].tolist()

    def label(self) -> None:
        one = int(self.rng.integers(0, len(self.rows)))
        is_fraud = self.known_at[one] == NEVER
        self.any_store().label(label(one, is_fraud=is_fraud, known_at_us=self.now_us))
        self.known_at[one] = self.now_us if is_fraud else NEVER

    def reopen(self) -> None:
        self.stores[int(self.rng.integers(len(self.stores)))] = self.open()

    def probes(self) -> Int64:
        later = int(self.rows[:, 1].max()) + 1 if len(self.rows) else self.now_us
        return matrix(*(row(10**9 + i, later + i, i % CUSTOMERS, i % TERMINALS, 77) for i in range(15)))

    def expected(self, probes: Int64) -> bytes:
        order = np.lexsort((self.rows[:, 0], self.rows[:, 1]))
        every = np.concatenate([self.rows[order], probes])
        known_at = np.append(self.known_at[order], np.full(len(probes), NEVER))
        return replay(SHORT, every, known_at, SMALL)[len(self.rows) :].tobytes()


def seen_by(store: PackedStore, probes: Int64) -> bytes:
    return FeatureSet(SHORT, SMALL).compute(probes, store.read(probes)).tobytes()


@pytest.mark.parametrize("drain_at", [0, 20, 150, 100_000])
@pytest.mark.parametrize("seed", range(4))
def test_every_store_sees_what_all_of_them_did(seed: int, drain_at: int) -> None:
    serve_and_compare(World(seed, drain_at), 150)


@pytest.mark.parametrize("room", [0, 4_000])
def test_so_it_does_where_ledgers_are_read_where_they_lie(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, or those for which there is no room."""
    monkeypatch.setattr(arena, "_MOST_HELD_BYTES", room)
    serve_and_compare(World(4, 20), 80)


def serve_and_compare(world: World, acts_done: int) -> None:
    acts = (world.record, world.label, world.send_again, world.reopen, world.fail)
    world.record()
    for _ in range(acts_done):
        acts[int(world.rng.choice(len(acts), p=[0.6, 0.2, 0.08, 0.04, 0.08]))]()
        probes = world.probes()
        assert seen_by(world.any_store(), probes) == world.expected(probes)
    for entity, keys in (("customer_key", CUSTOMERS), ("terminal_key", TERMINALS)):
        for key in range(keys):
            kept = {store.kept(entity, key).tobytes() for store in (*world.stores, world.open())}
            assert len(kept) == 1
    answers = answers_for(world.rows)
    for i, found in enumerate(world.any_store().recall(world.rows[:, 0])):
        assert found is not None
        assert found.answer is not None
        assert found.answer.features.tobytes() == answers.features[i].tobytes()


def test_a_store_that_is_opened_reads_only_what_waits_for_the_base() -> None:
    world = World(0, 50, stores=1)
    for _ in range(60):
        world.record()
    world.tables.batches_read = 0
    probes = world.probes()
    assert seen_by(world.open(), probes) == world.expected(probes)
    assert 0 < world.tables.batches_read < 60 / 2


def test_stores_of_two_schemas_share_the_entities_that_both_know() -> None:
    """A schema with an entity more reads and drains what was recorded without it, and the other way round."""
    columns = [{"name": "device_key", "role": "entity"}, *default_document()["columns"]]
    clock, more = Clock(), schema_with(name="more", columns=columns)
    for drain_at in (0, 3, 100):
        tables = MemoryTables()
        one, other = (
            PackedStore(tables, DEFAULT_SCHEMA, clock, SMALL, drain_at),
            PackedStore(tables, more, clock, SMALL, drain_at),
        )
        for i in range(0, 60, 2):
            one.record(matrix(row(i, MONDAY_US + i)))
            other.record(np.insert(matrix(row(i + 1, MONDAY_US + i + 1)), 0, 5, axis=1))
        for store in (one, other, PackedStore(tables, more, clock, SMALL, drain_at)):
            assert store.kept("customer_key", 1)[:, 1].tolist() == list(range(60))
        assert other.kept("device_key", 5)[:, 1].tolist() == list(range(1, 60, 2))


def test_an_entity_that_one_store_removes_is_gone_for_the_others() -> None:
    tables, clock = MemoryTables(), Clock()
    one, other = (PackedStore(tables, DEFAULT_SCHEMA, clock) for _ in range(2))
    one.record(matrix(row(1)))
    assert len(other.kept("customer_key", 1)) == 1
    clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    one.record(matrix(row(2, customer=2, terminal=2)))
    one.record(matrix(row(3, customer=2, terminal=2)))
    assert len(other.kept("customer_key", 1)) == len(one.kept("customer_key", 1)) == 0
    assert other.recall(np.array([1])) == [None]


def old_store(rows: Int64) -> MemoryTables:
    """Tables as they were before there were batches and ledgers: a record for each id, all events in one value."""
    tables = MemoryTables()
    today = MONDAY_US // DAY_US
    with tables.writing():
        for identifier, time, customer, terminal, amount in rows.tolist():
            record = (
                struct.pack("<bxxxiq", -1, 5, 0) + np.array([identifier, time, customer, terminal, amount]).tobytes()
            )
            tables.put("transactions", struct.pack(">q", identifier), record)
            for name, key in ((b"customer_key", customer), (b"terminal_key", terminal)):
                place = name + b"\0" + struct.pack(">q", key)
                tables.put(
                    "events", place, (tables.get("events", place) or b"") + events.pack(time, identifier, amount)
                )
        ids = rows[:, 0].tolist()
        tables.put("expiry", struct.pack(">Iq", today, ids[0]), struct.pack(f">{len(ids) - 1}q", *ids[1:]))
    return tables


def test_a_store_of_before_ledgers_had_two_parts_is_read_as_it_is_and_goes_on() -> None:
    """Then: one part, that each sealing wrote, and batches of format 1, which name an entity without more."""
    tables, clock = MemoryTables(), Clock()
    past = matrix(*(row(i, MONDAY_US + i * HOUR_US // 4, customer=i % 3, terminal=i % 5) for i in range(800)))
    then = PackedStore(tables, DEFAULT_SCHEMA, clock, SMALL._replace(join_at=0), drain_at=50)
    for start in range(0, 600, 50):
        then.record(past[start : start + 50])
    with tables.writing():
        for number in range(len(past)):
            if packed := tables.get("batches", number_key(number)):
                batch = parse(packed)
                old = replace(batch, dropped=batch.dropped & [0xFFFF, -1])
                tables.put("batches", number_key(number), struct.pack("<I", 1) + old.pack()[4:])
    one, other = (PackedStore(tables, DEFAULT_SCHEMA, clock, SMALL, drain_at=50) for _ in range(2))
    probes = matrix(*(row(10**6 + i, int(past[-1, 1]) + 1 + i, i % 3, i % 5) for i in range(15)))
    features = FeatureSet(DEFAULT_SCHEMA, SMALL)
    for until in (600, 620, 700, 800):
        one.record(past[:until])
        known_at = np.full(until + len(probes), NEVER)
        expected = replay(DEFAULT_SCHEMA, np.concatenate([past[:until], probes]), known_at, SMALL)[until:]
        for store in (one, other, PackedStore(tables, DEFAULT_SCHEMA, clock, SMALL, drain_at=50)):
            assert features.compute(probes, store.read(probes)).tobytes() == expected.tobytes()


def test_a_store_of_before_there_were_batches_is_read_as_it_is_and_goes_on() -> None:
    old = matrix(*(row(i, MONDAY_US + i, customer=i % 2, terminal=i % 20) for i in range(300)))
    tables, clock = old_store(old), Clock()
    one, other = (PackedStore(tables, DEFAULT_SCHEMA, clock) for _ in range(2))
    new = matrix(*(row(300 + i, MONDAY_US + 300 + i, customer=i % 2, terminal=i % 20) for i in range(4)))
    assert len(one.read(new)[0].events) == 300  # more than a slot holds
    assert one.record(np.concatenate([old[7:8], new]))[0] is not None
    assert one.label(np.concatenate([label(8), label(302)])).tolist() == [1, 1]
    known_at = np.full(304, NEVER)
    known_at[[8, 302]] = MONDAY_US
    probes = matrix(*(row(10**6 + i, MONDAY_US + 8 * DAY_US, i % 2, i) for i in range(20)))
    expected = replay(DEFAULT_SCHEMA, np.concatenate([old, new, probes]), np.append(known_at, np.full(20, NEVER)))[304:]
    for store in (one, other, PackedStore(tables, DEFAULT_SCHEMA, clock)):
        assert FeatureSet(DEFAULT_SCHEMA).compute(probes, store.read(probes)).tobytes() == expected.tobytes()
    clock.now_us += (RETENTION_DAYS + 1) * DAY_US
    for i in range(40):
        other.record(matrix(row(1_000 + i, customer=9, terminal=99)))
    assert not any(one.recall(old[:, 0]))
    assert not any(one.recall(new[:, 0]))
    assert len(one.kept("customer_key", 1)) == 0
