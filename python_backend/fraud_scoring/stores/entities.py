"""The entities of a packed store: their truth in this process's arenas, and how it reaches the base.

An entity's truth = its value in the base + the batches that are not drained; adding an event that is there changes
nothing, so that a base which is ahead does no harm. What changes the base in another way than by adding events (a
ledger, a label, an entity that is removed) is named in a batch, and every arena drops it. Invariants:
- what the base lacks of an entity is in its arena, once `catch_up` was called in the transaction;
- an arena changes while a transaction goes on: where that one fails, `start_anew` is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from fraud_scoring import events, ledger
from fraud_scoring.ledger_words import where_they_lie
from fraud_scoring.past import NEWER, OLDER, PARTS, Past, split
from fraud_scoring.stores import batches
from fraud_scoring.stores.arena import Arena
from fraud_scoring.stores.batches import Dropped, Layout, key_of
from fraud_scoring.stores.tables import Transaction
from fraud_scoring.summary import summarise_lying
from fraud_scoring.windows import NEVER, Folding, History, Int64, for_kernels

DRAIN_EACH: Final = 1_024
"""So many transactions are collected beyond those that may wait before the oldest are drained: they share pages."""

_LEDGER: Final = {OLDER: b"\0ledger", NEWER: b"\0newer"}
"""Ends the key of a part of an entity's ledger; its newest events have the key without it."""
_NO_LEDGER: Final = ledger.pack(ledger.EMPTY)


_Pending = tuple[int, int, tuple[tuple[str, Int64], ...]]
"""A batch that is not drained: its number, its rows, and by entity the slots of the rows. Plain tuples of what refers
to nothing else: of tens of thousands of them the garbage collector looks at none."""


class _Lying(NamedTuple):
    """Ledgers in memory: (entity, address, words) int64 [L, 3], entities rising, and what must be held meanwhile."""

    places: Int64
    held: list[object]


