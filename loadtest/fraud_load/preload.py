"""A history straight into a window store, without scoring it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from fraud_data import Transactions
from fraud_load.stream import label_rows
from fraud_scoring.schema import Schema
from fraud_scoring.stores import WindowStore

_PART: Final = 8192


def preload(
    store: WindowStore,
    data: Transactions,
    schema: Schema,
    until_us: int,
    label_days: float,
    progress: Callable[[float, str], None],
) -> int:
    """Record what happened before `until_us` and is still in a window then, and what was known of it; returns rows."""
    times = data.rows[:, schema.time_index]
    oldest = until_us - max(schema.keep_us.values())
    chosen = data.select((times < until_us) & (times > oldest))
    labels = label_rows(chosen, schema, label_days)
    labels = labels[labels[:, 2] < until_us]
    total = len(chosen) + len(labels)
    for start in range(0, len(chosen), _PART):
        store.record(np.ascontiguousarray(chosen.rows[start : start + _PART]))
        progress(min(start + _PART, len(chosen)) / total, "transactions")
    for start in range(0, len(labels), _PART):
        store.label(labels[start : start + _PART])
        progress((len(chosen) + min(start + _PART, len(labels))) / total, "labels")
    return len(chosen)
