"""The newest events of many entities in one block of memory; compiled code finds, reads and adds to a batch's at once.

An arena is one process's copy of what its store says of an entity; what it holds and the base lacks yet is in the
store's batches. Each entity has a slot: room for as many events as it may have beside its ledger, in order. Guarantee:
`append` does to a slot what `Past.add` does to an entity, or tells that it cannot. Cost of a row: a search in a hash
table, and 32 bytes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fraud_scoring import events
from fraud_scoring.ledger_words import laid_out, lay_out_newer
from fraud_scoring.past import NEWER, OLDER, join, split
from fraud_scoring.windows import (
    EVENT_WIDTH,
    FOLDING,
    NEVER,
    SPAN_WIDTH,
    Folding,
    Int64,
    first_after,
    first_after_time,
    jit,
)

MOST_SLOTS: Final = 1 << 16
"""Entities that an arena has room for before it lets those go that were not used for longest; 4 kB each, or 8."""
MOST_EVENTS: Final = 216
"""Events that a slot may have; an entity with more of them has none."""
_MOST_HELD_BYTES: Final = 64 << 20
"""Of ledgers that are held in memory; others are read where they lie in the base."""
NO_REACH: Final = np.empty((0, 2), np.int64)
_MISSING: Final = -1
_CLEAN: Final = -1

_STATE: Final = 10
START, STOP, LEDGER, CHANGED, SINCE, USED, BLOCKED, MARK, HELD_AT, HELD_WORDS = range(_STATE)
"""Columns of a slot's state: its events are [START, STOP); the parts of its ledger; the last batch that changed it
(-1: all is in the base), and the first since it was in the base; the last call that used it; whether its entity takes
no more rows of this batch; the call that has it in its history, with its place there, as MARK = call · 2³² + place;
where its ledger is held (0: nowhere) and how long it is."""


class Arena:
    """Newest events by entity key; `prefix` begins the entities' keys in the base."""

    def __init__(self, prefix: bytes, folding: Folding = FOLDING, most_slots: int = MOST_SLOTS) -> None:
        self.prefix = prefix
        self._most_slots = most_slots
        self._most_events = min(folding.seal_at, MOST_EVENTS)
        self._most_newer = folding.join_at
        self._call = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._make_room(self._most_slots)
        self._next, self._free = 0, list[int]()
        """Slots from `_next` on were never used; those in `_free` are free again."""
        self._held: dict[int, Int64] = {}
        """Ledgers by entity, as `summary.laid_out` makes them."""
        self._held_bytes = 0
        self._stale = set[int]()
        """Entities whose ledger has another newer part than the one that is held."""
        self._without_slot = set[int]()
        """Entities whose ledger is held for when they are loaded again."""

    def slots(self, rows: Int64, column: int) -> Int64:
        """The slot of each row's entity int64 [N]; -1 where it has none."""
        return self.find(rows, column)[0]

    def find(self, rows: Int64, column: int) -> tuple[Int64, int]:
        """(`slots`, rows whose entity has none)."""
        self._call += 1
        found: tuple[Int64, int] = _find(self._table, rows, column, self._state, self._call)
        return found

    def slot(self, key: int) -> int:
        """The slot of an entity; -1 if it has none."""
        return int(self._table[_place(self._table, key), 1]) - 1

    def load(self, key: int, value: bytes) -> bool:
        """Give an entity that has no slot its first value of the base; False: it has too many events for one."""
        recent, parts = split(value)
        n = len(recent) // events.EVENT.size
        if n > self._most_events:
            return False
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._next = self._next, self._next + 1
        self._events[slot, :n] = events.unpack(recent)
        self._state[slot] = 0, n, parts, _CLEAN, 0, self._call, 0, 0, 0, 0
        self._keys[slot] = key
        _enter(self._table, key, slot)
        self._without_slot.discard(key)
        if key in self._held and key not in self._stale:
            self._tell_where(slot)
        return True

    def reserve(self, entities: int, drained: int) -> None:
        """Make sure that so many can be loaded; the base has all batches before `drained`."""
        if self._room() < entities:
            self._let_go(drained)
        while self._room() < entities:
            size = len(self._state)
            self._make_room(2 * size, self._events, self._state, self._keys)
            for slot in np.setdiff1d(np.arange(self._next), self._free).tolist():
                _enter(self._table, int(self._keys[slot]), slot)

    def value(self, slot: int) -> bytes:
        """The first value of a slot's entity, as the base holds it."""
        start, stop, parts = self._state[slot, : LEDGER + 1].tolist()
        return join(self._events[slot, start:stop].tobytes(), parts)

    def values(self, slots: Int64) -> list[bytes]:
        """The first values of many, each slot once."""
        _, offsets, joined, _ = self.gather(slots)
        packed, bounds = joined.tobytes(), (offsets * events.EVENT.size).tolist()
        marked = self._state[slots, LEDGER].tolist()
        return [join(packed[a:b], parts) for a, b, parts in zip(bounds, bounds[1:], marked, strict=False)]

    def drop(self, key: int, unchanged: int = 0) -> None:
        """Forget an entity, but for the parts of its ledger that will be as they were when it is loaded again."""
        at = _place(self._table, key)
        slot = int(self._table[at, 1]) - 1
        if slot >= 0:
            _remove(self._table, at)
            self._state[slot, CHANGED] = _CLEAN
            self._free.append(slot)
        if key not in self._held:
            return
        if not unchanged & OLDER:
            self._held_bytes -= self._held.pop(key).nbytes
            self._stale.discard(key)
            self._without_slot.discard(key)
            return
        self._without_slot.add(key)
        if not unchanged & NEWER:
            self._stale.add(key)

    def append(self, slots: Int64, rows: Int64, layout: Int64, keep_us: int, batch: int, *, block: bool) -> Int64:
        """Add each row's event to its slot; which rows could not be added, int64.

        `layout`: columns of time, id, amount. With `block`, an entity takes no row after one that could not be added.
        """
        left: Int64 = _append(
            slots, rows, layout, self._events, self._state, keep_us, self._most_events, batch, self._call, block
        )
        return left

    def gather(self, slots: Int64) -> tuple[Int64, Int64, Int64, Int64]:
        """(segment, offsets, events, slots of the entities) of a history of these slots, each of which is there."""
        segment, offsets, joined, distinct, *_ = self.gather_for(slots, slots.reshape(-1, 1), 0, NO_REACH, 0)
        return segment, offsets, joined, distinct

    def gather_for(
        self, slots: Int64, rows: Int64, time: int, reach_us: Int64, exact: int
    ) -> tuple[Int64, Int64, Int64, Int64, Int64, int]:
        """The same for these rows, with their `time` in that column; spans int64 [U, 6], one for each entity; and how
        many entities have a ledger.

        What need not be taken apart is the entity's span instead of its events: those beside a ledger, where all rows
        come after them, and all edges of the rows' windows before (`reach_us`, as in `summary.summarise`).
        """
        self._call += 1
        found: tuple[Int64, Int64, Int64, Int64, Int64, int] = _gather(
            slots, self._events, self._state, self._call, rows, time, reach_us.reshape(-1, 2), exact
        )
        return found

    def ledgers(self, slots: Int64) -> tuple[Int64, Int64]:
        """(place in `slots`, address, words of ledgers that are held, int64 [L, 3]; places of those that are not)."""
        held, missing = _ledgers(slots, self._state)
        return held, missing

    def parts(self, slot: int) -> int:
        """The parts of its entity's ledger."""
        return int(self._state[slot, LEDGER])

    def renew(self, slot: int, newer: bytes | memoryview) -> bool:
        """Put the newer part into an entity's ledger of which the older is held; False: it is not, or has no room."""
        words = self._held.get(int(self._keys[slot]))
        if words is None or not lay_out_newer(words, newer):
            return False
        self._tell_where(slot)
        return True

    def hold(self, slot: int, older: bytes | memoryview, newer: bytes | memoryview) -> bool:
        """Keep a copy of an entity's ledger, for as long as it is not dropped; False: there is no room."""
        key = int(self._keys[slot])
        if (before := self._held.pop(key, None)) is not None:
            self._held_bytes -= before.nbytes
        size = len(older) + len(newer)
        if self._held_bytes + size > _MOST_HELD_BYTES:
            for other in list(self._without_slot):
                self.drop(other)
        if self._held_bytes + size > _MOST_HELD_BYTES:
            self._stale.discard(key)
            return False
        self._held[key] = laid_out(older, newer, self._most_newer)
        self._held_bytes += self._held[key].nbytes
        self._tell_where(slot)
        return True

    def _tell_where(self, slot: int) -> None:
        key = int(self._keys[slot])
        self._stale.discard(key)
        words = self._held[key]
        self._state[slot, HELD_AT], self._state[slot, HELD_WORDS] = words.ctypes.data, len(words)

    def keys(self, slots: Int64) -> list[int]:
        found: list[int] = self._keys[slots].tolist()
        return found

    def changed(self, slots: Int64, drained: int, to_drain: int) -> Int64:
        """Those of `slots`, each once, of which the base lacks a batch from `drained` on and before `to_drain`."""
        there = slots[slots != _MISSING]
        state = self._state[there]
        found: Int64 = np.unique(there[(state[:, CHANGED] >= drained) & (state[:, SINCE] < to_drain)])
        return found

    def is_in_base(self, slots: Int64) -> None:
        self._state[slots, CHANGED] = _CLEAN

    def _room(self) -> int:
        return len(self._state) - self._next + len(self._free)

    def _make_room(self, size: int, *kept: Int64) -> None:
        """Arrays for so many slots, with what is kept at their beginning. Pages that nobody touched cost nothing."""
        self._events = np.empty((size, self._most_events + _SPARE, EVENT_WIDTH), np.int64)
        self._state = np.zeros((size, _STATE), np.int64)
        self._keys = np.zeros(size, np.int64)
        self._table = np.zeros((1 << (4 * size - 1).bit_length(), 2), np.int64)
        for mine, old in zip((self._events, self._state, self._keys), kept, strict=False):
            mine[: len(old)] = old

    def _let_go(self, drained: int) -> None:
        """Forget a quarter, those that were not used for longest, of those that the base has whole."""
        taken = np.ones(self._next, np.bool_)
        taken[self._free] = False
        state = self._state[: self._next]
        mine = np.flatnonzero(taken & (state[:, CHANGED] < drained) & (state[:, USED] < self._call))
        oldest = mine[np.argsort(state[mine, USED])][: max(1, len(self._state) // 4)]
        for key in self.keys(oldest):
            self.drop(key)


_FRONT: Final = 32
"""So many events go from a slot's front before the others move up."""
_SPARE: Final = _FRONT + 8
"""Events that a slot has room for beyond those it may have."""
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF: Final = np.uint64(32)


@jit
def _home(key: int, mask: int) -> int:
    mixed: Any = np.int64((np.uint64(key) * _MIX) >> _HALF) & mask
    return int(mixed)


@jit
def _place(table: Int64, key: int) -> int:
    """Where a key is, or belongs: table[place] is (key, slot + 1), and (…, 0) where nobody is."""
    mask = len(table) - 1
    at: int = _home(key, mask)
    while table[at, 1] != 0 and table[at, 0] != key:
        at = (at + 1) & mask
    return at


@jit
def _enter(table: Int64, key: int, slot: int) -> None:
    at = _place(table, key)
    table[at, 0], table[at, 1] = key, slot + 1


@jit
def _remove(table: Int64, hole: int) -> None:
    """Empty a place, and move up whoever stands behind it because of it."""
    mask = len(table) - 1
    at = hole
    while True:
        at = (at + 1) & mask
        if table[at, 1] == 0:
            break
        if ((at - _home(table[at, 0], mask)) & mask) >= ((at - hole) & mask):
            table[hole, 0], table[hole, 1] = table[at, 0], table[at, 1]
            hole = at
    table[hole, 1] = 0


@jit
def _find(table: Int64, rows: Int64, column: int, state: Int64, call: int) -> Any:
    found = np.empty(len(rows), np.int64)
    missing = 0
    for i in range(len(rows)):
        slot = table[_place(table, rows[i, column]), 1] - 1
        found[i] = slot
        if slot >= 0:
            state[slot, USED] = call
        else:
            missing += 1
    return found, missing


@jit
def _gather(
    slots: Int64, stored: Int64, state: Int64, call: int, rows: Int64, time: int, reach: Int64, exact: int
) -> Any:
    n = len(slots)
    segment, distinct, offsets = np.empty(n, np.int64), np.empty(n, np.int64), np.zeros(n + 1, np.int64)
    times = np.empty((n, 2), np.int64)
    entities = ledgers = 0
    for i in range(n):
        slot = slots[i]
        if state[slot, MARK] >> 32 != call:
            state[slot, MARK] = (call << 32) | entities
            distinct[entities] = slot
            times[entities] = rows[i, time]
            entities += 1
            ledgers += state[slot, LEDGER] != 0
        u = state[slot, MARK] & 0xFFFFFFFF
        segment[i] = u
        times[u, 0], times[u, 1] = min(times[u, 0], rows[i, time]), max(times[u, 1], rows[i, time])
    nearest_us = _nearest(reach)
    spans = np.zeros((entities, SPAN_WIDTH), np.int64)
    for u in range(entities):
        mine, start, stop = stored[distinct[u]], state[distinct[u], START], state[distinct[u], STOP]
        size = stop - start
        can_be_one = nearest_us and size and state[distinct[u], LEDGER] and size + n <= exact
        if can_be_one and mine[start, 0] > times[u, 1] - nearest_us and mine[stop - 1, 0] < times[u, 0]:
            size = _joined(mine, start, stop, spans[u])
        offsets[u + 1] = offsets[u] + size
    joined = np.empty((offsets[entities], EVENT_WIDTH), np.int64)
    for u in range(entities):
        slot, to = distinct[u], offsets[u]
        if spans[u, 2]:
            continue
        for e in range(state[slot, START], state[slot, STOP]):
            for c in range(EVENT_WIDTH):
                joined[to, c] = stored[slot, e, c]
            to += 1
    return segment, offsets[: entities + 1], joined, distinct[:entities], spans, ledgers


@jit
def _nearest(reach: Int64) -> int:
    """How far before a row the first edge of its windows lies; 0 where single events are looked at, or none is far."""
    found = NEVER
    for k in range(len(reach)):
        if reach[k, 1]:
            return 0
        if reach[k, 0]:
            found = min(found, reach[k, 0])
    return 0 if found == NEVER else found


@jit
def _joined(mine: Int64, start: int, stop: int, span: Int64) -> int:
    """Make these events one span, unless one is a fraud; how many are left."""
    amount = 0
    for e in range(start, stop):
        if mine[e, 3] != NEVER:
            return stop - start
        amount += mine[e, 2]
    span[0], span[1], span[2], span[3] = mine[start, 0], mine[start, 1], stop - start, amount
    return 0


@jit
def _ledgers(slots: Int64, state: Int64) -> Any:
    held, missing = np.empty((len(slots), 3), np.int64), np.empty(len(slots), np.int64)
    size = others = 0
    for i in range(len(slots)):
        mine = state[slots[i]]
        if mine[LEDGER] and mine[HELD_AT]:
            held[size, 0], held[size, 1], held[size, 2] = i, mine[HELD_AT], mine[HELD_WORDS]
            size += 1
        elif mine[LEDGER]:
            missing[others] = i
            others += 1
    return held[:size], missing[:others]


@jit
def _append(
    slots: Int64,
    rows: Int64,
    layout: Int64,
    stored: Int64,
    state: Int64,
    keep_us: int,
    most: int,
    batch: int,
    call: int,
    block: bool,
) -> Int64:
    left = np.empty(len(slots), np.int64)
    size = 0
    for i in range(len(slots)):
        slot = slots[i]
        if slot < 0 or (block and state[slot, BLOCKED] == call):
            left[size] = i
            size += 1
            continue
        mine = state[slot]
        time, identifier, amount = rows[i, layout[0]], rows[i, layout[1]], rows[i, layout[2]]
        done = _add(stored[slot], mine, time, identifier, amount, keep_us, most, batch)
        if not done:
            mine[BLOCKED] = call
            left[size] = i
            size += 1
    return left[:size]


@jit
def _add(
    mine: Int64, state: Int64, time: int, identifier: int, amount: int, keep_us: int, most: int, batch: int
) -> bool:
    """Insert an event at its place, once; False, and nothing is changed, where the ledger is concerned."""
    start, stop = state[START], state[STOP]
    first = start
    at = stop
    if stop > start:
        last = stop - 1
        if time > mine[last, 0] or (time == mine[last, 0] and identifier > mine[last, 1]):
            if mine[start, 0] <= time - keep_us:
                first = first_after_time(mine, start, stop, time - keep_us)
        elif state[LEDGER] and (time < mine[start, 0] or (time == mine[start, 0] and identifier < mine[start, 1])):
            return False
        elif time <= mine[last, 0] - keep_us:
            return True
        else:
            at = first_after(mine, start, stop, time, identifier)
            if at > start and mine[at - 1, 0] == time and mine[at - 1, 1] == identifier:
                return True
    if stop - first >= most or (state[LEDGER] and first > start):
        return False
    if first >= _FRONT:
        for e in range(first, stop):
            for c in range(EVENT_WIDTH):
                mine[e - first, c] = mine[e, c]
        at, stop, first = at - first, stop - first, 0
    for e in range(stop, at, -1):
        for c in range(EVENT_WIDTH):
            mine[e, c] = mine[e - 1, c]
    mine[at, 0], mine[at, 1], mine[at, 2], mine[at, 3] = time, identifier, amount, NEVER
    if state[CHANGED] == _CLEAN:
        state[SINCE] = batch
    state[START], state[STOP], state[CHANGED] = first, stop + 1, batch
    return True


def load() -> None:
    """Compile what is compiled here, or load it from the cache, so that no caller waits for it."""
    arena, rows = Arena(b""), np.zeros((1, 1), np.int64)
    arena.load(0, b"")
    arena.append(arena.slots(rows, 0), rows, np.zeros(3, np.int64), 1, 0, block=True)
    arena.gather(arena.slots(rows, 0))
    arena.ledgers(arena.slots(rows, 0))
    arena.drop(0)
