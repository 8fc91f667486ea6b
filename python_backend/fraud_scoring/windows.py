"""Exact sliding windows over packed events: counts, sums and known frauds, in integers only.

One kernel serves both runners. Serving: `history` is what the store holds of the batch's entities and the rows are the
batch. Training: `history` is empty and the rows are the whole past. In both, a row sees the history and the rows of its
own group that come before it in the order (event time, transaction id), itself included; each transaction id counts
once. Cost: O((M + N) + N·K·log) for M entries of history, N rows, K windows, whatever the windows hold.

Hot entities are bounded: of the events that a row sees of its entity, the newest `Folding.exact` count at their own
time, and each older one as if it had happened at the start of its slot. So a window's edge that falls among the older
ones lies less than one slot later than it should, and all else is exact: nothing is lost, nothing counts twice. What is
folded depends on the events before the row alone, so that a replay folds what serving folds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

EVENT_WIDTH: Final = 4
TIME, ID, AMOUNT, FRAUD_KNOWN_AT = range(EVENT_WIDTH)
"""Columns of an event: when, which transaction, minor units, when it became known as fraud (NEVER if it has not)."""
SPAN_WIDTH: Final = 6
"""Columns of a span, older events as one entry: time, id (those of its first event), events, their amounts, frauds,
when all of these frauds were known."""
NEVER: Final = 2**63 - 1


class Folding(NamedTuple):
    """How an entity's past is kept: its newest `exact` events as they are, older ones by slots of `slot_us`.

    With more than `seal_at` events, all but the newest `recent` go into a ledger: those that come a little late find
    their place outside it. Each time the ledger is written, and with each row so many events are read. A store may keep
    a ledger in two parts, and write only the newer one until that has more than `join_at` events.
    """

    exact: int = 8_192
    slot_us: int = 3_600_000_000
    recent: int = 24
    seal_at: int = 216
    join_at: int = 1_536


FOLDING: Final = Folding()
LOOK_WIDTH: Final = 5
"""A look: its delay and length, how many events, the window whose mean is usual (−1: it looks at frauds), percent."""
LOOK_FOUND: Final = 3
"""What a look at amounts finds: how many are unusual, the newest one's time (NEVER for none), the largest amount. At
frauds: how many in a row, from the newest on, are known; the first one's time; the time of the genuine event that ends
the row (NEVER for none)."""
NO_LOOKS: Final = np.empty((0, LOOK_WIDTH), np.int64)
_NO_SPANS: Final = np.empty((0, SPAN_WIDTH), np.int64)
_NO_OFFSETS: Final = np.empty(0, np.int64)
_UNSORTED: Final = np.empty(0, np.int64)


class History(NamedTuple):
    """Events of the entities that a batch names.

    `events` int64 [M, 4], sorted by (time, id) within each entity; entity u owns events[offsets[u]:offsets[u + 1]];
    `segment` int64 [N] says which entity a row belongs to. `spans` int64 [S, 6] are events before those, joined where
    no edge of a window lies; entity u owns spans[span_offsets[u]:span_offsets[u + 1]]. Without spans both are empty.
    """

    segment: Int64
    offsets: Int64
    events: Int64
    span_offsets: Int64 = _NO_OFFSETS
    spans: Int64 = _NO_SPANS


class Aggregates(NamedTuple):
    """Per row and window, int64 [N, K]: events, their amounts in minor units, those known as fraud by then; and what
    the looks found, int64 [N, L, LOOK_FOUND]."""

    events: Int64
    amount: Int64
    fraud: Int64
    looks: Int64


def aggregate(
    events: Int64,
    group: Int64,
    history: History,
    delay_us: Int64,
    length_us: Int64,
    folding: Folding = FOLDING,
    looks: Int64 = NO_LOOKS,
) -> Aggregates:
    """Aggregates of each row's windows (t − delay − length, t − delay].

    `events` int64 [N, 4] are the rows themselves, `group` int64 [N] the request that each came in; `delay_us` and
    `length_us` int64 [K] the windows. Fraud counts if it was known at t, the row's own time.
    """
    limits = folding.exact, folding.slot_us
    done, *found = _aggregate(events, _UNSORTED, group, *history, delay_us, length_us, *limits, looks)
    if not done:
        order = np.lexsort((events[:, ID], events[:, TIME], group, history.segment))
        _, *found = _aggregate(events, order, group, *history, delay_us, length_us, *limits, looks)
    return Aggregates(*found)


def jit(function: Any) -> Any:
    """Compiled once per machine; integer division as in NumPy."""
    return numba.njit(cache=True, error_model="numpy")(function)


def for_kernels(rows: Int64) -> Int64:
    """The rows as what the kernels are compiled for: in one piece, writable; a copy where they are not."""
    return rows if rows.flags.carray else np.array(rows, np.int64, order="C")


@jit
def _by_entity(events: Int64, group: Int64, segment: Int64, entities: int) -> Any:
    """(rows by entity, and as they came within one; whether that is the order of group, time and id already)."""
    place = np.zeros(entities + 1, np.int64)
    for i in range(len(segment)):
        place[segment[i] + 1] += 1
    for entity in range(entities):
        place[entity + 1] += place[entity]
    order = np.empty(len(segment), np.int64)
    last = np.full(entities, -1, np.int64)
    in_order = True
    for i in range(len(segment)):
        entity = segment[i]
        order[place[entity]] = i
        place[entity] += 1
        j = last[entity]
        last[entity] = i
        if j >= 0 and group[j] == group[i]:
            in_order &= events[j, 0] < events[i, 0] or (events[j, 0] == events[i, 0] and events[j, 1] <= events[i, 1])
        elif j >= 0:
            in_order &= group[j] < group[i]
    return order, in_order


@jit
def first_after_time(events: Int64, start: int, stop: int, time: int) -> int:
    """First index in [start, stop) whose event is later than `time`; stop if none is."""
    while start < stop:
        middle = (start + stop) >> 1
        if events[middle, 0] > time:
            stop = middle
        else:
            start = middle + 1
    return start


@jit
def first_after(events: Int64, start: int, stop: int, time: int, identifier: int) -> int:
    """First index in [start, stop) whose event comes after (time, identifier); stop if none does."""
    while start < stop:
        middle = (start + stop) >> 1
        at = events[middle, 0]
        if at > time or (at == time and events[middle, 1] > identifier):
            stop = middle
        else:
            start = middle + 1
    return start


@jit
def slot_end(time: int, slot_us: int) -> int:
    """The last microsecond of the slot that `time` lies in."""
    return (time // slot_us + 1) * slot_us - 1


@jit
def _past(offsets: Int64, events: Int64, span_offsets: Int64, spans: Int64) -> Any:
    """Spans and events of each entity as one sequence.

    (where each entity begins [U + 1], order (time, id) [M, 2], totals before each entry (events, amount, entries with
    fraud) [M + 1, 3], of each entry with fraud when it was known and how many [≤ M, 2])
    """
    size = len(events) + len(spans)
    start = offsets.copy()
    order = np.empty((size, 2), np.int64)
    total = np.zeros((size + 1, 3), np.int64)
    known = np.empty((size, 2), np.int64)
    i = 0
    for entity in range(len(offsets) - 1):
        start[entity] = i
        if len(spans):
            for s in range(span_offsets[entity], span_offsets[entity + 1]):
                order[i, 0], order[i, 1] = spans[s, 0], spans[s, 1]
                total[i + 1, 0] = total[i, 0] + spans[s, 2]
                total[i + 1, 1] = total[i, 1] + spans[s, 3]
                total[i + 1, 2] = total[i, 2]
                if spans[s, 4]:
                    known[total[i, 2], 0], known[total[i, 2], 1] = spans[s, 5], spans[s, 4]
                    total[i + 1, 2] += 1
                i += 1
        for e in range(offsets[entity], offsets[entity + 1]):
            order[i, 0], order[i, 1] = events[e, 0], events[e, 1]
            total[i + 1, 0] = total[i, 0] + 1
            total[i + 1, 1] = total[i, 1] + events[e, 2]
            total[i + 1, 2] = total[i, 2]
            if events[e, 3] != NEVER:
                known[total[i, 2], 0], known[total[i, 2], 1] = events[e, 3], 1
                total[i + 1, 2] += 1
            i += 1
    start[len(offsets) - 1] = i
    return start, order, total, known


@jit
def _totals_of_rows(rows: Int64, weight: Int64) -> Any:
    """The same totals over the rows themselves, of which some count 0."""
    total = np.zeros((len(rows) + 1, 3), np.int64)
    known = np.empty((len(rows), 2), np.int64)
    for i in range(len(rows)):
        total[i + 1, 0] = total[i, 0] + weight[i]
        total[i + 1, 1] = total[i, 1] + weight[i] * rows[i, 2]
        total[i + 1, 2] = total[i, 2]
        if weight[i] and rows[i, 3] != NEVER:
            known[total[i, 2], 0], known[total[i, 2], 1] = rows[i, 3], 1
            total[i + 1, 2] += 1
    return total, known


@jit
def _asks_little(segment: Int64, offsets: Int64) -> bool:
    """Whether few rows share an entity: to add up what each asks for is then less than to prepare for all of it."""
    asked = 0
    for i in range(len(segment)):
        asked += offsets[segment[i] + 1] - offsets[segment[i]]
    most: int = 2 * offsets[len(offsets) - 1]
    return asked <= most


@jit
def _between(plain: bool, stored: Int64, total: Int64, known: Int64, low: int, high: int, time: int) -> Any:
    """(events, their amounts, frauds known at `time`) of entries [low, high): added up if `plain`, else by totals."""
    if not plain:
        frauds = _known_by(known, total[low, 2], total[high, 2], time)
        return total[high, 0] - total[low, 0], total[high, 1] - total[low, 1], frauds
    amount = frauds = 0
    for e in range(low, high):
        amount += stored[e, 2]
        frauds += stored[e, 3] <= time
    return high - low, amount, frauds


@jit
def _known_by(known: Int64, start: int, stop: int, time: int) -> int:
    found = 0
    for i in range(start, stop):
        if known[i, 0] <= time:
            found += known[i, 1]
    return found


@jit
def _first_exact(
    mine: Int64, total: Int64, first: int, last: int, other: Int64, other_total: Int64, begin: int, end: int, exact: int
) -> int:
    """First index in [first, last) of `mine` that is among the newest `exact` of `mine` and `other` [begin, end)."""
    stop = last
    while first < stop:
        middle = (first + stop) >> 1
        beside = first_after(other, begin, end, mine[middle, 0], mine[middle, 1])
        if total[last, 0] - total[middle, 0] + other_total[end, 0] - other_total[beside, 0] <= exact:
            stop = middle
        else:
            first = middle + 1
    return first


@jit
def _edge(events: Int64, first: int, last: int, first_exact: int, time: int, slot_us: int) -> int:
    """First index in [first, last) later than `time`; events before `first_exact` count at their slot's start."""
    found: int = first_after_time(events, first, last, time)
    if found < first_exact:
        found = first_after_time(events, found, first_exact, slot_end(time, slot_us))
    return found


