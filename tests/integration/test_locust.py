"""Locust and the asyncio runner say the same about one server under one scenario."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fraud_load import runner, scenario
from fraud_load.arrivals import Floats
from fraud_load.locust_process import run_locust
from fraud_load.result import Outcome, Result, Status, load
from fraud_load.runner import Target
from support.server import Server, fraudctl

pytestmark = pytest.mark.triton

RATE = 300
MOST_LAG_MS = 20.0


def asked(seconds: float, **options: str) -> scenario.Scenario:
    fields = {"arrivals.rate": str(RATE), "arrivals.duration_s": str(seconds), "warmup_s": "0"}
    return scenario.load("smoke", fields | {path.replace("__", "."): value for path, value in options.items()})


def by_second(result: Result, level: float) -> Floats:
    """A percentile of the latency of each second, in milliseconds."""
    last = int(result.requests.intended_s.max())
    seconds = [result.requests.between(second, second + 1).latency_s for second in range(last)]
    return np.array([np.percentile(one, level) * 1e3 for one in seconds if len(one)])


def both(server: Server) -> list[Result]:
    """What Locust and the asyncio runner measured at the same time, so that the machine's noise is the same too."""
    found: dict[str, Result] = {}
    lasting = asked(8)
    beside = threading.Thread(target=lambda: found.update(locust=run_locust(lasting, Target(server.url))))
    beside.start()
    found["asyncio"] = runner.run(asked(11), Target(server.url))
    beside.join()
    return list(found.values())


def lag_ms(result: Result) -> float:
    """How late a runner itself was, p99: where its process waits for a core it sees that and not the server."""
    return float(np.percentile(result.requests.lag_s, 99) * 1e3)


def test_both_runners_see_the_same_p50_and_p99_at_300_a_second(server: Server) -> None:
    """Seconds are compared, not outliers. A run in which a runner itself was late says nothing, and is made again."""
    late: list[float] = []
    apart: list[tuple[float, float, float]] = []
    for _ in range(3):
        results = both(server)
        for result in results:
            assert (result.requests.status == Status.OK).all()
            assert len(result.requests) == pytest.approx(RATE * result.run.window_s[1], rel=0.1)
        if max(map(lag_ms, results)) > MOST_LAG_MS:
            late.append(max(map(lag_ms, results)))
            continue
        before = len(apart)
        for level, allowance_ms in ((50, 5.0), (99, 40.0)):
            one, other = (float(np.median(by_second(result, level))) for result in results)
            if abs(one - other) > allowance_ms + 0.5 * min(one, other):
                apart.append((level, one, other))
        if len(apart) == before:
            return
    if not apart:
        pytest.skip(f"this machine cannot send {RATE} requests a second in time beside other work: late by {late} ms")
    pytest.fail(f"percentile, and what each runner saw of it in ms, in three runs: {apart}")


def test_a_master_and_two_workers_send_one_scenario_and_judge_it(server: Server, tmp_path: Path) -> None:
    done = fraudctl(
        "load", "run", "smoke", "--runner", "locust", "--url", server.url, "--duration", "4", "--processes", "2",
        "--set", "warmup_s=0", "--set", "workload.duplicate_share=0.1", "--out", tmp_path / "run",
        "--set", "slo={p50_ms: 5000, error_share: 0.01, generator_lag_ms: 10000}",
    )  # fmt: skip
    assert done.returncode == 0, done
    result = load(tmp_path / "run")
    assert result.run.outcome is Outcome.PASS
    assert (result.run.runner, result.run.generator.processes) == ("locust", 2)
    assert (result.requests.status == Status.OK).all()
    assert result.run.totals["duplicates"] > 20
    assert {"fraud_score"} <= result.server.models.keys()
