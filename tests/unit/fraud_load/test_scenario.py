"""Scenarios are data: those that come with the project are right, and a wrong one is told line and field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud_data import SimulatorSettings, simulate, write_transactions
from fraud_load import scenario
from fraud_load.scenario_file import ScenarioError
from fraud_scoring.errors import InvalidInput
from support.rows import DEFAULT_SCHEMA

SMALL = """\
name: small
about: Made for a test.
warmup_s: 1
arrivals:
  kind: poisson
  rate: 100
  duration_s: 5
workload:
  rows: {1: 0.9, 8: 0.1}
slo:
  p99_ms: 100
"""


def small(old: str = "", new: str = "") -> scenario.Scenario:
    assert old in SMALL
    return scenario.parse(SMALL.replace(old, new), "small.yaml")


def test_the_project_comes_with_these_scenarios() -> None:
    assert scenario.names() == ["batch", "hostile", "knee", "peak", "smoke", "soak", "spike", "steady"]


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_of_the_project_has_its_file_s_name_targets_and_samples_for_them(name: str) -> None:
    from fraud_load.gate import samples_for, samples_for_share

    found = scenario.load(name)
    assert found.name == name
    assert found.slo
    arrivals = found.arrivals.profile().expected * (found.duration_s - found.warmup_s) / found.duration_s
    for level in (50, 99, 99.9):
        if f"p{level:g}_ms" in found.slo:
            assert arrivals * (1 - found.workload.bad_share) >= samples_for(level)
    for slo in ("error_share", "degraded_share"):
        if slo in found.slo:
            assert arrivals >= 1.05 * samples_for_share(found.slo[slo])


@pytest.mark.parametrize(
    ("slo", "limit_ms"), [("p99_ms: 100", 20), ("p99_ms: 20", 10), ("p50_ms: 5", 10), ("generator_lag_ms: 3", 3)]
)
def test_the_generator_may_be_late_by_a_fifth_of_the_p99_or_as_the_scenario_says(slo: str, limit_ms: float) -> None:
    assert small("p99_ms: 100", slo).lag_limit_ms == limit_ms


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenario_written_out_is_the_same_scenario(name: str) -> None:
    found = scenario.load(name)
    assert scenario.parse(found.as_yaml(), "again.yaml") == found


def test_peak_is_ten_thousand_transactions_a_second_below_100_ms() -> None:
    peak = scenario.load("peak")
    assert peak.arrivals.profile().peak * peak.workload.mean_rows == 10_000
    assert peak.slo["p99_ms"] == 100


def test_defaults_are_filled_in() -> None:
    found = small()
    assert found.workload.customers == 5_000
    assert found.sending.give_up_s == 10
    assert found.window_s == (1, 5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("rate: 100", "rate: -3", "small.yaml:6: arrivals.rate is -3; write a number from"),
        ("rate: 100", "rate: fast", "small.yaml:6: arrivals.rate is 'fast'; write a number from"),
        ("rate: 100", "rat: 100", "small.yaml:4: arrivals.rate is missing"),
        ("rate: 100", "rate: 100\n  speed: 2", "small.yaml:7: arrivals.speed is not known; known are duration_s, kind"),
        ("rate: 100", "rate: 100\n  rate: 5", "small.yaml:7: rate stands twice"),
        ("kind: poisson", "kind: often", "small.yaml:5: arrivals.kind is 'often'; write one of constant, day"),
        ("{1: 0.9, 8: 0.1}", "{1: 0.9, 8: 0.2}", "small.yaml:9: workload.rows is a mapping; write a whole number"),
        ("{1: 0.9, 8: 0.1}", "2000", "small.yaml:9: workload.rows is 2000; write a whole number from 1 to 1,024"),
        ("{1: 0.9, 8: 0.1}", "[1, 2]", "small.yaml:9: lists"),
        ("p99_ms: 100", "p95_ms: 100", "small.yaml:11: slo.p95_ms is not known; known are degraded_share"),
        ("p99_ms: 100", "recovery_s: 3", "small.yaml:11: slo.recovery_s: only arrivals of kind spike"),
        ("slo:\n  p99_ms: 100", "slo: {}", "small.yaml:10: slo: nothing is asked"),
        ("warmup_s: 1", "warmup_s: 5", "small.yaml:3: warmup_s: nothing is left"),
        ("about: Made for a test.", "", "about is missing"),
        ("warmup_s: 1", "warmup_s: [", "this is no YAML"),
        ("workload:", "workload: 7\nworkload2:", "small.yaml:8: workload must be a mapping"),
    ],
)
def test_a_wrong_field_is_named_with_its_line_and_its_rule(old: str, new: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        small(old, new)
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["", "7", "- a"])
def test_what_is_no_mapping_is_no_scenario(text: str) -> None:
    with pytest.raises(ScenarioError, match=r"x\.yaml:1: "):
        scenario.parse(text, "x.yaml")


def test_options_replace_fields_and_are_named_where_they_are_wrong() -> None:
    options = {"arrivals.rate": "7.5", "sending.processes": "2", "slo.p50_ms": "9", "workload.rows": "{2: 1}"}
    found = scenario.parse(SMALL, "small.yaml", options)
    assert found.arrivals.numbers == {"rate": 7.5}
    assert (found.sending.processes, found.slo, found.workload.rows) == (2, {"p99_ms": 100, "p50_ms": 9}, {2: 1})
    with pytest.raises(ScenarioError, match=r"--set arrivals\.rate=0: arrivals\.rate is 0; write"):
        scenario.parse(SMALL, "small.yaml", {"arrivals.rate": "0"})


def test_bad_requests_and_joined_calls_exclude_each_other() -> None:
    with pytest.raises(ScenarioError, match="a bad request would refuse its neighbours"):
        scenario.parse(SMALL, "small.yaml", {"workload.bad_share": "0.1", "sending.coalesce": "true"})


def test_too_many_arrivals_are_refused_before_they_are_made() -> None:
    with pytest.raises(ScenarioError, match="more than 20,000,000 arrivals"):
        scenario.parse(SMALL, "small.yaml", {"arrivals.rate": "1000000", "arrivals.duration_s": "80000"})


def test_the_seed_fixes_the_arrivals() -> None:
    arrivals = small().arrivals
    assert arrivals.times(1).tobytes() == arrivals.times(1).tobytes() != arrivals.times(2).tobytes()


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    data = simulate(SimulatorSettings(customers=50, terminals=50, days=2, radius=40.0))
    write_transactions(tmp_path / "day.parquet", data, DEFAULT_SCHEMA)
    text = SMALL.replace("kind: poisson\n  rate: 100", f"kind: replay\n  file: {tmp_path}/day.parquet\n  speed: 40000")
    found = scenario.parse(text, "small.yaml")
    times = found.arrivals.times(1)
    recorded = data.rows[:, DEFAULT_SCHEMA.time_index]
    wanted = (recorded - recorded[0]) / 1e6 / 40_000
    assert times == pytest.approx(wanted[wanted < 5])
    assert found.arrivals.profile().expected == pytest.approx(len(times))


@pytest.mark.parametrize("name", ["nothing", "../smoke"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(InvalidInput, match="there are batch, hostile"):
        scenario.load(name)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("{kind: ramp, first: 10, last: 50, duration_s: 5}", 50),
        ("{kind: day, peak: 70, duration_s: 24}", 70),
        ("{kind: spike, rate: 10, times: 5, at_s: 2, for_s: 1, duration_s: 9, pattern: regular}", 50),
        ("{kind: steps, first: 10, last: 40, factor: 2, hold_s: 2}", 40),
        ("{kind: constant, rate: 30, duration_s: 4}", 30),
    ],
)
def test_every_kind_of_arrivals_has_its_profile(kind: str, peak: float) -> None:
    text = f"about: Made for a test.\narrivals: {kind}\nslo: {{p50_ms: 100}}\n"
    found = scenario.parse(text, "kinds.yaml")
    assert found.name == "kinds"
    assert found.arrivals.profile().peak == peak
    times = found.arrivals.times(3)
    assert (np.diff(times) >= 0).all()
    assert times[-1] < found.duration_s
