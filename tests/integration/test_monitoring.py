"""Rules, routes and dashboards in the real Prometheus and Alertmanager, fed with everything that is exported."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from fraud_server.errors import CannotServe
from fraud_server.monitoring import (
    RETENTION_SIZE,
    RETENTION_TIME,
    Monitoring,
    MonitoringSettings,
    Programs,
    render_alertmanager,
)
from support.monitoring import (
    FOLDER,
    NEEDS_A_WEEK,
    OPENER,
    QUERIES,
    RECORDS,
    RULE_FILES,
    RULES,
    as_grafana_asks,
    ask,
    get,
    metrics_of,
    names,
    needs_prometheus,
    wait_for,
)

pytestmark = needs_prometheus


def tool(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)


class Exporter:
    """Serves exposition text; at each scrape everything that counts has grown by as much again."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._scrapes = 0
        kinds = dict(line.split()[2:4] for line in self._lines if line.startswith("# TYPE"))
        self._counts = {name for name, kind in kinds.items() if kind != "gauge"}

    def text(self) -> str:
        self._scrapes += 1
        return "".join(f"{self._grown(line)}\n" for line in self._lines)

    def _grown(self, line: str) -> str:
        name = re.split(r"[{ ]", line)[0]
        if line.startswith("#") or not {name, re.sub(r"_(bucket|sum|count)$", "", name)} & self._counts:
            return line
        series, _, value = line.rpartition(" ")
        return f"{series} {float(value) * self._scrapes}"


