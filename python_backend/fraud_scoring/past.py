"""An entity's past as a store keeps it: its newest events, and a ledger of those before, in two parts.

Most entities have the first value only: their newest events, read and written with every transaction. What leaves it
goes into the newer part of the ledger, once in `seal_at` − `recent` events; that goes into the older part, once in
`join_at` events, so that the most of a long ledger is seldom written. The first value says which parts there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fraud_scoring import events, ledger
from fraud_scoring.ledger import Ledger
from fraud_scoring.windows import FOLDING, NEVER, Folding

OLDER: Final = 1
NEWER: Final = 2
"""The parts of a ledger, as bits: all of the newer one comes after all of the older one, and none of it is folded."""
PARTS: Final = (OLDER, NEWER)


def split(value: bytes) -> tuple[bytes, int]:
    """(packed events, which parts of a ledger there are) of an entity's first value."""
    if len(value) % events.EVENT.size:
        return value[:-1], value[-1]
    return value, 0


def join(recent: bytes, parts: int) -> bytes:
    """An entity's first value: its packed events, marked where there is a ledger."""
    return recent + bytes([parts]) if parts else recent


class Past:
    """One entity's past while it is changed. `value` is its first value; `load` gives a part of its ledger."""

    __slots__ = ("_changed", "_folding", "_keep_us", "_ledgers", "_load", "_parts", "recent")

    def __init__(self, value: bytes, load: Callable[[int], bytes], keep_us: int, folding: Folding = FOLDING) -> None:
        self.recent, self._parts = split(value)
        self._ledgers: dict[int, Ledger] = {}
        self._changed = 0
        self._load = load
        self._keep_us = keep_us
        self._folding = folding

    @property
    def value(self) -> bytes:
        """What is to be stored beside the ledger; b"" for an entity that has no events."""
        return join(self.recent, self._parts)

    @property
    def ledgers(self) -> dict[int, bytes]:
        """The parts that are to be stored, by part: those that changed, b"" for one that is there no more."""
        changed = [part for part in PARTS if self._changed & part]
        return {part: ledger.pack(self._ledger(part)) if self._parts & part else b"" for part in changed}

    @property
    def unchanged(self) -> int:
        """The parts that are, or are not, as before."""
        return (OLDER | NEWER) & ~self._changed

    def add(self, event: bytes) -> None:
        """Insert a packed event at its place, once; trimmed to what is kept behind the newest."""
        before = self.recent
        if self._parts and events.order(event) < events.order(before):
            newest_us, _ = events.newest(before)
            if events.order(event)[0] > newest_us - self._keep_us:
                self._insert(event, newest_us)
            return
        self.recent = events.insert(before, event, self._keep_us)
        if self._parts and events.order(self.recent) != events.order(before):
            self._changed |= self._parts  # all of the ledger is older than what was trimmed
            self._parts = 0
            self._ledgers.clear()
        if len(self.recent) > self._folding.seal_at * events.EVENT.size:
            self._seal()

    def set_fraud_known_at(self, time_us: int, transaction_id: int, known_at_us: int, before_us: int = NEVER) -> None:
        """Change an event's label, which was `before_us`; nothing if the event is no longer there."""
        order = time_us, transaction_id
        if not self._parts or order >= events.order(self.recent):
            self.recent = events.set_fraud_known_at(self.recent, *order, known_at_us)
            return
        newest_us, _ = events.newest(self.recent)
        part = self._part_of(order)
        older = self._ledger(part)
        changed = ledger.set_fraud_known_at(older, *order, known_at_us, newest_us, before_us, self._folding)
        if changed is not older:
            self._put(part, changed)

    def _insert(self, event: bytes, newest_us: int) -> None:
        """Put a late event into the part where it belongs."""
        part = self._part_of(events.order(event))
        older = self._ledger(part)
        changed = ledger.insert(older, events.unpack(event)[0], newest_us, self._folding_of(part))
        if changed is not older:
            self._put(part, changed)
            if part == NEWER:
                self._join_if_long(newest_us)

    def _seal(self) -> None:
        """Move all but the newest events into the ledger."""
        cut = len(self.recent) - self._folding.recent * events.EVENT.size
        newest_us, _ = events.newest(self.recent)
        old = events.unpack(self.recent[:cut])
        newer = ledger.append(self._ledger(NEWER), old, newest_us, self._keep_us, self._folding_of(NEWER))
        self.recent = self.recent[cut:]
        self._put(NEWER, newer)
        self._join_if_long(newest_us)

    def _join_if_long(self, newest_us: int) -> None:
        """Make the newer part one with the older once it is long."""
        newer = self._ledger(NEWER)
        if len(newer.order) > self._folding.join_at:
            self._put(OLDER, ledger.join(self._ledger(OLDER), newer, newest_us, self._keep_us, self._folding))
            self._ledgers.pop(NEWER)
            self._parts, self._changed = OLDER, OLDER | NEWER

    def _folding_of(self, part: int) -> Folding:
        return self._folding if part == OLDER else self._folding._replace(exact=NEVER)

    def _part_of(self, order: tuple[int, int]) -> int:
        """The part of the ledger that an event is in, or belongs to."""
        if self._parts != OLDER | NEWER:
            return self._parts
        first: list[int] = self._ledger(NEWER).order[0].tolist()
        return NEWER if list(order) >= first else OLDER

    def _ledger(self, part: int) -> Ledger:
        if part not in self._ledgers:
            self._ledgers[part] = ledger.unpack(self._load(part)) if self._parts & part else ledger.EMPTY
        return self._ledgers[part]

    def _put(self, part: int, changed: Ledger) -> None:
        self._ledgers[part] = changed
        self._parts |= part
        self._changed |= part
