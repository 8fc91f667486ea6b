"""Every target is judged with enough samples or not at all, and only a pass is a pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fraud_load import gate, scenario
from fraud_load.assembly import Observed, assemble
from fraud_load.result import Kind, Outcome, Requests, Result, ServerSeries, Status
from support.load_results import synthetic_requests, synthetic_server

TEXT = """\
about: Made for a test.
warmup_s: 2
arrivals: {kind: poisson, rate: 300, duration_s: 20}
slo: {p50_ms: 100}
"""


def judged(slo: str, requests: Requests | None = None, server: ServerSeries | None = None, **options: str) -> Result:
    fields = {"slo": slo, **{name.replace("__", "."): value for name, value in options.items()}}
    asked = scenario.parse(TEXT, "a.yaml", fields)
    requests = traffic() if requests is None else requests
    observed = Observed("asyncio", "localhost:8001", "2026-03-02T00:00:00Z", requests, server or ServerSeries(), [0.4])
    return assemble(asked, observed)


def traffic(**options: Any) -> Requests:
    return synthetic_requests(np.random.default_rng(3), **options)


def outcome(slo: str, requests: Requests | None = None, **options: str) -> Outcome:
    return judged(slo, requests, **options).run.outcome


@pytest.mark.parametrize(
    ("slo", "wanted"),
    [
        ("{p50_ms: 10}", Outcome.PASS),
        ("{p50_ms: 2}", Outcome.MISS),
        ("{p99_ms: 100}", Outcome.PASS),
        ("{p99_ms: 10}", Outcome.MISS),
        ("{p99.9_ms: 1000}", Outcome.NOT_ENOUGH_DATA),
        ("{p50_ms: 10, p99.9_ms: 1000}", Outcome.NOT_ENOUGH_DATA),
        ("{p50_ms: 2, p99.9_ms: 1000}", Outcome.MISS),
        ("{throughput: 250}", Outcome.PASS),
        ("{throughput: 350}", Outcome.MISS),
        ("{error_share: 0.01, degraded_share: 0.01}", Outcome.PASS),
        ("{error_share: 0.0001}", Outcome.NOT_ENOUGH_DATA),
        ("{error_share: 0}", Outcome.PASS),
        ("{generator_lag_ms: 5}", Outcome.PASS),
    ],
)
def test_a_target_is_met_missed_or_not_known(slo: str, wanted: Outcome) -> None:
    assert outcome(slo) is wanted


def test_errors_and_degraded_answers_are_counted_and_shown() -> None:
    result = judged("{error_share: 0.01, degraded_share: 0.01}", traffic(error_share=0.05, degraded_share=0.05))
    assert [one.outcome for one in result.run.slos] == [Outcome.MISS, Outcome.MISS]
    for one in result.run.slos:
        assert one.measured == pytest.approx(0.05, abs=0.01)
        assert f" of {one.samples:,})" in one.text
    assert result.run.totals["failed"] == int(result.requests.failed.sum())


def test_a_refused_bad_request_is_no_error_and_does_not_flatter_the_latency() -> None:
    requests = traffic(bad_share=0.5)
    bad = requests.kind == Kind.BAD
    requests.done_s[bad] = requests.sent_s[bad]
    result = judged("{p50_ms: 100, error_share: 0.01}", requests)
    assert result.run.outcome is Outcome.PASS
    assert result.run.latency_ms["p50"] > 5
    answered = replace(requests, status=np.where(bad, Status.OK, requests.status).astype(np.int8))
    assert outcome("{error_share: 0.01}", answered) is Outcome.MISS


def test_the_warm_up_is_not_judged() -> None:
    requests = traffic(stall=(0.0, 1.9))
    assert outcome("{p99_ms: 100}", requests, warmup_s="2") is Outcome.PASS
    assert outcome("{p99_ms: 100}", requests, warmup_s="0") is Outcome.MISS


def test_a_late_generator_gives_no_verdict_and_says_why() -> None:
    requests = traffic()
    late = replace(requests, taken_s=requests.taken_s + 0.02)
    result = judged("{p50_ms: 100, error_share: 0.01}", late)
    assert {one.outcome for one in result.run.slos} == {result.run.outcome} == {Outcome.NO_VERDICT}
    assert "the generator was late by 2" in str(result.run.generator.bottleneck)
    assert "sending.processes" in str(result.run.generator.bottleneck)
    assert outcome("{p50_ms: 100, generator_lag_ms: 50}", late) is Outcome.PASS


def test_a_generator_that_fills_its_core_gives_no_verdict() -> None:
    asked = scenario.parse(TEXT, "a.yaml")
    assert "used 97% of a core" in str(gate.bottleneck(asked, 1.0, [0.2, 0.97]))
    assert gate.bottleneck(asked, 1.0, [0.2, 0.9]) is None


def test_without_any_answer_nothing_is_a_pass() -> None:
    nothing = traffic().select(slice(0, 0))
    slo = "{p50_ms: 1, error_share: 0.1, degraded_share: 0.1, throughput: 0, generator_lag_ms: 5}"
    result = judged(slo, nothing)
    assert {one.outcome for one in result.run.slos} == {Outcome.NOT_ENOUGH_DATA}


def test_a_run_that_somebody_ended_early_is_no_pass() -> None:
    requests = traffic()
    requests.status[-100:] = Status.UNSENT
    result = judged("{p50_ms: 100}", requests)
    assert result.run.outcome is Outcome.NOT_ENOUGH_DATA
    assert "the run was ended early: 100 arrivals were not sent" in result.run.slos[0].text


def test_a_percentile_asks_for_twenty_samples_beyond_it() -> None:
    assert [gate.samples_for(level) for level in (50, 99, 99.9)] == [40, 2_000, 20_000]
    assert [gate.samples_for_share(limit) for limit in (0.1, 0.001, 0)] == [30, 3_000, 1_000]


def test_the_interval_of_a_percentile_holds_the_true_one_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(1)
    true = -np.log(0.01)  # p99 of an exponential
    held = 0
    for _ in range(400):
        low, high = gate.interval_ms(rng.exponential(size=3_000), 99)
        held += low <= true <= high
    assert 0.92 <= held / 400 <= 0.985


SPIKE = {"arrivals": "{kind: spike, rate: 300, times: 5, at_s: 5, for_s: 5, duration_s: 20}"}


@pytest.mark.parametrize(
    ("stalled_until", "limit", "wanted"),
    [(13.0, 5, Outcome.PASS), (13.0, 1, Outcome.MISS), (19.5, 5, Outcome.MISS), (5.5, 0, Outcome.PASS)],
)
def test_a_spike_is_over_when_p99_is_back_for_good(stalled_until: float, limit: float, wanted: Outcome) -> None:
    result = judged(f"{{recovery_s: {limit}}}", traffic(stall=(5.0, stalled_until)), **SPIKE)
    assert result.run.outcome is wanted
    assert result.run.findings["recovery"]["worst_p99_ms"] > 300


KNEE = {
    "arrivals": "{kind: steps, first: 300, last: 2400, factor: 2, hold_s: 5, leaves_ms: 100}",
    "warmup_s": "0",
}


def steps(latency_ms: list[float], lag_ms: float = 0.1, seconds: float = 20.0) -> Requests:
    """Steps of 5 s whose arrivals take so long; what was planned beyond `seconds` was never sent."""
    requests = traffic(seconds=20.0, rate=600)
    step = (requests.intended_s // 5).astype(int)
    done = requests.intended_s + np.array(latency_ms)[step] / 1e3
    unsent = requests.intended_s >= seconds
    return replace(
        requests,
        taken_s=np.where(unsent, np.nan, requests.intended_s + np.where(step == 2, lag_ms, 0.1) / 1e3),
        done_s=np.where(unsent, np.nan, done),
        status=np.where(unsent, Status.UNSENT, Status.OK).astype(np.int8),
    )


def test_the_knee_is_the_last_rate_that_kept_its_p99() -> None:
    result = judged("{knee_rate: 600}", steps([5, 6, 150, 900]), **KNEE)
    knee = result.run.findings["knee"]
    assert (knee["rate"], knee["broke_at"], len(knee["steps"])) == (600, 1_200, 4)
    assert [step["held"] for step in knee["steps"]] == [True, True, False, False]
    assert result.run.window_s == (0, 10)
    assert result.run.outcome is Outcome.PASS
    assert outcome("{knee_rate: 700}", steps([5, 6, 150, 900]), **KNEE) is Outcome.MISS


def test_a_run_that_stopped_behind_the_knee_is_judged_by_the_steps_it_sent() -> None:
    knee = judged("{knee_rate: 600}", steps([5, 6, 150, 900], seconds=17), **KNEE).run.findings["knee"]
    assert (knee["rate"], len(knee["steps"])) == (600, 3)


def test_one_noisy_step_is_not_the_knee_where_patience_is_asked_for() -> None:
    arrivals = KNEE["arrivals"].replace("leaves_ms: 100", "leaves_ms: 100, patience: 2")
    patient = {**KNEE, "arrivals": arrivals}
    assert judged("{knee_rate: 1}", steps([5, 150, 7, 8]), **patient).run.findings["knee"]["rate"] == 2_400
    assert judged("{knee_rate: 1}", steps([5, 150, 150, 8]), **patient).run.findings["knee"]["rate"] == 300


def test_a_server_that_is_too_slow_at_once_has_no_knee() -> None:
    result = judged("{knee_rate: 1}", steps([150, 150, 150, 150]), **KNEE)
    assert result.run.findings["knee"]["rate"] is None
    assert result.run.outcome is Outcome.MISS
    assert "not reached" in result.run.slos[0].text


def test_a_knee_below_its_target_is_not_the_servers_where_the_generator_was_late() -> None:
    late = steps([5, 6, 150, 900], lag_ms=40)
    assert outcome("{knee_rate: 700}", late, **KNEE) is Outcome.NO_VERDICT
    assert outcome("{knee_rate: 600}", late, **KNEE) is Outcome.PASS


def test_growth_is_told_from_the_first_to_the_last_third() -> None:
    requests = traffic(seconds=60)
    requests.done_s[requests.intended_s > 45] += 0.02
    server = synthetic_server(np.random.default_rng(1), 60)
    server.processes["tritonserver"].private_bytes[-20:] = [1e9] * 20
    slo = "{p99_growth_share: 0.3, memory_growth_share: 0.2}"
    result = judged(slo, requests, server, arrivals__duration_s="60")
    assert [one.outcome for one in result.run.slos] == [Outcome.MISS, Outcome.MISS]
    assert result.run.findings["drift"]["memory_growth_share"] == pytest.approx(4.5, abs=0.3)
    steady = judged(slo, traffic(seconds=60), synthetic_server(np.random.default_rng(1), 60), arrivals__duration_s="60")
    assert steady.run.outcome is Outcome.PASS


def test_the_cores_of_server_generator_and_machine_are_told_apart() -> None:
    cores = judged("{p50_ms: 100}", server=synthetic_server(np.random.default_rng(1))).run.findings["cores"]
    assert cores["server"] == pytest.approx(0.6, abs=0.05)
    assert cores["generator"] == pytest.approx(0.6, abs=0.05)
    assert cores["machine"] == pytest.approx(0.3, abs=0.05)
    assert "cores" not in judged("{p50_ms: 100}").run.findings


def test_memory_that_nobody_saw_is_not_enough_data() -> None:
    assert outcome("{memory_growth_share: 9}") is Outcome.NOT_ENOUGH_DATA
