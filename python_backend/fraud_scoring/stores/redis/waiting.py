"""Events that lie in batches on one server and are not yet in the strings of their entities; each client has them all.

To put every event into its entity's string as it comes would be most of what Redis does. So a batch is the record of
its events, they wait, and many of an entity's are written at once: a partition of entities at a time, all that waits in
it (drain.lua). Up to which batch each partition is written is said beside the batches (`drained`, feed.py); an entity
is its string and what waits for it. Invariants:
- all events that wait, of batches up to `seen`, are here: of each partition those after its number in `drained`;
- one that is written twice, or waits and is in the string, counts once: by time and id;
- what does not fit beside the others never waits: events of an entity that a client does not hold are written with
  their batch, so that a busy one, which is held by nobody, has its string bounded as it always was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud_scoring import events
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.redis.feed import Head, Waits
from fraud_scoring.stores.redis.partitions import MIX, PARTITIONS
from fraud_scoring.windows import NEVER, TIME, Int64, jit

MOST: Final = 1 << 18
"""So many events wait, in all; then some are written. They come to half of what a client that starts must read."""
MOST_BATCHES: Final = 2_048
"""So many batches may hold events that wait."""
MOST_EMPTY: Final = 32
"""After so many batches of which no event waits the server is told that all are written."""
MOST_AT_ONCE: Final = 4
"""Partitions that are written beside one batch."""
_ROOM: Final = 4 * MOST // PARTITIONS
"""Entries that a partition has room for at first."""
_FIELDS: Final = 6
_EVENT_TIME, _ID, _AMOUNT, _KNOWN, _NUMBER, _KIND = range(_FIELDS)
"""Columns of an entry: the event, its batch, and its entity's kind; the entity's key lies beside it."""


@dataclass(frozen=True)
class Kind:
    """Entities of a name, and how long their events are kept."""

    name: str
    keep_us: int


@dataclass(frozen=True)
class Share:
    """What waits in one partition, of batches after `drained`: of each kind keys int64 [K], how many events each has,
    and the events int64 [M, 4], in order.
    """

    partition: int
    drained: int
    kinds: Sequence[tuple[Kind, Int64, Int64, Int64]]


class Waiting:
    """What waits, as far as a client has followed the batches."""

    def __init__(self, room: int = _ROOM) -> None:
        self._room = room
        self.seen: Head | None = None
        """The last batch whose events are here; None: it must begin."""
        self._kinds: list[Kind] = []
        self._columns_of: dict[bytes, Int64] = {}
        self.begin(np.zeros(PARTITIONS, np.int64))

    def begin(self, drained: Int64) -> None:
        """Forget everything; `drained` int64 [PARTITIONS] is where the server is."""
        self._keys = np.empty((PARTITIONS, self._room), np.int64)
        self._entries = np.empty((PARTITIONS, self._room, _FIELDS), np.int64)
        self._counts = np.zeros(PARTITIONS, np.int64)
        self._total = 0
        self.drained = drained.copy()
        self._oldest = int(drained.min())
        self._hasty = set[int]()

    def kind(self, layout: Layout, position: int) -> int:
        """The number by which an entity column's kind goes here."""
        return int(self._columns(layout)[position, 1])

    def add(self, rows: Int64, waits: Waits | None, layout: Layout | None, batch: Head) -> None:
        """The events of the next batch: those of `rows`, by `layout`, that wait."""
        if waits is not None and layout is not None:
            if self._counts.max() + waits.size > self._room:
                self._grow(waits.size)
            order = np.array([layout.time_index, layout.id_index, layout.amount_index], np.int64)
            there = self._keys, self._entries, self._counts, self.drained
            self._total += _enter(rows, waits, self._columns(layout), order, batch.number, *there)
        self.seen = batch

    @property
    def can_go_on(self) -> bool:
        """Whether nothing waits, and the server should be told so."""
        return self.seen is not None and not self._total and self.seen.number - self._oldest >= MOST_EMPTY

    def is_due(self) -> list[int]:
        """The partitions that should be written now."""
        newest = 0 if self.seen is None else self.seen.number
        if self._total <= MOST and newest - self._oldest <= MOST_BATCHES and not self._hasty:
            return []
        due = list(self._hasty)[:MOST_AT_ONCE]
        left = self._total - int(self._counts[due].sum())
        for partition in np.argsort(self.drained, kind="stable").tolist():
            is_behind = newest - self.drained[partition] > MOST_BATCHES
            if len(due) == MOST_AT_ONCE or not (left > MOST or is_behind):
                break
            if partition not in due:
                due.append(partition)
                left -= int(self._counts[partition])
        return due

    def hasten(self, partition: int) -> None:
        """See to it that this one is written with the next batch."""
        self._hasty.add(partition)

    def share(self, partition: int) -> Share:
        """What waits in a partition."""
        count = int(self._counts[partition])
        keys, entries = self._keys[partition, :count], self._entries[partition, :count]
        found = []
        for number, kind in enumerate(self._kinds):
            mine = np.flatnonzero(entries[:, _KIND] == number)
            if len(mine):
                ordered, events = _in_order(keys[mine], entries[mine, : _KNOWN + 1])
                first = np.flatnonzero(np.diff(ordered, prepend=~ordered[0]))
                found.append((kind, ordered[first], np.diff(first, append=len(ordered)), events))
        return Share(partition, int(self.drained[partition]), found)

    def waits_in(self, partition: int) -> bool:
        """Whether anything waits in a partition."""
        return bool(self._counts[partition])

    def is_drained(self, drained: Int64) -> None:
        """Where the server is, of each partition int64 [PARTITIONS]: what is written need not be kept here."""
        for partition in np.flatnonzero(drained > self.drained).tolist():
            count, self.drained[partition] = int(self._counts[partition]), drained[partition]
            later = np.flatnonzero(self._entries[partition, :count, _NUMBER] > drained[partition])
            if len(later):
                self._keys[partition, : len(later)] = self._keys[partition, later]
                self._entries[partition, : len(later)] = self._entries[partition, later]
            self._counts[partition] = len(later)
            self._total -= count - len(later)
            self._hasty.discard(partition)
        self._oldest = int(self.drained.min())

    def of(self, kind: int, keys: Int64, partitions: Int64, drained: Int64) -> tuple[Int64, Int64]:
        """(offsets int64 [K + 1], events int64 [M, 4]) of what waits for entities of a kind whose strings are of where
        `drained` int64 [PARTITIONS] says; each entity's in order.
        """
        there = self._keys, self._entries, self._counts
        found: tuple[Int64, Int64] = _of_entities(kind, keys, partitions, np.maximum(drained, self.drained), *there)
        return found

    def _columns(self, layout: Layout) -> Int64:
        """(column, kind) of each entity of a layout, int64 [entities, 2]."""
        if layout.key not in self._columns_of:
            numbers = []
            for column, name, keep_us in layout.entities:
                kind = Kind(name, keep_us)
                if kind not in self._kinds:
                    self._kinds.append(kind)
                numbers.append((column, self._kinds.index(kind)))
            self._columns_of[layout.key] = np.array(numbers, np.int64)
        return self._columns_of[layout.key]

    def _grow(self, more: int) -> None:
        """Room for so many more in each partition, and some."""
        keys, entries, there = self._keys, self._entries, int(self._counts.max())
        self._room = 2 * (there + more)
        self._keys = np.empty((PARTITIONS, self._room), np.int64)
        self._entries = np.empty((PARTITIONS, self._room, _FIELDS), np.int64)
        self._keys[:, :there], self._entries[:, :there] = keys[:, :there], entries[:, :there]


