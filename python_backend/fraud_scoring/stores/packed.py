"""A window store over ordered tables of bytes: all rules are here, and an implementation gives it the tables.

Each id once, late events, trimming, labels, retention. A call of `record` adds ONE value, its batch, and a reference
for each id. What the batch means for its entities is worked out at once in this process's arenas, and reaches the
entities' own values, the base, later: once for all of an entity's events of some ten thousand transactions. Every
process sees what was recorded before its own transaction began, since it reads the batches that it has not seen yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.past import Past
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.stores import arena, batches, references
from fraud_scoring.stores.batches import Batch, Layout, key_of, keys_of
from fraud_scoring.stores.entities import Entities
from fraud_scoring.stores.records import RETENTION_DAYS, Answers, Recorded, answer_bytes, as_recorded
from fraud_scoring.stores.retention import Retention
from fraud_scoring.stores.tables import Tables, Transaction
from fraud_scoring.windows import FOLDING, NEVER, Folding, History, Int64, for_kernels

DRAIN_AT: Final = 49_152
"""Transactions that may wait for the base: a process that opens the store reads so many again."""


class PackedStore:
    """A window store over `tables`; `now_us` is the clock that retention goes by."""

    def __init__(
        self,
        tables: Tables,
        schema: Schema,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        folding: Folding = FOLDING,
        drain_at: int = DRAIN_AT,
    ) -> None:
        arena.load()
        self._tables = tables
        self._schema = schema
        self._now_us = now_us
        self._lock = threading.Lock()
        self._layout = Layout.of(schema)
        self._layout_is_there = False
        self._entities = Entities(self._layout, folding, drain_at)
        self._retention = Retention(self._entities)
        self._retention_days = max(RETENTION_DAYS, max(schema.keep_us.values()) // MICROSECONDS_PER_DAY + 3)
        self._reach = [np.array(schema.reach_us[name], np.int64) for _, name in schema.entities]

    def read(self, rows: Int64) -> list[History]:
        rows = for_kernels(rows)
        with self._transaction(self._tables.reading) as tables:
            return [
                self._entities.history(tables, name, column, rows, reach)
                for (column, name, _), reach in zip(self._layout.entities, self._reach, strict=True)
            ]

    def kept(self, entity: str, key: int) -> Int64:
        """All that is kept of one entity, as spans int64 [S, 6] in order: single events, and slots of a hot entity."""
        with self._transaction(self._tables.reading) as tables:
            return self._entities.kept(tables, entity, key)

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        keys = keys_of(transaction_ids)
        with self._tables.reading() as tables:
            found = tables.get_many("transactions", keys)
            if not found:
                return [None] * len(keys)
            return [references.recorded(tables, found[key]) if key in found else None for key in keys]

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        return self._record(rows, answers, only_new=False) or []

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        return self._record(rows, answers, only_new=True) is not None

    def _record(self, rows: Int64, answers: Answers | None, *, only_new: bool) -> list[Recorded | None] | None:
        """What stood under each id, or None: nothing was added, since some are known and `only_new` are to be."""
        rows = np.array(rows, np.int64, order="C")
        given = np.empty((len(rows), 0), np.uint8) if answers is None else _joined(answers)
        if len(given) != len(rows):
            raise ValueError(f"{len(rows)} rows and {len(given)} answers: their numbers must match exactly")
        keys = keys_of(rows[:, self._schema.id_index])
        with self._transaction(self._tables.writing) as tables:
            found = tables.get_many("transactions", keys)
            if found or len(set(keys)) < len(keys):
                if only_new:
                    return None
                before, fresh = _compare(tables, keys, dict(found), rows, given)
                self._add(tables, [keys[i] for i in fresh], rows[fresh], given[fresh])
            else:
                before = [None] * len(keys)
                self._add(tables, keys, rows, given)
            last_day = self._today() - self._retention_days
            if self._retention.forget(tables, last_day, 2 * len(rows) + 16) or self._entities.has_dropped:
                self._put(tables, rows[:0], given[:0])
        return before

    def label(self, labels: Int64) -> Int64:
        accepted = np.zeros(len(labels), np.int64)
        changed: dict[tuple[str, int], Past] = {}
        self.catch_up()  # beside the writers, and not while they wait
        with self._transaction(self._tables.writing) as tables:
            for i, (identifier, is_fraud, known_at_us) in enumerate(labels.tolist()):
                accepted[i] = self._label_one(tables, changed, identifier, is_fraud, known_at_us)
            for (name, key), past in changed.items():
                self._entities.store(tables, name, key, past)
            if self._entities.has_dropped:
                self._put(tables, np.empty((0, self._schema.width), np.int64), np.empty((0, 0), np.uint8))
        return accepted

    def catch_up(self) -> None:
        """Read what other processes recorded, so that no caller waits for it."""
        with self._transaction(self._tables.reading):
            pass

    def bound(self, until: float) -> None:
        """Nothing: memory and pages of a file do not wait for a server."""

    def close(self) -> None:
        self._tables.close()

    @contextmanager
    def _transaction(self, begin: Callable[[], AbstractContextManager[Transaction]]) -> Iterator[Transaction]:
        """What `begin` gives, with the arenas where it sees the store; where it fails, they start anew."""
        with self._lock:
            try:
                with begin() as tables:
                    self._entities.catch_up(tables)
                    yield tables
            except BaseException:
                self._entities.start_anew()
                self._retention.start_anew()
                self._layout_is_there = False
                raise

    def _today(self) -> int:
        return self._now_us() // MICROSECONDS_PER_DAY

    def _add(self, tables: Transaction, keys: list[bytes], rows: Int64, given: npt.NDArray[np.uint8]) -> None:
        """Add new transactions to their entities, and as one batch to the tables."""
        if not len(rows):
            return
        self._entities.add(tables, rows)
        number = self._put(tables, rows, given)
        tables.put_many("transactions", list(zip(keys, references.references(number, len(rows)), strict=True)))

    def _put(self, tables: Transaction, rows: Int64, given: npt.NDArray[np.uint8]) -> int:
        """Write the next batch, and with it what the entities tell other processes; its number."""
        if not self._layout_is_there:
            tables.put("layouts", self._layout.key, self._layout.document)
            self._layout_is_there = True
        entities = self._entities
        batch = Batch(rows, given, entities.dropped(), self._today(), entities.drained, self._layout.key)
        entities.seen += 1
        tables.put("batches", batches.number_key(entities.seen), batch.pack())
        return entities.seen

    def _label_one(
        self,
        tables: Transaction,
        changed: dict[tuple[str, int], Past],
        identifier: int,
        is_fraud: int,
        known_at_us: int,
    ) -> wire.Accepted:
        key = key_of(identifier)
        stood = tables.get("transactions", key)
        if stood is None:
            return wire.Accepted.UNKNOWN_TRANSACTION
        label, before_us = references.label_of(stood)
        if label == is_fraud:
            return wire.Accepted.ALREADY_KNOWN
        tables.put("transactions", key, references.with_label(stood, is_fraud, known_at_us))
        if is_fraud or label == 1:
            row = references.recorded(tables, stood).row.tolist()
            known = known_at_us if is_fraud else NEVER
            for column, name, keep_us in self._layout.entities:
                entity = name, row[column]
                past = changed.get(entity) or self._entities.past(tables, *entity, keep_us)
                if past.recent:
                    past.set_fraud_known_at(row[self._schema.time_index], identifier, known, before_us)
                    changed[entity] = past
        return wire.Accepted.APPLIED


def _compare(
    tables: Transaction, keys: list[bytes], found: dict[bytes, bytes], rows: Int64, given: npt.NDArray[np.uint8]
) -> tuple[list[Recorded | None], list[int]]:
    """(what stood under each id, which rows are new), where some ids are known, or stand in the call twice.

    History that was not answered before takes the answer that is `given` now.
    """
    before: list[Recorded | None] = []
    fresh: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        if key not in found:
            first = fresh.setdefault(key, i)
            before.append(None if first == i else as_recorded(rows[first], given[first].tobytes()))
            continue
        stood = references.recorded(tables, found[key])
        if stood.answer is None and given.shape[1] and stood.row.tolist() == rows[i].tolist():
            found[key] = references.record(rows[i], given[i].tobytes(), *references.label_of(found[key]))
            tables.put("transactions", key, found[key])
        before.append(stood)
    return before, list(fresh.values())


def _joined(answers: Answers) -> npt.NDArray[np.uint8]:
    """Each row's score, verdict and features, little-endian, one after the other: uint8 [N, A]."""
    return np.concatenate(answer_bytes(answers), axis=1)
