"""From what was sent and seen to a `Result`: totals, percentiles, findings, verdicts. The same for every runner."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from fraud_load import findings, gate
from fraud_load.arrivals import Floats, geometric_rates
from fraud_load.result import GeneratorFacts, Kind, Requests, Result, Run, ServerSeries, Status
from fraud_load.scenario import Scenario

RECOVERY_LIMIT_MS: Final = 100.0
"""What p99 must come back to after a spike where the scenario has no `p99_ms`."""
_LATENCY: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
_LAG: Final = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}


@dataclass(frozen=True)
class Observed:
    """What a runner brings back."""

    runner: str
    url: str
    started_at: str
    requests: Requests
    server: ServerSeries
    cpu_seconds: list[float]
    """CPU of each generator process while it sent."""
    window_s: tuple[float, float] | None = None
    """The judged part, where the runner decides and not the scenario."""


def assemble(scenario: Scenario, observed: Observed) -> Result:
    """The result of a run of `scenario`, judged."""
    requests = observed.requests
    found = _findings(scenario, requests, observed.server)
    window = observed.window_s or scenario.window_s
    if "knee" in found:
        window = (0.0, found["knee"]["until_s"])
    if (used := findings.cores(observed.server, *window)) is not None:
        found["cores"] = used
    judged = requests.between(*window)
    seconds = float(np.nanmax(requests.done_s, initial=0.0))
    generator = _generator(scenario, observed, judged, window, found)
    inside = (requests.intended_s >= window[0]) & (requests.intended_s < window[1])
    unsent = int((requests.status[inside] == Status.UNSENT).sum())
    outcome, slos = gate.judge(scenario, gate.Evidence(judged, window, found, generator, unsent))
    behaving = judged.latency_s[judged.kind != Kind.BAD]
    run = Run(
        scenario=scenario.as_dict(),
        runner=observed.runner,
        url=observed.url,
        seed=scenario.seed,
        started_at=observed.started_at,
        seconds=seconds,
        window_s=window,
        machine=machine(),
        generator=generator,
        totals=_totals(requests),
        latency_ms=_percentiles(behaving, _LATENCY),
        outcome=outcome,
        slos=slos,
        findings=found,
    )
    return Result(run, requests, observed.server)


def machine() -> dict[str, Any]:
    """Where the generator ran; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _findings(scenario: Scenario, requests: Requests, server: ServerSeries) -> dict[str, Any]:
    numbers = scenario.arrivals.numbers
    found: dict[str, Any] = {}
    if scenario.arrivals.kind == "steps":
        rates = geometric_rates(numbers["first"], numbers["last"], numbers["factor"])
        found["knee"] = findings.knee(
            requests, rates.tolist(), numbers["hold_s"], numbers["leaves_ms"], int(numbers["patience"])
        )
    if scenario.arrivals.kind == "spike":
        begins = numbers["at_s"]
        limit = scenario.slo.get("p99_ms", RECOVERY_LIMIT_MS)
        found["recovery"] = findings.recovery(requests, scenario.warmup_s, begins, begins + numbers["for_s"], limit)
    if {"memory_growth_share", "p99_growth_share"} & scenario.slo.keys():
        found["drift"] = findings.drift(requests, server, *scenario.window_s)
    return found


def _generator(
    scenario: Scenario, observed: Observed, judged: Requests, window: tuple[float, float], found: dict[str, Any]
) -> GeneratorFacts:
    seconds = float(np.nanmax(observed.requests.done_s, initial=0.0))
    lag = _percentiles(judged.lag_s, _LAG)
    cpu = [used / max(seconds, 1.0) for used in observed.cpu_seconds]
    width = window[1] - window[0]
    took = float(judged.taken_s.max()) - window[0] if len(judged) else width
    intended = int(((observed.requests.intended_s >= window[0]) & (observed.requests.intended_s < window[1])).sum())
    return GeneratorFacts(
        processes=len(cpu),
        lag_ms=lag,
        cpu=cpu,
        intended_per_s=intended / width,
        achieved_per_s=len(judged) / max(took, width),
        bottleneck=gate.bottleneck(scenario, lag["p99"], cpu) or _late_at_the_knee(scenario, found),
    )


def _late_at_the_knee(scenario: Scenario, found: dict[str, Any]) -> str | None:
    """A knee below its target counts against the server only where the generator itself was in time."""
    knee = found.get("knee")
    if knee is None or knee["broke_at"] is None or (knee["rate"] or 0.0) >= scenario.slo.get("knee_rate", 0.0):
        return None
    (step,) = [one for one in knee["steps"] if one["rate"] == knee["broke_at"]]
    lag = step["generator_lag_p99_ms"]
    if lag <= scenario.lag_limit_ms:
        return None
    return (
        f"at {knee['broke_at']:,.0f}/s, where p99 left its limit, the generator itself was late by {lag:.1f} ms at "
        "p99: the server's knee may lie higher; give the generator a machine of its own"
    )


def _totals(requests: Requests) -> dict[str, int]:
    totals = {
        "arrivals": len(requests),
        "calls": len(np.unique(requests.call[requests.call >= 0])),
        "rows": int(requests.rows.sum()),
        "duplicates": int((requests.kind == Kind.DUPLICATE).sum()),
        "bad": int((requests.kind == Kind.BAD).sum()),
        "degraded": int(requests.degraded.sum()),
        "failed": int(requests.failed.sum()),
    }
    return totals | {status.name.lower(): int((requests.status == status).sum()) for status in Status}


def _percentiles(seconds: Floats, levels: dict[str, float]) -> dict[str, float]:
    """In milliseconds; NaN without samples."""
    if not len(seconds):
        return dict.fromkeys(levels, float("nan"))
    return dict(zip(levels, np.percentile(seconds * 1e3, list(levels.values())).tolist(), strict=True))