@jit
def _step_back(
    stored: Int64, total: Int64, low: int, at: int, rows: Int64, row_total: Int64, row_low: int, row: int
) -> Any:
    """The event before those from `at` and `row` on: (index in stored or −1, index in rows or −1).

    Entries without an event of their own are stepped over; one of several events ends the look.
    """
    while at > low and total[at, 0] == total[at - 1, 0]:
        at -= 1
    while row > row_low and row_total[row, 0] == row_total[row - 1, 0]:
        row -= 1
    if at > low and total[at, 0] - total[at - 1, 0] > 1:
        return -1, -1
    if at > low and row > row_low:
        mine, other = stored[at - 1], rows[row - 1]
        if mine[0] > other[0] or (mine[0] == other[0] and mine[1] > other[1]):
            return at - 1, -1
        return -1, row - 1
    if at > low:
        return at - 1, -1
    return -1, row - 1 if row > row_low else -1


@jit
def _look_at_amounts(past: Any, beside: Any, me: int, newest: int, above: int, found: Int64) -> None:
    """Fills `found`; an amount is unusual where a hundred times it is beyond `above`."""
    stored, total, low, at = past
    rows, row_total, row_low, row = beside
    found[0], found[1], found[2] = 0, NEVER, 0
    looked = 0
    while looked < newest:
        s, r = _step_back(stored, total, low, at, rows, row_total, row_low, row)
        if s < 0 and r < 0:
            return
        if s >= 0:
            at, time, identifier, amount = s, stored[s, 0], stored[s, 1], total[s + 1, 1] - total[s, 1]
        else:
            row, time, identifier, amount = r, rows[r, 0], rows[r, 1], rows[r, 2]
        if time == rows[me, 0] and identifier == rows[me, 1]:
            continue
        looked += 1
        found[2] = amount if looked == 1 else max(found[2], amount)
        if amount * 100 > above:
            found[0] += 1
            if found[1] == NEVER:
                found[1] = time


