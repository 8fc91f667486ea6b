"""A labelled history as a stream: transactions in event order, each label once it is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud_data import Transactions
from fraud_data.labels import label_known_at
from fraud_scoring.schema import Schema
from fraud_scoring.wire import MAX_ROWS

Integers = NDArray[np.int64]
_IS_FRAUD: Final = 1
_KNOWN_AT: Final = 2


class Step(NamedTuple):
    """What is sent next: `labels` int64 [L, 3] first, then rows [start, stop) of the history."""

    labels: Integers
    start: int
    stop: int


def label_rows(data: Transactions, schema: Schema, after_days: float) -> Integers:
    """The labels of `data` int64 [N, 3] (wire.LABEL_COLUMNS) in the order in which they became known."""
    if data.is_fraud is None:
        return np.empty((0, 3), np.int64)
    ids, known_at = data.rows[:, schema.id_index], label_known_at(data, schema, after_days)
    order = np.argsort(known_at, kind="stable")
    labels: Integers = np.stack([ids, data.is_fraud.astype(np.int64), known_at], axis=1)[order]
    return labels


def steps(times_us: Integers, labels: Integers, batch: int) -> Iterator[Step]:
    """Cut a history into batches of at most `batch` rows, each after the labels that were known by its first row.

    `times_us` int64 [N] rise, `labels` come as `label_rows` gives them. A batch ends where a fraud becomes known
    between two of its rows: every row sees the frauds that a live feed would have told by then, and no other.
    """
    known_at = labels[:, _KNOWN_AT]
    frauds_known_at = known_at[labels[:, _IS_FRAUD] == 1]
    start = told = 0
    while start < len(times_us):
        due = int(np.searchsorted(known_at, times_us[start], side="right"))
        stop = min(start + batch, len(times_us))
        next_fraud = int(np.searchsorted(frauds_known_at, times_us[start], side="right"))
        if next_fraud < len(frauds_known_at):
            stop = min(stop, int(np.searchsorted(times_us, frauds_known_at[next_fraud], side="left")))
        yield Step(labels[told:due], start, stop)
        told, start = due, stop


def requests(rows: Integers) -> Iterator[Integers]:
    """`rows` in parts that fit one request."""
    for start in range(0, len(rows), MAX_ROWS):
        yield rows[start : start + MAX_ROWS]
