"""What a packed store needs of the place where its bytes are: ordered tables, read and written in transactions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final, Protocol

TABLES: Final = ("events", "transactions", "expiry", "batches", "layouts")
"""events        entity → its newest events; entity and a mark → a part of its ledger
transactions  id → where its record is (batches.Reference), or the record itself
batches       number → what one call recorded, in order (batches.Batch)
layouts       a layout's hash → how the rows of batches are to be read
expiry        day and id → ids: of records of before there were batches
"""


class Transaction(Protocol):
    """A view of the TABLES; a writing one takes effect as a whole or not at all."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def view(self, table: str, key: bytes) -> bytes | memoryview | None:
        """The same without a copy where that can be had, in a reading transaction and until it ends."""

    def put(self, table: str, key: bytes, value: bytes) -> None: ...

    def delete(self, table: str, key: bytes) -> None: ...

    def get_many(self, table: str, keys: list[bytes]) -> Mapping[bytes, bytes]:
        """The values of those keys that are there."""

    def put_many(self, table: str, items: list[tuple[bytes, bytes]]) -> None: ...

    def first_key(self, table: str) -> bytes | None:
        """The smallest key of a table; None if it is empty."""

    def last_key(self, table: str) -> bytes | None:
        """The largest key of a table; None if it is empty."""


class Tables(Protocol):
    """Where the bytes are."""

    def reading(self) -> AbstractContextManager[Transaction]: ...

    def writing(self) -> AbstractContextManager[Transaction]: ...

    def close(self) -> None: ...
