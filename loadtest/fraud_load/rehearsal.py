"""A stream of single transactions from many concurrent callers, with labels as they become known, and what came of it.

What the demonstration shows: decisions by kind, frauds caught, average precision, latency and throughput as the callers
saw them. For a load test with targets use the load scenarios: this is a closed loop, which hides stalls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_client import Action, AsyncFraudClient, AsyncTransport, Decision, Token, Transaction
from fraud_data import Transactions
from fraud_load.stream import requests
from fraud_scoring.schema import Schema

Progress = Callable[[float, str], None]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DEADLINE_S: Final = 2.0
_LABEL_EVERY: Final = 500
"""Transactions between two looks at which labels are due."""


@dataclass(frozen=True)
class Rehearsal:
    """`decision` int8 [N] and `score` float32 [N] of each transaction, `latency_s` [N] as its caller saw it."""

    decision: NDArray[np.int8]
    score: NDArray[np.float32]
    latency_s: NDArray[np.float64]
    flagged: list[Decision]
    labels: int
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.score) / self.seconds

    def latency_ms(self, percent: float) -> float:
        """A percentile of the latency, in milliseconds."""
        return float(np.percentile(self.latency_s, percent) * 1000)


async def rehearse(
    url: str,
    data: Transactions,
    schema: Schema,
    labels: NDArray[np.int64],
    *,
    callers: int = 64,
    progress: Progress = lambda share, text: None,
    transport: AsyncTransport | None = None,
) -> Rehearsal:
    """Score `data` in order by `callers` concurrent callers; send `labels` (`stream.label_rows`) when due."""
    n = len(data)
    decision, score, latency = np.zeros(n, np.int8), np.zeros(n, np.float32), np.zeros(n, np.float64)
    flagged: list[Decision] = []
    times = data.rows[:, schema.time_index]
    rows = data.rows.tolist()
    transactions = iter(enumerate(rows))
    told = 0

    async with AsyncFraudClient(url, deadline=_DEADLINE_S, transport=transport) as client:
        await client.ready()

        async def tell(until_us: int) -> None:
            nonlocal told
            due = int(np.searchsorted(labels[:, 2], until_us, side="right"))
            start, told = told, max(told, due)
            for part in requests(labels[start:told]):
                await client.label_rows(part)

        async def call() -> None:
            for index, row in transactions:
                if index % _LABEL_EVERY == 0:
                    await tell(int(times[index]))
                    progress(index / n, "scoring")
                began = time.perf_counter()
                answer = await client.score(_transaction(row, schema))
                latency[index] = time.perf_counter() - began
                decision[index], score[index] = answer.action, answer.score
                if answer.action is not Action.APPROVE:
                    flagged.append(answer)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        seconds = time.perf_counter() - began
    progress(1.0, "scoring")
    return Rehearsal(decision, score, latency, flagged, told, seconds)


def _transaction(row: list[int], schema: Schema) -> Transaction:
    customer, terminal = (Token(row[column]) for column, _ in schema.entities)
    return Transaction.from_minor_units(
        row[schema.id_index],
        _EPOCH + timedelta(microseconds=row[schema.time_index]),
        customer,
        terminal,
        row[schema.amount_index],
    )
