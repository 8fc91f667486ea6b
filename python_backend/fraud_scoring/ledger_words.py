"""The words of a ledger where they lie in memory, without a copy: packed as stores keep it, or laid out.

Compiled code gets an address, and reads both kinds by the same functions. What is laid out has one line of memory for
an entry where a packed one has three, room for a newer part, and notes where the edges of windows were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cffi
import numba
import numpy as np

from fraud_scoring.windows import NEVER, Int64, jit

_NUMBA: Any = numba
_POINTER: Any = _NUMBA.types.CPointer(_NUMBA.types.int64)
_WORD_BYTES: Final = 8
_FFI: Final = cffi.FFI()
_ADDRESS: Final = _FFI.typeof("uintptr_t")
HINTS: Final = 16
"""Edges of which a ledger in memory knows where each was found, from where it is looked for the next time."""
LAID_OUT: Final = 2
KNOWN_AT, HINTS_AT = 3, 4
_OLDER, _OLDER_FRAUDS, _MOST, _FRAUDS_AT, _MOST_FRAUDS = range(HINTS_AT + HINTS, HINTS_AT + HINTS + 5)
ENTRIES: Final = 40
HALF: Final = 32
_LOW: Final = (1 << HALF) - 1
_ROOM: Final = 256
"""Entries, at least, by which a newer part may grow where it is held in memory."""
Ledgers = Sequence[tuple[int, "bytes | memoryview"]]
"""(entity, packed ledger) of the entities that have one, entities rising; of a ledger in two parts the older first."""


def where_they_lie(ledgers: Ledgers) -> tuple[Int64, list[Int64]]:
    """(entity, address, words of each, int64 [L, 3]; copies that must be held while the addresses are used).

    Those that were not copied are held by `ledgers`.
    """
    lying = np.empty((len(ledgers), 3), np.int64)
    held = []
    for i, (entity, packed) in enumerate(ledgers):
        address = _address(packed)
        if address % _WORD_BYTES:  # LMDB aligns large values only
            held.append(np.frombuffer(bytes(packed), np.int64).copy())
            address = _address(held[-1].data)
        lying[i] = entity, address, len(packed) // _WORD_BYTES
    return lying, held


def laid_out(older: bytes | memoryview, newer: bytes | memoryview, most_newer: int) -> Int64:
    """A packed ledger, of one part or two, laid out in memory for a newer part of at most so many entries.

    Header (40 words): format (2), entries n, frauds F, when all frauds were known (`NEVER` where one is more than one
    event's); 16 hints; entries and frauds of the older part; entries that there is room for; where the frauds begin;
    room for frauds. Then for each entry, and for what would be the next one: time, id, events before it with the frauds
    before it from bit 32 on, amounts before it. Then the frauds, as they are packed.
    """
    (of_older, of_newer), _held = where_they_lie([(0, older), (0, newer)])
    words: Int64 = _laid_out(of_older, of_newer, most_newer)
    return words


def lay_out_newer(words: Int64, newer: bytes | memoryview) -> bool:
    """Puts another newer part into what `laid_out` made; False, and it is to be made anew, where there is no room."""
    (of_newer,), _held = where_they_lie([(0, newer)])
    fits: bool = _lay_out(words, of_newer)
    return fits


def _address(packed: bytes | memoryview) -> int:
    """Where it lies, for as long as the caller holds it."""
    buffer = _FFI.from_buffer(packed)
    address = int(_FFI.cast(_ADDRESS, buffer))
    _FFI.release(buffer)  # a buffer that the collector meets in a cycle with its memoryview ends the process
    return address


@_NUMBA.extending.intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, address: Any) -> Any:
    """The address as a pointer to int64."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(_POINTER))

    return _POINTER(numba.types.int64), generate


@jit
def words_at(address: int, length: int) -> Int64:
    words: Int64 = _NUMBA.carray(_pointer(address), (length,))
    return words


@jit
def frauds_at(words: Int64) -> int:
    """Where the frauds begin: time, id, how many, when all were known."""
    found: int = words[_FRAUDS_AT] if words[0] == LAID_OUT else 6 + 4 * words[1]
    return found


@jit
def first_fraud(words: Int64, f: int, time: int, identifier: int) -> int:
    """The first fraud, from `f` on, that does not come before (time, id)."""
    at = frauds_at(words)
    while f < words[2] and (
        words[at + 4 * f] < time or (words[at + 4 * f] == time and words[at + 4 * f + 1] < identifier)
    ):
        f += 1
    return f


@jit
def _laid_out(older: Int64, newer: Int64, most_newer: int) -> Int64:
    """Both parts, with room for a newer one that is longer, as far as it pays for an older one of this length."""
    first, second = words_at(older[1], older[2]), words_at(newer[1], newer[2])
    room = max(second[1], min(most_newer, second[1] + (first[1] >> 2) + _ROOM))
    most, most_frauds = first[1] + room, first[2] + second[2] + (room >> 3)
    frauds_at = ENTRIES + 4 * (most + 1)
    words = np.empty(frauds_at + 4 * most_frauds, np.int64)
    words[:ENTRIES] = 0
    words[0], words[_MOST], words[_FRAUDS_AT], words[_MOST_FRAUDS] = LAID_OUT, most, frauds_at, most_frauds
    words[ENTRIES + 2] = words[ENTRIES + 3] = 0
    _lay_out(words, older)
    words[_OLDER], words[_OLDER_FRAUDS] = words[1], words[2]
    _lay_out(words, newer)
    return words


@jit
def _lay_out(words: Int64, part: Int64) -> bool:
    """Put a packed part behind the older one."""
    packed = words_at(part[1], part[2])
    n, frauds = packed[1], packed[2]
    before, f = words[_OLDER], words[_OLDER_FRAUDS]
    if before + n > words[_MOST] or f + frauds > words[_MOST_FRAUDS]:
        return False
    words[1], words[2] = before + n, f + frauds
    fraud = words[_FRAUDS_AT]
    for i in range(4 * frauds):
        words[fraud + 4 * f + i] = packed[6 + 4 * n + i]
    known_at = -NEVER
    for i in range(fraud, fraud + 4 * words[2], 4):
        known_at = max(known_at, words[i + 3]) if words[i + 2] == 1 else NEVER
    words[KNOWN_AT] = known_at
    at = ENTRIES + 4 * before
    counted, amount = (words[at + 2] & _LOW) - packed[4 + 2 * n], words[at + 3] - packed[5 + 3 * n]
    for i in range(n + 1):
        if i < n:
            time, identifier = packed[4 + 2 * i], packed[5 + 2 * i]
            words[at], words[at + 1] = time, identifier
            f = first_fraud(words, f, time, identifier)
        else:
            f = words[2]
        words[at + 2], words[at + 3] = (packed[4 + 2 * n + i] + counted) | f << HALF, packed[5 + 3 * n + i] + amount
        at += 4
    return True


@jit
def time_of(words: Int64, at: int) -> int:
    """When an entry's first event was."""
    found: int = words[ENTRIES + 4 * at] if words[0] == LAID_OUT else words[4 + 2 * at]
    return found


@jit
def id_of(words: Int64, at: int) -> int:
    found: int = words[ENTRIES + 4 * at + 1] if words[0] == LAID_OUT else words[4 + 2 * at + 1]
    return found


@jit
def events_before(words: Int64, at: int) -> int:
    """Events before an entry, from any start."""
    found: int = words[ENTRIES + 4 * at + 2] & _LOW if words[0] == LAID_OUT else words[4 + 2 * words[1] + at]
    return found


@jit
def amount_before(words: Int64, at: int) -> int:
    """Their amounts."""
    found: int = words[ENTRIES + 4 * at + 3] if words[0] == LAID_OUT else words[5 + 3 * words[1] + at]
    return found


@jit
def first_later(words: Int64, start: int, stop: int, time: int, identifier: int) -> int:
    """First entry in [start, stop) that comes after (time, id); stop if none does."""
    while start < stop:
        middle = (start + stop) >> 1
        at = time_of(words, middle)
        if at > time or (at == time and id_of(words, middle) > identifier):
            stop = middle
        else:
            start = middle + 1
    return start


@jit
def first_with(words: Int64, total: int) -> int:
    """First index whose running total is at least `total`; one behind the last if there is none."""
    start, stop = 0, words[1] + 1
    while start < stop:
        middle = (start + stop) >> 1
        if events_before(words, middle) < total:
            start = middle + 1
        else:
            stop = middle
    return start


@jit
def first_later_near(words: Int64, time: int, hint: int) -> int:
    """First entry that is later than `time`, the number of entries if none is: few steps from `hint` if it is near."""
    n = words[1]
    low = high = min(hint, n)
    step = 1
    if low and time_of(words, low - 1) > time:
        high = low - 1
        while high >= step and time_of(words, high - step) > time:
            high -= step
            step <<= 1
        low = max(high - step + 1, 0)
    else:
        while low + step <= n and time_of(words, low + step - 1) <= time:
            low += step
            step <<= 1
        high = min(low + step - 1, n)
    found: int = first_later(words, low, high, time, NEVER)
    return found
