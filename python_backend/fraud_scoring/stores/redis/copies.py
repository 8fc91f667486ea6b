"""What a client on one server holds of entities in memory, so that it reads them once and not with each transaction.

An entity's newest events are held in an arena from its first read on, until more is used than there is room for. What
happens to it afterwards, by whomever, is in a batch (feed.py): a client that has followed the batches up to the head
that the server names holds what the server holds. Invariants:
- what waits for entities (waiting.py) is of all batches up to `seen`, and the arenas have these, too; an entity may be
  ahead, since a string that is read has events of later batches, which change nothing when they are added once more;
- whatever does not fit is forgotten, and read again: an entity that a batch names as changed otherwise, or that gets
  too many events; all of them, where a batch is of another schema, or too many have come; and what waits as well, where
  the batches do not go on from `seen`: then the client begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fraud_scoring import events
from fraud_scoring.stores.arena import Arena
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.feed import Head, Waits
from fraud_scoring.stores.redis.partitions import partition_of
from fraud_scoring.stores.redis.waiting import Waiting, merged
from fraud_scoring.windows import TIME, Folding, Int64, for_kernels

MOST_BEHIND: Final = 256
"""Entities are brought forward by so many batches; beyond that it costs less to read again what is asked for."""
_NOTHING_WAITS: Final = 1 << 62
_NO_ROWS: Final = np.empty((0, 0), np.int64)


class Copies:
    """Copies of the entities of `layout`."""

    def __init__(self, layout: Layout, folding: Folding) -> None:
        self._layout = layout
        self._order = np.array([layout.time_index, layout.id_index, layout.amount_index], np.int64)
        self._arenas = [Arena(b"", folding) for _ in layout.entities]
        self.hold_any = False
        """Whether any entity is held."""
        self.waiting = Waiting()

    @property
    def seen(self) -> Head | None:
        """The last batch that is here; None: the client must begin."""
        return self.waiting.seen

    def clear(self) -> None:
        """Forget all entities."""
        if self.hold_any:
            for arena in self._arenas:
                arena.clear()
        self.hold_any = False

    def begin(self, drained: Int64, head: Head) -> None:
        """Forget everything; the next batch is the one after `head`."""
        self.clear()
        self.waiting.begin(drained)
        self.waiting.seen = head

    def lose(self) -> None:
        """Forget everything: nobody knows what happened."""
        self.clear()
        self.waiting.seen = None

    def slots(self, position: int, rows: Int64) -> Int64:
        """Where the entities of an entity column are held, int64 [N]; -1 for one that is not."""
        return self._arenas[position].slots(rows, self._layout.entities[position][0])

    def holds(self, rows: Int64) -> Waits:
        """Of each row and entity column, whether the entity is held: its event can wait then."""
        if not self.hold_any:
            return np.zeros((len(rows), len(self._arenas)), np.bool_)
        return np.stack([self.slots(position, rows) >= 0 for position in range(len(self._arenas))], axis=1)

    def hold(
        self, position: int, keys: Int64, strings: Sequence[bytes | None], drained: Int64
    ) -> tuple[dict[int, bytes], list[int]]:
        """Hold the entities of a column, whose strings are of where `drained` says: (those that cannot be held, since
        they have a ledger or too many events, with what waits for them; partitions that must be written before, since
        what waits in them is older than the strings).
        """
        self.hold_any = True
        arena, (_, _, keep_us) = self._arenas[position], self._layout.entities[position]
        arena.reserve(len(keys), _NOTHING_WAITS)
        partitions, others, blocked = partition_of(keys), dict[int, bytes](), list[int]()
        offsets, found = self.waiting.of(self.waiting.kind(self._layout, position), keys, partitions, drained)
        bounds = offsets.tolist()
        for i, (key, string) in enumerate(zip(keys.tolist(), strings, strict=True)):
            value = string or b""
            if bounds[i] < bounds[i + 1]:
                whole = merged(value, found[bounds[i] : bounds[i + 1]])
                if whole is None:
                    blocked.append(int(partitions[i]))
                    continue
                value = whole
            if len(value) % events.EVENT.size or not arena.load(key, _trimmed(value, keep_us)):
                others[key] = value
                if bounds[i] < bounds[i + 1]:
                    self.waiting.hasten(int(partitions[i]))
        return others, blocked

    def gather(self, position: int, slots: Int64) -> tuple[Int64, Int64, Int64]:
        """(segment, offsets, events) of a history of these slots."""
        segment, offsets, joined, _ = self._arenas[position].gather(slots)
        return segment, offsets, joined

    def value(self, position: int, slot: int) -> bytes:
        """An entity's events."""
        return self._arenas[position].value(slot)

    def add(self, rows: Int64, waits: Waits | None, batch: Head) -> None:
        """The events of the next batch, which is of this layout."""
        self.waiting.add(rows, waits, self._layout, batch)
        if self.hold_any and len(rows):
            for position, (column, _, keep_us) in enumerate(self._layout.entities):
                arena = self._arenas[position]
                slots = arena.slots(rows, column)
                left = arena.append(slots, rows, self._order, keep_us, 0, block=False)
                for key in rows[left[slots[left] >= 0], column].tolist():
                    arena.drop(key)

    def follow(self, number: int, packed: bytes | None) -> bool:
        """The next batch, whoever made it, of the number after `seen`; False where it does not go on from there.

        Where no entity is held, the head is enough of one of which no event waits.
        """
        if packed is None:
            self.lose()
            return False
        before, own = feed.links_of(packed, number)
        if before != self.seen:
            self.lose()
            return False
        if not self.hold_any and not feed.may_wait(packed):
            self.waiting.add(_NO_ROWS, None, None, own)
            return True
        batch = feed.parse(packed)
        if batch.layout == self._layout.key:
            self.add(for_kernels(batch.rows), batch.waits, own)
            for position, key in batch.dropped.tolist():
                self._arenas[position].drop(key)
        else:
            self.clear()
            self.waiting.add(for_kernels(batch.rows), batch.waits, batch.waiting_layout, own)
        return True


def _trimmed(value: bytes, keep_us: int) -> bytes:
    """Events without those that are past their time: the server drops them some at a time."""
    if not value:
        return value
    oldest = events.newest(value)[0] - keep_us
    if events.order(value)[0] > oldest:
        return value
    first = int(np.searchsorted(events.unpack(value)[:, TIME], oldest, side="right"))
    return value[events.EVENT.size * first :]
