"""What the windows of a batch need to know of ledgers, picked out of their bytes where they lie.

A window ends at a few places only. Between two of them, a ledger's events are joined into one span, by one subtraction
of running totals; so a batch costs O(N·K·log) plus the frauds that it meets, and not what the ledgers hold.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fraud_scoring.ledger_words import (
    ENTRIES,
    HALF,
    HINTS,
    HINTS_AT,
    KNOWN_AT,
    LAID_OUT,
    Ledgers,
    amount_before,
    events_before,
    first_fraud,
    first_later,
    first_later_near,
    first_with,
    frauds_at,
    id_of,
    laid_out,
    lay_out_newer,
    time_of,
    where_they_lie,
    words_at,
)
from fraud_scoring.windows import (
    EVENT_WIDTH,
    FOLDING,
    NEVER,
    SPAN_WIDTH,
    Folding,
    Int64,
    first_after,
    jit,
    slot_end,
)

_START: Final = 16
"""Spans for each ledger that a batch is given room for at first."""
_FEW: Final = 64
"""Marks that are sorted by insertion; more are ticked off in a list of all."""


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


def summarise_lying(
    lying: Int64,
    segment: Int64,
    rows: Int64,
    offsets: Int64,
    recent: Int64,
    reach_us: Int64,
    folding: Folding,
    last: Int64 | None = None,
) -> tuple[Int64, Int64]:
    """The same for ledgers that are somewhere in memory: (entity, address, words) int64 [L, 3], entities rising.

    Each is as `ledger.pack` or as `laid_out` makes it. `last` int64 [U, 6]: a span that comes behind each entity's own,
    all rows being after it and no edge in it; one without events is none.
    """
    reach = reach_us.reshape(-1, 2)
    if last is None:
        last = np.zeros((len(offsets) - 1, SPAN_WIDTH), np.int64)
    span_offsets, spans = _summarise(lying, segment, rows, offsets, recent, reach, folding.exact, folding.slot_us, last)
    return span_offsets, spans


def load() -> None:
    """Compile what is compiled here, or load it from the cache, so that no caller waits for it."""
    one = np.zeros((1, 2), np.int64)
    empty = np.array([1, 0, 0, 0, 0, 0], np.int64).tobytes()
    events = np.empty((0, EVENT_WIDTH), np.int64)
    lay_out_newer(laid_out(empty, empty, 1), empty)
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
def _distinct(marks: Int64, size: int, low: int, high: int, n: int) -> int:
    """Puts what is in marks[:size] or in [low, high), all in [0, n], sorted and each once at the front; how many."""
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
        return left
    there = np.zeros(n + 1, np.bool_)
    for i in range(size):
        there[marks[i]] = True
    for i in range(low, min(high, n + 1)):
        there[i] = True
    for i in range(n + 1):
        if there[i]:
            marks[left] = i
            left += 1
    return left


@jit
def _before(newer: Int64, recent: Int64, begin: int, end: int, time: int, identifier: int) -> int:
    """Events of a newer part, and of recent[begin:end], that come until (time, id)."""
    n = newer[1]
    found = 0
    if n and time_of(newer, 0) <= time:
        found = events_before(newer, first_later(newer, 0, n, time, identifier)) - events_before(newer, 0)
    return found + int(first_after(recent, begin, end, time, identifier)) - begin


@jit
def _marks(
    words: Int64,
    newer: Int64,
    recent: Int64,
    begin: int,
    end: int,
    others: int,
    by: Int64,
    first: int,
    last: int,
    rows: Int64,
    reach: Int64,
    exact: int,
    slot: int,
    marks: Int64,
) -> int:
    """Puts where in a part of a ledger the windows of the rows by[first:last] may have an edge: how many indices, that
    rise, each once.

    The newer part, which may be empty, recent[begin:end] and so many `others` come after it. `marks` has room for all.
    """
    n = words[1]
    hints = HINTS if words[0] == LAID_OUT else 0
    total = events_before(words, n) - events_before(words, 0) + end - begin + others + last - first
    if newer[1]:
        total += events_before(newer, newer[1]) - events_before(newer, 0)
    hot = total > exact
    size = 0
    low, high = n, 0
    for at in range(first, last):
        i = by[at]
        time, identifier = rows[i, 0], rows[i, 1]
        now = n
        all_before = not n or (newer[1] > 0 and time_of(newer, 0) < time) or time_of(words, n - 1) < time
        if not all_before:
            now = first_later(words, 0, n, time, identifier)
            if now and time_of(words, now - 1) == time and id_of(words, now - 1) == identifier:
                marks[size] = now - 1
                size += 1
        marks[size] = now
        size += 1
        for k in range(len(reach)):
            edge = time - reach[k, 0]
            found = now
            if reach[k, 0]:
                found = first_later_near(words, edge, words[HINTS_AT + k] if k < hints else n >> 1)
                if k < hints:
                    words[HINTS_AT + k] = found
            marks[size] = found
            size += 1
            if reach[k, 1]:  # of what is looked at one by one, some are later; the others lie between two marks
                later = _before(newer, recent, begin, end, time, identifier)
                if reach[k, 0]:
                    later = _before(newer, recent, begin, end, edge, NEVER)
                for one in range(found - 1, max(found - reach[k, 1] + later, 0) - 2, -1):
                    marks[size] = max(one, 0)
                    size += 1
            if hot and reach[k, 0]:
                marks[size] = first_later_near(words, slot_end(edge, slot), found)
                size += 1
        if hot:  # the newest `exact` events of what this row sees begin somewhere here
            before = events_before(words, now) - exact + _before(newer, recent, begin, end, time, identifier) + others
            low = min(low, first_with(words, before))
            high = max(high, first_with(words, before + last - first) + 1)
    return int(_distinct(marks, size, low, high, n))


@jit
def _summarise(
    ledgers: Int64,
    segment: Int64,
    rows: Int64,
    offsets: Int64,
    recent: Int64,
    reach: Int64,
    exact: int,
    slot: int,
    lasts: Int64,
) -> Any:
    entities = len(offsets) - 1
    start, by = _rows_of(segment, entities)
    span_offsets = np.zeros(entities + 1, np.int64)
    spans = np.empty((_START * len(ledgers), SPAN_WIDTH), np.int64)
    each = 2 + 2 * len(reach)
    for edge in range(len(reach)):
        each += reach[edge, 1] + 1
    longest = 0
    for i in range(len(ledgers)):
        longest = max(longest, ledgers[i, 2] >> 2)
    marks = np.empty(each * len(rows) + longest, np.int64)
    nothing = np.zeros(6, np.int64)
    size = 0
    for i in range(len(ledgers)):
        entity = ledgers[i, 0]
        words, newer = words_at(ledgers[i, 1], ledgers[i, 2]), nothing
        if i + 1 < len(ledgers) and ledgers[i + 1, 0] == entity:
            newer = words_at(ledgers[i + 1, 1], ledgers[i + 1, 2])
        first, last = start[entity], start[entity + 1]
        begin, end, later = offsets[entity], offsets[entity + 1], lasts[entity, 2]
        found = _marks(words, newer, recent, begin, end, later, by, first, last, rows, reach, exact, slot, marks)
        needed = size + 2 * found + words[2] + 1
        if needed > len(spans):
            longer = np.empty((2 * needed, SPAN_WIDTH), np.int64)
            for at in range(size):
                longer[at] = spans[at]
            spans = longer
        earliest = NEVER
        for at in range(first, last):
            earliest = min(earliest, rows[by[at], 0])
        before = size
        size = _join(words, marks, found, earliest, spans, size)
        if later and (i + 1 == len(ledgers) or ledgers[i + 1, 0] != entity):
            spans[size] = lasts[entity]
            size += 1
        span_offsets[entity + 1] += size - before
    for u in range(entities):
        span_offsets[u + 1] += span_offsets[u]
    return span_offsets, spans[:size]


@jit
def _join(words: Int64, marks: Int64, found: int, earliest: int, spans: Int64, size: int) -> int:
    """Puts a span for all between each two of the marks that were found, and before it its frauds.

    Those that are known by `earliest` in one span, others in one each.
    """
    n, last = words[1], 0
    laid_out = words[0] == LAID_OUT
    fraud = frauds_at(words)
    each_is_known = laid_out and words[KNOWN_AT] <= earliest
    for m in range(found - 1):
        start, stop = marks[m], marks[m + 1]
        time, identifier = time_of(words, start), id_of(words, start)
        if laid_out:
            first, last = words[ENTRIES + 4 * start + 2] >> HALF, words[ENTRIES + 4 * stop + 2] >> HALF
        else:
            first = first_fraud(words, last, time, identifier)
            last = words[2] if stop == n else first_fraud(words, first, time_of(words, stop), id_of(words, stop))
        known = last - first if each_is_known else 0
        if not each_is_known:
            for f in range(first, last):
                many, known_at = words[fraud + 4 * f + 2], words[fraud + 4 * f + 3]
                if known_at <= earliest:
                    known += many
                else:
                    size = _put(spans, size, time, identifier, 0, 0, many, known_at)
        if known:
            size = _put(spans, size, time, identifier, 0, 0, known, earliest)
        events, amount = (
            events_before(words, stop) - events_before(words, start),
            amount_before(words, stop) - amount_before(words, start),
        )
        size = _put(spans, size, time, identifier, events, amount, 0, 0)
    return size


@jit
def _put(
    spans: Int64, at: int, time: int, identifier: int, events: int, amount: int, frauds: int, known_at: int
) -> int:
    span = spans[at]
    span[0], span[1], span[2], span[3], span[4], span[5] = time, identifier, events, amount, frauds, known_at
    return at + 1
