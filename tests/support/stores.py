"""Window stores for tests: where one can be opened, answers to record in it, and processes that write to it."""

from __future__ import annotations

import math
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier

import numpy as np

from fraud_scoring import wire
from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.features import FeatureSet
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, WindowStore, open_store
from fraud_scoring.stores.embedded import LmdbStore
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.stores.redis.address import parse
from fraud_scoring.stores.redis.store import RedisStore
from fraud_scoring.windows import FOLDING, Folding
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, Int64

Place = Path | str
"""A folder, or the URL of a server."""
Open = Callable[[Place, Schema, Clock], WindowStore]


@dataclass(frozen=True)
class StoreKind:
    """An implementation: how to open it, and whether what it holds is there again after it is closed.

    `server` is the fixture that gives the URL of the server it needs; `sweeps`: whether it removes old records itself,
    some with each call, and not the server.
    """

    name: str
    open: Open
    durable: bool = True
    server: str = ""
    sweeps: bool = True


def open_redis(url: Place, schema: Schema, clock: Clock) -> RedisStore:
    """A Redis store by its URL, with a clock of its own."""
    return RedisStore(parse(str(url)), schema, now_us=clock)


def redis_stores() -> Iterator[Callable[..., RedisStore]]:
    """For a fixture: opens Redis stores by URL, schema, clock and what else a store takes; closes them at the end."""
    stores: list[RedisStore] = []

    def begin(url: str, schema: Schema = DEFAULT_SCHEMA, clock: Clock | None = None, **others: object) -> RedisStore:
        stores.append(RedisStore(parse(url), schema, now_us=clock or Clock(), **others))  # type: ignore[arg-type]
        return stores[-1]

    yield begin
    for store in stores:
        store.close()


STORE_KINDS = (
    StoreKind("memory", lambda _, schema, clock: MemoryStore(schema, now_us=clock), durable=False),
    StoreKind("lmdb", lambda folder, schema, clock: LmdbStore(Path(folder), schema, now_us=clock)),
    StoreKind(
        "lmdb-commit", lambda folder, schema, clock: LmdbStore(Path(folder), schema, power_safe=True, now_us=clock)
    ),
    StoreKind("redis", open_redis, server="redis_url", sweeps=False),
    StoreKind("redis-cluster", open_redis, server="redis_cluster_url", sweeps=False),
)


class StorePlace:
    """A place where stores of one kind are opened, one at a time; closes what a test leaves open."""

    def __init__(self, kind: StoreKind, where: Place) -> None:
        self.clock = Clock()
        self._kind = kind
        self._where = where
        self._opened: WindowStore | None = None

    def open(self, schema: Schema = DEFAULT_SCHEMA) -> WindowStore:
        """The place's store; one that was open before is closed first."""
        self.close()
        self._opened = self._kind.open(self._where, schema, self.clock)
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def answers_for(rows: Int64, release: int = 7, features: int = 3) -> Answers:
    """Answers whose every number depends on the row's values, so that a mix-up is seen."""
    score = np.ascontiguousarray(((rows[:, 0] * 31 + rows[:, -1]) % 1009 / 1009).astype(np.float32))
    verdict = np.zeros((len(rows), wire.VERDICT_WIDTH), np.int32)
    verdict[:, 0] = rows[:, 0] % 3
    verdict[:, 1] = rows[:, -1] % 7
    verdict[:, 4] = release
    place = np.arange(features)
    seen = ((rows[:, -1:] + place) / (3 + place)).astype(np.float32)
    return Answers(score[:, None], verdict, seen)


class WindowRelease:
    """A release that sees what a real one sees, its features from the store, and counts its calls."""

    def __init__(self, store: WindowStore, schema: Schema = DEFAULT_SCHEMA, folding: Folding = FOLDING) -> None:
        self.calls: list[Int64] = []
        self._store = store
        self._features = FeatureSet(schema, folding)

    def __call__(self, rows: Int64, until: float = math.inf) -> Answers:
        self.calls.append(rows)
        features = self._features.compute(rows, self._store.read(rows))
        verdict = np.zeros((len(rows), wire.VERDICT_WIDTH), np.int32)
        verdict[:, 0] = features[:, 0] > 100
        return Answers(1 / (1 + features[:, :1]), verdict, features)


