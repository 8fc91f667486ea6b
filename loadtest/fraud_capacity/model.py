"""What a transaction costs at a concurrency, from the rows of a benchmark (`fraudctl bench --json`).

A dynamic batch has a price of its own, and each of its rows has one: with N transactions in flight a batch holds a
share of N, so the CPU time of a transaction is a + b/N microseconds, the server's and the client's alike. In a closed
loop throughput is what the processors give, X(N) = cores in use / CPU time of a transaction (both on one machine), and
the mean latency follows from it: N/X (Little 1961). The p99 is a multiple of that mean, which falls slowly with N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud_scoring.errors import InvalidInput

SERVER: Final = "server"
CLIENT: Final = "client"
LEAST_POINTS: Final = 2
LEAST_IN_FLIGHT: Final = 8
"""A caller alone pays for waking every process up, each time: no load is made of such."""


@dataclass(frozen=True)
class Point:
    """One row of a benchmark: `in_flight` transactions at once; CPU time in microseconds, latency in milliseconds."""

    key: str
    in_flight: int
    per_second: float
    server_us: float
    client_us: float
    p99_ms: float

    @property
    def busy_cores(self) -> float:
        """Cores that server and client used together."""
        return self.per_second * (self.server_us + self.client_us) / 1e6

    @property
    def spread(self) -> float:
        """The p99 as a multiple of the mean latency, N/X."""
        return self.p99_ms / 1000 * self.per_second / self.in_flight


@dataclass(frozen=True)
class Model:
    """What `points` of one kind of traffic say of any concurrency between them."""

    points: tuple[Point, ...]
    server: tuple[float, float]
    """a and b of the server's a + b/N."""
    client: tuple[float, float]

    @classmethod
    def of(cls, points: Sequence[Point]) -> Model:
        """Fitted so that the relative error is small everywhere; InvalidInput with less than two concurrencies."""
        if len({one.in_flight for one in points}) < LEAST_POINTS:
            raise InvalidInput("a model needs rows of two concurrencies or more; run fraudctl bench with more rows")
        ordered = tuple(sorted(points, key=lambda one: one.in_flight))
        return cls(ordered, _fit(ordered, SERVER), _fit(ordered, CLIENT))

    def server_us(self, in_flight: float) -> float:
        """CPU time of the server for a transaction."""
        return self.server[0] + self.server[1] / in_flight

    def client_us(self, in_flight: float) -> float:
        """CPU time of the load generator for a transaction."""
        return self.client[0] + self.client[1] / in_flight

    def per_second(self, in_flight: float, busy_cores: float | None = None) -> float:
        """Throughput where server and client share `busy_cores`; by default, as many as were in use around there."""
        busy = self._between("busy_cores", in_flight) if busy_cores is None else busy_cores
        return 1e6 * busy / (self.server_us(in_flight) + self.client_us(in_flight))

    def p99_ms(self, in_flight: float, busy_cores: float | None = None) -> float:
        """The p99 in that closed loop."""
        return 1000 * self._between("spread", in_flight) * in_flight / self.per_second(in_flight, busy_cores)

    def most_in_flight(self, p99_ms: float) -> float | None:
        """The most in flight, within what was measured, at which the p99 holds; None: not even the least."""
        low, high = self.points[0].in_flight, self.points[-1].in_flight
        tried = [float(n) for n in np.geomspace(low, high, 200)]
        return max((n for n in tried if self.p99_ms(n) <= p99_ms), default=None)

    def _between(self, what: str, in_flight: float) -> float:
        """A figure of the points, between them linear in the logarithm of N; outside, that of the nearest."""
        known = [math.log(one.in_flight) for one in self.points]
        return float(np.interp(math.log(in_flight), known, [getattr(one, what) for one in self.points]))


def points_of(result: Mapping[str, Any], traffic: str) -> list[Point]:
    """The measured rows `<traffic>_<N>` of a benchmark's result, rising in N, from LEAST_IN_FLIGHT on.

    InvalidInput where the benchmark's own log says that the release did not answer all of it.
    """
    if not _is_sound(result, "lmdb"):
        raise InvalidInput(
            "the benchmark's log has answers of the last resort or repeats: what was measured is not the release; "
            "measure again on a machine with less to do"
        )
    found = []
    for row in result["rows"]:
        kind, _, number = str(row["key"]).rpartition("_")
        if kind == traffic and number.isdecimal() and int(number) >= LEAST_IN_FLIGHT and row["median"]:
            median = row["median"]
            cpu = median["cpu_us"]
            found.append(
                Point(
                    row["key"],
                    int(number),
                    median["per_second"],
                    cpu[SERVER],
                    cpu[CLIENT],
                    median["latency_ms"]["p99"],
                )
            )
    return sorted(found, key=lambda one: one.in_flight)


def redis_us(result: Mapping[str, Any]) -> float | None:
    """CPU time of the Redis server for a transaction, in microseconds; None where that was not measured soundly."""
    if not _is_sound(result, "redis"):
        return None
    for row in result["rows"]:
        if row["median"] is not None and "redis" in row["median"]["cpu_us"]:
            return float(row["median"]["cpu_us"]["redis"])
    return None


def is_quiet(result: Mapping[str, Any]) -> bool:
    """Whether others left the machine alone: half of its cores or less were wanted before; True if none says."""
    machine = result["machine"]
    load = machine.get("load_average_before")
    return load is None or float(load[0]) <= machine["cores"] / 2


def _is_sound(result: Mapping[str, Any], server: str) -> bool:
    log = result.get("logs", {}).get(server)
    return log is None or not (log["repeats"] or log["scorecard"])


def _fit(points: Sequence[Point], who: str) -> tuple[float, float]:
    """a and b of a + b/N by least squares of the relative error; b is never below 0."""
    cost = np.array([getattr(one, f"{who}_us") for one in points])
    terms = np.array([[1.0, 1.0 / one.in_flight] for one in points])
    (a, b), *_ = np.linalg.lstsq(terms / cost[:, None], np.ones(len(points)), rcond=None)
    return (float(a), float(b)) if a > 0 and b >= 0 else (float(cost.mean()), 0.0)
