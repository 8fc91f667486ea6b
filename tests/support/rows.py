"""Transactions for tests: single rows, matrices, and seeded histories full of ties, edges and late labels."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings

from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema, default_schema
from fraud_scoring.windows import NEVER

Int64 = npt.NDArray[np.int64]

SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The parent of every property's settings: the same examples in every run; the first one may wait for the compiler."""

DAY_US = MICROSECONDS_PER_DAY
HOUR_US = DAY_US // 24
SLOT_US = 6 * HOUR_US
"""Times of a seeded history are multiples of this: ties are frequent, and events lie exactly on windows' edges."""
DEFAULT_SCHEMA = default_schema()


def utc_us(text: str) -> int:
    """Microseconds since 1970 of an ISO time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * 1_000_000


MONDAY_US = utc_us("2026-03-02T00:00:00")


def row(
    identifier: int, time_us: int = MONDAY_US, customer: int = 1, terminal: int = 1, amount: int = 1_000
) -> list[int]:
    """One row of the default schema."""
    return [identifier, time_us, customer, terminal, amount]


def matrix(*rows: list[int]) -> Int64:
    """Rows int64 [N, C]."""
    return np.array(rows, np.int64)


def label(identifier: int, *, is_fraud: bool = True, known_at_us: int = MONDAY_US) -> Int64:
    """One label int64 [1, 3]."""
    return np.array([[identifier, int(is_fraud), known_at_us]], np.int64)


class History(NamedTuple):
    """Rows int64 [N, 5] of the default schema in event order, and when each became known as fraud int64 [N]."""

    rows: Int64
    fraud_known_at: Int64


def seeded_history(
    rng: np.random.Generator, n: int, *, days: int = 90, customers: int = 4, terminals: int = 3
) -> History:
    """A history of few entities; ids do not rise with time, and a third of the rows are known as fraud later on."""
    rows = np.empty((n, DEFAULT_SCHEMA.width), np.int64)
    rows[:, 0] = rng.permutation(np.arange(1, n + 1))
    rows[:, 1] = MONDAY_US + rng.integers(0, days * DAY_US // SLOT_US, n) * SLOT_US
    rows[:, 2] = rng.integers(-customers, 0, n)
    rows[:, 3] = rng.integers(0, terminals, n)
    rows[:, 4] = rng.integers(1, 50_000, n)
    rows = rows[np.lexsort((rows[:, 0], rows[:, 1]))]
    until_known = rng.integers(1, rng.choice([6, 80], n)) * SLOT_US
    known_at = np.where(rng.random(n) < 1 / 3, rows[:, 1] + until_known, NEVER)
    return History(rows, known_at)


def default_document() -> dict[str, Any]:
    """The default schema as the document that a user edits."""
    document: dict[str, Any] = json.loads(DEFAULT_SCHEMA.document)
    return document


def schema_with(**changes: Any) -> Schema:
    """The default schema with top-level entries replaced."""
    return Schema.parse({**default_document(), **changes})


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_us: int = MONDAY_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us
