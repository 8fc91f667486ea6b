"""Settings to files: the gateway's configuration, and the two small ones that say where its certificates lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_gateway.filters import KEYS
from fraud_gateway.listeners import ADMIN, CLIENTS_SECRET, SERVER_SECRET, listeners
from fraud_gateway.settings import Gateway
from fraud_gateway.upstream import clusters

MAIN: Final = "envoy.yaml"
_HEAD: Final = "# Made by `python -m fraud_gateway` from its settings: change those. Envoy 1.40.\n"
_SECRET: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
_DOWNSTREAM: Final = "envoy.resource_monitors.global_downstream_max_connections"


def render(gateway: Gateway) -> Mapping[str, str]:
    """The files by name: envoy.yaml, certificate.yaml and, where clients show certificates, clients.yaml."""
    files = {MAIN: _bootstrap(gateway), f"{SERVER_SECRET}.yaml": _secret_file(_certificate(gateway.tls.folder))}
    if gateway.tls.client_certificates != "none":
        files[f"{CLIENTS_SECRET}.yaml"] = _secret_file(_clients(gateway.tls.folder))
    return {name: _HEAD + yaml.safe_dump(content, sort_keys=False, width=120) for name, content in files.items()}


def _bootstrap(gateway: Gateway) -> dict[str, Any]:
    admin = _socket(gateway, ADMIN)
    return {
        "node": {"id": "fraudserve-gateway", "cluster": "fraudserve-gateway"},
        "admin": {"address": admin},
        "static_resources": {
            "listeners": listeners(gateway),
            "clusters": [
                *clusters(gateway),
                _own_cluster(ADMIN, admin),
                *([_own_cluster(KEYS, _socket(gateway, KEYS))] if gateway.tokens else []),
            ],
        },
        "overload_manager": {
            "refresh_interval": "0.25s",
            "resource_monitors": [
                {
                    "name": _DOWNSTREAM,
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        "max_active_downstream_connections": gateway.limits.connections,
                    },
                }
            ],
        },
    }


def _socket(gateway: Gateway, name: str) -> dict[str, Any]:
    return {"pipe": {"path": str(gateway.sockets / f"{name}.sock"), "mode": 0o600}}


def _own_cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def _secret_file(secret: dict[str, Any]) -> dict[str, Any]:
    return {"resources": [{"@type": _SECRET, **secret}]}


def _certificate(folder: Path) -> dict[str, Any]:
    return {
        "name": SERVER_SECRET,
        "tls_certificate": {
            "certificate_chain": {"filename": str(folder / "tls.crt")},
            "private_key": {"filename": str(folder / "tls.key")},
            "watched_directory": {"path": str(folder)},
        },
    }


def _clients(folder: Path) -> dict[str, Any]:
    return {
        "name": CLIENTS_SECRET,
        "validation_context": {
            "trusted_ca": {"filename": str(folder / "ca.crt")},
            "watched_directory": {"path": str(folder)},
        },
    }
