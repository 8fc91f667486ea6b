"""Measurements made up for what judges and shows them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fraud_bench.loads import Measured
from fraud_bench.rounds import Measurements

Make = Callable[..., Measured]


@pytest.fixture
def measured() -> Make:
    """A load of `per_second` transactions a second, with the given server CPU time and latency."""

    def make(per_second: float = 1_000, server_us: float = 50.0, latency_ms: float = 2.0) -> Measured:
        latency = (latency_ms, 2 * latency_ms, 3 * latency_ms)
        cpu_us = {"server": server_us, "client": 10.0}
        return Measured(round(per_second * 2), 2.0, latency, cpu_us, 1.0, round(per_second * 3), 0, "")

    return make


@pytest.fixture
def reached(measured: Make) -> Measurements:
    """Three rounds in which every target holds and most aims are reached."""
    rows = {
        "coalesced_256": measured(25_000, latency_ms=10),
        "coalesced_1000": measured(25_000, latency_ms=20),
        "single_64": measured(9_500, server_us=60),
        "floor_1_hop": measured(10_000, server_us=50),
        "rows_64": measured(110_000, server_us=10),
        "ceiling_64": measured(120_000, server_us=8),
        "redis_64": measured(90_000, server_us=14),
        "history_1": measured(9_000, server_us=40),
        "history_100": measured(8_500, server_us=42),
        "idle": measured(500, latency_ms=1.2),
    }
    return Measurements(3, {key: [one] * 3 for key, one in rows.items()})
