"""How a recorded transaction is packed, and how a batch of them is applied to any ordered table of bytes.

`PackedStore` holds all rules (each id once, late events, trimming, labels, retention); an implementation gives it
transactions over three tables of bytes and nothing else.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from fraud_scoring import events, ledger, wire
from fraud_scoring.features import Float32
from fraud_scoring.past import Past, split
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.summary import summarise
from fraud_scoring.windows import EVENT_WIDTH, FOLDING, NEVER, Folding, History, Int64

RETENTION_DAYS: Final = 60
"""How long a transaction's record is kept after it came: labels and repeats are understood for that long.

Longer where a window is: an entity goes with the record of its newest event, which must be out of every window then.
"""

_UNLABELLED: Final = -1
_HEADER: Final = struct.Struct("<bxxxiq")
"""label (-1 none, 0 genuine, 1 fraud), columns of the row, label known at (µs)."""
_KEY: Final = struct.Struct(">q")
_LEDGER: Final = b"\0ledger"
"""Ends the key of an entity's ledger; its newest events have the key without it."""
_NO_LEDGER: Final = ledger.pack(ledger.EMPTY)
_DAY_AND_ID: Final = struct.Struct(">Iq")
_VERDICT_BYTES: Final = 4 * (1 + wire.VERDICT_WIDTH)


@dataclass(frozen=True)
class Answers:
    """A batch of answers: score FP32 [N], verdict INT32 [N, 6], features FP32 [N, F]."""

    score: Float32
    verdict: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    features: Float32


def each(answers: Answers) -> list[Answers]:
    """The rows of a batch of answers, each as answers of one row: score FP32 [1], verdict [1, 6], features [1, F]."""
    return [
        Answers(answers.score[i : i + 1].reshape(1), answers.verdict[i : i + 1], answers.features[i : i + 1])
        for i in range(len(answers.verdict))
    ]


@dataclass(frozen=True)
class Recorded:
    """One transaction as it was recorded; `answer` is None for history that was never answered here."""

    row: Int64
    answer: Answers | None


