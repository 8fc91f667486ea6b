"""The window store of one machine: LMDB, shared by several processes.

Readers never wait; writers take turns. A commit is in the page cache when it returns: the death of a process loses
nothing. A background thread brings it to disk every second; `power_safe` does so before each commit returns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import lmdb

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.schema import Schema
from fraud_scoring.stores.packed import PackedStore
from fraud_scoring.stores.tables import TABLES
from fraud_scoring.windows import FOLDING, Folding

SYNC_INTERVAL_S: Final = 1.0

_LOG = logging.getLogger(__name__)


class _LmdbTransaction:
    __slots__ = ("_databases", "_transaction")

    def __init__(self, transaction: Any, databases: dict[str, Any]) -> None:
        self._transaction = transaction
        self._databases = databases

    def get(self, table: str, key: bytes) -> bytes | None:
        value: bytes | None = self._transaction.get(key, db=self._databases[table])
        return value

    def view(self, table: str, key: bytes) -> bytes | memoryview | None:
        return self.get(table, key)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._databases[table])

    def delete(self, table: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._databases[table])

    def get_many(self, table: str, keys: list[bytes]) -> dict[bytes, bytes]:
        with self._transaction.cursor(self._databases[table]) as cursor:
            found: dict[bytes, bytes] = dict(cursor.getmulti(keys))
        return found

    def put_many(self, table: str, items: list[tuple[bytes, bytes]]) -> None:
        with self._transaction.cursor(self._databases[table]) as cursor:
            cursor.putmulti(items)

    def first_key(self, table: str) -> bytes | None:
        with self._transaction.cursor(self._databases[table]) as cursor:
            return bytes(cursor.key()) if cursor.first() else None

    def last_key(self, table: str) -> bytes | None:
        with self._transaction.cursor(self._databases[table]) as cursor:
            return bytes(cursor.key()) if cursor.last() else None


class _LmdbSnapshot(_LmdbTransaction):
    """A reading transaction: what LMDB gives is its own memory, until the transaction ends."""

    def get(self, table: str, key: bytes) -> bytes | None:
        value = self.view(table, key)
        return None if value is None else bytes(value)

    def view(self, table: str, key: bytes) -> bytes | memoryview | None:
        value: memoryview | None = self._transaction.get(key, db=self._databases[table])
        return value

    def get_many(self, table: str, keys: list[bytes]) -> dict[bytes, bytes]:
        with self._transaction.cursor(self._databases[table]) as cursor:
            return {bytes(key): bytes(value) for key, value in cursor.getmulti(keys)}


class _LmdbTables:
    def __init__(self, folder: Path, power_safe: bool, limit_bytes: int, sync_interval_s: float) -> None:
        self._explained = _Explained(limit_bytes)
        self._sync_interval_s = sync_interval_s
        with self._explained:
            folder.mkdir(parents=True, exist_ok=True)
            self._environment = lmdb.open(
                str(folder),
                map_size=limit_bytes,
                max_dbs=len(TABLES),
                max_readers=512,
                sync=power_safe,
                readahead=False,
            )
            self._environment.reader_check()  # slots of processes that died
            self._databases = {name: self._environment.open_db(name.encode()) for name in TABLES}
        self._closed = threading.Event()
        self._written = threading.Event()
        self._syncing = threading.Thread(target=self._sync_in_background, name="store-sync", daemon=True)
        if not power_safe:
            self._syncing.start()

    @contextmanager
    def reading(self) -> Iterator[_LmdbTransaction]:
        with self._explained, self._environment.begin(buffers=True) as transaction:
            yield _LmdbSnapshot(transaction, self._databases)

    @contextmanager
    def writing(self) -> Iterator[_LmdbTransaction]:
        with self._explained, self._environment.begin(write=True) as transaction:
            yield _LmdbTransaction(transaction, self._databases)
        self._written.set()

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._written.set()
            if self._syncing.is_alive():
                self._syncing.join()  # an environment must not be closed while a call uses it
            try:
                with self._explained:
                    self._environment.sync(True)
            finally:
                self._environment.close()

    def _sync_in_background(self) -> None:
        while self._written.wait() and not self._closed.wait(self._sync_interval_s):
            self._written.clear()
            try:
                with self._explained:
                    self._environment.sync(True)
            except StoreUnavailable as failure:
                _LOG.error("%s; trying again with the next write", failure)


class _Explained:
    """While this lasts, what LMDB and the disk say becomes StoreUnavailable."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, lmdb.MapFullError):
            raise StoreUnavailable(
                f"the window store has reached its limit of {self._limit_bytes / 2**30:g} GiB; "
                "raise limit_gib in the store URL"
            ) from None
        if isinstance(error, (lmdb.Error, OSError)):
            raise StoreUnavailable(
                f"the window store cannot be used ({type(error).__name__}: {_reason(error)}); "
                "check the disk's free space and the folder's permissions"
            ) from None


def _reason(error: BaseException) -> str:
    """The last part of an error's text: LMDB puts paths and call names before it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1]


class LmdbStore(PackedStore):
    """A window store in a folder of this machine."""

    def __init__(
        self,
        folder: Path,
        schema: Schema,
        *,
        power_safe: bool = False,
        limit_bytes: int = 64 << 30,
        sync_interval_s: float = SYNC_INTERVAL_S,
        now_us: Callable[[], int] | None = None,
        folding: Folding = FOLDING,
    ) -> None:
        clock: dict[str, Any] = {} if now_us is None else {"now_us": now_us}
        super().__init__(
            _LmdbTables(folder, power_safe, limit_bytes, sync_interval_s), schema, folding=folding, **clock
        )
        try:
            self.catch_up()
        except BaseException:
            self.close()
            raise