def same_bits(one: Answers, other: Answers) -> bool:
    """Whether two batches of answers are equal, bit for bit."""
    return (
        one.score.tobytes() == other.score.tobytes()
        and one.verdict.tobytes() == other.verdict.tobytes()
        and one.features.shape == other.features.shape
        and one.features.tobytes() == other.features.tobytes()
    )


BATCH = 200
"""Rows in each batch of the writing processes below."""


def numbered_batch(number: int, first_id: int = 0) -> Int64:
    """Batch `number` of a stream: ids go on from batch to batch, a second apart; five customers, BATCH terminals."""
    ids = np.arange(number * BATCH, (number + 1) * BATCH)
    rows = np.empty((BATCH, DEFAULT_SCHEMA.width), np.int64)
    rows[:, 0] = first_id + ids
    rows[:, 1] = MONDAY_US + ids * 1_000_000
    rows[:, 2] = ids % 5
    rows[:, 3] = ids % BATCH
    rows[:, 4] = 1 + ids % 10_000
    return rows


def write_until_killed(folder: Path, power_safe: bool, number: int, acknowledged: Connection) -> None:
    """A process that records batch after batch and tells the number of each that the store has acknowledged."""
    store = LmdbStore(folder, DEFAULT_SCHEMA, power_safe=power_safe)
    while True:
        rows = numbered_batch(number)
        store.record(rows, answers_for(rows))
        acknowledged.send(number)
        number += 1


def record_by_url_until_killed(url: str, number: int, acknowledged: Connection) -> None:
    """The same, in the store of a URL."""
    store = open_store(url, DEFAULT_SCHEMA)
    while True:
        rows = numbered_batch(number)
        store.record(rows, answers_for(rows))
        acknowledged.send(number)
        number += 1


def write_in_step(folder: Path, writer: int, rounds: int, step: Barrier, won: Connection) -> None:
    """A process that in each round records a batch of its own and, at the same moment as others, a batch of all.

    It tells which rounds' shared rows it was the first to record, an array bool [BATCH] a round.
    """
    store = LmdbStore(folder, DEFAULT_SCHEMA)
    first = []
    for number in range(rounds):
        own, shared = numbered_batch(number, first_id=writer * 1_000_000), numbered_batch(number)
        order = np.random.default_rng(100 * writer + number).permutation(BATCH)
        step.wait()
        before = store.record(shared[order], answers_for(shared[order], release=writer))
        assert not any(store.record(own, answers_for(own, release=writer)))
        mine = np.empty(BATCH, np.bool_)
        mine[order] = [known is None for known in before]
        first.append(mine)
    won.send(np.stack(first))
    store.close()


def write_when_told(folder: Path, rounds: int, batches: int, told: Connection) -> None:
    """A process that records `batches` batches for each word that it is sent."""
    store = LmdbStore(folder, DEFAULT_SCHEMA)
    number = 0
    for _ in range(rounds):
        told.recv()
        for _ in range(batches):
            store.record(numbered_batch(number))
            number += 1
    store.close()
    told.send("done")


def write_on_a_full_disk(folder: Path, room_bytes: int, report: Connection) -> None:
    """A process whose files cannot grow by more than `room_bytes`, until it is refused; then they can again.

    It tells the number of the batch that was refused, the refusal, and whether all before it could be read then.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LmdbStore(folder, DEFAULT_SCHEMA)
    store.record(numbered_batch(0), answers_for(numbered_batch(0)))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "data.mdb").stat().st_size + room_bytes, hard))
    number, refusal = 1, ""
    while not refusal:
        try:
            store.record(numbered_batch(number), answers_for(numbered_batch(number)))
            number += 1
        except StoreUnavailable as failure:
            refusal = str(failure)
    readable = all(store.recall(np.arange(number * BATCH))) and not any(store.recall(numbered_batch(number)[:, 0]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    store.record(numbered_batch(number), answers_for(numbered_batch(number)))
    store.close()
    report.send((number, refusal, readable))
