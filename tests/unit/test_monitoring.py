"""Alerts, runbooks, rule tests and dashboards belong together: nothing of them without the others."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from fraud_server.errors import CannotServe
from fraud_server.monitoring import HOW_TO_GET, RETENTION_TIME, Programs, render_alertmanager, render_prometheus
from fraudctl.cli import cli

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RUNBOOKS = ROOT / "deploy" / "runbooks"
SECTIONS = ("What it means for customers", "How to see it", "What to do", "How to know that it is over")

Rule = dict[str, Any]


def all_rules() -> Iterator[Rule]:
    for path in sorted((MONITORING / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


@cache
def all_tests() -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text()) for path in sorted((MONITORING / "tests").glob("*_test.yaml"))]
    return [test for document in documents for test in document["tests"]]


ALERTS = [rule for rule in all_rules() if "alert" in rule]
RECORDS = [rule for rule in all_rules() if "record" in rule]
ALERT_NAMES = sorted({rule["alert"] for rule in ALERTS})


def of_rule(rule: Rule) -> str:
    return " ".join([rule.get("alert") or rule["record"], *map(str, rule.get("labels", {}).values())])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"monitoring_{name}", MONITORING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its own module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def test_every_alert_has_a_runbook_and_every_runbook_has_an_alert() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == ALERT_NAMES


@pytest.mark.parametrize("rule", ALERTS, ids=of_rule)
def test_an_alert_says_how_urgent_it_is_what_happened_and_what_to_do(rule: Rule) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket", "none")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"deploy/runbooks/{rule['alert']}.md"


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_a_runbook_answers_the_four_questions_of_who_was_woken_up(name: str) -> None:
    title, *rest = re.split(r"^## ", (RUNBOOKS / f"{name}.md").read_text(), flags=re.MULTILINE)
    assert title.strip() == f"# {name}"
    assert [part.splitlines()[0] for part in rest] == list(SECTIONS)
    assert all(part.partition("\n")[2].strip() for part in rest)


@pytest.mark.parametrize("name", ALERT_NAMES)
def test_a_runbook_names_commands_options_and_pages_that_exist(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (RUNBOOKS / target).exists(), target
    lines = re.findall(r"^ {4}(fraudctl .*)$|`(fraudctl [^`]*)`", text, flags=re.MULTILINE)
    for line in ("".join(pair) for pair in lines):
        check_command(shlex.split(line)[1:])


def check_command(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"fraudctl has no {name}"
        command = found
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        assert not word.startswith("-") or word in known, f"{command.name} has no {word}"


@pytest.mark.parametrize("rule", ALERTS, ids=of_rule)
def test_an_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not(rule: Rule) -> None:
    looks = [
        look for test in all_tests() for look in test.get("alert_rule_test", ()) if look["alertname"] == rule["alert"]
    ]
    labels = {name: str(value) for name, value in rule["labels"].items()}.items()
    fired = [any(labels <= alert["exp_labels"].items() for alert in look["exp_alerts"]) for look in looks]
    assert any(fired)
    assert not all(fired) or rule["expr"] == "vector(1)"


@pytest.mark.parametrize("rule", RECORDS, ids=of_rule)
def test_a_recording_rule_has_a_unit_test_of_its_value(rule: Rule) -> None:
    wanted = re.compile(rf"{re.escape(rule['record'])}(?![\w:])")
    labels = [f'{name}="{value}"' for name, value in rule.get("labels", {}).items()]
    looks = [look for test in all_tests() for look in test.get("promql_expr_test", ()) if wanted.search(look["expr"])]
    assert any(all(label in sample["labels"] for label in labels) for look in looks for sample in look["exp_samples"])


def test_the_budget_burns_are_those_of_the_workbook_for_every_objective() -> None:
    wanted = [("14.4", "1h", "5m", "page"), ("6", "6h", "30m", "page"), ("3", "1d", "2h", "ticket")]
    wanted += [("1", "3d", "6h", "ticket")]
    for slo, budget in (("availability", "0.0001"), ("latency", "0.01"), ("degraded", "0.001")):
        rules = [rule for rule in ALERTS if rule["labels"].get("slo") == slo]
        record = f"fraud:{slo}_error:ratio"
        expected = [
            (f"{record}{long} > {factor} * {budget} and {record}{short} > {factor} * {budget}", severity)
            for factor, long, short, severity in wanted
        ]
        assert [(rule["expr"], rule["labels"]["severity"]) for rule in rules] == expected


def test_the_slo_rules_are_what_their_script_writes() -> None:
    slo_rules = script("slo_rules")
    assert slo_rules.OUTPUT.read_text() == slo_rules.render(), "run: python deploy/monitoring/slo_rules.py"


def test_the_dashboards_are_what_their_script_writes() -> None:
    dashboards = script("dashboards")
    rendered = {f"{each.name}.json": dashboards.render(each) for each in dashboards.DASHBOARDS}
    there = {path.name: path.read_text() for path in dashboards.FOLDER.iterdir()}
    assert there == rendered, "run: python deploy/monitoring/dashboards.py"


def test_the_inhibitions_and_the_dashboards_speak_of_alerts_that_exist() -> None:
    document = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    matchers = [
        matcher
        for rule in document["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
        if matcher.startswith("alertname")
    ]
    named = {name for matcher in matchers for name in re.findall(r'"(.*)"', matcher)[0].split("|")}
    assert named
    assert named <= set(ALERT_NAMES)


def test_what_customers_feel_at_once_pages_during_a_rollout_too() -> None:
    document = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    held_back = [
        rule["target_matchers"]
        for rule in document["inhibit_rules"]
        if "RolloutInProgress" in str(rule["source_matchers"])
    ]
    assert held_back
    for name in ("AvailabilityBudgetBurn", "LatencyBudgetBurn", "DegradedBudgetBurn", "DeclineStorm", "LogGap"):
        assert name not in str(held_back)


def test_an_outage_is_two_scrapes_long_and_the_past_is_kept_for_the_longest_look_back() -> None:
    document = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert document["global"]["scrape_interval"] == "5s"
    serving = next(rule["expr"] for rule in RECORDS if rule["record"] == "fraud:serving:bool")
    assert 'max_over_time(up{job="triton"}[10s])' in serving
    assert RETENTION_TIME == "15d"  # 1w offset 1d, and 1h offset 1w, with room


def test_the_configuration_is_rendered_for_the_ports_that_the_server_has(tmp_path: Path) -> None:
    targets = {"triton": "127.0.0.1:1", "sidecar": "127.0.0.1:2", "prometheus": "127.0.0.1:3", "alertmanager": "h:4"}
    document = yaml.safe_load(render_prometheus(targets, "127.0.0.1:5", rules=tmp_path))
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in document["scrape_configs"]}
    assert jobs == {job: [address] for job, address in targets.items()}
    assert document["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["127.0.0.1:5"]}]}]
    assert document["rule_files"] == [str(tmp_path / "*.yaml")]


def test_a_gateway_is_asked_for_where_there_is_one_and_at_the_page_that_it_has(tmp_path: Path) -> None:
    targets = dict.fromkeys(("triton", "sidecar", "prometheus", "alertmanager"), "127.0.0.1:1")
    rendered = yaml.safe_load(render_prometheus({**targets, "gateway": "127.0.0.1:2"}, "127.0.0.1:5", rules=tmp_path))
    stack = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    alone = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    paths = [
        [job["metrics_path"] for job in document["scrape_configs"] if job["job_name"] == "gateway"]
        for document in (rendered, stack, alone)
    ]
    assert paths == [["/stats/prometheus"], ["/stats/prometheus"], []]


def test_a_job_without_an_address_is_named() -> None:
    with pytest.raises(ValueError, match="sidecar"):
        render_prometheus({"triton": "127.0.0.1:1"}, "127.0.0.1:5")


def test_notifications_go_to_the_given_address_and_by_default_nowhere_but_loopback() -> None:
    hooks = [
        hook["url"]
        for receiver in yaml.safe_load(render_alertmanager("https://pager.example/fraud/"))["receivers"]
        for hook in receiver.get("webhook_configs", ())
    ]
    assert hooks == ["https://pager.example/fraud/page", "https://pager.example/fraud/ticket"]
    committed = (MONITORING / "alertmanager.yml").read_text()
    assert all(url.startswith("http://127.0.0.1:") for url in re.findall(r"https?://\S+", committed))


def test_without_the_programs_one_line_says_how_to_get_them() -> None:
    with pytest.raises(CannotServe) as caught:
        Programs.find(which={"prometheus": "/usr/bin/prometheus"}.get)
    assert str(caught.value) == f"--monitoring needs Alertmanager; get both with: {HOW_TO_GET}"
    with pytest.raises(CannotServe, match="Prometheus and Alertmanager"):
        Programs.find(which=lambda _: None)


def test_both_names_of_alertmanager_are_known() -> None:
    upstream = Programs.find(which={"prometheus": "/p", "alertmanager": "/opt/alertmanager"}.get)
    debian = Programs.find(
        which={"prometheus": "/p", "prometheus-alertmanager": "/usr/bin/prometheus-alertmanager"}.get
    )
    assert (upstream.alertmanager.name, debian.alertmanager.name) == ("alertmanager", "prometheus-alertmanager")


def test_every_alert_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert [name for name in ALERT_NAMES if not re.search(rf"^\|.*\b{name}\b.*\|", text, flags=re.MULTILINE)] == []
