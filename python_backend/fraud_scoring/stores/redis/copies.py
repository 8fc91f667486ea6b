"""What a client on one server holds of entities in memory, so that it reads them once and not with each transaction.

An entity's newest events are held in an arena from its first read on, until more is used than there is room for. What
happens to it afterwards, by whomever, is in a batch (feed.py): a client that has followed the batches up to the head
that the server names holds what the server holds. Invariants:
- `seen` is the last batch that the arenas have; a later one adds its events once more where they are, which changes
  nothing, so that a copy may be ahead of `seen`;
- whatever does not fit is forgotten, and read again: an entity that a batch names as changed otherwise, or that gets
  too many events; all of them, where the batches do not go on from `seen`, are of another schema, or are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from fraud_scoring import events
from fraud_scoring.stores.arena import NOT_ADDED, NOT_HERE, Arena, Kinds
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.feed import Batch, Head
from fraud_scoring.windows import TIME, Folding, Int64, for_kernels

MOST_BEHIND: Final = 256
"""So many batches are followed; beyond that it costs less to read again what is asked for."""
_NOTHING_WAITS: Final = 1 << 62

Fetch = Callable[[Sequence[int]], list[bytes | None]]
"""The batches of these numbers; None for one that is not there."""


class Copies:
    """Copies of the entities of `layout`."""

    def __init__(self, layout: Layout, folding: Folding) -> None:
        self._layout = layout
        self._order = np.array([layout.time_index, layout.id_index, layout.amount_index], np.int64)
        self._arenas = [Arena(b"", folding) for _ in layout.entities]
        self.seen: Head | None = None
        self.behind = 0
        """How many batches others had added when it was last looked."""
        self._holds_any = False

    def clear(self) -> None:
        """Forget everything."""
        if self._holds_any:
            for arena in self._arenas:
                arena.clear()
        self.seen, self._holds_any = None, False

    def slots(self, position: int, rows: Int64) -> Int64:
        """Where the entities of an entity column are held, int64 [N]; -1 for one that is not."""
        return self._arenas[position].slots(rows, self._layout.entities[position][0])

    def hold(self, position: int, key: int, value: bytes) -> bool:
        """Hold an entity, whose string is `value`; False where it has a ledger or too many events."""
        if len(value) % events.EVENT.size:
            return False
        self._holds_any = True
        return self._arenas[position].load(key, _trimmed(value, self._layout.entities[position][2]))

    def make_room(self, position: int, entities: int) -> None:
        """See to it that so many can be held; those go that were not used for longest."""
        self._arenas[position].reserve(entities, _NOTHING_WAITS)

    def gather(self, position: int, slots: Int64) -> tuple[Int64, Int64, Int64]:
        """(segment, offsets, events) of a history of these slots."""
        segment, offsets, joined, _ = self._arenas[position].gather(slots)
        return segment, offsets, joined

    def value(self, position: int, slot: int) -> bytes:
        """An entity's events."""
        return self._arenas[position].value(slot)

    def add(self, rows: Int64) -> list[Kinds]:
        """Add the events of a batch, whoever made it: for each entity column how it went, uint8 [N] (arena.NEWEST)."""
        found = []
        for position, (column, _, keep_us) in enumerate(self._layout.entities):
            if not self._holds_any:
                found.append(np.full(len(rows), NOT_HERE, np.uint8))
                continue
            arena = self._arenas[position]
            kinds = arena.follow(arena.slots(rows, column), rows, self._order, keep_us)
            if (lost := kinds == NOT_ADDED).any():
                self.drop(position, rows[lost])
            found.append(kinds)
        return found

    def drop(self, position: int, rows: Int64) -> None:
        """Forget the entities of a column that `rows` name."""
        for key in rows[:, self._layout.entities[position][0]].tolist():
            self._arenas[position].drop(key)

    def drop_all_of(self, rows: Int64) -> None:
        """Forget all entities that `rows` name."""
        for position in range(len(self._arenas)):
            self.drop(position, rows)

    def goes_on(self, newest: Head, own: Head) -> None:
        """A batch of this client came after `newest`."""
        if newest == self.seen or not self._holds_any:
            self.seen = own

    def follow(self, newest: Head, ahead: Sequence[bytes | None], fetch: Fetch) -> None:
        """Bring the copies to where the server is; `ahead` are the batches after `seen` that were asked for."""
        before = self.seen
        if newest == before:
            self.behind = 0
            return
        if before is None or not self._holds_any or not 0 < newest.number - before.number <= MOST_BEHIND:
            self.clear()
            self.seen = newest
            return
        self.behind = newest.number - before.number
        numbers = range(before.number + 1, newest.number + 1)
        packed = [*ahead[: len(numbers)], *fetch(numbers[len(ahead) :])]
        for number, one in zip(numbers, packed, strict=True):
            batch = None if one is None else feed.parse(one)
            if batch is None or batch.before != before or batch.layout != self._layout.key:
                before = None
                break
            self._replay(batch)
            before = Head(number, batch.by_chance)
        if before != newest:
            self.clear()
        self.seen = newest

    def _replay(self, batch: Batch) -> None:
        if len(batch.rows):
            self.add(for_kernels(batch.rows))
        for position, key in batch.dropped.tolist():
            self._arenas[position].drop(key)


def _trimmed(value: bytes, keep_us: int) -> bytes:
    """Events without those that are past their time: the server drops them some at a time."""
    if not value:
        return value
    oldest = events.newest(value)[0] - keep_us
    if events.order(value)[0] > oldest:
        return value
    first = int(np.searchsorted(events.unpack(value)[:, TIME], oldest, side="right"))
    return value[events.EVENT.size * first :]
