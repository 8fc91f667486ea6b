"""Features: pure functions of (the transactions, the events before them), defined by the schema.

Integer arithmetic until one last division in binary64, then one rounding to binary32: the same input gives
the same bits, in a batch or alone, offline or online.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fraud_scoring.schema import MICROSECONDS_PER_DAY, Feature, Schema
from fraud_scoring.windows import EVENT_WIDTH, FOLDING, NEVER, Aggregates, Folding, History, Int64, aggregate

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_HOUR_US = MICROSECONDS_PER_DAY // 24
_MONDAY_OFFSET = 3
"""1970-01-01 was a Thursday: (days since then + 3) mod 7 counts from Monday = 0."""


class FeatureSet:
    """The features of one schema, planned once: each entity's windows are aggregated together."""

    def __init__(self, schema: Schema, folding: Folding = FOLDING) -> None:
        self.schema = schema
        self._folding = folding
        self._windows: list[list[tuple[int, int]]] = [
            sorted({(f.delay_us, f.window_us) for f in schema.features if f.entity == name})
            for _, name in schema.entities
        ]
        self._delay = [np.array([delay for delay, _ in windows], np.int64) for windows in self._windows]
        self._length = [np.array([length for _, length in windows], np.int64) for windows in self._windows]
        self._entity_position = {name: i for i, (_, name) in enumerate(schema.entities)}

    def compute(
        self,
        rows: Int64,
        histories: Sequence[History],
        group: Int64 | None = None,
        fraud_known_at: Int64 | None = None,
    ) -> Float32:
        """Features FP32 [N, F] of `rows` int64 [N, C], in the schema's order.

        `histories` holds one History per entity column, as `WindowStore.read` returns them. Rows of one `group` int64
        [N] (one request) see each other; without it all do. `fraud_known_at` int64 [N] gives the labels of the rows
        themselves where rows are history.
        """
        schema, n = self.schema, len(rows)
        group = np.zeros(n, np.int64) if group is None else group
        events = np.empty((n, EVENT_WIDTH), np.int64)
        events[:, 0] = rows[:, schema.time_index]
        events[:, 1] = rows[:, schema.id_index]
        events[:, 2] = rows[:, schema.amount_index]
        events[:, 3] = NEVER if fraud_known_at is None else fraud_known_at
        aggregates = [
            aggregate(events, group, history, delay, length, self._folding) if len(delay) else None
            for history, delay, length in zip(histories, self._delay, self._length, strict=True)
        ]
        out = np.empty((n, len(schema.features)), np.float32)
        for position, feature in enumerate(schema.features):
            if feature.entity:
                entity = self._entity_position[feature.entity]
                window = self._windows[entity].index((feature.delay_us, feature.window_us))
                found = aggregates[entity]
                assert found is not None, "an entity with a feature has windows"
                out[:, position] = self._of_window(feature, rows, found, window)
            else:
                out[:, position] = self._of_row(feature, rows)
        return out

    def of_rows(self, rows: Int64) -> Float32:
        """The features that need no history, FP32 [N, F]; 0 in the columns of those that do."""
        out = np.zeros((len(rows), len(self.schema.features)), np.float32)
        for position, feature in enumerate(self.schema.features):
            if not feature.entity:
                out[:, position] = self._of_row(feature, rows)
        return out

    def _of_row(self, feature: Feature, rows: Int64) -> Float64 | Int64 | npt.NDArray[np.bool_]:
        times: Int64 = rows[:, self.schema.time_index]
        if feature.of == "weekend":
            return (times // MICROSECONDS_PER_DAY + _MONDAY_OFFSET) % 7 >= 5
        if feature.of == "night":
            return times % MICROSECONDS_PER_DAY // _HOUR_US <= feature.until_hour
        column = self.schema.index(feature.column)
        value: Float64 = rows[:, column] / self.schema.columns[column].minor_units
        return value

    def _of_window(self, feature: Feature, rows: Int64, found: Aggregates, window: int) -> Float64 | Int64:
        count, amount = found.events[:, window], found.amount[:, window]
        minor_units = self.schema.columns[self.schema.amount_index].minor_units
        if feature.of == "count":
            return count
        if feature.of == "sum":
            return amount / minor_units
        if feature.of == "mean":
            return _share(amount, count * minor_units)
        if feature.of == "ratio":
            return _share(rows[:, self.schema.amount_index] * count, amount)
        return _share(found.fraud[:, window], count)


def replay(schema: Schema, rows: Int64, fraud_known_at: Int64 | None = None, folding: Folding = FOLDING) -> Float32:
    """Features of a whole history: what serving would have computed for each row as it came, labels as they came."""
    histories = []
    for column, _ in schema.entities:
        keys, segment = np.unique(rows[:, column], return_inverse=True)
        no_events = np.empty((0, EVENT_WIDTH), np.int64)
        histories.append(History(segment.astype(np.int64), np.zeros(len(keys) + 1, np.int64), no_events))
    return FeatureSet(schema, folding).compute(rows, histories, fraud_known_at=fraud_known_at)


def _share(numerator: Int64, denominator: Int64) -> Float64:
    """numerator / denominator, 0 where the denominator is 0."""
    out = np.zeros(len(numerator), np.float64)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out