class Entities:
    """Entities of all columns; of `drain_at` transactions and somewhat more, the base need not know yet."""

    def __init__(self, layout: Layout, folding: Folding, drain_at: int) -> None:
        self.layout = layout
        self._folding = folding
        self._drain_at = drain_at
        self._drain_each = min(DRAIN_EACH, drain_at)
        self._layouts = {layout.key: layout}
        self._places = {name: place for place, (_, name, _) in enumerate(layout.entities)}
        self._arenas: dict[str, Arena] = {}
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all; the next `catch_up` reads what is not drained again."""
        for arena in self._arenas.values():
            arena.clear()
        self.seen = -1
        """Number of the newest batch that the arenas know."""
        self.drained = 0
        """The base has all batches before this number."""
        self._pending: deque[_Pending] = deque()
        self._waiting = 0
        self._dropped: list[tuple[int, int]] = []

    def catch_up(self, tables: Transaction) -> None:
        """Bring the arenas to where the transaction sees the store."""
        newest = tables.last_key("batches")
        number = -1 if newest is None else batches.number_of(newest)
        if number == self.seen:
            return
        packed = None if newest is None else tables.view("batches", newest)
        drained = 0 if packed is None else batches.head_of(packed).drained
        if drained > self.seen + 1 or number < self.seen:
            self.start_anew()
            self.seen = drained - 1
        for each in range(self.seen + 1, number + 1):
            self._replay(tables, each)
        self.seen = number
        while self._pending and self._pending[0][0] < drained:
            self._waiting -= self._pending.popleft()[1]
        self.drained = max(self.drained, drained)

    def add(self, tables: Transaction, rows: Int64) -> None:
        """Add the events of new rows, which the caller records as the batch `seen` + 1."""
        layout = self.layout
        for name, column, keep_us, unusual in self._apply(tables, layout, self.seen + 1, rows, block=True):
            changed: dict[int, Past] = {}
            for row in rows[unusual].tolist():
                key = row[column]
                if key not in changed:
                    changed[key] = self.past(tables, name, key, keep_us)
                changed[key].add(events.pack(row[layout.time_index], row[layout.id_index], row[layout.amount_index]))
            for key, past in changed.items():
                self.store(tables, name, key, past)
        if self._waiting > self._drain_at + self._drain_each:
            self.drain(tables, self._drain_at)

    def history(self, tables: Transaction, name: str, column: int, rows: Int64, reach: Int64) -> History:
        """One entity's History for `rows`; ledgers are summarised while the transaction holds them."""
        arena = self._arena(name)
        slots, missing = self._slots(tables, arena, rows, column)
        if missing:
            segment, offsets, joined, lying = self._one_by_one(tables, name, rows[:, column])
            last = None
        else:
            segment, offsets, joined, distinct, last, ledgers = arena.gather_for(
                slots, rows, self.layout.time_index, reach, self._folding.exact
            )
            if not ledgers:
                return History(segment, offsets, joined)
            lying = self._ledgers(tables, arena, distinct)
        if not len(lying.places):
            return History(segment, offsets, joined)
        times = np.ascontiguousarray(rows[:, [self.layout.time_index, self.layout.id_index]])
        spans = summarise_lying(lying.places, segment, times, offsets, joined, reach, self._folding, last)
        return History(segment, offsets, joined, *spans)

    def kept(self, tables: Transaction, name: str, key: int) -> Int64:
        """All that is kept of one entity, as spans int64 [S, 6] in order."""
        recent, parts = split(self.value(tables, name, key))
        place = _place(name, key)
        older = [ledger.unpack(tables.get("events", place + _LEDGER[part]) or b"") for part in PARTS if parts & part]
        newest = ledger.append(ledger.EMPTY, events.unpack(recent), 0, NEVER)
        return np.concatenate([ledger.spans(each) for each in (*older, newest)])

    def value(self, tables: Transaction, name: str, key: int) -> bytes:
        """An entity's first value as it is now."""
        arena = self._arena(name)
        slot = arena.slot(key)
        return arena.value(slot) if slot >= 0 else tables.get("events", _place(name, key)) or b""

    def past(self, tables: Transaction, name: str, key: int, keep_us: int) -> Past:
        """An entity's past, to be changed and stored."""

        def older(part: int) -> bytes:
            return tables.get("events", _place(name, key) + _LEDGER[part]) or b""

        return Past(self.value(tables, name, key), older, keep_us, self._folding)

    def store(self, tables: Transaction, name: str, key: int, past: Past) -> None:
        """Write an entity's values to the base."""
        place = _place(name, key)
        tables.put("events", place, past.value)
        for part, packed in past.ledgers.items():
            if packed:
                tables.put("events", place + _LEDGER[part], packed)
            else:
                tables.delete("events", place + _LEDGER[part])
        self._drop(name, key, past.unchanged)

    def remove(self, tables: Transaction, name: str, key: int) -> None:
        """Remove an entity from the base."""
        place = _place(name, key)
        for end in (b"", *_LEDGER.values()):
            tables.delete("events", place + end)
        self._drop(name, key, 0)

    def dropped(self) -> Int64:
        """What was changed in the base and no batch has named yet, int64 [D, 2]; the caller's next batch names it."""
        found = np.array(self._dropped, np.int64).reshape(-1, 2)
        self._dropped.clear()
        return found

    @property
    def has_dropped(self) -> bool:
        return bool(self._dropped)

    def drain(self, tables: Transaction, most: int) -> None:
        """Bring the oldest batches to the base, so that no more than `most` rows wait; the next batch tells of it."""
        before = self.drained
        touched: dict[str, list[Int64]] = {}
        while self._pending and self._waiting > most:
            number, rows, parts = self._pending.popleft()
            self._waiting -= rows
            self.drained = number + 1
            for name, slots in parts:
                touched.setdefault(name, []).append(slots)
        for name, together in touched.items():
            arena = self._arena(name)
            slots = arena.changed(np.concatenate(together), before, self.drained)
            places = [arena.prefix + key_of(key) for key in arena.keys(slots)]
            tables.put_many("events", sorted(zip(places, arena.values(slots), strict=True)))
            arena.is_in_base(slots)

    def layout_of(self, tables: Transaction, key: bytes) -> Layout:
        """A batch's layout."""
        if key not in self._layouts:
            self._layouts[key] = Layout.parse(tables.get("layouts", key) or b"")
        return self._layouts[key]

    def _arena(self, name: str) -> Arena:
        if name not in self._arenas:
            self._arenas[name] = Arena(_prefix(name), self._folding)
        return self._arenas[name]

    def _replay(self, tables: Transaction, number: int) -> None:
        """Do to the arenas what another process did to its own with a batch."""
        batch = batches.parse(tables.get("batches", batches.number_key(number)) or b"")
        layout = self.layout_of(tables, batch.layout)
        self._apply(tables, layout, number, for_kernels(batch.rows), block=False)
        for place, unchanged, key in (Dropped.parse(*each) for each in batch.dropped.tolist()):
            self._arena(layout.entities[place][1]).drop(key, unchanged)

    def _apply(
        self, tables: Transaction, layout: Layout, number: int, rows: Int64, *, block: bool
    ) -> list[tuple[str, int, int, Int64]]:
        """Add the rows of a batch to the arenas: (entity, column, kept for, rows) that an arena cannot take."""
        if not len(rows):
            return []
        left, parts = [], []
        order = np.array([layout.time_index, layout.id_index, layout.amount_index], np.int64)
        for column, name, keep_us in layout.entities:
            arena = self._arena(name)
            slots, _ = self._slots(tables, arena, rows, column)
            unusual = arena.append(slots, rows, order, keep_us, number, block=block)
            parts.append((name, slots))
            if len(unusual):
                left.append((name, column, keep_us, unusual))
        self._pending.append((number, len(rows), tuple(parts)))
        self._waiting += len(rows)
        return left

    def _slots(self, tables: Transaction, arena: Arena, rows: Int64, column: int) -> tuple[Int64, int]:
        """(the slot of each row's entity, loaded from the base where it has none; -1 where it has too many events,
        rows of which that is so)."""
        slots, missing = arena.find(rows, column)
        if not missing:
            return slots, 0
        keys = dict.fromkeys(rows[slots < 0, column].tolist())
        arena.reserve(len(keys), self.drained)
        places = [arena.prefix + key_of(key) for key in keys]
        found: Mapping[bytes, bytes] = tables.get_many("events", places)
        for key, place in zip(keys, places, strict=True):
            arena.load(key, found.get(place, b""))
        return arena.find(rows, column)

    def _drop(self, name: str, key: int, unchanged: int) -> None:
        self._arena(name).drop(key, unchanged)
        self._dropped.append(Dropped(self._places[name], unchanged, key).pack())

    def _ledgers(self, tables: Transaction, arena: Arena, slots: Int64) -> _Lying:
        """The ledgers of these slots: held by the arena, as far as it has room, else as they lie in the base."""
        held, missing = arena.ledgers(slots)
        if not len(missing):
            return _Lying(held, [])
        others: list[tuple[int, bytes | memoryview]] = []
        for u, slot, key in zip(missing.tolist(), slots[missing].tolist(), arena.keys(slots[missing]), strict=True):
            parts = arena.parts(slot)
            newer = _ledger(tables, arena.prefix, key, parts & NEWER)
            if not arena.renew(slot, newer):
                older = _ledger(tables, arena.prefix, key, parts & OLDER)
                if not arena.hold(slot, older, newer):
                    others += [(u, older), (u, newer)]
        held, _ = arena.ledgers(slots)
        places, copies = where_they_lie(others)
        every = np.concatenate([held, places])
        return _Lying(every[np.argsort(every[:, 0], kind="stable")], [others, copies])

    def _one_by_one(self, tables: Transaction, name: str, keys: Int64) -> tuple[Int64, Int64, Int64, _Lying]:
        """(segment, offsets, events, ledgers), where an entity has more events than a slot."""
        unique, segment = np.unique(keys, return_inverse=True)
        found = [split(self.value(tables, name, key)) for key in unique.tolist()]
        recent = [events.unpack(packed) for packed, _ in found]
        offsets = np.cumsum([0, *map(len, recent)], dtype=np.int64)
        ledgers = [
            (u, _ledger(tables, _prefix(name), key, part))
            for u, (key, (_, parts)) in enumerate(zip(unique.tolist(), found, strict=True))
            for part in PARTS
            if parts & part
        ]
        places, copies = where_they_lie(ledgers)
        return segment.astype(np.int64), offsets, np.concatenate(recent), _Lying(places, [ledgers, copies])


def _prefix(name: str) -> bytes:
    return name.encode() + b"\0"


def _ledger(tables: Transaction, prefix: bytes, key: int, part: int) -> bytes | memoryview:
    """A part of an entity's ledger where it lies in the base; that of an empty one for no part."""
    return (part and tables.view("events", prefix + key_of(key) + _LEDGER[part])) or _NO_LEDGER


def _place(name: str, key: int) -> bytes:
    """Where an entity is in the table `events`."""
    return _prefix(name) + key_of(key)