class Transaction(Protocol):
    """A view of the tables `events`, `transactions`, `expiry`; a writing one takes effect as a whole or not at all."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def view(self, table: str, key: bytes) -> bytes | memoryview | None:
        """The same without a copy where that can be had, in a reading transaction and until it ends."""

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...

    def get_many(self, table: str, keys: list[bytes]) -> Mapping[bytes, bytes]:
        """The values of those keys that are there."""

    def put_many(self, table: str, items: list[tuple[bytes, bytes]]) -> None: ...

    def first(self, table: str) -> tuple[bytes, bytes] | None:
        """The smallest key of a table and its value; None if it is empty."""


class Tables(Protocol):
    """Where the bytes are."""

    def reading(self) -> AbstractContextManager[Transaction]: ...

    def writing(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None: ...


class PackedStore:
    """A window store over `tables`; `now_us` is the clock that retention goes by."""

    def __init__(
        self,
        tables: Tables,
        schema: Schema,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        folding: Folding = FOLDING,
    ) -> None:
        self._tables = tables
        self._schema = schema
        self._now_us = now_us
        self._folding = folding
        self._entities = [(column, name.encode() + b"\0", schema.keep_us[name]) for column, name in schema.entities]
        self._reach = [np.array(schema.reach_us[name], np.int64) for _, name in schema.entities]
        self._retention_days = max(RETENTION_DAYS, max(schema.keep_us.values()) // MICROSECONDS_PER_DAY + 3)

    def read(self, rows: Int64) -> list[History]:
        with self._tables.reading() as tables:
            return [
                self._history(tables, prefix, rows, column, reach)
                for (column, prefix, _), reach in zip(self._entities, self._reach, strict=True)
            ]

    def kept(self, entity: str, key: int) -> Int64:
        """All that is kept of one entity, as spans int64 [S, 6] in order: single events, and slots of a hot entity."""
        place = entity.encode() + b"\0" + _KEY.pack(key)
        with self._tables.reading() as tables:
            recent, has_ledger = split(tables.get("events", place) or b"")
            older = ledger.unpack(tables.get("events", place + _LEDGER) or b"") if has_ledger else ledger.EMPTY
        newer = ledger.append(ledger.EMPTY, events.unpack(recent), 0, NEVER)
        return np.concatenate([ledger.spans(older), ledger.spans(newer)])

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        keys = [_KEY.pack(i) for i in transaction_ids.tolist()]
        with self._tables.reading() as tables:
            found = tables.get_many("transactions", keys)
            if not found:
                return [None] * len(keys)
            return [_unpack_record(found[key]) if key in found else None for key in keys]

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        packed_answers = [b""] * len(rows) if answers is None else _pack_answers(answers)
        before: list[Recorded | None] = []
        fresh: list[list[int]] = []
        changed: dict[bytes, bytes] = {}
        id_index, header = self._schema.id_index, _HEADER.pack(_UNLABELLED, rows.shape[1], 0)
        keys = [_KEY.pack(identifier) for identifier in rows[:, id_index].tolist()]
        values, size = rows.astype("<i8").tobytes(), 8 * rows.shape[1]
        day = self._now_us() // MICROSECONDS_PER_DAY
        with self._tables.writing() as tables:
            found = tables.get_many("transactions", keys)
            for i, (key, row, answer) in enumerate(zip(keys, rows.tolist(), packed_answers, strict=True)):
                stood = changed.get(key) or found.get(key)
                if stood is None:
                    changed[key] = header + values[i * size : (i + 1) * size] + answer
                    fresh.append(row)
                    before.append(None)
                    continue
                recorded = _unpack_record(stood)
                if recorded.answer is None and answer and recorded.row.tolist() == row:
                    changed[key] = stood + answer
                before.append(recorded)
            tables.put_many("transactions", list(changed.items()))
            if fresh:
                self._insert_events(tables, fresh)
                ids = [row[id_index] for row in fresh]
                tables.put("expiry", _DAY_AND_ID.pack(day, ids[0]), struct.pack(f">{len(ids) - 1}q", *ids[1:]))
            self._forget(tables, day - self._retention_days, at_most=2 * len(rows) + 16)
        return before

    def label(self, labels: Int64) -> Int64:
        accepted = np.zeros(len(labels), np.int64)
        changed: dict[bytes, Past] = {}
        with self._tables.writing() as tables:
            for i, (identifier, is_fraud, known_at_us) in enumerate(labels.tolist()):
                accepted[i] = self._label_one(tables, changed, identifier, is_fraud, known_at_us)
            for key, past in changed.items():
                _store(tables, key, past)
        return accepted

    def close(self) -> None:
        self._tables.close()

    def _insert_events(self, tables: Transaction, rows: list[list[int]]) -> None:
        """Add each row's event to its entities. Nearly always it is the newest, and is simply put last."""
        schema, room = self._schema, self._folding.seal_at * events.EVENT.size
        at = [(row[schema.time_index], row[schema.id_index]) for row in rows]
        packed = [events.pack(*order, row[schema.amount_index]) for order, row in zip(at, rows, strict=True)]
        for column, prefix, keep_us in self._entities:
            keys = [prefix + _KEY.pack(row[column]) for row in rows]
            values: dict[bytes, bytes] = dict(tables.get_many("events", keys))
            unusual: dict[bytes, Past] = {}
            for key, order, event in zip(keys, at, packed, strict=True):
                value = values.get(key, b"")
                if key not in unusual and len(value) < room and events.goes_last(value, order, keep_us):
                    values[key] = value + event
                    continue
                past = unusual.get(key)
                if past is None:
                    past = unusual[key] = self._past(tables, key, values.pop(key, b""), keep_us)
                past.add(event)
            tables.put_many("events", list(values.items()))
            for key, past in unusual.items():
                _store(tables, key, past)

    def _past(self, tables: Transaction, key: bytes, value: bytes, keep_us: int) -> Past:
        def older() -> bytes:
            return tables.get("events", key + _LEDGER) or b""

        return Past(value, older, keep_us, self._folding)

    def _label_one(
        self, tables: Transaction, changed: dict[bytes, Past], identifier: int, is_fraud: int, known_at_us: int
    ) -> wire.Accepted:
        key = _KEY.pack(identifier)
        stood = tables.get("transactions", key)
        if stood is None:
            return wire.Accepted.UNKNOWN_TRANSACTION
        label, columns, before_us = _HEADER.unpack_from(stood)
        if label == is_fraud:
            return wire.Accepted.ALREADY_KNOWN
        tables.put("transactions", key, _HEADER.pack(is_fraud, columns, known_at_us) + stood[_HEADER.size :])
        if is_fraud or label == 1:
            row = struct.unpack_from(f"<{columns}q", stood, _HEADER.size)
            known = known_at_us if is_fraud else NEVER
            for column, prefix, keep_us in self._entities:
                place = prefix + _KEY.pack(row[column])
                past = changed.get(place) or self._past(tables, place, tables.get("events", place) or b"", keep_us)
                if past.recent:
                    past.set_fraud_known_at(row[self._schema.time_index], identifier, known, before_us)
                    changed[place] = past
        return wire.Accepted.APPLIED

    def _forget(self, tables: Transaction, last_day: int, at_most: int) -> None:
        """Remove up to `at_most` records of days up to `last_day`. A call's records expire under the first of them."""
        while at_most > 0:
            oldest = tables.first("expiry")
            if oldest is None:
                return
            key, others = oldest
            day, first = _DAY_AND_ID.unpack(key)
            if day >= last_day:
                return
            ids = [first, *struct.unpack(f">{len(others) // _KEY.size}q", others)]
            for identifier in ids[-at_most:]:
                self._forget_record(tables, _KEY.pack(identifier))
            if len(ids) > at_most:
                tables.put("expiry", key, others[: -at_most * _KEY.size])
            else:
                tables.delete("expiry", key)
            at_most -= len(ids)

    def _forget_record(self, tables: Transaction, record: bytes) -> None:
        stood = tables.get("transactions", record)
        if stood is not None:
            self._forget_entities(tables, stood)
            tables.delete("transactions", record)

    def _forget_entities(self, tables: Transaction, record: bytes) -> None:
        """Remove the entities of a record whose newest event it is: they fell silent, and are in no window any more."""
        _, columns, _ = _HEADER.unpack_from(record)
        row = struct.unpack_from(f"<{columns}q", record, _HEADER.size)
        event = row[self._schema.time_index], row[self._schema.id_index]
        for column, prefix, _ in self._entities:
            key = prefix + _KEY.pack(row[column])
            recent, has_ledger = split(tables.get("events", key) or b"")
            if recent and events.newest(recent) == event:
                tables.delete("events", key)
                if has_ledger:
                    tables.delete("events", key + _LEDGER)

    def _history(self, tables: Transaction, prefix: bytes, rows: Int64, column: int, reach: Int64) -> History:
        """One entity's History for `rows`; ledgers are summarised while the transaction holds them."""
        keys = rows[:, column]
        if len(keys) == 1:
            unique, segment = keys, np.zeros(1, np.int64)
        else:
            unique, inverse = np.unique(keys, return_inverse=True)
            segment = inverse.astype(np.int64, copy=False)
        places = [prefix + _KEY.pack(key) for key in unique.tolist()]
        found = tables.get_many("events", places)
        packed = [found.get(place, b"") for place in places]
        busy = [u for u, value in enumerate(packed) if len(value) % events.EVENT.size]
        for u in busy:
            packed[u], _ = split(packed[u])
        offsets = np.zeros(len(packed) + 1, np.int64)
        np.cumsum([len(value) // events.EVENT.size for value in packed], out=offsets[1:])
        # bytearray: the kernel is compiled for writable arrays only
        joined = np.frombuffer(bytearray().join(packed), np.int64).reshape(-1, EVENT_WIDTH)
        if not busy:
            return History(segment, offsets, joined)
        times = np.ascontiguousarray(rows[:, [self._schema.time_index, self._schema.id_index]])
        ledgers = [(u, tables.view("events", places[u] + _LEDGER) or _NO_LEDGER) for u in busy]
        return History(
            segment, offsets, joined, *summarise(ledgers, segment, times, offsets, joined, reach, self._folding)
        )


def _store(tables: Transaction, key: bytes, past: Past) -> None:
    tables.put("events", key, past.value)
    older = past.ledger
    if older:
        tables.put("events", key + _LEDGER, older)
    elif older is not None:
        tables.delete("events", key + _LEDGER)


def answer_bytes(answers: Answers) -> list[npt.NDArray[np.uint8]]:
    """Score, verdict and features of each row as bytes [N, …]: what stands in a record, one after the other."""
    parts = (answers.score.reshape(len(answers.score), 1), answers.verdict, answers.features)
    return [np.ascontiguousarray(part).view(np.uint8) for part in parts]


def as_recorded(row: Int64, answer: bytes) -> Recorded:
    """A record's row and the `answer_bytes` behind it; b"" for history that was never answered here."""
    if not answer:
        return Recorded(row, None)
    return Recorded(
        row,
        Answers(
            score=np.frombuffer(answer, np.float32, 1),
            verdict=np.frombuffer(answer, np.int32, wire.VERDICT_WIDTH, 4)[None, :],
            features=np.frombuffer(answer, np.float32, -1, _VERDICT_BYTES)[None, :],
        ),
    )


def _pack_answers(answers: Answers) -> list[bytes]:
    """Each row's score, verdict and features, little-endian, one after the other."""
    block = np.concatenate(answer_bytes(answers), axis=1)
    n = len(block)
    size, joined = block.shape[1], block.tobytes()
    return [joined[i * size : (i + 1) * size] for i in range(n)]


def _unpack_record(value: bytes) -> Recorded:
    _, columns, _ = _HEADER.unpack_from(value)
    row = np.frombuffer(value, np.int64, columns, _HEADER.size)
    return as_recorded(row, value[_HEADER.size + 8 * columns :])
