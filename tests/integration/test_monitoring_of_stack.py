"""The real server, gateway and sidecar, and the real Prometheus: what is exported is what rules and dashboards read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fraud_client import Access, FraudClient, InvalidRequest
from fraud_gateway.settings import Address, CallerLimits, Gateway, Tls, Tokens
from fraud_server.monitoring import Monitoring, MonitoringSettings
from support.gateway import HOST, MISSING, PROGRAM, Authority, Issuer, RunningGateway
from support.monitoring import (
    FAMILY,
    FOLDER,
    QUERIES,
    RECORDS,
    as_grafana_asks,
    ask,
    metrics_of,
    names,
    needs_prometheus,
    wait_for,
)
from support.server import Server
from support.sidecars import sidecar_process

if TYPE_CHECKING:
    from conftest import Fresh

TAKES_LONGER = re.compile(r"fraud_(estimated|realised)_|fraud_calibration_error")
"""What a young stack cannot tell: it waits for labels, or for more rows."""


@pytest.fixture(scope="module")
def exposition(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The metrics of a sidecar whose log is empty."""
    folder = tmp_path_factory.mktemp("sidecar")
    with sidecar_process(folder / "log", folder) as process:
        return process.wait_until_ready().metrics()


def test_the_sidecar_exports_what_the_rules_are_tested_with(exposition: str) -> None:
    sample = (FOLDER / "tests" / "sidecar.prom").read_text()
    assert set(FAMILY.findall(exposition)) == set(FAMILY.findall(sample))


def test_the_bound_of_the_latency_sli_is_one_of_the_histogram(exposition: str) -> None:
    assert 'fraud_front_door_seconds_bucket{le="0.05"}' in exposition


needs_gateway = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def gateway(server: Server, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("gw")
    keys = folder / "jwks.json"
    keys.write_text(issuer.key_set())
    settings = Gateway(
        servers=(Address(HOST, server.ports[0]),),
        identity="token",
        tls=Tls(client_certificates="none"),
        tokens=Tokens(issuer.issuer, issuer.audience, keys),
        callers={"payments": CallerLimits()},
    )
    with RunningGateway(folder / "e", settings, authority=Authority(), workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def caller(gateway: RunningGateway, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FraudClient]:
    """A client through the gateway."""
    ca = tmp_path_factory.mktemp("ca") / "ca.crt"
    ca.write_bytes(gateway.authority.certificate)
    access = Access(ca=ca, token=issuer.token("payments"))
    with FraudClient(gateway.url, deadline=20.0, access=access) as client:
        yield client


@pytest.fixture(scope="module")
def stack(
    server: Server,
    gateway: RunningGateway,
    caller: FraudClient,
    fresh: Fresh,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitoring]:
    """A server that has answered, refused, repeated and learned, through a gateway; once Prometheus has seen both."""
    rows = fresh.rows(300)
    for part in np.array_split(rows, 30):
        caller.score_rows(part)
    caller.score_rows(rows[:10])
    with pytest.raises(InvalidRequest):
        caller.score_rows(np.where(np.arange(5) == 4, -1, rows[:1]))
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as running:
        process = running.enter_context(
            sidecar_process(server.home / "log", folder, "--repository", str(server.repository), "--settle", "0")
        )
        process.wait_until_ready()
        wait_for(lambda: process.rows() >= 310, "the sidecar has read the log")
        settings = MonitoringSettings(
            folder,
            triton_metrics_port=server.ports[2],
            sidecar_port=int(process.url.rsplit(":", 1)[1]),
            prometheus_port=0,
            alertmanager_port=0,
            gateway_figures=f"{HOST}:{gateway.settings.metrics.port}",
            interval="1s",
        )
        monitoring = running.enter_context(Monitoring(settings))
        wait_for(lambda: "fraud_front_door_seconds_count" in names(monitoring), "the first scrape of the sidecar")
        wait_for(lambda: "envoy_http_downstream_rq_total" in names(monitoring), "the first scrape of the gateway")
        caller.score_rows(fresh.rows(200))  # now that there is something to count from
        ends = ("5m", "15m", "1h", "sigmas", "bool", "healthy", "seconds_left")
        wanted = {record for record in RECORDS if record.endswith(ends)}
        wait_for(lambda: wanted <= names(monitoring), f"the records {wanted}")
        yield monitoring


@needs_prometheus
@needs_gateway
@pytest.mark.triton
def test_every_query_of_every_dashboard_shows_the_real_stack(stack: Monitoring) -> None:
    there = names(stack)
    for panel, text in QUERIES.items():
        query = as_grafana_asks(text)
        if not TAKES_LONGER.search(query):
            assert metrics_of(query) <= there, panel
            assert ask(stack, query), f"{panel}: nothing to show: {query}"


@needs_prometheus
@needs_gateway
@pytest.mark.triton
def test_a_healthy_stack_burns_no_budget(stack: Monitoring) -> None:
    for slo in ("availability", "degraded"):
        ((_, value),) = [sample["value"] for sample in ask(stack, f"fraud:{slo}_error:ratio5m")]
        assert float(value) == 0.0, slo
    firing = {sample["metric"]["alertname"] for sample in ask(stack, 'ALERTS{alertstate="firing"}')}
    # a loaded machine may be slow, and customers whom nobody has seen before are a drift
    assert firing - {"LatencyBudgetBurn", "FeatureDrift", "ScoreDrift", "DeclineStorm"} == {"Watchdog"}


@needs_prometheus
@needs_gateway
@pytest.mark.triton
def test_a_healthy_gateway_is_no_alert(stack: Monitoring) -> None:
    assert ask(stack, 'ALERTS{alertname=~"Gateway.*"}') == []
    ((_, healthy),) = [sample["value"] for sample in ask(stack, "fraud:gateway_servers:healthy")]
    assert float(healthy) == 1


def test_the_latency_objective_is_named_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    assert "at most 50 ms" in text
