"""What must be reached, and whether it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fraud_bench.loads import Measured
from fraud_bench.rounds import Measurements

Value = Callable[[Measurements], float | None]


@dataclass(frozen=True)
class Target:
    """A figure with a bound that must hold and one that is aimed at. `form` writes a value, as `{:,.0f}/s`."""

    what: str
    rows: tuple[str, ...]
    """The rows that it is made of."""
    value: Value
    form: str
    at_least: float
    aim: float | None = None
    low_is_good: bool = False

    def reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.low_is_good else value >= bound

    def text(self, value: float) -> str:
        return self.form.format(value)

    def bound_text(self, bound: float | None) -> str:
        """`≤ 1.8×`, `≥ 50,000/s`; a dash for no bound."""
        if bound is None:
            return "–"
        return f"{'≤' if self.low_is_good else '≥'} {self.text(bound)}"


@dataclass(frozen=True)
class Judgement:
    """A target and what was found; `value` None: it was not measured, and `trouble` says why."""

    target: Target
    value: float | None
    trouble: str = ""

    @property
    def held(self) -> bool:
        return self.value is not None and self.target.reaches(self.value, self.target.at_least)

    @property
    def aimed(self) -> bool:
        return self.held and (
            self.target.aim is None or (self.value is not None and self.target.reaches(self.value, self.target.aim))
        )


def per_second(measured: Measured) -> float:
    return measured.per_second


def server_cpu_us(measured: Measured) -> float:
    return measured.cpu_us["server"]


def latency(place: int) -> Callable[[Measured], float]:
    """0: p50, 1: p99, 2: p99.9, in milliseconds."""
    return lambda measured: measured.latency_ms[place]


def _coalesced(callers: int) -> tuple[Target, Target]:
    key, name = f"coalesced_{callers}", f"coalesced single calls, {callers:,} concurrent"
    return (
        Target(name, (key,), lambda found: found.median(key, per_second), "{:,.0f}/s", 10_000, 20_000),
        Target(f"{name}: p99", (key,), lambda found: found.median(key, latency(1)), "{:.1f} ms", 100, 50, True),
    )


TARGETS: Final = (
    *_coalesced(256),
    *_coalesced(1000),
    Target(
        "single rows, 64 concurrent: throughput against the floor of one hop",
        ("single_64", "floor_1_hop"),
        lambda found: found.ratio("single_64", "floor_1_hop", per_second),
        "{:.0%}",
        0.65,
        0.90,
    ),
    Target(
        "the same: server CPU a transaction against that floor",
        ("single_64", "floor_1_hop"),
        lambda found: found.ratio("single_64", "floor_1_hop", server_cpu_us),
        "{:.2f}×",
        1.8,
        1.3,
        low_is_good=True,
    ),
    Target(
        "the same against FastAPI doing the same job: transactions a CPU-second",
        ("single_64", "fastapi"),
        lambda found: found.ratio("fastapi", "single_64", server_cpu_us),
        "{:.2f}×",
        3,
        5,
    ),
    Target(
        "64 rows a request: transactions a second",
        ("rows_64",),
        lambda found: found.median("rows_64", per_second),
        "{:,.0f}/s",
        50_000,
        100_000,
    ),
    Target(
        "64 rows a request: throughput against the in-process ceiling",
        ("rows_64", "ceiling_64"),
        lambda found: found.ratio("rows_64", "ceiling_64", per_second),
        "{:.0%}",
        0.50,
        0.75,
    ),
    Target(
        "Redis against LMDB, 64 rows a request: server CPU a transaction, Redis included",
        ("redis_64", "rows_64"),
        lambda found: found.ratio("redis_64", "rows_64", server_cpu_us),
        "{:.2f}×",
        1.5,
        1.2,
        low_is_good=True,
    ),
    Target(
        "100 times the history: server CPU a transaction",
        ("history_100", "history_1"),
        lambda found: found.ratio("history_100", "history_1", server_cpu_us),
        "{:.2f}×",
        1.3,
        1.1,
        low_is_good=True,
    ),
    Target(
        "idle, one caller, one row: p50",
        ("idle",),
        lambda found: found.median("idle", latency(0)),
        "{:.2f} ms",
        3,
        1.5,
        True,
    ),
    Target(
        "idle, one caller, one row: p99",
        ("idle",),
        lambda found: found.median("idle", latency(1)),
        "{:.2f} ms",
        10,
        None,
        True,
    ),
)


def judge(found: Measurements, targets: Sequence[Target] = TARGETS) -> list[Judgement]:
    """Each target whose rows were asked for."""
    return [_judge(found, target) for target in targets if all(key in found.found for key in target.rows)]


def _judge(found: Measurements, target: Target) -> Judgement:
    value = target.value(found)
    trouble = [found.trouble[key] for key in target.rows if key in found.trouble]
    return Judgement(target, value, "" if value is not None else (trouble or ["it was not measured"])[0])