@dataclass
class World:
    """What Prometheus scrapes, and where Alertmanager sends."""

    triton: Exporter
    sidecar: Exporter
    gateway: Exporter
    notified: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def serve(exporter: Exporter | None, world: World | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert exporter is not None
            body = exporter.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            assert world is not None
            body = self.rfile.read(int(self.headers["Content-Length"]))
            world.notified.append((self.path, json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def world() -> World:
    """A gateway, a server and a sidecar that export all they have, and a log that is damaged."""
    sidecar = (FOLDER / "tests" / "sidecar.prom").read_text()
    damaged = sidecar.replace(
        'fraud_log_damaged{writer="front-door-0"} 0', 'fraud_log_damaged{writer="front-door-0"} 1'
    )
    assert damaged != sidecar
    triton, gateway = (Exporter((FOLDER / "tests" / f"{name}.prom").read_text()) for name in ("triton", "gateway"))
    return World(triton, Exporter(damaged), gateway)


@pytest.fixture(scope="module")
def monitoring(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Both programs, once every record that can be there is there."""
    with ExitStack() as stack:
        servers = [serve(world.triton), serve(world.sidecar), serve(world.gateway), serve(None, world)]
        for server in servers:
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        triton, sidecar, gateway, webhook = (server.server_address[1] for server in servers)
        settings = MonitoringSettings(
            home=tmp_path_factory.mktemp("home"),
            triton_metrics_port=triton,
            sidecar_port=sidecar,
            prometheus_port=0,
            alertmanager_port=0,
            webhook=f"http://127.0.0.1:{webhook}",
            gateway_figures=f"127.0.0.1:{gateway}",
            interval="1s",
        )
        running = stack.enter_context(Monitoring(settings))
        wanted = RECORDS - NEEDS_A_WEEK
        wait_for(lambda: wanted <= names(running), f"the records {sorted(wanted - names(running))}")
        yield running


def test_promtool_accepts_the_configuration_and_all_rules() -> None:
    for check in (("config", "prometheus.yml"), ("rules", *map(str, RULE_FILES))):
        found = tool("promtool", "check", *check)
        assert found.returncode == 0, found.stdout + found.stderr
        assert "FAILED" not in found.stdout + found.stderr


@pytest.mark.parametrize("path", sorted((FOLDER / "tests").glob("*_test.yaml")), ids=lambda path: path.stem)
def test_the_rules_do_what_their_unit_tests_say(path: Path) -> None:
    found = tool("promtool", "test", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr


def test_amtool_accepts_the_routes() -> None:
    found = tool("amtool", "check-config", "alertmanager.yml")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_each_alert_goes_to_whom_its_severity_names(rule: dict[str, Any]) -> None:
    severity = rule["labels"]["severity"]
    labels = [f"alertname={rule['alert']}", *(f"{name}={value}" for name, value in rule["labels"].items())]
    receiver = {"page": "page", "ticket": "ticket", "none": "nobody"}[severity]
    found = tool(
        "amtool",
        "config",
        "routes",
        "test",
        "--config.file=alertmanager.yml",
        f"--verify.receivers={receiver}",
        *labels,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_an_alert_that_somebody_forgot_to_label_becomes_a_ticket() -> None:
    found = tool("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", "alertname=Unheard")
    assert found.stdout.strip() == "ticket"


def test_every_target_is_scraped(monitoring: Monitoring) -> None:
    targets = get(f"{monitoring.prometheus_url}/api/v1/targets")["data"]["activeTargets"]
    assert {target["labels"]["job"]: target["health"] for target in targets} == dict.fromkeys(
        ("triton", "sidecar", "gateway", "prometheus", "alertmanager"), "up"
    )


def test_every_rule_can_be_evaluated_against_what_is_exported(monitoring: Monitoring) -> None:
    groups = get(f"{monitoring.prometheus_url}/api/v1/rules")["data"]["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(RULES)
    assert {rule["name"]: rule.get("lastError", "") for rule in evaluated if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_reads_only_metrics_that_somebody_exports(monitoring: Monitoring, rule: dict[str, Any]) -> None:
    assert metrics_of(rule["expr"]) - NEEDS_A_WEEK <= names(monitoring)


@pytest.mark.parametrize("panel", QUERIES)
def test_a_dashboard_shows_something(monitoring: Monitoring, panel: str) -> None:
    query = as_grafana_asks(QUERIES[panel])
    assert metrics_of(query) <= names(monitoring)
    assert ask(monitoring, query), f"nothing to show: {query}"


def test_a_query_that_names_what_nobody_exports_would_be_found(monitoring: Monitoring) -> None:
    assert metrics_of('sum by (le) (rate(fraud_typo_bucket{le="x"}[5m])) or fraud:no:such') == {
        "fraud_typo_bucket",
        "fraud:no:such",
    }
    assert not {"fraud_typo_bucket", "fraud:no:such"} & names(monitoring)


def test_a_page_arrives_with_its_runbook(monitoring: Monitoring, world: World) -> None:
    def arrived() -> dict[str, Any] | None:
        alerts = [alert for path, message in list(world.notified) if path == "/page" for alert in message["alerts"]]
        return next((alert for alert in alerts if alert["labels"]["alertname"] == "LogDamaged"), None)

    alert = wait_for(arrived, "the page about the damaged log")
    assert alert["labels"]["writer"] == "front-door-0"
    assert (FOLDER.parents[1] / alert["annotations"]["runbook_url"]).is_file()


@pytest.mark.parametrize(
    ("loud", "quiet"),
    [
        (
            {"alertname": "AvailabilityBudgetBurn", "severity": "page", "window": "1h"},
            {"alertname": "AvailabilityBudgetBurn", "severity": "ticket", "window": "3d"},
        ),
        (
            {"alertname": "DeclineStorm", "severity": "page", "release": "r0009"},
            {"alertname": "DecisionMixShift", "severity": "ticket", "release": "r0009"},
        ),
        (
            {"alertname": "RolloutInProgress", "severity": "none"},
            {"alertname": "ScoreDrift", "severity": "page", "release": "r0009"},
        ),
        (
            {"alertname": "ServerDown", "severity": "page"},
            {"alertname": "NoTraffic", "severity": "page"},
        ),
        (
            {"alertname": "ServerDown", "severity": "page"},
            {"alertname": "GatewayServersFew", "severity": "page", "instance": "gateway:9464"},
        ),
        (
            {"alertname": "GatewayDown", "severity": "page"},
            {"alertname": "GatewayDown", "severity": "ticket", "instance": "gateway:9464"},
        ),
        (
            {"alertname": "GatewayDown", "severity": "page"},
            {"alertname": "NoTraffic", "severity": "page"},
        ),
        (
            {"alertname": "SidecarDown", "severity": "page"},
            {"alertname": "LogLag", "severity": "ticket", "writer": "front-door-9"},
        ),
    ],
    ids=lambda labels: labels["alertname"],
)
def test_what_says_more_silences_what_says_less(alertmanager: str, loud: dict[str, str], quiet: dict[str, str]) -> None:
    with told(alertmanager, quiet):
        assert states(alertmanager)[key(quiet)] != "suppressed"
        with told(alertmanager, loud):
            assert states(alertmanager)[key(quiet)] == "suppressed"


@pytest.mark.parametrize(
    ("loud", "unmoved"),
    [
        (
            {"alertname": "RolloutInProgress", "severity": "none"},
            {"alertname": "DeclineStorm", "severity": "page", "release": "r0009"},
        ),
        (
            {"alertname": "DeclineStorm", "severity": "page", "release": "r0009"},
            {"alertname": "DecisionMixShift", "severity": "ticket", "release": "r0010"},
        ),
        (
            {"alertname": "LatencyBudgetBurn", "severity": "page"},
            {"alertname": "AvailabilityBudgetBurn", "severity": "ticket"},
        ),
        (
            {"alertname": "GatewayDown", "severity": "ticket", "instance": "gateway:9464"},
            {"alertname": "NoTraffic", "severity": "page"},
        ),
        (
            {"alertname": "ServerDown", "severity": "page"},
            {"alertname": "LogDamaged", "severity": "page", "writer": "front-door-0"},
        ),
    ],
    ids=lambda labels: labels["alertname"],
)
def test_what_is_about_something_else_is_heard(
    alertmanager: str, loud: dict[str, str], unmoved: dict[str, str]
) -> None:
    with told(alertmanager, loud, unmoved):
        assert states(alertmanager)[key(unmoved)] != "suppressed"


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Alertmanager that hears of nothing but the test."""
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "alertmanager.yml").write_text(render_alertmanager("http://127.0.0.1:9"))  # where nobody listens
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(Programs.find().alertmanager),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: [states(f"http://{address}")], "Alertmanager")
            yield f"http://{address}"
        finally:
            process.terminate()


@contextmanager
def told(alertmanager: str, *alerts: dict[str, str]) -> Iterator[None]:
    """While this lasts these alerts fire."""
    wanted = {key(labels) for labels in alerts}
    post_alerts(alertmanager, [{"labels": labels} for labels in alerts])
    wait_for(lambda: wanted <= set(states(alertmanager)), "the alerts in Alertmanager")
    try:
        yield
    finally:
        post_alerts(alertmanager, [{"labels": labels, "endsAt": "2020-01-01T00:00:00Z"} for labels in alerts])
        wait_for(lambda: not wanted & set(states(alertmanager)), "the end of the alerts")


def post_alerts(alertmanager: str, alerts: list[dict[str, Any]]) -> None:
    request = urllib.request.Request(
        f"{alertmanager}/api/v2/alerts", json.dumps(alerts).encode(), {"Content-Type": "application/json"}
    )
    with OPENER.open(request, timeout=10):
        pass


def states(alertmanager: str) -> dict[tuple[tuple[str, str], ...], str]:
    """State of each alert by its labels: active, suppressed, or unprocessed."""
    alerts = get(f"{alertmanager}/api/v2/alerts")
    return {key(alert["labels"]): alert["status"]["state"] for alert in alerts}


def key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_what_is_kept_is_bounded(monitoring: Monitoring) -> None:
    flags = get(f"{monitoring.prometheus_url}/api/v1/status/flags")["data"]
    assert flags["storage.tsdb.retention.time"] == RETENTION_TIME
    assert flags["storage.tsdb.retention.size"] in (RETENTION_SIZE, "1GiB")


def test_ports_that_are_taken_are_replaced_and_stopping_leaves_no_process(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        with Monitoring(MonitoringSettings(tmp_path, prometheus_port=port, alertmanager_port=port)) as monitoring:
            started = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
            urls = {monitoring.prometheus_url, monitoring.alertmanager_url}
            assert monitoring.what_died() is None
            assert {name for child in started if "alertmanager" not in (name := child.name())} == {"prometheus"}
    assert len(urls) == 2
    assert f"http://127.0.0.1:{port}" not in urls
    assert not any(child.is_running() for child in started)
    assert {path.name for path in tmp_path.iterdir()} == {"monitoring"}


def test_a_program_that_does_not_start_is_named_with_what_it_said(tmp_path: Path) -> None:
    found = Programs.find()
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'out of luck'\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(CannotServe, match=r"prometheus ended \(code 3\): out of luck"):
        Monitoring(
            MonitoringSettings(tmp_path, prometheus_port=0, alertmanager_port=0), Programs(broken, found.alertmanager)
        )
