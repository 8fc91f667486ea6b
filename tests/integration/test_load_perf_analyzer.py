"""A scenario through perf_analyzer, in each of its modes, judged like any other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fraud_load import scenario
from fraud_load.perf_analyzer import PerfAnalyzerMissing, find_perf_analyzer
from fraud_load.perf_analyzer_run import run_perf_analyzer
from fraud_load.result import Outcome, load, save
from fraud_load.runner import Target
from fraud_scoring.errors import InvalidInput
from support.server import Server

pytestmark = pytest.mark.triton

BESIDE = Path(__file__).parents[3] / "shared" / "tools" / "perf_analyzer"
SPIKE = "{kind: spike, rate: 100, times: 3, at_s: 0.5, for_s: 0.5, duration_s: 1.5}"


@pytest.fixture(scope="module")
def program() -> Path:
    """The tool, if this machine can run it."""
    try:
        found = find_perf_analyzer(BESIDE if BESIDE.exists() else None)
        subprocess.run([found, "--version"], capture_output=True, check=True, timeout=60)
    except (PerfAnalyzerMissing, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"perf_analyzer does not run here: {type(error).__name__}")
    return found


@pytest.mark.parametrize(
    ("arrivals", "mode"),
    [
        ("{kind: poisson, rate: 200, duration_s: 1.5}", "request-rate"),
        (SPIKE, "custom-interval"),
        ("{kind: constant, rate: 500, duration_s: 1.5}", "concurrency"),
    ],
)
def test_a_scenario_is_sent_and_judged(server: Server, program: Path, tmp_path: Path, arrivals: str, mode: str) -> None:
    options = {"arrivals": arrivals, "warmup_s": "0", "slo": "{p50_ms: 5000, degraded_share: 0.5}"}
    asked = scenario.load("smoke", options)
    chosen = "concurrency" if mode == "concurrency" else None
    result = run_perf_analyzer(asked, Target(server.url), program, mode=chosen, concurrency=2)
    assert result.run.outcome is Outcome.PASS
    assert [one.slo for one in result.run.slos] == ["p50_ms"]
    facts = result.run.findings["perf_analyzer"]
    assert facts["mode"] == mode
    assert facts["csv"]["Inferences/Second"] > 0
    assert len(result.requests) > 50
    assert (result.requests.latency_s > 0).all()
    save(result, tmp_path)
    assert load(tmp_path).run.runner == "perf_analyzer"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hostile", "ends at the first refused request"),
        ("knee", "does not stop behind a knee"),
        ("spike", "no recovery_s"),
    ],
)
def test_what_it_cannot_send_is_refused_before_it_is_started(name: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        run_perf_analyzer(scenario.load(name), Target("127.0.0.1:9"), Path("/nowhere"))


def test_several_sizes_and_a_rate_that_changes_are_refused() -> None:
    for options, mode, said in (
        ({"workload.rows": "{1: 0.5, 2: 0.5}"}, None, "requests of one size"),
        ({"arrivals": SPIKE, "warmup_s": "0"}, "request-rate", "have no one rate"),
    ):
        with pytest.raises(InvalidInput, match=said):
            run_perf_analyzer(scenario.load("smoke", options), Target("127.0.0.1:9"), Path("/nowhere"), mode=mode)
