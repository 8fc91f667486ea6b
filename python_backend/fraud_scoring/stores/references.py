"""What stands under a transaction's id: where its record is, and its label; or the record itself.

A record of its own is what a call before there were batches wrote, and what history becomes that is answered later.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np

from fraud_scoring.stores import batches
from fraud_scoring.stores.records import Recorded, as_recorded
from fraud_scoring.stores.tables import Transaction
from fraud_scoring.windows import Int64

_REFERENCE: Final = struct.Struct("<bxxxIQq")
_PARTS: Final = np.dtype([("label", "<i4"), ("place", "<u4"), ("batch", "<u8"), ("known_at_us", "<i8")])
_RECORD: Final = struct.Struct("<bxxxiq")
"""A record of its own begins with: label, columns of the row, label known at (µs); then row and answer."""
_UNLABELLED: Final = -1


class Reference(NamedTuple):
    """Where a transaction's record is, and its label: -1 none, 0 genuine, 1 fraud; known at (µs)."""

    label: int
    place: int
    batch: int
    known_at_us: int

    def pack(self) -> bytes:
        return _REFERENCE.pack(*self)


def is_reference(stood: bytes) -> bool:
    return len(stood) == _REFERENCE.size


def reference(packed: bytes) -> Reference:
    return Reference(*_REFERENCE.unpack(packed))


def references(batch: int, rows: int) -> list[bytes]:
    """References to the rows of a batch, unlabelled."""
    parts = np.zeros(rows, _PARTS)
    parts["label"], parts["place"], parts["batch"] = _UNLABELLED & 0xFF, np.arange(rows), batch
    packed: list[bytes] = parts.view(f"V{_REFERENCE.size}").tolist()
    return packed


def record(row: Int64, answer: bytes, label: int, known_at_us: int) -> bytes:
    """A record of its own."""
    return _RECORD.pack(label, len(row), known_at_us) + row.tobytes() + answer


def recorded(tables: Transaction, stood: bytes) -> Recorded:
    """The record behind what stands under an id."""
    if is_reference(stood):
        where = reference(stood)
        return batches.recorded(tables.view("batches", batches.number_key(where.batch)) or b"", where.place)
    _, columns, _ = _RECORD.unpack_from(stood)
    row = np.frombuffer(stood, np.int64, columns, _RECORD.size)
    return as_recorded(row, stood[_RECORD.size + 8 * columns :])


def label_of(stood: bytes) -> tuple[int, int]:
    """(label, known at) of what stands under an id: -1 none, 0 genuine, 1 fraud; µs."""
    if is_reference(stood):
        where = reference(stood)
        return where.label, where.known_at_us
    label, _, known_at_us = _RECORD.unpack_from(stood)
    return label, known_at_us


def with_label(stood: bytes, label: int, known_at_us: int) -> bytes:
    """What stands under an id from then on."""
    if is_reference(stood):
        where = reference(stood)
        return Reference(label, where.place, where.batch, known_at_us).pack()
    _, columns, _ = _RECORD.unpack_from(stood)
    return _RECORD.pack(label, columns, known_at_us) + stood[_RECORD.size :]