def merged(value: bytes, waiting: Int64) -> bytes | None:
    """An entity's string with what waits for it, int64 [M, 4]; None where an event is older than its newest part."""
    base = len(value) % events.EVENT.size
    waiting = waiting[_first_of_each(waiting[:, TIME], waiting[:, 1])]
    first = int(waiting[0, TIME]), int(waiting[0, 1])
    if len(value) == base or events.newest(value) < first:
        return b"".join((value, waiting.tobytes()))
    recent = events.unpack(value[base:])
    if base and events.order(value[base:]) > first:
        return None
    every = np.concatenate([recent, waiting])
    every = every[np.lexsort((every[:, 1], every[:, TIME]))]  # stable: what the string has comes first
    whole: bytes = value[:base] + every[_first_of_each(every[:, TIME], every[:, 1])].tobytes()
    return whole


def _first_of_each(*columns: Int64) -> Int64:
    """Where, of entries in order, one differs from the one before."""
    same = np.ones(len(columns[0]), np.bool_)
    same[0] = False
    for column in columns:
        same[1:] &= column[1:] == column[:-1]
    return np.flatnonzero(~same)


def _in_order(keys: Int64, entries: Int64) -> tuple[Int64, Int64]:
    """Events, given as they came, by entity, time and id, each once: the first."""
    order = np.argsort(keys, kind="stable")
    keys, entries = keys[order], entries[order]
    time, identifier = entries[:, _EVENT_TIME], entries[:, _ID]
    later = (time[1:] > time[:-1]) | ((time[1:] == time[:-1]) & (identifier[1:] > identifier[:-1]))
    if not (later | (keys[1:] != keys[:-1])).all():
        order = np.lexsort((identifier, time, keys))
        order = order[_first_of_each(keys[order], time[order], identifier[order])]
        keys, entries = keys[order], entries[order]
    return keys, entries


