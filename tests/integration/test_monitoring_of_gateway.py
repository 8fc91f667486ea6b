"""A real gateway without a server, and the real Prometheus: alerts read what Envoy counts, not what one might think."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fraud_gateway.settings import Address, CallerLimits, Gateway, Tls, Tokens
from fraud_server.monitoring import Monitoring, MonitoringSettings
from support.gateway import HOST, MISSING, PROGRAM, Authority, Issuer, RunningGateway
from support.gateway_calls import INFER, Raw, named
from support.monitoring import FAMILY, FOLDER, ask, names, needs_prometheus, wait_for
from support.server import free_ports

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture
def gateway(authority: Authority, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("gw")
    keys = folder / "jwks.json"
    keys.write_text(issuer.key_set())
    settings = Gateway(
        servers=(Address(HOST, free_ports()[0]),),  # where nobody listens
        identity="either",
        tls=Tls(client_certificates="optional"),
        tokens=Tokens(issuer.issuer, issuer.audience, keys),
        callers={"payments": CallerLimits(rate=1_000, burst=1_000)},
    )
    with RunningGateway(folder / "e", settings, authority=authority, workers=1) as running:
        yield running


def test_the_gateway_exports_what_the_rules_are_tested_with(gateway: RunningGateway) -> None:
    sample = (FOLDER / "tests" / "gateway.prom").read_text()
    lazily = {"envoy_cluster_upstream_rq_completed counter", "envoy_cluster_upstream_rq_xx counter"}
    exported = set(FAMILY.findall(gateway.get("/stats/prometheus")[1]))
    assert set(FAMILY.findall(sample)) <= exported | lazily


def alerts(monitoring: Monitoring) -> set[tuple[str, ...]]:
    """What is pending or fires at the gateway, as (alert, severity) or (alert, severity, reason)."""
    found = [one["metric"] for one in ask(monitoring, 'ALERTS{alertname=~"Gateway.*"}')]
    return {(one["alertname"], one["severity"], *([one["reason"]] if "reason" in one else [])) for one in found}


@needs_prometheus
def test_a_gateway_that_knows_nobody_has_no_server_and_then_goes_is_alerted_about(
    gateway: RunningGateway, authority: Authority, issuer: Issuer, tmp_path: Path
) -> None:
    settings = MonitoringSettings(
        tmp_path,
        prometheus_port=0,
        alertmanager_port=0,
        gateway_figures=f"{HOST}:{gateway.settings.metrics.port}",
        interval="1s",
    )
    few = {("GatewayServersFew", "page"), ("GatewayServersFew", "ticket")}
    with (
        Monitoring(settings) as monitoring,
        Raw(gateway, authority, Issuer().token("payments")) as stranger,
        Raw(gateway, authority, issuer.token("payments")) as payments,
    ):
        assert payments.refusal(INFER, named("fraud_score"))[0] is grpc.StatusCode.UNAVAILABLE
        wait_for(lambda: "envoy_cluster_upstream_rq_completed" in names(monitoring), "the first scrape")
        wait_for(lambda: alerts(monitoring) == few, "the alert about servers, and no other")
        for _ in range(130):
            assert stranger.refusal(INFER, named("fraud_score"))[0] is grpc.StatusCode.UNAUTHENTICATED
        for _ in range(30):
            assert payments.refusal(INFER, named("fraud_score"))[0] is grpc.StatusCode.UNAVAILABLE
        refused = {("GatewayRefusals", "page", "caller"), ("GatewayRefusals", "ticket", "caller")}
        failed = {("GatewayFailures", "page")}
        wait_for(lambda: alerts(monitoring) == few | refused | failed, "the alerts about calls, and no other")
        left = {
            sample["metric"]["envoy_tls_certificate"]: float(sample["value"][1])
            for sample in ask(monitoring, "fraud:gateway_certificate:seconds_left")
        }
        assert set(left) == {"certificate", "clients"}
        assert all(0 < seconds < 86_400 for seconds in left.values())
        gateway.stop()
        down = {("GatewayDown", "page"), ("GatewayDown", "ticket")}
        wait_for(lambda: down <= alerts(monitoring), "the alert about the gateway")