@jit
def _look_at_frauds(past: Any, beside: Any, me: int, newest: int, found: Int64) -> None:
    """Fills `found`, from the newest event back to the first that is not known as fraud when the row comes."""
    stored, total, known, low, at = past
    rows, row_total, row_known, row_low, row = beside
    now = rows[me, 0]
    found[0], found[1], found[2] = 0, NEVER, NEVER
    looked = 0
    while looked < newest:
        s, r = _step_back(stored, total, low, at, rows, row_total, row_low, row)
        if s < 0 and r < 0:
            return
        if s >= 0:
            at, time, identifier = s, stored[s, 0], stored[s, 1]
            first = s  # a ledger says of a fraud in an entry of its own, before the event's
            while first > low and total[first, 0] == total[first - 1, 0]:
                first -= 1
            is_fraud = _known_by(known, total[first, 2], total[s + 1, 2], now) > 0
        else:
            row, time, identifier = r, rows[r, 0], rows[r, 1]
            is_fraud = _known_by(row_known, row_total[r, 2], row_total[r + 1, 2], now) > 0
        if time == now and identifier == rows[me, 1]:
            continue
        looked += 1
        if not is_fraud:
            found[2] = time
            return
        found[0] += 1
        found[1] = time


@jit
def _sorted_rows(events: Int64, order: Int64, group: Int64, segment: Int64, start: Int64, stored: Int64) -> Any:
    """Rows in order, what each weighs (0 if it was there before), and where its run of entity and group lies."""
    n = len(order)
    rows = np.empty((n, 4), np.int64)
    weight = np.ones(n, np.int64)
    run_start = np.zeros(n, np.int64)
    run_stop = np.empty(n, np.int64)
    for i in range(n):
        row = order[i]
        rows[i] = events[row]
        time, identifier = events[row, 0], events[row, 1]
        entity = segment[row]
        if i > 0 and segment[order[i - 1]] == entity and group[order[i - 1]] == group[row]:
            run_start[i] = run_start[i - 1]
            if rows[i - 1, 0] == time and rows[i - 1, 1] == identifier:
                weight[i] = 0
        else:
            run_start[i] = i
        after = first_after(stored, start[entity], start[entity + 1], time, identifier)
        if after > start[entity] and stored[after - 1, 0] == time and stored[after - 1, 1] == identifier:
            weight[i] = 0
    for i in range(n - 1, -1, -1):
        run_stop[i] = run_stop[i + 1] if i + 1 < n and run_start[i + 1] == run_start[i] else i + 1
    return rows, weight, run_start, run_stop