@jit
def _enter(
    rows: Int64,
    waits: Any,
    columns: Int64,
    order: Int64,
    number: int,
    keys: Int64,
    entries: Int64,
    counts: Int64,
    drained: Int64,
) -> int:
    """How many were entered."""
    total = 0
    for i in range(len(rows)):
        for position in range(len(columns)):
            key = rows[i, columns[position, 0]]
            mixed = np.uint64(key) * MIX  # partitions.partition_of
            partition = np.int64(mixed >> np.uint64(32)) * PARTITIONS >> 32
            if not waits[i, position] or number <= drained[partition]:
                continue
            at = counts[partition]
            one = entries[partition, at]
            keys[partition, at], one[_NUMBER], one[_KIND] = key, number, columns[position, 1]
            one[_EVENT_TIME], one[_ID], one[_AMOUNT] = rows[i, order[0]], rows[i, order[1]], rows[i, order[2]]
            one[_KNOWN] = NEVER
            counts[partition] += 1
            total += 1
    return total


@jit
def _of_entities(
    kind: int, wanted: Int64, partitions: Int64, drained: Int64, keys: Int64, entries: Int64, counts: Int64
) -> Any:
    most = np.zeros(len(wanted), np.int64)
    for k in range(len(wanted)):
        there, count = keys[partitions[k], : counts[partitions[k]]], 0
        for i in range(len(there)):  # without a branch: most entities that are not held have nothing that waits
            count += there[i] == wanted[k]
        most[k] = count
    offsets, found = np.zeros(len(wanted) + 1, np.int64), np.empty((most.sum(), 4), np.int64)
    for k in range(len(wanted)):
        partition, first, end = partitions[k], offsets[k], offsets[k]
        for i in range(counts[partition] if most[k] else 0):
            one = entries[partition, i]
            if keys[partition, i] != wanted[k] or one[_KIND] != kind or one[_NUMBER] <= drained[partition]:
                continue
            at = end  # of two that are alike the one that came first goes first
            while at > first and (
                found[at - 1, 0] > one[_EVENT_TIME]
                or (found[at - 1, 0] == one[_EVENT_TIME] and found[at - 1, 1] > one[_ID])
            ):
                for c in range(4):
                    found[at, c] = found[at - 1, c]
                at -= 1
            for c in range(4):
                found[at, c] = one[c]
            end += 1
        offsets[k + 1] = end
    return offsets, found[: offsets[-1]]


def load() -> None:
    """Compile what is compiled here, or load it from the cache, so that no caller waits for it."""
    waiting, layout = Waiting(64), Layout(0, 0, 0, ((0, "", 0),))
    waiting.add(np.zeros((20, 1), np.int64), np.ones((20, 1), np.bool_), layout, Head(1, b""))
    waiting.of(0, np.zeros(1, np.int64), np.zeros(1, np.int64), waiting.drained)
