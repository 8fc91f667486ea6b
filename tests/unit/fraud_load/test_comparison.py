"""Two runs compared: a planted regression is found, two runs of the same thing are not one, and doubt is no pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest

from fraud_load.report import comparison_page, figures
from fraud_load.report import comparison_text as words
from fraud_load.report.comparison import TOLERANCES, Change, Comparison, Measure, compare
from fraud_load.result import Outcome, ProcessSeries, Result, ServerSeries, Status, plain
from fraud_scoring.errors import InvalidInput
from support.load_results import synthetic_result

minute = partial(synthetic_result, seconds=60.0)


def measures(found: Comparison) -> dict[str, Measure]:
    return {one.name: one for one in found.measures}


def verdicts(found: Comparison) -> dict[str, Change]:
    return {one.name: one.verdict for one in found.measures}


def swaying(seed: int, slower: float = 1.0) -> Result:
    """A run whose latency sways by a quarter from second to second, each second much like the one before."""
    result = minute(seed)
    rng = np.random.default_rng(seed + 10_000)
    sway = np.zeros(61)
    for i in range(1, 61):
        sway[i] = 0.7 * sway[i - 1] + rng.normal(0.0, 0.18)
    requests = result.requests
    factor = slower * np.exp(sway[requests.intended_s.astype(int)])
    return replace(result, requests=replace(requests, done_s=requests.intended_s + requests.latency_s * factor))


def with_cpu(result: Result, times: float) -> Result:
    processes = {
        name: replace(one, cpu=[times * used for used in one.cpu]) for name, one in result.server.processes.items()
    }
    return replace(result, server=replace(result.server, processes=processes))


def test_a_planted_regression_of_a_fifth_is_found_in_every_pair() -> None:
    for seed in range(20):
        found = measures(compare(minute(seed), minute(seed + 100, median_ms=7.2)))
        assert found["p50_ms"].verdict is Change.REGRESSION
        assert 0.14 < (found["p50_ms"].change or 0) < 0.21  # a fifth, but for what the generator adds to both
        assert found["p99_ms"].verdict is not Change.NO_REGRESSION
        assert found["throughput"].verdict is found["failed_share"].verdict is Change.NO_REGRESSION


def test_two_runs_of_the_same_are_no_regression() -> None:
    judged = Counter(compare(minute(seed), minute(seed + 100)).verdict for seed in range(40))
    assert judged[Change.REGRESSION] == 0
    assert judged[Change.NO_REGRESSION] >= 30


def test_latency_that_sways_over_seconds_is_not_taken_for_a_regression() -> None:
    """Arrivals of one second are alike: as if they were independent, the interval would be far too narrow."""
    pairs = [compare(swaying(seed), swaying(seed + 100)) for seed in range(60)]
    cried = sum(Change.REGRESSION in (verdicts(one)["p50_ms"], verdicts(one)["p99_ms"]) for one in pairs)
    assert cried <= 1
    for name, least in (("p50_ms", 0.9), ("p99_ms", 0.75)):
        changes = [measures(pair)[name] for pair in pairs]
        held = [(one.low or 0) <= 0 <= (one.high or 0) for one in changes]
        assert sum(held) >= least * len(held)  # intervals that should hold 95%


def test_a_regression_shows_through_the_sway_when_it_is_large() -> None:
    found = Counter(compare(swaying(seed), swaying(seed + 100, slower=2.0)).verdict for seed in range(20))
    assert found[Change.REGRESSION] >= 17
    assert found[Change.NO_REGRESSION] == 0


def test_values_and_changes_are_those_of_the_arrivals() -> None:
    a, b = minute(1, bad_share=0.1), minute(2, bad_share=0.1, median_ms=8.0)
    found = measures(compare(a, b))
    values = []
    for result in (a, b):
        judged = result.requests.select((result.requests.intended_s >= 3) & (result.requests.kind == 0))
        values.append([np.quantile(judged.latency_s * 1e3, level) for level in (0.5, 0.99)])
    for i, name in enumerate(("p50_ms", "p99_ms")):
        assert found[name].a == pytest.approx(values[0][i])
        assert found[name].b == pytest.approx(values[1][i])
        assert found[name].change == pytest.approx(values[1][i] / values[0][i] - 1)


def test_cpu_a_transaction_is_server_cpu_over_answers_and_a_fifth_more_is_found() -> None:
    a, b = minute(1), with_cpu(minute(2), 1.25)
    found = measures(compare(a, b))["cpu_ms"]
    used = sum(np.array(a.server.processes[name].cpu)[3:].sum() for name in ("tritonserver", "fraud_score"))
    done = (a.requests.done_s > 3.0) & (a.requests.done_s <= 60.0)
    assert found.a == pytest.approx(1e3 * used / done.sum(), rel=1e-6)
    assert found.verdict is Change.REGRESSION
    assert verdicts(compare(b, a))["cpu_ms"] is Change.NO_REGRESSION


def test_answers_that_stay_away_are_a_regression_of_throughput_and_of_errors() -> None:
    a, b = minute(1), minute(2, error_share=0.2)
    found = measures(compare(a, b))
    assert found["throughput"].verdict is found["failed_share"].verdict is Change.REGRESSION
    assert found["throughput"].b == pytest.approx(0.8, abs=0.02)
    assert found["failed_share"].change == pytest.approx(0.2, abs=0.02)
    assert compare(b, a).verdict is Change.NO_REGRESSION  # better is no regression


def test_degraded_answers_are_a_regression() -> None:
    assert verdicts(compare(minute(1), minute(2, degraded_share=0.05)))["degraded_share"] is Change.REGRESSION


def test_a_stated_tolerance_decides() -> None:
    a, b = minute(1), minute(2, median_ms=7.2)
    assert verdicts(compare(a, b, {"p50_ms": 0.4}))["p50_ms"] is Change.NO_REGRESSION
    assert verdicts(compare(a, b, {"p50_ms": 0.05}))["p50_ms"] is Change.REGRESSION
    assert measures(compare(a, b, {"p50_ms": 0.05}))["p99_ms"].tolerance == TOLERANCES["p99_ms"]


def test_a_short_run_is_not_enough_data_and_no_pass() -> None:
    a, b = (synthetic_result(seed, seconds=9.0, warmup_s=1.0) for seed in (1, 2))
    found = compare(a, b)
    assert found.verdict is Change.NOT_ENOUGH_DATA
    assert not found.passed
    assert measures(found)["p50_ms"].why == "8 blocks of time in the shorter run, 10 are needed"


def test_few_arrivals_tell_nothing_of_p99() -> None:
    found = measures(compare(minute(1, rate=20.0), minute(2, rate=20.0)))
    assert found["p99_ms"].verdict is Change.NOT_ENOUGH_DATA
    assert "2,000 are needed" in found["p99_ms"].why
    assert found["failed_share"].verdict is Change.NOT_ENOUGH_DATA


def test_a_run_that_answered_nothing_is_no_pass() -> None:
    dead = minute(2)
    status = np.full(len(dead.requests), Status.UNAVAILABLE, np.int8)
    found = compare(minute(1), replace(dead, requests=replace(dead.requests, status=status)))
    assert not found.passed
    assert measures(found)["failed_share"].verdict is Change.REGRESSION


def test_a_server_out_of_sight_has_no_cpu_to_compare_and_that_is_said() -> None:
    away = replace(minute(1), server=ServerSeries(processes={"generator 0": ProcessSeries([0.1], [1.0], [1.0])}))
    found = compare(away, replace(minute(2), server=away.server))
    assert measures(found)["cpu_ms"].verdict is Change.NOT_MEASURED
    assert measures(found)["cpu_ms"].why == "neither run could tell"
    assert found.verdict is Change.NO_REGRESSION


def test_where_the_generator_was_the_bottleneck_there_is_no_verdict() -> None:
    late = minute(2, bottleneck="the generator was late")
    assert late.run.outcome is Outcome.NO_VERDICT
    found = compare(minute(1), late)
    assert found.verdict is Change.NO_VERDICT
    assert not found.passed
    assert "B: the generator was late." in found.notes


def test_runs_of_different_loads_are_refused_and_the_difference_named() -> None:
    with pytest.raises(InvalidInput, match="the runs differ in arrivals"):
        compare(minute(1), minute(2, rate=400.0))
    locust = minute(2)
    with pytest.raises(InvalidInput, match=r"runner \(asyncio, locust\)"):
        compare(minute(1), replace(locust, run=replace(locust.run, runner="locust")))


@pytest.mark.parametrize(("given", "said"), [({"p98": 0.1}, "no measure 'p98'"), ({"p50_ms": -1}, "write a share")])
def test_a_tolerance_of_nothing_is_refused(given: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        compare(minute(1), minute(2), given)


def test_another_machine_is_noted() -> None:
    other = minute(2)
    other = replace(other, run=replace(other.run, machine={**other.run.machine, "cores": 64}))
    assert compare(minute(1), other).notes[0] == "The generators' machines differ in cores."


def test_other_programs_on_the_machine_during_one_of_the_runs_are_noted_and_much_of_them_ends_the_verdict() -> None:
    quiet, busy, like, some = (
        minute(seed, findings={"cores": {"machine": machine, "server": 0.5, "generator": 0.1}})
        for seed, machine in ((1, 0.7), (2, 1.6), (3, 0.8), (4, 1.0))
    )
    assert compare(quiet, busy).notes == [
        "The seeds differ (1, 2): other arrival times, other customers.",
        "Other programs used 0.10 cores of the machine during A and 1.00 during B: latency follows that. "
        "Repeat on a quiet machine.",
    ]
    assert compare(quiet, busy).verdict is Change.NO_VERDICT
    assert not any("Other programs" in note for note in compare(quiet, like).notes)
    assert any("Other programs" in note for note in compare(quiet, some).notes)
    assert compare(quiet, some).verdict is compare(quiet, like).verdict is Change.NO_REGRESSION


def test_the_same_seed_gives_the_same_intervals() -> None:
    a, b = minute(1), minute(2)
    assert compare(a, b, seed=3) == compare(a, b, seed=3)


def test_the_page_shows_every_measure_and_both_runs_and_needs_nothing() -> None:
    a, b = minute(1), minute(2, median_ms=7.5)
    found = compare(a, b)
    html = comparison_page.render(found, (a, figures(a)), (b, figures(b)))
    parser = HTMLParser()
    parser.feed(html)
    assert "http" not in html
    for name in ("changes", "p99-over-time", "p50-over-time", "latency-histogram", "latency-tail", "server-cpu"):
        assert html.count(f'id="{name}"') == 1
    for one in found.measures:
        assert html.count(f">{words.change(one)}") >= 2  # for a screen and for a phone
    assert "Regression: p50 latency" in html
    assert plain(found.as_dict())["verdict"] == "regression"


def test_a_change_is_said_with_its_interval_and_unit() -> None:
    ratio = Measure("throughput", 1.0, 0.9, -0.1, -0.12, -0.08, 0.05, Change.REGRESSION)
    assert words.change(ratio) == "-10.0% (-12.0 to -8.0)"
    assert words.tolerated(ratio) == "-5%"
    share = Measure("failed_share", 0.0, 0.002, 0.002, None, None, 0.001, Change.NOT_ENOUGH_DATA)
    assert words.change(share) == "+0.200 points"
    assert words.value(share, share.b) == "0.2%"
    assert words.change(replace(share, change=None)) == words.value(share, None) == "–"
