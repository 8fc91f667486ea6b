"""Exact sliding windows over packed events: counts, sums and known frauds, in integers only.

One kernel serves both runners. Serving: `history` is what the store holds of the batch's entities and the rows are the
batch. Training: `history` is empty and the rows are the whole past. In both, a row sees the history and the rows of its
own group that come before it in the order (event time, transaction id), itself included; each transaction id counts
once. Cost: O((M + N) + N·K·log) for M events, N rows, K windows, whatever the windows hold.
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
NEVER: Final = 2**63 - 1


class History(NamedTuple):
    """Events of the entities that a batch names.

    `events` int64 [M, 4], sorted by (time, id) within each entity; entity u owns events[offsets[u]:offsets[u + 1]];
    `segment` int64 [N] says which entity a row belongs to.
    """

    segment: Int64
    offsets: Int64
    events: Int64


class Aggregates(NamedTuple):
    """Per row and window, int64 [N, K]: events, their amounts in minor units, those known as fraud by then."""

    events: Int64
    amount: Int64
    fraud: Int64


def aggregate(events: Int64, group: Int64, history: History, delay_us: Int64, length_us: Int64) -> Aggregates:
    """Aggregates of each row's windows (t − delay − length, t − delay].

    `events` int64 [N, 4] are the rows themselves, `group` int64 [N] the request that each came in; `delay_us` and
    `length_us` int64 [K] the windows. Fraud counts if it was known at t, the row's own time.
    """
    if len(events) == 1:
        order = np.zeros(1, np.int64)
    else:
        order = np.lexsort((events[:, ID], events[:, TIME], group, history.segment))
    count, amount, fraud = _aggregate(
        events, order, group, history.segment, history.offsets, history.events, delay_us, length_us
    )
    return Aggregates(count, amount, fraud)


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, error_model="numpy")(function)


@_jit
def _first_after_time(events: Int64, start: int, stop: int, time: int) -> int:
    """First index in [start, stop) whose event is later than `time`; stop if none is."""
    while start < stop:
        middle = (start + stop) >> 1
        if events[middle, 0] > time:
            stop = middle
        else:
            start = middle + 1
    return start


@_jit
def _first_after(events: Int64, start: int, stop: int, time: int, identifier: int) -> int:
    """First index in [start, stop) whose event comes after (time, identifier); stop if none does."""
    while start < stop:
        middle = (start + stop) >> 1
        at = events[middle, 0]
        if at > time or (at == time and events[middle, 1] > identifier):
            stop = middle
        else:
            start = middle + 1
    return start


@_jit
def _running_totals(events: Int64, weight: Int64) -> Any:
    """Prefix sums over events (count, amount, frauds) and the times at which the frauds became known, in order."""
    total = np.zeros((len(events) + 1, 3), np.int64)
    known_at = np.empty(len(events), np.int64)
    for i in range(len(events)):
        is_fraud = weight[i] if events[i, 3] != NEVER else 0
        total[i + 1, 0] = total[i, 0] + weight[i]
        total[i + 1, 1] = total[i, 1] + weight[i] * events[i, 2]
        total[i + 1, 2] = total[i, 2] + is_fraud
        if is_fraud:
            known_at[total[i, 2]] = events[i, 3]
    return total, known_at


@_jit
def _known_by(known_at: Int64, start: int, stop: int, time: int) -> int:
    found = 0
    for i in range(start, stop):
        found += known_at[i] <= time
    return found


@_jit
def _aggregate(
    events: Int64,
    order: Int64,
    group: Int64,
    segment: Int64,
    offsets: Int64,
    stored: Int64,
    delay_us: Int64,
    length_us: Int64,
) -> Any:
    n, windows = len(order), len(delay_us)
    rows = np.empty((n, 4), np.int64)
    weight = np.ones(n, np.int64)
    run_start = np.zeros(n, np.int64)
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
        after = _first_after(stored, offsets[entity], offsets[entity + 1], time, identifier)
        if after > offsets[entity] and stored[after - 1, 0] == time and stored[after - 1, 1] == identifier:
            weight[i] = 0
    run_stop = np.empty(n, np.int64)
    for i in range(n - 1, -1, -1):
        run_stop[i] = run_stop[i + 1] if i + 1 < n and run_start[i + 1] == run_start[i] else i + 1

    row_total, row_known = _running_totals(rows, weight)
    total, known = _running_totals(stored, np.ones(len(stored), np.int64))
    count = np.empty((n, windows), np.int64)
    amount = np.empty((n, windows), np.int64)
    fraud = np.empty((n, windows), np.int64)
    for i in range(n):
        row = order[i]
        time, identifier = rows[i, 0], rows[i, 1]
        first, last = offsets[segment[row]], offsets[segment[row] + 1]
        for k in range(windows):
            until = time - delay_us[k]
            since = until - length_us[k]
            low = _first_after_time(stored, first, last, since)
            row_low = _first_after_time(rows, run_start[i], run_stop[i], since)
            if delay_us[k] == 0:
                high = _first_after(stored, low, last, time, identifier)
                row_high = _first_after(rows, row_low, run_stop[i], time, identifier)
            else:
                high = _first_after_time(stored, low, last, until)
                row_high = _first_after_time(rows, row_low, run_stop[i], until)
            count[row, k] = total[high, 0] - total[low, 0] + row_total[row_high, 0] - row_total[row_low, 0]
            amount[row, k] = total[high, 1] - total[low, 1] + row_total[row_high, 1] - row_total[row_low, 1]
            fraud[row, k] = _known_by(known, total[low, 2], total[high, 2], time) + _known_by(
                row_known, row_total[row_low, 2], row_total[row_high, 2], time
            )
    return count, amount, fraud
