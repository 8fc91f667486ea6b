"""The chart's gateway: its settings are rendered as its pod renders them, and a real Envoy starts with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from fraud_deploy.check import CheckFailed
from fraud_deploy.checks.gateway import starts
from fraud_deploy.manifests import Document, container, of_kind, part_of
from fraud_deploy.toolbox import Toolbox
from fraud_gateway.render import MAIN
from fraud_gateway.settings import Gateway, InvalidGateway


def gateway_starts(toolbox: Toolbox, documents: Sequence[Document], name: str) -> None:
    """CheckFailed if the settings are refused, do not fit services or pod, or Envoy does not start with them."""
    (maps,) = [one for one in of_kind(documents, "ConfigMap") if part_of(one) == "gateway"]
    try:
        settings = Gateway.parse(yaml.safe_load(maps["data"]["gateway.yaml"]))
    except InvalidGateway as error:
        raise CheckFailed(f"{name}: the gateway's settings: {error}") from None
    _fits_the_pod(settings, documents, name)
    pod = container(documents, "gateway", "gateway") or {}
    command = pod.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    if command[:2] != ["bash", "-c"]:
        raise CheckFailed(f"{name}: the gateway's preStop must be a bash command that drains it (docs/gateway.md)")
    starts(toolbox, settings, toolbox.scratch / name, command[2])


def _fits_the_pod(settings: Gateway, documents: Sequence[Document], name: str) -> None:
    services = {
        service["metadata"]["name"]: {port["port"] for port in service["spec"]["ports"]}
        for service in of_kind(documents, "Service")
        if service["spec"].get("clusterIP") == "None"
    }
    for server in settings.servers:
        if server.port not in services.get(server.host, ()):
            raise CheckFailed(
                f"{name}: {server.host}:{server.port} is no headless Service: Envoy balances pods, not names"
            )
    pod, renders = container(documents, "gateway", "gateway"), container(documents, "gateway", "render")
    if pod is None or renders is None:
        raise CheckFailed(f"{name}: the gateway's pod has no container gateway, or none that renders")
    mounts = {Path(mount["mountPath"]): mount.get("readOnly", False) for mount in pod["volumeMounts"]}
    wanted = {settings.configuration: True, settings.tls.folder: True, settings.sockets: False}
    if settings.tokens is not None:
        wanted[settings.tokens.jwks.parent] = True
    if mounts != wanted:
        raise CheckFailed(
            f"{name}: the gateway mounts {sorted(map(str, mounts))}, and needs {sorted(map(str, wanted))}"
        )
    if (
        str(settings.configuration / MAIN) not in pod["command"]
        or str(settings.configuration) not in renders["command"]
    ):
        raise CheckFailed(f"{name}: Envoy must be given {settings.configuration / MAIN}, where it is rendered")
    ports = {port["containerPort"] for port in pod["ports"]}
    if ports != {settings.listen.port, settings.metrics.port}:
        raise CheckFailed(
            f"{name}: the gateway listens on {settings.listen.port} and {settings.metrics.port}, not {ports}"
        )
