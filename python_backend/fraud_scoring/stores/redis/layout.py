"""What lies in Redis, as bytes: records of transactions, and batches of them made at once.

fraud{tag}t:<id>             a record: header, row, answer (transactions.lua)
fraud{tag}<column>:<key>     an entity's events, 32 bytes each (events.lua)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.stores.records import Answers, Recorded, answer_bytes, as_recorded
from fraud_scoring.windows import EVENT_WIDTH, NEVER, Int64

UNLABELLED: Final = -1
HEADER: Final = struct.Struct("<qbBHi")
"""label known at (µs), label (-1 none, 0 genuine, 1 fraud), pending, columns of the row, day on which it came."""
LABEL: Final = np.dtype([("known", "<i8"), ("label", "i1")])
"""The part of a header that a label replaces."""
_HEADER_FIELDS: Final = np.dtype(
    [("known", "<i8"), ("label", "i1"), ("pending", "u1"), ("columns", "<u2"), ("day", "<i4")]
)

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Header:
    """The beginning of a record."""

    known_at_us: int
    label: int
    pending: bool
    columns: int
    day: int

    @classmethod
    def of(cls, record: bytes) -> Header:
        known_at_us, label, pending, columns, day = HEADER.unpack_from(record)
        return cls(known_at_us, label, bool(pending), columns, day)


def pack_records(rows: Int64, answers: Answers | None, day: int, *, pending: bool) -> Bytes:
    """A record for each row, uint8 [N, size]."""
    n = len(rows)
    head = np.zeros(n, _HEADER_FIELDS)
    head["label"], head["pending"], head["columns"], head["day"] = UNLABELLED, pending, rows.shape[1], day
    parts = [head.view(np.uint8).reshape(n, HEADER.size), np.ascontiguousarray(rows).view(np.uint8)]
    if answers is not None:
        parts += answer_bytes(answers)
    return np.concatenate(parts, axis=1)


def row_of(record: bytes, columns: int) -> Int64:
    """The row in a record, int64 [C]."""
    return np.frombuffer(record, np.int64, columns, HEADER.size)


def unpack_record(record: bytes) -> Recorded:
    """A record as the store's callers know it."""
    columns = Header.of(record).columns
    return as_recorded(row_of(record, columns), record[HEADER.size + 8 * columns :])


def pack_events(time: Int64, identifier: Int64, amount: Int64) -> Int64:
    """New events int64 [N, 4], not known as fraud."""
    events = np.empty((len(time), EVENT_WIDTH), np.int64)
    events[:, 0], events[:, 1], events[:, 2], events[:, 3] = time, identifier, amount, NEVER
    return events
