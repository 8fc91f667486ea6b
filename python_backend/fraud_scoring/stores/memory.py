"""A window store in this process's memory: for tests, and for scoring a file without a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fraud_scoring.schema import Schema
from fraud_scoring.stores.records import PackedStore
from fraud_scoring.windows import FOLDING, Folding


class _MemoryTables:
    """Dictionaries behind one lock; a failed writing transaction is undone from the values it replaced."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {"events": {}, "transactions": {}, "expiry": {}}
        self._undo: list[tuple[str, bytes, bytes | None]] = []
        self._lock = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[_MemoryTables]:
        with self._lock:
            yield self

    @contextmanager
    def writing(self) -> Iterator[_MemoryTables]:
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

    def first(self, table: str) -> tuple[bytes, bytes] | None:
        # `expiry` is the only table that is asked, and its keys are put in the order of their days
        return next(iter(self._tables[table].items()), None)

    def close(self) -> None:
        """Nothing is held."""


class MemoryStore(PackedStore):
    """A window store that lives and dies with its process."""

    def __init__(self, schema: Schema, now_us: Callable[[], int] | None = None, folding: Folding = FOLDING) -> None:
        clock: dict[str, Any] = {} if now_us is None else {"now_us": now_us}
        super().__init__(_MemoryTables(), schema, folding=folding, **clock)
