"""Packed events: an entity's newest events as bytes, sorted by (time, id), 32 bytes an event.

What a store keeps per entity; a busy one's older events are in a ledger.

The usual case, an event later than all before it, is a slice and a concatenation.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from fraud_scoring.windows import EVENT_WIDTH, NEVER, TIME, Int64

EVENT: Final = struct.Struct("<qqqq")
"""time (µs), transaction id, amount (minor units), known as fraud at (µs; NEVER)."""
_ORDER: Final = struct.Struct("<qq")
_TIME: Final = struct.Struct("<q")


def pack(time_us: int, transaction_id: int, amount_minor: int) -> bytes:
    """A new event, not known as fraud."""
    return EVENT.pack(time_us, transaction_id, amount_minor, NEVER)


def unpack(packed: bytes) -> Int64:
    """Events int64 [M, 4], read-only."""
    return np.frombuffer(packed, np.int64).reshape(-1, EVENT_WIDTH)


def order(packed: bytes) -> tuple[int, int]:
    """(time, id) of the first event."""
    time, identifier = _ORDER.unpack_from(packed)
    return time, identifier


def newest(packed: bytes) -> tuple[int, int]:
    """(time, id) of the last event."""
    time, identifier = _ORDER.unpack_from(packed, len(packed) - EVENT.size)
    return time, identifier


def goes_last(packed: bytes, mine: tuple[int, int], keep_us: int) -> bool:
    """Whether an event at `mine`, (time, id), is simply put behind `packed`: the newest, with nothing to trim."""
    size = len(packed)
    if not size:
        return True
    return (
        not size % EVENT.size
        and mine > _ORDER.unpack_from(packed, size - EVENT.size)
        and _TIME.unpack_from(packed)[0] > mine[0] - keep_us
    )


def insert(packed: bytes, event: bytes, keep_us: int) -> bytes:
    """`packed` with `event` at its place, trimmed to `keep_us` behind the newest event.

    An event that is there already, or is older than what is kept, changes nothing.
    """
    if not packed:
        return event
    newest = _ORDER.unpack_from(packed, len(packed) - EVENT.size)
    mine = _ORDER.unpack_from(event)
    if mine > newest:
        oldest_kept = mine[0] - keep_us
        if _TIME.unpack_from(packed)[0] > oldest_kept:
            return packed + event
        return packed[EVENT.size * _first_later_than(packed, oldest_kept) :] + event
    if mine[0] <= newest[0] - keep_us:
        return packed
    at, found = find(packed, *mine)
    if found:
        return packed
    return packed[: at * EVENT.size] + event + packed[at * EVENT.size :]


def find(packed: bytes, time_us: int, transaction_id: int) -> tuple[int, bool]:
    """Where (time, id) is or belongs, counted in events, and whether it is there."""
    low, high = 0, len(packed) // EVENT.size
    wanted = (time_us, transaction_id)
    while low < high:
        middle = (low + high) // 2
        if _ORDER.unpack_from(packed, middle * EVENT.size) < wanted:
            low = middle + 1
        else:
            high = middle
    found = low < len(packed) // EVENT.size and _ORDER.unpack_from(packed, low * EVENT.size) == wanted
    return low, found


def set_fraud_known_at(packed: bytes, time_us: int, transaction_id: int, known_at_us: int) -> bytes:
    """`packed` with the event's label changed; unchanged if the event is no longer there."""
    at, found = find(packed, time_us, transaction_id)
    if not found:
        return packed
    label = (at + 1) * EVENT.size - _TIME.size
    return packed[:label] + _TIME.pack(known_at_us) + packed[label + _TIME.size :]


def _first_later_than(packed: bytes, time_us: int) -> int:
    return int(np.searchsorted(unpack(packed)[:, TIME], time_us, side="right"))
