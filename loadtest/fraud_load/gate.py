"""The gate: every target of a scenario judged, each with enough samples to say so.

    p50_ms, p99_ms, p99.9_ms    latency from the intended time, of callers that behave; 20 samples beyond the percentile
    error_share                 arrivals that ended wrongly; enough that a share at the limit would show (3 / limit)
    degraded_share              answers from a fallback; likewise
    throughput                  transactions answered a second; 1,000 arrivals
    recovery_s                  until p99 is back after a spike
    knee_rate                   the highest rate that kept its p99
    memory_growth_share         of the server's private memory, first to last third
    p99_growth_share            likewise of p99; enough samples for a p99 in each third
    generator_lag_ms            p99 of how late the generator itself was; every arrival knows it

The last decides about all others: where the generator was the bottleneck nothing is judged. "Not enough data" and "no
verdict" are no passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud_load import findings
from fraud_load.result import GeneratorFacts, Kind, Outcome, Requests, SloVerdict, Status
from fraud_load.scenario import Scenario

BEYOND: Final = 20
"""Samples that must lie beyond a percentile before it is called known."""
RULE_OF_THREE: Final = 3.0
"""None seen in 3/p: with 95% confidence the share is below p."""
WITHOUT_ALLOWANCE: Final = 1_000
"""Arrivals without any error that a limit of 0 asks for."""
FOR_A_RATE: Final = 1_000
CPU_LIMIT: Final = 0.95
"""Cores: a generator process that uses more has no room, whatever its lag says."""
_QUANTILES: Final = {"p50_ms": 50.0, "p99_ms": 99.0, "p99.9_ms": 99.9}
_Z95: Final = 1.96


@dataclass(frozen=True)
class Evidence:
    """What is judged: the arrivals of the judged window, what was found in the run, the generator."""

    requests: Requests
    window_s: tuple[float, float]
    findings: Mapping[str, Any]
    generator: GeneratorFacts
    unsent: int = 0
    """Arrivals of the window that never went out, because somebody ended the run: then nothing is a pass."""


@dataclass(frozen=True)
class _Measured:
    value: float | None
    samples: int
    needed: int
    detail: str = ""
    at_least: bool = False
    """Whether more is better."""


def bottleneck(scenario: Scenario, lag_p99_ms: float, cpu: list[float]) -> str | None:
    """Why the generator cannot judge the server, in words; None where it kept up."""
    if lag_p99_ms > scenario.lag_limit_ms:
        return (
            f"the generator was late by {lag_p99_ms:.1f} ms at p99, the limit is {scenario.lag_limit_ms:g} ms; give it "
            "more processes (sending.processes) or a machine of its own"
        )
    busiest = max(cpu, default=0.0)
    if busiest > CPU_LIMIT:
        return f"a generator process used {busiest:.0%} of a core; give it more processes (sending.processes)"
    return None


def judge(scenario: Scenario, evidence: Evidence) -> tuple[Outcome, list[SloVerdict]]:
    """The verdict on each target of the scenario, in its order, and on all together."""
    verdicts = [_judged(name, limit, evidence) for name, limit in scenario.slo.items()]
    outcomes = {one.outcome for one in verdicts}
    for worst in (Outcome.NO_VERDICT, Outcome.MISS, Outcome.NOT_ENOUGH_DATA):
        if worst in outcomes:
            return worst, verdicts
    return Outcome.PASS, verdicts


def samples_for(level: float) -> int:
    """Samples that a percentile needs: 40 for p50, 2,000 for p99, 20,000 for p99.9."""
    return math.ceil(round(BEYOND / (1 - level / 100), 6))


def samples_for_share(limit: float) -> int:
    """Arrivals that a share needs to be told from one at the limit."""
    return WITHOUT_ALLOWANCE if limit == 0 else math.ceil(round(RULE_OF_THREE / limit, 6))


def interval_ms(latency_ms: np.ndarray[Any, Any], level: float) -> tuple[float, float]:
    """A 95% interval of a percentile from order statistics, for samples that are independent of each other."""
    n, q = len(latency_ms), level / 100
    middle, spread = n * q, _Z95 * math.sqrt(n * q * (1 - q))
    low, high = (int(np.clip(place, 0, n - 1)) for place in (math.floor(middle - spread), math.ceil(middle + spread)))
    part = np.partition(latency_ms, [low, high])
    return float(part[low]), float(part[high])


def _judged(name: str, limit: float, evidence: Evidence) -> SloVerdict:
    measured = _MEASURES[name](evidence, name, limit)
    value = measured.value
    if evidence.generator.bottleneck is not None:
        outcome = Outcome.NO_VERDICT
    elif evidence.unsent or measured.samples < measured.needed or (value is None and name not in _NONE_IS_A_MISS):
        outcome = Outcome.NOT_ENOUGH_DATA
    elif value is None:
        outcome = Outcome.MISS
    else:
        good = value >= limit if measured.at_least else value <= limit
        outcome = Outcome.PASS if good else Outcome.MISS
    text = _sentence(name, limit, measured, outcome, evidence.unsent)
    return SloVerdict(name, limit, value, measured.samples, measured.needed, outcome, text)


def _sentence(name: str, limit: float, measured: _Measured, outcome: Outcome, unsent: int) -> str:
    what, unit = _WORDS[name]
    shown = "not reached" if measured.value is None else _figure(measured.value, unit)
    bound = "at least" if measured.at_least else "at most"
    text = f"{what} {shown}{measured.detail}; the target is {bound} {_figure(limit, unit)}"
    if unsent:
        text += f"; the run was ended early: {unsent:,} arrivals were not sent"
    elif outcome is Outcome.NOT_ENOUGH_DATA:
        text += f"; not enough data: {measured.samples:,} samples, {measured.needed:,} are needed"
    return text


def _figure(value: float, unit: str) -> str:
    if unit == "%":
        return f"{value * 100:.3g}%"
    digits = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return f"{digits} {unit}".rstrip()


def _latency(evidence: Evidence, name: str, limit: float) -> _Measured:
    level = _QUANTILES[name]
    latency = evidence.requests.latency_s[evidence.requests.kind != Kind.BAD] * 1e3
    needed = samples_for(level)
    if not len(latency):
        return _Measured(None, 0, needed)
    low, high = interval_ms(latency, level)
    return _Measured(float(np.percentile(latency, level)), len(latency), needed, f" (95% {low:.4g} to {high:.4g})")


def _errors(evidence: Evidence, name: str, limit: float) -> _Measured:
    failed = evidence.requests.failed
    detail = f" ({int(failed.sum()):,} of {len(failed):,})"
    share = float(failed.mean()) if len(failed) else None
    return _Measured(share, len(failed), samples_for_share(limit), detail)


def _degraded(evidence: Evidence, name: str, limit: float) -> _Measured:
    degraded = evidence.requests.degraded[evidence.requests.status == Status.OK]
    detail = f" ({int(degraded.sum()):,} of {len(degraded):,})"
    share = float(degraded.mean()) if len(degraded) else None
    return _Measured(share, len(degraded), samples_for_share(limit), detail)


def _throughput(evidence: Evidence, name: str, limit: float) -> _Measured:
    rate = findings.throughput(evidence.requests, evidence.window_s[0])
    return _Measured(rate, len(evidence.requests), FOR_A_RATE, at_least=True)


def _lag(evidence: Evidence, name: str, limit: float) -> _Measured:
    return _Measured(evidence.generator.lag_ms.get("p99"), len(evidence.requests), 1)


def _knee(evidence: Evidence, name: str, limit: float) -> _Measured:
    found = evidence.findings.get("knee", {})
    detail = f" (broke at {found['broke_at']:,.0f})" if found.get("broke_at") else ""
    return _Measured(found.get("rate"), len(evidence.requests), samples_for(99), detail, at_least=True)


def _recovery(evidence: Evidence, name: str, limit: float) -> _Measured:
    found = evidence.findings.get("recovery", {})
    return _Measured(found.get("seconds"), len(evidence.requests), samples_for(99))


def _growth(evidence: Evidence, name: str, limit: float) -> _Measured:
    needed = 3 * samples_for(99) if name == "p99_growth_share" else 0
    return _Measured(evidence.findings.get("drift", {}).get(name), len(evidence.requests), needed)


_MEASURES: Final[dict[str, Callable[[Evidence, str, float], _Measured]]] = {
    **dict.fromkeys(_QUANTILES, _latency),
    "error_share": _errors,
    "degraded_share": _degraded,
    "throughput": _throughput,
    "generator_lag_ms": _lag,
    "recovery_s": _recovery,
    "knee_rate": _knee,
    "memory_growth_share": _growth,
    "p99_growth_share": _growth,
}
_NONE_IS_A_MISS: Final = ("recovery_s", "knee_rate")
_WORDS: Final = {
    "p50_ms": ("p50 latency", "ms"),
    "p99_ms": ("p99 latency", "ms"),
    "p99.9_ms": ("p99.9 latency", "ms"),
    "error_share": ("errors", "%"),
    "degraded_share": ("degraded answers", "%"),
    "throughput": ("throughput", "transactions/s"),
    "generator_lag_ms": ("the generator's own lag (p99)", "ms"),
    "recovery_s": ("p99 was back after", "s"),
    "knee_rate": ("knee", "arrivals/s"),
    "memory_growth_share": ("the server's private memory grew by", "%"),
    "p99_growth_share": ("p99 grew by", "%"),
}