@jit
def _aggregate(
    events: Int64,
    order: Int64,
    group: Int64,
    segment: Int64,
    offsets: Int64,
    past: Int64,
    span_offsets: Int64,
    spans: Int64,
    delay_us: Int64,
    length_us: Int64,
    exact: int,
    slot_us: int,
    looks: Int64,
) -> Any:
    """(whether it is done, count, amount, fraud, what the looks found), in one call: each costs more than its work.

    The `order` of the rows, by entity, group, time and id, may be empty: it is not done where they came otherwise.
    """
    n, windows = len(events), len(delay_us)
    count = np.empty((n, windows), np.int64)
    amount = np.empty((n, windows), np.int64)
    fraud = np.empty((n, windows), np.int64)
    seen = np.empty((n, len(looks), LOOK_FOUND), np.int64)
    if not len(order):
        order, in_order = _by_entity(events, group, segment, len(offsets) - 1)
        if not in_order:
            return False, count, amount, fraud, seen
    plain = not len(spans) and not len(looks) and len(past) + n <= exact and _asks_little(segment, offsets)
    if plain:
        start, stored, total, known = offsets, past, np.empty((0, 3), np.int64), np.empty((0, 2), np.int64)
    else:
        start, stored, total, known = _past(offsets, past, span_offsets, spans)
    rows, weight, run_start, run_stop = _sorted_rows(events, order, group, segment, start, stored)
    row_total, row_known = _totals_of_rows(rows, weight)
    for i in range(n):
        row = order[i]
        time, identifier = rows[i, 0], rows[i, 1]
        first, last, begin, end = start[segment[row]], start[segment[row] + 1], run_start[i], run_stop[i]
        now = first_after(stored, first, last, time, identifier)
        row_now = first_after(rows, begin, end, time, identifier)
        cut, row_cut = first, begin
        if not plain and total[now, 0] - total[first, 0] + row_total[row_now, 0] - row_total[begin, 0] > exact:
            cut = _first_exact(stored, total, first, now, rows, row_total, begin, row_now, exact)
            row_cut = _first_exact(rows, row_total, begin, row_now, stored, total, first, now, exact)
        for k in range(windows):
            until = time - delay_us[k]
            since = until - length_us[k]
            low = _edge(stored, first, last, cut, since, slot_us)
            row_low = _edge(rows, begin, end, row_cut, since, slot_us)
            high, row_high = now, row_now
            if delay_us[k]:
                high = _edge(stored, first, last, cut, until, slot_us)
                row_high = _edge(rows, begin, end, row_cut, until, slot_us)
            n_past, amount_past, fraud_past = _between(plain, stored, total, known, low, high, time)
            n_rows, amount_rows, fraud_rows = _between(False, rows, row_total, row_known, row_low, row_high, time)
            count[row, k] = n_past + n_rows
            amount[row, k] = amount_past + amount_rows
            fraud[row, k] = fraud_past + fraud_rows
        for k in range(len(looks)):
            delay, length, newest, usual = looks[k, 0], looks[k, 1], looks[k, 2], looks[k, 3]
            since, until = time - delay - length, time - delay
            low = max(cut, first_after_time(stored, cut, now, since))  # what is folded is not looked at
            row_low = max(row_cut, first_after_time(rows, row_cut, row_now, since))
            high, row_high = now, row_now
            if delay:
                high = first_after_time(stored, low, now, until)
                row_high = first_after_time(rows, row_low, row_now, until)
            if usual >= 0:
                events_before = count[row, usual]
                above = NEVER
                if events_before > 0 and amount[row, usual] > 0:
                    above = amount[row, usual] // events_before * looks[k, 4]
                _look_at_amounts(
                    (stored, total, low, high), (rows, row_total, row_low, row_high), i, newest, above, seen[row, k]
                )
            else:
                _look_at_frauds(
                    (stored, total, known, low, high),
                    (rows, row_total, row_known, row_low, row_high),
                    i,
                    newest,
                    seen[row, k],
                )
    return True, count, amount, fraud, seen
