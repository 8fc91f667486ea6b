"""What one call of `record` adds, as bytes: rows, answers, and which entities it changed in the base.

A batch is one value under a rising number. It is the record of its transactions, and what other processes read to see
what happened. Little-endian, every part at a multiple of eight bytes:

    offset  size
         0     4   format (2; 1 is read, too: nothing of a changed entity's ledger was kept)
         4     4   rows n
         8     4   columns C
        12     4   bytes of an answer A (0: none was given)
        16     4   dropped d
        20     4   the day it came, since 1970
        24     8   drained: all batches before this number are in the base
        32     8   hash of the layout
        40     …   rows int64 [n, C], dropped int64 [d, 2] (entity's place in the layout + 2¹⁶ · parts of its ledger
                  that did not change, key), answers uint8 [n, A]
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.schema import Schema
from fraud_scoring.stores.records import Recorded, as_recorded
from fraud_scoring.windows import Int64

_FORMAT: Final = 2
_FORMATS: Final = (1, _FORMAT)
_HEADER: Final = struct.Struct("<6IQ8s")
_PLACE_BITS: Final = 16
_NUMBER: Final = struct.Struct(">Q")
_KEY: Final = struct.Struct(">q")


def key_of(number: int) -> bytes:
    """An id, or the key of an entity, as a key of a table."""
    return _KEY.pack(number)


def keys_of(numbers: Int64) -> list[bytes]:
    keys: list[bytes] = numbers.astype(">i8").view(f"V{_KEY.size}").tolist()
    return keys


def number_key(number: int) -> bytes:
    return _NUMBER.pack(number)


def number_of(key: bytes) -> int:
    (number,) = _NUMBER.unpack(key)
    return int(number)


@dataclass(frozen=True)
class Layout:
    """How the rows of a batch are to be read: by a schema that may differ from the reader's.

    `entities`: column, name, and how long its events are kept (µs).
    """

    id_index: int
    time_index: int
    amount_index: int
    entities: tuple[tuple[int, str, int], ...]

    @classmethod
    def of(cls, schema: Schema) -> Layout:
        entities = tuple((column, name, schema.keep_us[name]) for column, name in schema.entities)
        return cls(schema.id_index, schema.time_index, schema.amount_index, entities)

    @classmethod
    def parse(cls, document: bytes) -> Layout:
        id_index, time_index, amount_index, entities = json.loads(document)
        return cls(id_index, time_index, amount_index, tuple((column, name, keep) for column, name, keep in entities))

    @cached_property
    def document(self) -> bytes:
        return json.dumps([self.id_index, self.time_index, self.amount_index, self.entities]).encode()

    @cached_property
    def key(self) -> bytes:
        """Its place in the table `layouts`."""
        return hashlib.sha256(self.document).digest()[:8]


class Dropped(NamedTuple):
    """An entity that was changed in the base: its place in the layout, the parts of its ledger that were not, key."""

    place: int
    unchanged: int
    key: int

    def pack(self) -> tuple[int, int]:
        return self.place | self.unchanged << _PLACE_BITS, self.key

    @classmethod
    def parse(cls, word: int, key: int) -> Dropped:
        return cls(word & (1 << _PLACE_BITS) - 1, word >> _PLACE_BITS, key)


class Head(NamedTuple):
    """A batch's header."""

    rows: int
    columns: int
    answer_bytes: int
    dropped: int
    day: int
    drained: int
    layout: bytes


@dataclass(frozen=True)
class Batch:
    """`rows` int64 [N, C]; `answers` uint8 [N, A]; `dropped` int64 [d, 2]: entities that were changed in the base, as
    `Dropped.pack` makes them."""

    rows: Int64
    answers: npt.NDArray[np.uint8]
    dropped: Int64
    day: int
    drained: int
    layout: bytes

    def pack(self) -> bytes:
        n, columns = self.rows.shape
        head = _HEADER.pack(
            _FORMAT, n, columns, self.answers.shape[1], len(self.dropped), self.day, self.drained, self.layout
        )
        return head + self.rows.tobytes() + self.dropped.tobytes() + self.answers.tobytes()


def head_of(packed: bytes | memoryview) -> Head:
    """The header of a packed batch; StoreUnavailable for one of a later version."""
    kind, *fields = _HEADER.unpack_from(packed)
    if kind not in _FORMATS:
        raise StoreUnavailable(f"the window store has a batch of format {kind}; this version reads {_FORMAT}: update")
    return Head(*fields)


def parse(packed: bytes) -> Batch:
    """The batch in these bytes, without a copy."""
    head = head_of(packed)
    rows = np.frombuffer(packed, np.int64, head.rows * head.columns, _HEADER.size).reshape(head.rows, head.columns)
    at = _HEADER.size + rows.nbytes
    dropped = np.frombuffer(packed, np.int64, 2 * head.dropped, at).reshape(-1, 2)
    size = head.rows * head.answer_bytes
    answers = np.frombuffer(packed, np.uint8, size, at + dropped.nbytes).reshape(head.rows, head.answer_bytes)
    return Batch(rows, answers, dropped, head.day, head.drained, head.layout)


def recorded(packed: bytes | memoryview, place: int) -> Recorded:
    """One row of a packed batch, copied out of it."""
    head = head_of(packed)
    width, size = 8 * head.columns, head.answer_bytes
    row = _HEADER.size + place * width
    answer = _HEADER.size + head.rows * width + 16 * head.dropped + place * size
    return as_recorded(np.frombuffer(bytes(packed[row : row + width]), np.int64), bytes(packed[answer : answer + size]))
