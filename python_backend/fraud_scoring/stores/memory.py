"""A window store in this process's memory: for tests, and for scoring a file without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fraud_scoring.schema import Schema
from fraud_scoring.stores.packed import PackedStore
from fraud_scoring.stores.tables import TABLES
from fraud_scoring.windows import FOLDING, Folding


class MemoryTables:
    """Dictionaries behind one lock; a failed writing transaction is undone from the values it replaced."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {name: {} for name in TABLES}
        self._undo: list[tuple[str, bytes, bytes | None]] = []
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[MemoryTables]:
        with self._lock:
            yield self

    @contextmanager
    def writing(self) -> Iterator[MemoryTables]:
        with self._lock:
            self._undo = []
            try:
                yield self
            except BaseException:
                for table, key, value in reversed(self._undo):
                    if value is None:
                        self._tables[table].pop(key, None)
                    else:
                        self._tables[table][key] = value
                self._tables["batches"] = dict(sorted(self._tables["batches"].items()))
                raise

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._tables[table].get(key)

    view = get

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._undo.append((table, key, self._tables[table].get(key)))
        self._tables[table][key] = value

    def delete(self, table: str, key: bytes) -> None:
        self._undo.append((table, key, self._tables[table].pop(key, None)))

    def get_many(self, table: str, keys: list[bytes]) -> dict[bytes, bytes]:
        there = self._tables[table]
        return {key: there[key] for key in keys if key in there}

    def put_many(self, table: str, items: list[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            self.put(table, key, value)

    def first_key(self, table: str) -> bytes | None:
        # `batches` is the only table that is asked of what was put there, and its keys rise
        return next(iter(self._tables[table]), None)

    def last_key(self, table: str) -> bytes | None:
        return next(reversed(self._tables[table]), None)

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore(PackedStore):
    """A window store that lives and dies with its process."""

    def __init__(self, schema: Schema, now_us: Callable[[], int] | None = None, folding: Folding = FOLDING) -> None:
        clock: dict[str, Any] = {} if now_us is None else {"now_us": now_us}
        super().__init__(MemoryTables(), schema, folding=folding, **clock)
