"""What the windows of a batch need to know of ledgers, picked out of their bytes where they lie.

A window ends at a few places only. Between two of them, a ledger's events are joined into one span, by one subtraction
of running totals; so a batch costs O(N·K·log) plus the frauds that it meets, and not what the ledgers hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cffi
import numba
import numpy as np

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
    slot_end,
)

_NUMBA: Any = numba
_POINTER: Any = _NUMBA.types.CPointer(_NUMBA.types.int64)
_WORD_BYTES: Final = 8
_FFI: Final = cffi.FFI()
_ADDRESS: Final = _FFI.typeof("uintptr_t")
_START: Final = 16
"""Spans for each ledger that a batch is given room for at first."""
_FEW: Final = 64
"""Marks that are sorted by insertion; more are ticked off in a list of all."""

Ledgers = Sequence[tuple[int, "bytes | memoryview"]]
"""(entity, packed ledger) of the entities that have one, entities rising."""


def summarise(
    ledgers: Ledgers, segment: Int64, rows: Int64, offsets: Int64, recent: Int64, reach_us: Int64, folding: Folding
) -> tuple[Int64, Int64]:
    """(span_offsets, spans) of a History: they say for these rows all that the whole ledgers say.

    `segment` int64 [N] and `rows` int64 [N, 2] (time, id) are the batch; entity u's events after its ledger are
    recent[offsets[u]:offsets[u + 1]]; `reach_us` int64 [E, 2] is how far before a row its windows' edges lie, and how
    many events before that edge are needed one by one.
    """
    lying, _held = where_they_lie(ledgers)
    return summarise_lying(lying, segment, rows, offsets, recent, reach_us, folding)


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


def summarise_lying(
    lying: Int64, segment: Int64, rows: Int64, offsets: Int64, recent: Int64, reach_us: Int64, folding: Folding
) -> tuple[Int64, Int64]:
    """The same for ledgers that are somewhere in memory: (entity, address, words) int64 [L, 3], entities rising.

    Words behind a ledger's own are for hints: where each edge was found, from where it is looked for the next time.
    """
    reach = reach_us.reshape(-1, 2)
    span_offsets, spans = _summarise(lying, segment, rows, offsets, recent, reach, folding.exact, folding.slot_us)
    return span_offsets, spans


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


def load() -> None:
    """Compile what is compiled here, or load it from the cache, so that no caller waits for it."""
    one = np.zeros((1, 2), np.int64)
    empty = np.array([1, 0, 0, 0, 0, 0], np.int64).tobytes()
    events = np.empty((0, EVENT_WIDTH), np.int64)
    summarise(
        [(0, empty)], np.zeros(1, np.int64), one, np.zeros(2, np.int64), events, np.ones((1, 2), np.int64), FOLDING
    )


@jit
def _rows_of(segment: Int64, entities: int) -> Any:
    """(where each entity's rows begin [U + 1], the rows by entity [N])."""
    start = np.zeros(entities + 1, np.int64)
    for i in range(len(segment)):
        start[segment[i] + 1] += 1
    for u in range(entities):
        start[u + 1] += start[u]
    by = np.empty(len(segment), np.int64)
    place = start.copy()
    for i in range(len(segment)):
        by[place[segment[i]]] = i
        place[segment[i]] += 1
    return start, by


@jit
def _first_with(count: Int64, total: int) -> int:
    """First index whose running total is at least `total`; the length if there is none."""
    start, stop = 0, len(count)
    while start < stop:
        middle = (start + stop) >> 1
        if count[middle] < total:
            start = middle + 1
        else:
            stop = middle
    return start


@jit
def _distinct(marks: Int64, size: int, low: int, high: int, n: int) -> Int64:
    """What is in marks[:size] or in [low, high), sorted, each once; all lie in [0, n]."""
    left = 0
    if size <= _FEW and low >= high:
        for i in range(size):
            mark, at = marks[i], left
            while at > 0 and marks[at - 1] > mark:
                at -= 1
            if at > 0 and marks[at - 1] == mark:
                continue
            for j in range(left, at, -1):
                marks[j] = marks[j - 1]
            marks[at] = mark
            left += 1
        return marks[:left]
    there = np.zeros(n + 1, np.bool_)
    for i in range(size):
        there[marks[i]] = True
    for i in range(low, min(high, n + 1)):
        there[i] = True
    found = np.empty(n + 1, np.int64)
    for i in range(n + 1):
        if there[i]:
            found[left] = i
            left += 1
    return found[:left]


@jit
def _first_after_time_near(order: Int64, n: int, time: int, hint: int) -> int:
    """First index whose entry is later than `time`, n if none is: few steps from `hint` where it is near."""
    low = high = min(hint, n)
    step = 1
    if low and order[low - 1, 0] > time:
        high = low - 1
        while high >= step and order[high - step, 0] > time:
            high -= step
            step <<= 1
        low = max(high - step + 1, 0)
    else:
        while low + step <= n and order[low + step - 1, 0] <= time:
            low += step
            step <<= 1
        high = min(low + step - 1, n)
    found: int = first_after_time(order, low, high, time)
    return found


@jit
def _marks(
    order: Int64,
    count: Int64,
    hints: Int64,
    mine: Int64,
    rows: Int64,
    recent: Int64,
    reach: Int64,
    exact: int,
    slot: int,
) -> Int64:
    """Where in a ledger the windows of the rows `mine` may have an edge: indices that rise, each once."""
    n = len(order)
    hot = count[n] - count[0] + len(recent) + len(mine) > exact
    looked = 0
    for edge in range(len(reach)):
        looked += reach[edge, 1] + 1
    marks = np.empty(len(mine) * (2 + 2 * len(reach) + looked), np.int64)
    size = 0
    low, high = n, 0
    for i in mine:
        time, identifier = rows[i, 0], rows[i, 1]
        now = n
        if n and (order[n - 1, 0] > time or (order[n - 1, 0] == time and order[n - 1, 1] > identifier)):
            now = first_after(order, 0, n, time, identifier)
        marks[size] = now
        size += 1
        if now and order[now - 1, 0] == time and order[now - 1, 1] == identifier:
            marks[size] = now - 1
            size += 1
        for k in range(len(reach)):
            edge = time - reach[k, 0]
            found = now
            if reach[k, 0]:
                found = _first_after_time_near(order, n, edge, hints[k] if k < len(hints) else n >> 1)
                if k < len(hints):
                    hints[k] = found
            marks[size] = found
            size += 1
            if reach[k, 1]:  # of what is looked at one by one, some are recent; the others lie between two marks
                recently = first_after(recent, 0, len(recent), time, identifier)
                if reach[k, 0]:
                    recently = first_after_time(recent, 0, len(recent), edge)
                for at in range(found - 1, max(found - reach[k, 1] + recently, 0) - 2, -1):
                    marks[size] = max(at, 0)
                    size += 1
            if hot and reach[k, 0]:
                marks[size] = _first_after_time_near(order, n, slot_end(edge, slot), found)
                size += 1
        if hot:  # the newest `exact` events of what this row sees begin somewhere here
            before = count[now] - exact + first_after(recent, 0, len(recent), time, identifier)
            low = min(low, _first_with(count, before))
            high = max(high, _first_with(count, before + len(mine)) + 1)
    distinct: Int64 = _distinct(marks, size, low, high, n)
    return distinct


@jit
def _summarise(
    ledgers: Int64, segment: Int64, rows: Int64, offsets: Int64, recent: Int64, reach: Int64, exact: int, slot: int
) -> Any:
    entities = len(offsets) - 1
    start, by = _rows_of(segment, entities)
    span_offsets = np.zeros(entities + 1, np.int64)
    spans = np.empty((_START * len(ledgers), SPAN_WIDTH), np.int64)
    size = 0
    for i in range(len(ledgers)):
        entity, address, length = ledgers[i, 0], ledgers[i, 1], ledgers[i, 2]
        words = _NUMBA.carray(_pointer(address), (length,))
        n, frauds = words[1], words[2]
        order = words[4 : 4 + 2 * n].reshape(n, 2)
        count = words[4 + 2 * n : 5 + 3 * n]
        hints = words[6 + 4 * n + 4 * frauds :]
        mine = by[start[entity] : start[entity + 1]]
        newer = recent[offsets[entity] : offsets[entity + 1]]
        marks = _marks(order, count, hints, mine, rows, newer, reach, exact, slot)
        needed = size + 2 * len(marks) + frauds
        if needed > len(spans):
            more = np.empty((2 * needed, SPAN_WIDTH), np.int64)
            for at in range(size):
                more[at] = spans[at]
            spans = more
        earliest = NEVER
        for row in mine:
            earliest = min(earliest, rows[row, 0])
        before = size
        size = _join(words, n, frauds, marks, earliest, spans, size)
        span_offsets[entity + 1] = size - before
    for u in range(entities):
        span_offsets[u + 1] += span_offsets[u]
    return span_offsets, spans[:size]


@jit
def _join(words: Int64, n: int, frauds: int, marks: Int64, earliest: int, spans: Int64, size: int) -> int:
    """Puts a span for all between each two marks, and before it its frauds: known by `earliest` in one, others each."""
    order = words[4 : 4 + 2 * n].reshape(n, 2)
    count = words[4 + 2 * n : 5 + 3 * n]
    amount = words[5 + 3 * n : 6 + 4 * n]
    fraud = words[6 + 4 * n : 6 + 4 * n + 4 * frauds].reshape(frauds, 4)
    f = 0
    for m in range(len(marks) - 1):
        start, stop = marks[m], marks[m + 1]
        time, identifier = order[start, 0], order[start, 1]
        while f < frauds and (fraud[f, 0] < time or (fraud[f, 0] == time and fraud[f, 1] < identifier)):
            f += 1
        known = 0
        while f < frauds and (
            stop == n
            or fraud[f, 0] < order[stop, 0]
            or (fraud[f, 0] == order[stop, 0] and fraud[f, 1] < order[stop, 1])
        ):
            if fraud[f, 3] <= earliest:
                known += fraud[f, 2]
            else:
                size = _put(spans, size, time, identifier, 0, 0, fraud[f, 2], fraud[f, 3])
            f += 1
        if known:
            size = _put(spans, size, time, identifier, 0, 0, known, earliest)
        size = _put(spans, size, time, identifier, count[stop] - count[start], amount[stop] - amount[start], 0, 0)
    return size


@jit
def _put(
    spans: Int64, at: int, time: int, identifier: int, events: int, amount: int, frauds: int, known_at: int
) -> int:
    span = spans[at]
    span[0], span[1], span[2], span[3], span[4], span[5] = time, identifier, events, amount, frauds, known_at
    return at + 1
