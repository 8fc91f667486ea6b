"""What happened on one server, as bytes: numbered batches, the head that says which is the newest, and references.

    fraud{tag}#            the head: number of the newest batch (big-endian uint64), eight bytes by chance
    fraud{tag}#<number>    a batch; the tag is the first partition's
    fraud{tag}#oldest      number of the oldest batch that is kept
    fraud{tag}#drained     of each partition, the number (big-endian uint64) of the batch up to which all events are in
                           the strings of its entities (waiting.py)

A batch is what one script added: the records of its transactions, and which entities it changed in another way than by
adding their events. Clients that hold entities in memory follow the batches (copies.py). Little-endian:

    offset  size
         0     4   format (2; 1 is read, too: all of its events are in the strings)
         4     4   transactions n
         8     4   columns C
        12     4   bytes of an answer A (0: none was given)
        16     4   dropped d
        20     4   the day it came, since 1970
        24     4   column of the id
        28     4   written w: so many of its events are in the strings already; all of them where it is 2³² - 1
        32     8   hash of the layout (batches.Layout)
        40    16   the head before
        56     8   its own eight bytes by chance
        64     …   records (row int64 [C], answer uint8 [A]) [n], dropped int64 [d, 2] (entity's place in the layout,
                   key); unless all are written: those that are, uint32 [w] (place of the row · entities + place of the
                   entity), bytes of the layout's document uint32, the document; places uint32 […] of those that were
                   known already and are none of this batch
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.records import Answers, answer_bytes
from fraud_scoring.stores.redis.layout import LABEL, UNLABELLED, Bytes
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import tags
from fraud_scoring.windows import Int64

HOME: Final = 0
"""The partition that head and batches lie in."""
_FORMAT: Final = 2
_ALL: Final = 2**32 - 1
_HEAD: Final = struct.Struct("<5IiII8s16s8s")
HEAD_BYTES: Final = _HEAD.size
_REFERENCE: Final = np.dtype([("number", ">u8"), ("at", "<u4"), ("answer", "<u2"), ("columns", "<u2")])
"""The batch, where in it the record is, bytes of its answer, columns of its row; a label follows once there is one."""
_DAY_AT: Final = 20
_UNLABELLED: Final = np.array((0, UNLABELLED), LABEL).tobytes()
_MOST_ANSWER: Final = 0xFFFF
_NUMBER: Final = struct.Struct(">Q")
NUMBER_BYTES: Final = _NUMBER.size
_SIZE: Final = struct.Struct("<I")
_OLD_FORMATS: Final = (1,)

Waits = npt.NDArray[np.bool_]
"""Of each row and entity column, whether the event waits to be written to the entity's string, [N, entities]."""


class Head(NamedTuple):
    """Which batch is the newest; `by_chance` tells two apart that came under one number."""

    number: int
    by_chance: bytes

    def pack(self) -> bytes:
        return _NUMBER.pack(self.number) + self.by_chance


NOBODY: Final = Head(0, bytes(8))
"""Before the first batch."""


def head_of(packed: bytes | None) -> Head:
    return NOBODY if packed is None else Head(_NUMBER.unpack_from(packed)[0], packed[_NUMBER.size :])


def number_bytes(number: int) -> bytes:
    return _NUMBER.pack(number)


def number_of(packed: bytes) -> int:
    (number,) = _NUMBER.unpack(packed)
    return int(number)


def numbers_of(packed: bytes) -> Int64:
    """Up to which batch each partition is written, int64 [PARTITIONS]."""
    return np.frombuffer(packed, ">i8").astype(np.int64)


class FeedNames:
    """Names of the head, the batches, and of what says which is the oldest."""

    def __init__(self, namespace: str) -> None:
        self.head = b"%b{%b}#" % (namespace.encode(), tags()[HOME])
        self.oldest = self.head + b"oldest"
        self.drained = self.head + b"drained"

    def batch(self, number: int) -> bytes:
        return self.head + _NUMBER.pack(number)

    def number_of(self, name: bytes) -> int | None:
        """The number of a batch, by its name; None for another name."""
        number = name.removeprefix(self.head)
        return number_of(number) if len(number) == NUMBER_BYTES and len(number) < len(name) else None

    def beginning(self, number: int) -> bytes:
        """The command for the first HEAD_BYTES of a batch; of one that is not there they are empty."""
        return command(b"GETRANGE", self.batch(number), b"0", b"%d" % (HEAD_BYTES - 1))


@dataclass(frozen=True)
class Batch:
    """`rows` int64 [n, C] that it added; `ids` int64 of all that it names; `dropped` int64 [d, 2]; which of the rows'
    events wait, and the layout by which they are read: None where none does.
    """

    rows: Int64
    ids: Int64
    dropped: Int64
    waits: Waits | None
    waiting_layout: Layout | None
    layout: bytes


