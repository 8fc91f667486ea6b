"""`fraudctl load` before anything is sent: scenarios listed, described, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_load.result import save
from support.load_results import synthetic_result


def test_list_names_every_scenario_with_what_it_is_for(fraudctl) -> None:
    ran = fraudctl("load", "list", "--json")
    assert ran.code == 0
    assert "10,000 transactions a second" in json.loads(ran.out)["scenarios"]["peak"]
    assert "hostile" in fraudctl("load", "list").out


def test_describe_fills_in_every_default_and_applies_the_options(fraudctl) -> None:
    ran = fraudctl("load", "describe", "smoke", "--rate", "50", "--duration", "10", "--set", "slo.p50_ms=9", "--json")
    found = json.loads(ran.out)
    assert (found["expected_arrivals"], found["slo"]["p50_ms"], found["sending"]["give_up_s"]) == (500, 9.0, 10.0)
    assert "arrivals.numbers.rate" in fraudctl("load", "describe", "smoke").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("describe", "nothing"), "no scenario 'nothing'; there are batch"),
        (("describe", "smoke", "--rate", "-1"), "--set arrivals.rate=-1.0: arrivals.rate is -1.0; write a number"),
        (("describe", "smoke", "--set", "slo"), "--set slo: write FIELD=VALUE"),
        (("run", "smoke", "--url", "192.0.2.7:8001"), "192.0.2.7 is not this machine"),
        (("run", "smoke", "--url", "localhost"), "write host:port"),
        (("run", "smoke", "--ca", "nowhere.crt"), "Access: ca (nowhere.crt) cannot be read"),
        (("run", "smoke", "--ca", "nowhere.crt", "--runner", "locust"), "Access: ca (nowhere.crt) cannot be read"),
        (("run", "smoke", "--certificate", "mine.crt"), "certificate and key belong together"),
        (("perf-analyzer", "smoke", "--url", "192.0.2.7:8001"), "192.0.2.7 is not this machine"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error_of_one_line(fraudctl, arguments: tuple[str, ...], said: str) -> None:
    ran = fraudctl("load", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_a_scenario_of_ones_own_is_told_its_line(fraudctl, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("about: Mine.\narrivals: {kind: poisson, rate: 5}\nslo: {p50_ms: 1}\n", encoding="utf-8")
    ran = fraudctl("load", "describe", path)
    assert ran.code == 2
    assert "own.yaml:2: arrivals.duration_s is missing" in ran.err


def test_report_writes_both_files_into_the_run_and_says_where(fraudctl, tmp_path: Path) -> None:
    save(synthetic_result(), tmp_path / "run")
    ran = fraudctl("load", "report", tmp_path / "run")
    assert ran.code == 0
    assert "pass" in ran.out
    for name in ("report.html", "report.md"):
        assert (tmp_path / "run" / name).is_file()
        assert name in ran.out


def test_report_as_json_has_the_figures_and_writes_where_it_is_told(fraudctl, tmp_path: Path) -> None:
    save(synthetic_result(p99_limit_ms=1.0), tmp_path / "run")
    html, markdown = tmp_path / "x.html", tmp_path / "y.md"
    ran = fraudctl("load", "report", tmp_path / "run", "--html", html, "--markdown", markdown, "--json")
    assert ran.code == 0  # the verdict is the run's
    found = json.loads(ran.out)
    assert (found["passed"], found["outcome"]) == (False, "miss")
    assert len(found["over_time"]["latency_ms"]["p99"]) == 20
    assert found["files"] == [str(html), str(markdown)]
    assert html.is_file()
    assert markdown.is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_folder_without_a_run_has_no_report(fraudctl, tmp_path: Path) -> None:
    ran = fraudctl("load", "report", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "holds no finished run: run.json is missing" in ran.err


def test_compare_exits_with_1_on_a_regression_and_names_it(fraudctl, tmp_path: Path) -> None:
    save(synthetic_result(1, seconds=40.0), tmp_path / "a")
    save(synthetic_result(2, seconds=40.0), tmp_path / "same")
    save(synthetic_result(3, seconds=40.0, median_ms=9.0), tmp_path / "slower")
    good = fraudctl("load", "compare", tmp_path / "a", tmp_path / "same")
    assert good.code == 0
    assert "No regression" in good.out
    html = tmp_path / "both.html"
    bad = fraudctl("load", "compare", tmp_path / "a", tmp_path / "slower", "--html", html, "--json")
    assert bad.code == 1
    found = json.loads(bad.out)
    assert (found["passed"], found["verdict"], found["html"]) == (False, "regression", str(html))
    assert {one["name"]: one["verdict"] for one in found["measures"]}["p50_ms"] == "regression"
    assert "Regression: p50 latency" in html.read_text(encoding="utf-8")
    ran = fraudctl(
        "load", "compare", tmp_path / "a", tmp_path / "slower", "--tolerance", "p50_ms=1", "--tolerance", "p99_ms=1"
    )
    assert ran.code == 0


def test_runs_that_cannot_be_compared_are_a_usage_error(fraudctl, tmp_path: Path) -> None:
    save(synthetic_result(1), tmp_path / "a")
    save(synthetic_result(2, rate=200.0), tmp_path / "b")
    for arguments, said in (
        ((tmp_path / "b",), "the runs differ in arrivals"),
        ((tmp_path / "a", "--tolerance", "p99_ms"), "write MEASURE=SHARE"),
        ((tmp_path / "none",), "holds no finished run"),
    ):
        ran = fraudctl("load", "compare", tmp_path / "a", *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
