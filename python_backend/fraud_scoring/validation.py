"""Rules for what a caller sends: every refusal names row, field, value's rule and remedy."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.card_numbers import SMALLEST, any_near, pass_for_card_numbers
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import EARLIEST_TIME_US, INT64_MAX, INT64_MIN, MAX_AHEAD_US, Schema
from fraud_scoring.windows import Int64


class RowRules:
    """The ranges of a schema's columns, checked for a whole matrix at once."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._minimum = np.array([column.minimum for column in schema.columns], np.int64)
        self._maximum = np.array([column.maximum for column in schema.columns], np.int64)
        # event times have the length of a card number, and a range that holds none
        self._keys = np.flatnonzero((self._maximum >= SMALLEST) & (np.arange(schema.width) != schema.time_index))

    def check_shape(self, rows: npt.NDArray[np.generic]) -> None:
        """InvalidInput unless `rows` is INT64 [1 … MAX_ROWS, C]."""
        schema = self._schema
        if rows.dtype != np.int64:
            raise InvalidInput(f"{wire.TRANSACTION}: the type is {rows.dtype}; send INT64")
        if rows.ndim != 2 or rows.shape[1] != schema.width:
            columns = rows.shape[1] if rows.ndim == 2 else f"shape {list(rows.shape)} and not"
            raise InvalidInput(
                f"{wire.TRANSACTION}: {columns} columns; schema {schema.name} has {schema.width}: "
                f"{', '.join(schema.column_names)}"
            )
        if not 1 <= len(rows) <= wire.MAX_ROWS:
            raise InvalidInput(f"{wire.TRANSACTION}: {len(rows)} rows; send 1 to {wire.MAX_ROWS:,} a request")

    def broken(self, rows: Int64, now_us: int) -> npt.NDArray[np.bool_]:
        """Which of `rows` int64 [N, C] break a range: bool [N]. `now_us` is the clock that limits event times."""
        self._limit_times(now_us)
        outside: npt.NDArray[np.bool_] = ((rows < self._minimum) | (rows > self._maximum)).any(axis=1)
        outside |= pass_for_card_numbers(rows[:, self._keys]).any(axis=1)
        return outside

    def any_broken(self, rows: Int64, now_us: int) -> bool:
        """Whether any of `rows` breaks a range: the question that is asked of every batch."""
        self._limit_times(now_us)
        if (rows < self._minimum).any() or (rows > self._maximum).any():
            return True
        keys = rows[:, self._keys]
        return any_near(keys) and bool(pass_for_card_numbers(keys).any())

    def _limit_times(self, now_us: int) -> None:
        self._maximum[self._schema.time_index] = now_us + MAX_AHEAD_US

    def explain(self, rows: Int64, now_us: int) -> InvalidInput:
        """The error for the first broken row of one request."""
        row = int(np.flatnonzero(self.broken(rows, now_us))[0])
        if (cards := np.flatnonzero(pass_for_card_numbers(rows[row]))).size:
            return card_number_refused(row, self._schema.column_names[int(cards[0])])
        outside = (rows[row] < self._minimum) | (rows[row] > self._maximum)
        index = int(np.flatnonzero(outside)[0])
        column, value = self._schema.columns[index], int(rows[row, index])
        if column.role == "time":
            if value > self._maximum[index]:
                rule = "it lies more than a day ahead of the server's clock"
            elif value < EARLIEST_TIME_US:
                rule = "it lies before 2000"
            else:
                rule = f"it lies before {column.minimum}, the schema's earliest time"
            return InvalidInput(f"row {row}: {column.name} is {value}: {rule}; send UTC microseconds since 1970")
        unit = f" ({column.meaning})" if column.meaning else ""
        if column.minimum == INT64_MIN:
            rule = f"at most {column.maximum}"
        elif column.maximum == INT64_MAX:
            rule = f"at least {column.minimum}"
        else:
            rule = f"{column.minimum} to {column.maximum}"
        return InvalidInput(f"row {row}: {column.name} is {value}; send {rule}{unit}")

    def check_repeats(self, rows: Int64) -> None:
        """InvalidInput if a transaction id stands twice in one request."""
        index = self._schema.id_index
        _, first, count = np.unique(rows[:, index], return_index=True, return_counts=True)
        if len(first) < len(rows):
            value = rows[first[np.argmax(count > 1)], index]
            row = int(np.flatnonzero(rows[:, index] == value)[1])
            name = self._schema.column_names[index]
            raise InvalidInput(f"row {row}: {name} {value} stands twice in this request; send each transaction once")


def card_number_refused(row: int, name: str) -> InvalidInput:
    """The error for a number that it must not repeat."""
    return InvalidInput(
        f"row {row}: {name} passes for a card number, which must not leave your systems: send a token of it, as "
        "fraud_client makes them"
    )


@lru_cache(maxsize=1024)
def read_parameters(text: str) -> tuple[str, int]:
    """(purpose, deadline in µs) from a request's parameters as JSON text; InvalidInput names the parameter."""
    if text in ("", "{}"):
        return wire.PURPOSE_SCORE, wire.DEFAULT_DEADLINE_US
    parameters = json.loads(text)
    for name in parameters:
        # names with this prefix belong to Triton itself
        if name not in wire.PARAMETERS and not name.startswith("triton_"):
            raise InvalidInput(f"parameter {name!r} is not known; known are {', '.join(wire.PARAMETERS)}")
    purpose = parameters.get(wire.PARAMETER_PURPOSE, wire.PURPOSE_SCORE)
    if purpose not in wire.PURPOSES:
        raise InvalidInput(f"parameter purpose is {purpose!r}; send one of {', '.join(wire.PURPOSES)}")
    deadline = parameters.get(wire.PARAMETER_DEADLINE, wire.DEFAULT_DEADLINE_US)
    if not isinstance(deadline, int) or isinstance(deadline, bool) or not 0 < deadline <= wire.MAX_DEADLINE_US:
        raise InvalidInput(
            f"parameter deadline_us is {deadline!r}; send whole microseconds from 1 to {wire.MAX_DEADLINE_US:,}"
        )
    return purpose, deadline


def check_labels(labels: npt.NDArray[Any]) -> None:
    """InvalidInput unless `labels` is INT64 [1 … MAX_ROWS, 3] with is_fraud 0 or 1 and a time from 2000 on."""
    if labels.dtype != np.int64 or labels.ndim != 2 or labels.shape[1] != len(wire.LABEL_COLUMNS):
        raise InvalidInput(f"{wire.LABEL}: send INT64 [N, {len(wire.LABEL_COLUMNS)}]: {', '.join(wire.LABEL_COLUMNS)}")
    if not 1 <= len(labels) <= wire.MAX_ROWS:
        raise InvalidInput(f"{wire.LABEL}: {len(labels)} rows; send 1 to {wire.MAX_ROWS:,} a request")
    if (cards := np.flatnonzero(pass_for_card_numbers(labels[:, 0]))).size:
        raise card_number_refused(int(cards[0]), wire.LABEL_COLUMNS[0])
    not_binary = (labels[:, 1] != 0) & (labels[:, 1] != 1)
    if not_binary.any():
        row = int(np.argmax(not_binary))
        raise InvalidInput(f"row {row}: is_fraud is {labels[row, 1]}; send 0 (genuine) or 1 (fraud)")
    too_early = labels[:, 2] < EARLIEST_TIME_US
    if too_early.any():
        row = int(np.argmax(too_early))
        raise InvalidInput(
            f"row {row}: known_at_us is {labels[row, 2]}: it lies before 2000; send UTC microseconds since 1970"
        )
