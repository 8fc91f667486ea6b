"""Features: pure functions of (the transactions, the events before them), defined by the schema.

Integer arithmetic until one last division in binary64, then one rounding to binary32: the same input gives
the same bits, in a batch or alone, offline or online.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from fraud_scoring.formulas import of_entity, of_rows
from fraud_scoring.schema import AMOUNT_LOOKS, LOOK_KINDS, ROW_KINDS, WINDOW_KINDS, Feature, Schema
from fraud_scoring.windows import (
    EVENT_WIDTH,
    FOLDING,
    LOOK_WIDTH,
    NEVER,
    Folding,
    History,
    Int64,
    aggregate,
    for_kernels,
)

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class FeatureSet:
    """The features of one schema, planned once: each entity's windows are aggregated together."""

    def __init__(self, schema: Schema, folding: Folding = FOLDING) -> None:
        self.schema = schema
        self._folding = folding
        self._windows: list[list[tuple[int, int]]] = [
            sorted({window for f in schema.features if f.entity == name for window in f.windows})
            for _, name in schema.entities
        ]
        self._delay = [np.array([delay for delay, _ in windows], np.int64) for windows in self._windows]
        self._length = [np.array([length for _, length in windows], np.int64) for windows in self._windows]
        self._row_plan = _plan(
            (position, ROW_KINDS.index(feature.of), *self._row_terms(feature))
            for position, feature in enumerate(schema.features)
            if not feature.entity
        )
        minor_units = schema.columns[schema.amount_index].minor_units
        self._window_plans = [
            _plan(
                (position, WINDOW_KINDS.index(f.of), windows.index((f.delay_us, f.window_us)), minor_units)
                for position, f in enumerate(schema.features)
                if f.entity == name and f.of in WINDOW_KINDS
            )
            for (_, name), windows in zip(schema.entities, self._windows, strict=True)
        ]
        planned = [
            _looks(schema, name, windows) for (_, name), windows in zip(schema.entities, self._windows, strict=True)
        ]
        self._looks, self._look_plans = [looks for looks, _ in planned], [plan for _, plan in planned]

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
        rows = for_kernels(rows)
        schema, n = self.schema, len(rows)
        group = np.zeros(n, np.int64) if group is None else group
        events = np.empty((n, EVENT_WIDTH), np.int64)
        events[:, 0] = rows[:, schema.time_index]
        events[:, 1] = rows[:, schema.id_index]
        events[:, 2] = rows[:, schema.amount_index]
        events[:, 3] = NEVER if fraud_known_at is None else fraud_known_at
        out = np.empty((n, len(schema.features)), np.float32)
        of_rows(rows, schema.time_index, self._row_plan, out)
        for history, delay, length, plan, looks, look_plan in zip(
            histories,
            self._delay,
            self._length,
            self._window_plans,
            self._looks,
            self._look_plans,
            strict=True,
        ):
            if len(plan) or len(look_plan):
                found = aggregate(events, group, history, delay, length, self._folding, looks)
                of_entity(events, *found, plan, look_plan, out)
        return out

    def of_rows(self, rows: Int64) -> Float32:
        """The features that need no history, FP32 [N, F]; 0 in the columns of those that do."""
        out = np.zeros((len(rows), len(self.schema.features)), np.float32)
        of_rows(for_kernels(rows), self.schema.time_index, self._row_plan, out)
        return out

    def _row_terms(self, feature: Feature) -> tuple[int, int]:
        """What the formula of a row's feature takes: a column and its minor units, or the night's last hour."""
        if feature.of == "value":
            column = self.schema.index(feature.column)
            return column, self.schema.columns[column].minor_units
        return feature.until_hour, 0


def replay(schema: Schema, rows: Int64, fraud_known_at: Int64 | None = None, folding: Folding = FOLDING) -> Float32:
    """Features of a whole history: what serving would have computed for each row as it came, labels as they came."""
    histories = []
    for column, _ in schema.entities:
        keys, segment = np.unique(rows[:, column], return_inverse=True)
        no_events = np.empty((0, EVENT_WIDTH), np.int64)
        histories.append(History(segment.astype(np.int64), np.zeros(len(keys) + 1, np.int64), no_events))
    return FeatureSet(schema, folding).compute(rows, histories, fraud_known_at=fraud_known_at)


def _looks(schema: Schema, entity: str, windows: list[tuple[int, int]]) -> tuple[Int64, Int64]:
    """(an entity's looks int64 [L, 5], each once, the plan of its features that look)."""
    looks: dict[tuple[int, int, int, int, int], int] = {}
    lines = []
    for position, f in enumerate(schema.features):
        if f.entity == entity and f.of in LOOK_KINDS:
            usual = windows.index((f.usual_delay_us, f.usual_us)) if f.of in AMOUNT_LOOKS else -1
            look = looks.setdefault((f.delay_us, f.window_us, f.newest, usual, f.percent), len(looks))
            term = usual if f.of == "peak_ratio" else f.delay_us + f.window_us
            lines.append((position, LOOK_KINDS.index(f.of), look, term))
    return np.array(list(looks), np.int64).reshape(-1, LOOK_WIDTH), _plan(lines)


def _plan(lines: Iterable[tuple[int, int, int, int]]) -> Int64:
    """Lines of a plan as the kernels take them: int64 [P, 4], output column, kind, and two terms of its formula."""
    return np.array(list(lines), np.int64).reshape(-1, 4)
