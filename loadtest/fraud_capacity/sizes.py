"""Bytes of what is kept for each transaction, measured on a real log, a real LMDB and a real Redis.

A transaction is kept as a record (until RETENTION_DAYS after it came) and as one event for each of its entities (as
long as the longest window). Both are measured apart: tables of an LMDB have pages of their own, and a Redis says what
each key takes (MEMORY USAGE).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lmdb
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_bench.servers import CannotMeasure, redis
from fraud_data import SimulatorSettings, simulate
from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, LogWriter, Signer, writers
from fraud_scoring.decision_log.contents import STAGES
from fraud_scoring.decision_log.segments import SUFFIX
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, WindowStore, open_store
from fraud_scoring.stores.packed import DRAIN_AT
from fraud_scoring.stores.redis.address import parse
from fraud_scoring.stores.redis.link import Link, command
from fraud_scoring.stores.tables import TABLES
from fraud_scoring.windows import Int64

Progress = Callable[[float, str], None]
SAMPLE: Final = 20_000
"""Transactions in a Redis and a log."""
LMDB_SAMPLE: Final = 100_000
"""In an LMDB, whose newest DRAIN_AT transactions have not reached the tables of their entities yet."""
_PATIENCE_S: Final = 60.0
_KEYS_AT_ONCE: Final = 1_000
_EVENTS: Final = ("events",)
_RECORDS: Final = ("transactions", "batches", "expiry")


@dataclass(frozen=True)
class StoreSizes:
    """Bytes for each transaction: its record, and its events in the windows of all its entities."""

    record: float
    events: float
    transactions: int


@dataclass(frozen=True)
class Sizes:
    """What was measured; `log` bytes for each transaction in frames of `rows_a_frame`; None: not here."""

    log: float
    rows_a_frame: int
    lmdb: StoreSizes
    redis: StoreSizes | None
    trouble: str = ""


def measure(schema: Schema, rows_a_frame: int, progress: Progress) -> Sizes:
    """Write simulated transactions into a log, an LMDB and a Redis of their own, and look."""
    rows = history(SAMPLE)
    with tempfile.TemporaryDirectory(prefix="fraud-sizes-") as name, ExitStack() as stack:
        folder = Path(name)
        progress(0.1, "measuring the log")
        log = log_bytes(folder / "log", rows, schema, rows_a_frame)
        progress(0.3, "measuring LMDB")
        in_lmdb = lmdb_sizes(folder / "lmdb", history(LMDB_SAMPLE), schema)
        progress(0.6, "measuring Redis")
        try:
            url, _ = stack.enter_context(redis(folder / "redis"))
            in_redis, trouble = redis_sizes(url, rows, schema), ""
        except CannotMeasure as missing:
            in_redis, trouble = None, str(missing)
    return Sizes(log, rows_a_frame, in_lmdb, in_redis, trouble)


def log_bytes(folder: Path, rows: Int64, schema: Schema, rows_a_frame: int) -> float:
    """Bytes a transaction of a log with frames of so many rows, what signs it left out."""
    signer, context = Signer(Ed25519PrivateKey.generate()), Context(1, schema.document)
    writer = LogWriter(folder / "front-door-0", context, signer, durable=False)
    try:
        for start in range(0, len(rows), rows_a_frame):
            part = rows[start : start + rows_a_frame]
            answers = _answers(len(part), schema)
            writer.append(
                Decisions(
                    transaction=part,
                    features=answers.features,
                    score=answers.score.reshape(-1),
                    verdict=answers.verdict,
                    repeat=np.zeros(len(part), np.bool_),
                    deadline_left_us=np.zeros(len(part), np.int64),
                    stage_us=np.zeros(len(STAGES), np.int64),
                )
            )
    finally:
        writer.close()
    return bytes_of_log(folder) / len(rows)


def bytes_of_log(log: Path) -> int:
    """Bytes of all segments of a log."""
    return sum(path.stat().st_size for name in writers(log) for path in (log / name).glob(f"*{SUFFIX}"))


def predicted_log_bytes(schema: Schema, rows_a_frame: float) -> float:
    """Bytes a transaction by the format: its columns, what it was answered, and its share of the frame's head."""
    row = 8 * schema.width + 8 + 4 * len(schema.features) + 4 + 4 * wire.VERDICT_WIDTH + 1
    head = 64 + 12 + 4 * len(STAGES) + 4
    return row + head / rows_a_frame


def lmdb_sizes(folder: Path, rows: Int64, schema: Schema) -> StoreSizes:
    """Pages of the tables of an LMDB that holds these rows, more than DRAIN_AT."""
    store = open_store(f"lmdb://{folder}", schema)
    _fill(store, rows, schema)
    store.close()
    pages: dict[str, int] = {}
    with lmdb.open(str(folder), readonly=True, lock=False, max_dbs=len(TABLES)) as environment:
        for table in TABLES:
            database = environment.open_db(table.encode(), create=False)
            with environment.begin() as transaction:
                stat = transaction.stat(database)
            pages[table] = stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
    drained = len(rows) - DRAIN_AT
    assert drained > 0, f"{len(rows)} transactions, of which none has reached its entities"
    records, events = (sum(pages[name] for name in names) for names in (_RECORDS, _EVENTS))
    return StoreSizes(records / len(rows), events / drained, len(rows))


def redis_sizes(url: str, rows: Int64, schema: Schema) -> StoreSizes:
    """What the keys of a Redis that holds these rows take, by its own account."""
    address = parse(url)
    link = Link(address.hosts[0], address, [])
    store = open_store(url, schema)
    try:
        before = _used(link)
        _fill(store, rows, schema)
        used = _used(link) - before
        batches = -(-len(rows) // wire.MAX_ROWS)
        records = _sampled(link, b"*}t:*", len(rows)) + _sampled(link, b"*}#????????", batches)
    finally:
        store.close()
        link.close()
    return StoreSizes(records / len(rows), (used - records) / len(rows), len(rows))


def history(count: int) -> Int64:
    """`count` transactions in 30 days: as many customers as give two a day each."""
    made = simulate(SimulatorSettings(customers=max(50, count // 55), terminals=max(100, count // 27), days=30))
    return np.ascontiguousarray(made.rows[:count])


def _answers(count: int, schema: Schema) -> Answers:
    return Answers(
        np.zeros((count, 1), np.float32),
        np.zeros((count, wire.VERDICT_WIDTH), np.int32),
        np.ones((count, len(schema.features)), np.float32),
    )


def _fill(store: WindowStore, rows: Int64, schema: Schema) -> None:
    for start in range(0, len(rows), wire.MAX_ROWS):
        part = rows[start : start + wire.MAX_ROWS]
        store.record(part, _answers(len(part), schema))


def _used(link: Link) -> int:
    text = _ask(link, command(b"INFO", b"memory"))[0].decode()
    return int(next(line for line in text.splitlines() if line.startswith("used_memory:")).partition(":")[2])


def _sampled(link: Link, pattern: bytes, count: int) -> float:
    """Bytes of all `count` keys of a pattern, from a thousand of them."""
    found: list[bytes] = []
    cursor = b"0"
    while len(found) < _KEYS_AT_ONCE:
        cursor, names = _ask(link, command(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000"))[0]
        found += names
        if cursor == b"0":
            break
    sizes = _ask(link, *[command(b"MEMORY", b"USAGE", name) for name in found])
    return count * float(np.mean(sizes))


def _ask(link: Link, *commands: bytes) -> list[Any]:
    deadline = time.monotonic() + _PATIENCE_S
    link.send(b"".join(commands), deadline)
    replies: list[Any] = link.receive(len(commands), deadline)
    return replies
