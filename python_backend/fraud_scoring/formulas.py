"""The formulas of the features: from a row, or from its windows' integers, to FP32, in one compiled pass.

A plan int64 [P, 4] has a line for each feature: its column in the output, its kind (position in the schema's list of
kinds) and two terms. Each value is one division in binary64 of integers, rounded to binary32 once.
"""

from __future__ import annotations

from typing import Any, Final

from fraud_scoring.schema import LOOK_KINDS, MICROSECONDS_PER_DAY, ROW_KINDS, WINDOW_KINDS
from fraud_scoring.windows import NEVER, Int64, jit

_DAY_US: Final = MICROSECONDS_PER_DAY
_HOUR_US: Final = MICROSECONDS_PER_DAY // 24
_MONDAY_OFFSET: Final = 3
"""1970-01-01 was a Thursday: (days since then + 3) mod 7 counts from Monday = 0."""
_VALUE, _WEEKEND, _NIGHT = (ROW_KINDS.index(kind) for kind in ("value", "weekend", "night"))
_COUNT, _SUM, _MEAN, _RATIO, _FRAUD_RATE = (
    WINDOW_KINDS.index(kind) for kind in ("count", "sum", "mean", "ratio", "fraud_rate")
)
_UNUSUAL_COUNT, _UNUSUAL_DAYS, _PEAK_RATIO, _STREAK, _STREAK_DAYS, _GENUINE_DAYS = (
    LOOK_KINDS.index(kind)
    for kind in (
        "unusual_count",
        "unusual_days",
        "peak_ratio",
        "fraud_streak",
        "fraud_streak_days",
        "genuine_days",
    )
)


@jit
def of_rows(rows: Int64, time_column: int, plan: Int64, out: Any) -> None:
    """Fills columns of `out` FP32 [N, F] with what `rows` int64 [N, C] say themselves.

    Terms: for a value its column and minor units; for a night its last hour.
    """
    for i in range(len(rows)):
        time = rows[i, time_column]
        for line in plan:
            position, kind = line[0], line[1]
            if kind == _VALUE:
                out[i, position] = rows[i, line[2]] / line[3]
            elif kind == _WEEKEND:
                out[i, position] = (time // _DAY_US + _MONDAY_OFFSET) % 7 >= 5
            elif kind == _NIGHT:
                out[i, position] = time % _DAY_US // _HOUR_US <= line[2]


@jit
def of_entity(
    events: Int64, count: Int64, amount: Int64, fraud: Int64, looks: Int64, plan: Int64, look_plan: Int64, out: Any
) -> None:
    """Fills columns of `out` FP32 [N, F] from `windows.Aggregates` of one entity: its windows, and its looks."""
    of_windows(events, count, amount, fraud, plan, out)
    of_looks(events, count, amount, looks, look_plan, out)


@jit
def of_windows(events: Int64, count: Int64, amount: Int64, fraud: Int64, plan: Int64, out: Any) -> None:
    """Fills columns of `out` FP32 [N, F] from one entity's windows; `events` int64 [N, 4] are the rows themselves.

    `count`, `amount` and `fraud` int64 [N, K] are `windows.Aggregates`. Terms: the window, and the amount's minor
    units. A share of nothing is 0.
    """
    for i in range(len(events)):
        for line in plan:
            position, kind, k, minor_units = line[0], line[1], line[2], line[3]
            n = count[i, k]
            if kind == _COUNT:
                out[i, position] = n
            elif kind == _SUM:
                out[i, position] = amount[i, k] / minor_units
            elif kind == _MEAN:
                out[i, position] = amount[i, k] / (n * minor_units) if n else 0.0
            elif kind == _RATIO:
                out[i, position] = events[i, 2] * n / amount[i, k] if amount[i, k] else 0.0
            elif kind == _FRAUD_RATE:
                out[i, position] = fraud[i, k] / n if n else 0.0


@jit
def of_looks(events: Int64, count: Int64, amount: Int64, looks: Int64, plan: Int64, out: Any) -> None:
    """Fills columns of `out` FP32 [N, F] from what one entity's looks found, int64 [N, L, 3].

    Terms: the look, and for a peak ratio the window whose mean is usual, for others the microseconds that stand for
    "not in this window". A peak of nothing, or against nothing, is 0.
    """
    for i in range(len(events)):
        for line in plan:
            position, kind, k, term = line[0], line[1], line[2], line[3]
            number, time, last = looks[i, k, 0], looks[i, k, 1], looks[i, k, 2]
            if kind in (_UNUSUAL_COUNT, _STREAK):
                out[i, position] = number
            elif kind == _UNUSUAL_DAYS:
                out[i, position] = (term if time == NEVER else events[i, 0] - time) / _DAY_US
            elif kind == _PEAK_RATIO:
                out[i, position] = last * count[i, term] / amount[i, term] if amount[i, term] else 0.0
            elif kind == _STREAK_DAYS:
                out[i, position] = (0 if time == NEVER else events[i, 0] - time) / _DAY_US
            elif kind == _GENUINE_DAYS:
                out[i, position] = (term if last == NEVER else events[i, 0] - last) / _DAY_US