def records_of(rows: Int64, answers: Answers | None) -> Bytes:
    """Row and answer of each, uint8 [n, 8C + A]."""
    parts = [np.ascontiguousarray(rows).view(np.uint8)]
    if answers is not None:
        parts += answer_bytes(answers)
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Form:
    """What all batches of a client have in common: columns of a row, and the layout."""

    columns: int
    layout: Layout

    def pack(
        self,
        records: Bytes,
        day: int,
        before: Head,
        by_chance: bytes,
        *,
        waits: Waits | None = None,
        dropped: Sequence[tuple[int, int]] = (),
    ) -> bytes:
        """A batch of `records` uint8 [n, 8C + A]; `waits` None: all events are written with it."""
        answer = records.shape[1] - 8 * self.columns if len(records) else 0
        written, tail = _ALL, b""
        if waits is not None and waits.any():
            places = np.flatnonzero(~waits).astype("<u4")
            document = self.layout.document
            written, tail = len(places), places.tobytes() + _SIZE.pack(len(document)) + document
        sizes = _FORMAT, len(records), self.columns, answer, len(dropped), day, self.layout.id_index, written
        head = _HEAD.pack(*sizes, self.layout.key, before.pack(), by_chance)
        return head + records.tobytes() + np.array(dropped, np.int64).tobytes() + tail

    def references(self, records: Bytes, number: int) -> bytes:
        """References to `records` in the batch of this number, unlabelled."""
        n, size = records.shape
        if size - 8 * self.columns > _MOST_ANSWER:
            raise ValueError(f"an answer has {size - 8 * self.columns} bytes, and up to {_MOST_ANSWER} can be kept")
        parts = np.empty(n, _REFERENCE)
        parts["number"], parts["at"] = number, _HEAD.size + size * np.arange(n)
        parts["answer"], parts["columns"] = size - 8 * self.columns, self.columns
        return parts.tobytes()


def parse(packed: bytes) -> Batch:
    """A batch; StoreUnavailable for one of a later version."""
    kind, n, columns, answer, dropped, _, id_index, written, key, _, _ = _HEAD.unpack_from(packed)
    if kind != _FORMAT and kind not in _OLD_FORMATS:
        raise StoreUnavailable(f"the window store has a batch of format {kind}; this version reads {_FORMAT}: update")
    size = 8 * columns + answer
    records = np.frombuffer(packed, np.uint8, n * size, _HEAD.size).reshape(n, size)
    rows = np.ascontiguousarray(records[:, : 8 * columns]).view(np.int64).reshape(n, columns)
    at = _HEAD.size + n * size
    changed = np.frombuffer(packed, np.int64, 2 * dropped, at).reshape(-1, 2)
    at += changed.nbytes
    layout, waits = None, None
    if kind == _FORMAT and written != _ALL:
        places = np.frombuffer(packed, np.uint32, written, at)
        at += places.nbytes
        (length,) = _SIZE.unpack_from(packed, at)
        at += _SIZE.size + length
        layout = _layout(packed[at - length : at])
        waits = np.ones((n, len(layout.entities)), np.bool_)
        waits.reshape(-1)[places] = False
    known = np.frombuffer(packed, np.uint32, offset=at)
    ids = rows[:, id_index]
    if len(known):
        rows = np.delete(rows, known, axis=0)
        waits = None if waits is None else np.delete(waits, known, axis=0)
    return Batch(rows, ids, changed, waits, layout, key)


@lru_cache(maxsize=64)
def _layout(document: bytes) -> Layout:
    return Layout.parse(document)


def links_of(packed: bytes, number: int) -> tuple[Head, Head]:
    """(the head before a batch, the batch as head), by its first HEAD_BYTES."""
    *_, before, by_chance = _HEAD.unpack_from(packed)
    return head_of(before), Head(number, by_chance)


def may_wait(packed: bytes) -> bool:
    """Whether events of a batch may wait, by its first HEAD_BYTES."""
    kind, *_, written, _, _, _ = _HEAD.unpack_from(packed)
    return kind not in _OLD_FORMATS and written != _ALL


def day_and_size(packed: bytes) -> tuple[int, int]:
    """(the day it came, transactions) of a batch, by its first HEAD_BYTES."""
    _, n, _, _, _, day, *_ = _HEAD.unpack_from(packed)
    return day, n


def is_reference(stood: bytes) -> bool:
    """Whether what stands under an id says where the record is; no record is as long."""
    return len(stood) in (_REFERENCE.itemsize, _REFERENCE.itemsize + LABEL.itemsize)


def look_up(names: FeedNames, reference: bytes) -> bytes:
    """Two commands: for the day of the batch, and for the record that is referred to."""
    (place,) = np.frombuffer(reference, _REFERENCE, 1)
    batch, at = names.batch(int(place["number"])), int(place["at"])
    last = at + 8 * int(place["columns"]) + int(place["answer"]) - 1
    return command(b"GETRANGE", batch, b"%d" % _DAY_AT, b"%d" % (_DAY_AT + 3)) + command(
        b"GETRANGE", batch, b"%d" % at, b"%d" % last
    )


def as_record(reference: bytes, day: bytes, referred: bytes) -> bytes | None:
    """What stands under an id as a record of its own; None if its batch was forgotten."""
    if not day or not referred:
        return None
    label = reference[_REFERENCE.itemsize :] or _UNLABELLED
    return label + b"\0" + reference[14:16] + day + referred
