"""A scenario through perf_analyzer, judged like any other run.

    request-rate       the scenario's own rate, for arrivals of kind `constant` and `poisson`
    custom-interval    the scenario's own intended times, for every other kind
    concurrency        a closed loop of so many requests, whatever the arrivals say: for comparison with other people's

What it cannot do is left out or refused, and said: it joins no calls, it ends at the first refused request, and it does
not tell when it meant to send, so latency runs from the send and its own delays hide (`closed_loop` in the findings).
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import numpy as np

from fraud_load import perf_analyzer, workload
from fraud_load.assembly import Observed, assemble
from fraud_load.perf_analyzer import PROGRAM, Load
from fraud_load.processes import CpuMeter
from fraud_load.result import NO_SOURCE, Kind, Requests, Result, Status
from fraud_load.runner import Target
from fraud_load.scenario import Scenario
from fraud_load.server_side import ServerWatch, metrics_url
from fraud_load.workload import Plan
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import default_schema
from fraud_scoring.wire import PARAMETER_DEADLINE, SCORE_MODEL

Progress = Callable[[float, str], None]
MODES: Final = ("request-rate", "custom-interval", "concurrency")
UNKNOWN_TO_IT: Final = ("degraded_share", "generator_lag_ms", "memory_growth_share")
"""Targets that its output says nothing about: they are left out."""
MOST_ENTRIES: Final = 300_000
"""Transactions in its input file; beyond, it begins again, and a repeat is less work for the server."""
_WINDOWS: Final = 3
_MARGIN: Final = 1.3
"""It sends for longer than its three windows."""


def mode_of(scenario: Scenario) -> str:
    """The mode that sends a scenario's arrivals best."""
    return "request-rate" if scenario.arrivals.kind in ("constant", "poisson") else "custom-interval"


def run_perf_analyzer(
    scenario: Scenario,
    target: Target,
    program: Path,
    *,
    mode: str | None = None,
    concurrency: int = 16,
    progress: Progress = lambda share, text: None,
) -> Result:
    """Send `scenario` with perf_analyzer and judge it; InvalidInput for what it cannot send, PerfAnalyzerFailed."""
    mode = mode or mode_of(scenario)
    _check(scenario, mode)
    progress(0.0, "preparing transactions")
    plan = workload.plan(_longer(scenario, mode), secrets.randbits(62))
    with tempfile.TemporaryDirectory(prefix="load-perf-analyzer-") as name:
        folder = Path(name)
        load = _load(scenario, plan, mode, concurrency, folder)
        data = folder / "transactions.json"
        perf_analyzer.write_input(data, plan.stamped(time.time_ns() // 1_000, default_schema())[:MOST_ENTRIES])
        began, began_ns = time.monotonic(), time.time_ns()
        meters: list[CpuMeter] = []
        with ExitStack() as stack:
            watch = ServerWatch(target.watched, began, metrics_url(target.url, target.metrics))
            stack.enter_context(watch)
            progress(0.0, f"perf_analyzer, {mode}, {scenario.duration_s:.0f} s and a little more")
            found = perf_analyzer.run(
                program,
                load,
                target.url,
                data,
                started=lambda pid: meters.append(stack.enter_context(CpuMeter({PROGRAM: [pid]}))),
            )
        cpu_seconds = meters[0].seconds(PROGRAM, 0, meters[0].last_ns)
    requests = _requests(found)
    started = datetime.fromtimestamp(int(found.sent_ns[0]) / 1e9, timezone.utc).isoformat(timespec="milliseconds")
    server = watch.series()
    shift = (int(found.sent_ns[0]) - began_ns) / 1e9
    server = replace(server, at_s=[at - shift for at in server.at_s])
    left = {slo: limit for slo, limit in scenario.slo.items() if slo not in UNKNOWN_TO_IT}
    window = (0.0, float(requests.sent_s[-1]) + 1e-6)
    observed = Observed(PROGRAM, target.url, started, requests, server, [cpu_seconds], window)
    result = assemble(replace(scenario, slo=left), observed)
    facts = {"mode": mode, "closed_loop": mode == "concurrency", "csv": dict(found.report)}
    return replace(result, run=replace(result.run, findings={**result.run.findings, "perf_analyzer": facts}))


def _check(scenario: Scenario, mode: str) -> None:
    work = scenario.workload
    if work.bad_share > 0:
        raise InvalidInput("perf_analyzer ends at the first refused request; --set workload.bad_share=0")
    if len(work.rows) > 1:
        raise InvalidInput("perf_analyzer sends requests of one size; --set workload.rows=1, for example")
    if scenario.arrivals.kind == "steps":
        raise InvalidInput(
            "perf_analyzer does not stop behind a knee; give it rates: --set arrivals='{kind: poisson, …}'"
        )
    if scenario.arrivals.kind == "spike" and "recovery_s" in scenario.slo:
        raise InvalidInput(
            "perf_analyzer does not say when it meant to send, so no recovery_s; --set slo='{p99_ms: 100}'"
        )
    if mode == "request-rate" and mode_of(scenario) != mode:
        raise InvalidInput(f"arrivals of kind {scenario.arrivals.kind} have no one rate; use --mode custom-interval")


def _longer(scenario: Scenario, mode: str) -> Scenario:
    """Enough transactions for what it sends before, between and after its windows; gaps begin again by themselves."""
    if mode == "custom-interval":
        return scenario
    return replace(scenario, arrivals=replace(scenario.arrivals, duration_s=scenario.duration_s * _MARGIN))


def _load(scenario: Scenario, plan: Plan, mode: str, concurrency: int, folder: Path) -> Load:
    (rows,) = scenario.workload.rows
    load = Load(
        SCORE_MODEL,
        concurrency,
        rows,
        window_ms=max(round(scenario.duration_s * 1e3 / _WINDOWS), 100),
        parameters={PARAMETER_DEADLINE: round(scenario.sending.deadline_ms * 1e3)},
    )
    if mode == "request-rate":
        distribution = "constant" if scenario.arrivals.pattern == "regular" else "poisson"
        return replace(load, rate=scenario.arrivals.numbers["rate"], distribution=distribution)
    if mode == "custom-interval":
        gaps = np.maximum(np.rint(np.diff(plan.intended_s, prepend=0.0) * 1e6), 1).astype(np.int64)
        intervals = folder / "intervals"
        intervals.write_text("\n".join(map(str, gaps.tolist())) + "\n", encoding="utf-8")
        return replace(load, intervals=intervals)
    return load


def _requests(found: perf_analyzer.Run) -> Requests:
    """Its requests; what it does not tell is intended = sent, and no source."""
    sent = (found.sent_ns - found.sent_ns[0]) / 1e9
    n = len(sent)
    return Requests(
        intended_s=sent,
        taken_s=sent,
        sent_s=sent,
        done_s=(found.answered_ns - found.sent_ns[0]) / 1e9,
        rows=np.full(n, found.load.rows, np.int16),
        status=np.full(n, Status.OK, np.int8),
        source=np.full(n, NO_SOURCE, np.int8),
        kind=np.full(n, Kind.ORDINARY, np.int8),
        call=np.arange(n, dtype=np.int32),
    )
