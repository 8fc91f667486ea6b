"""Transactions that nobody scored before, for as long as it takes, with a history of a steady density behind them.

A benchmark scores in minutes what a portfolio does in years. Were all of it to happen "now", windows would fill up and
each round would cost more than the one before. So time goes on with the transactions: the gap between two of them is
the history's own, old events leave the windows as new ones come, and each round finds what the first one found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_scoring.errors import FraudError
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema

Int64 = NDArray[np.int64]

HISTORY_DAYS: Final = 30
_SIMULATED_DAYS: Final = 38
"""The longest window of the default schema, a terminal's 30 days that end a week ago, and a day."""
_EVENTS_A_MONTH: Final = 60
"""Of each customer of `even_history`: two a day."""


@dataclass(frozen=True)
class History:
    """What happened before `until_us`, and how often something happens: one transaction each `gap_us`."""

    data: Transactions
    until_us: int
    gap_us: int


def simulated_history(customers: int, terminals: int, seed: int, schema: Schema) -> History:
    """A simulated portfolio until the end of its last day."""
    data = simulate(SimulatorSettings(customers, terminals, _SIMULATED_DAYS, seed=seed))
    times = data.rows[:, schema.time_index]
    until_us = (int(times[-1]) // MICROSECONDS_PER_DAY + 1) * MICROSECONDS_PER_DAY
    last_month = int((times >= until_us - HISTORY_DAYS * MICROSECONDS_PER_DAY).sum())
    return History(data, until_us, HISTORY_DAYS * MICROSECONDS_PER_DAY // last_month)


def even_history(
    customers: int, terminals: int, times: int, first: tuple[int, int], until_us: int, schema: Schema
) -> History:
    """`times` × 60 transactions a month of each customer, evenly over the terminals; every 50th was fraud.

    `first` are the first id and the first key of its entities. Rows in turn name different customers and terminals.
    """
    gap_us = HISTORY_DAYS * MICROSECONDS_PER_DAY // (_EVENTS_A_MONTH * customers * times)
    count = _SIMULATED_DAYS * MICROSECONDS_PER_DAY // gap_us
    number = np.arange(count)
    rows = np.empty((count, schema.width), np.int64)
    rows[:, schema.id_index] = first[0] + number
    rows[:, schema.time_index] = until_us - gap_us * (count - number)
    for (column, _), size in zip(schema.entities, (customers, terminals), strict=True):
        rows[:, column] = first[1] + number % size
    rows[:, schema.amount_index] = 500 + number * 7919 % 9_500
    return History(Transactions(rows, (number % 50 == 0).astype(np.int8)), until_us, gap_us)


class Feed:
    """Goes on where a history ends, with ids from `first_id` on.

    `in_order` repeats the history's order of entities; else they are drawn from it.
    """

    def __init__(
        self,
        history: History,
        schema: Schema,
        *,
        first_id: int,
        in_order: bool = False,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._pattern = history.data.rows
        self._gap_us = history.gap_us
        self._clock_us = history.until_us
        self._schema = schema
        self._random = np.random.default_rng(first_id)
        self._next_id = first_id
        self._place: int | None = 0 if in_order else None
        self._now_us = now_us

    def take(self, count: int) -> Int64:
        """`count` rows [N, C] with new ids in event order, from the feed's time on; `used` says how many were sent."""
        last_us = self._clock_us + self._gap_us * count
        if last_us > self._now_us():
            raise FraudError("the benchmark's transactions have reached the present; run fewer rounds, or shorter ones")
        if self._place is None:
            chosen = self._random.integers(0, len(self._pattern), count)
        else:
            chosen = (self._place + np.arange(count)) % len(self._pattern)
        rows: Int64 = self._pattern[chosen]
        rows[:, self._schema.id_index] = self._next_id + np.arange(count)
        rows[:, self._schema.time_index] = self._clock_us + self._gap_us * np.arange(1, count + 1)
        self._next_id += count
        return rows

    def used(self, count: int) -> None:
        """Go on behind the first `count` rows of what was taken last."""
        self._clock_us += self._gap_us * count
        if self._place is not None:
            self._place += count
