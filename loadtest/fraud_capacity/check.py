"""Each prediction against a measurement that it was not made from: within 20%, or the plan is not to be believed.

Concurrency: each inner row of the benchmark is left out, predicted from the others, and compared; or all rows of
another run. Bytes: predicted from a small store for one twice its size, which is then filled; the log's from its
format, against one that a server wrote.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_bench.servers import CannotMeasure, redis
from fraud_capacity.model import Model, Point
from fraud_capacity.sizes import (
    LMDB_SAMPLE,
    SAMPLE,
    StoreSizes,
    history,
    lmdb_sizes,
    log_bytes,
    predicted_log_bytes,
    redis_sizes,
)
from fraud_scoring.schema import Schema

TOLERANCE: Final = 0.20
TIMES: Final = 2
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Compared:
    """`error`: how far the prediction lies from the measurement, as a share of it. Where `steady` is not set the figure
    is told and not judged: a p99 belongs to whoever else wanted the processors in that second."""

    what: str
    predicted: float
    measured: float
    steady: bool = True

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1

    @property
    def held(self) -> bool:
        return abs(self.error) <= TOLERANCE


def left_out(points: Sequence[Point], *, quiet: bool = True) -> list[Compared]:
    """Each point between the least and the most, predicted from all others."""
    found = []
    for place in range(1, len(points) - 1):
        others = Model.of([*points[:place], *points[place + 1 :]])
        found += compare(others, points[place], "the other concurrencies", quiet=quiet)
    return found


def against(points: Sequence[Point], others: Sequence[Point], *, quiet: bool = True) -> list[Compared]:
    """Each of `others`, from another run, predicted from `points`."""
    model = Model.of(points)
    return [one for point in others for one in compare(model, point, "another run", quiet=quiet)]


def compare(model: Model, point: Point, source: str, *, quiet: bool) -> list[Compared]:
    """CPU time, throughput and p99 at a point's concurrency, with the cores that were in use.

    The p99 is judged where the machine was `quiet`.
    """
    n = point.in_flight
    name = f"{point.key}, from {source}"
    return [
        Compared(f"{name}: server CPU µs a transaction", model.server_us(n), point.server_us),
        Compared(f"{name}: client CPU µs a transaction", model.client_us(n), point.client_us),
        Compared(f"{name}: transactions/s", model.per_second(n, point.busy_cores), point.per_second),
        Compared(f"{name}: p99 ms", model.p99_ms(n, point.busy_cores), point.p99_ms, steady=quiet),
    ]


def sizes(schema: Schema, progress: Progress) -> list[Compared]:
    """Bytes of a store of so many TIMES the transactions, from a small one; the log's, from its format."""
    small, large = history(SAMPLE), history(TIMES * SAMPLE)
    found = []
    with tempfile.TemporaryDirectory(prefix="fraud-check-") as name, ExitStack() as stack:
        folder = Path(name)
        for rows_a_frame in (1, 64):
            progress(0.1, "comparing the log")
            written = log_bytes(folder / f"log-{rows_a_frame}", small, schema, rows_a_frame)
            what = f"log bytes a transaction, {rows_a_frame} a frame"
            found.append(Compared(what, predicted_log_bytes(schema, rows_a_frame), written))
        progress(0.3, "comparing LMDB")
        counts = LMDB_SAMPLE, TIMES * LMDB_SAMPLE
        parts = [lmdb_sizes(folder / f"lmdb-{count}", history(count), schema) for count in counts]
        found += _bytes("LMDB", *parts)
        progress(0.6, "comparing Redis")
        try:
            parts = []
            for rows in (small, large):
                url, _ = stack.enter_context(redis(folder / f"redis-{len(rows)}"))
                parts.append(redis_sizes(url, rows, schema))
            found += _bytes("Redis", *parts)
        except CannotMeasure:
            pass  # the report says that it is missing
    return found


def _bytes(name: str, small: StoreSizes, large: StoreSizes) -> list[Compared]:
    """Records and events apart: a plan keeps them for different times."""
    what = f"{name} bytes a transaction among {large.transactions:,}, from {small.transactions:,}"
    return [
        Compared(f"{what}: record", small.record, large.record),
        Compared(f"{what}: events of its entities", small.events, large.events),
    ]
