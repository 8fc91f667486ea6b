"""The servers, as each caller sees them: a cluster a caller, so that what one does moves no other.

A cluster has its own connections, circuit breakers, retry budget and outlier detection: a caller that fills its share
of requests waits alone, and one whose requests make a server fail loses that server for itself alone. The price is that
each cluster asks after the servers' health by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fraud_gateway.settings import Address, CallerLimits, Gateway

Config = dict[str, Any]

OTHERS: Final = "other-callers"
_HTTP2: Final = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_NAMES: Final = {
    "name": "envoy.cluster.dns",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": "5s",
    },
}
"""A name stands for all the addresses that it has, asked anew every 5 s."""


def cluster_names(gateway: Gateway) -> dict[str, str]:
    """The cluster of each listed caller: numbered, since identities have characters that names have not."""
    return {caller: f"caller-{index}" for index, caller in enumerate(gateway.callers)}


def clusters(gateway: Gateway) -> Iterator[Config]:
    names = cluster_names(gateway)
    for caller, limits in gateway.callers.items():
        yield _cluster(gateway, names[caller], caller, limits)
    if gateway.other_callers:
        yield _cluster(gateway, OTHERS, OTHERS, gateway.other_callers)


def socket_address(address: Address) -> Config:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _cluster(gateway: Gateway, name: str, caller: str, limits: CallerLimits) -> Config:
    retries = gateway.retries
    numbers = all(server.is_number for server in gateway.servers)
    breaker = {
        "max_requests": limits.concurrency,
        "max_pending_requests": limits.concurrency,
        "track_remaining": True,
        "retry_budget": {"budget_percent": {"value": retries.share * 100}, "min_retry_concurrency": retries.reserve},
    }
    return {
        "name": name,
        "alt_stat_name": caller.replace(":", "_"),
        **({"type": "STATIC"} if numbers else {"cluster_type": _NAMES}),
        "connect_timeout": "0.5s",
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 25}},
        "ignore_health_on_host_removal": True,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket_address(one)}} for one in gateway.servers]}
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _HTTP2,
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "2s", "timeout": "1s"}}
                },
            }
        },
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **breaker}]},
        "outlier_detection": _outliers(),
        "health_checks": [_health_check()],
    }


def _outliers() -> Config:
    """A server that answers with a failure five times running is left out for 5 s, then 10 s, 30 s at most.

    Connections that break and calls that are late are for the health checks: a hedge counts as a late call, and a
    stall of the machine makes many at once, of a server that is well and may be the only one left.
    """
    return {
        "consecutive_5xx": 5,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "split_external_local_origin_errors": True,
        "enforcing_consecutive_local_origin_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "30s",
        "max_ejection_percent": 50,
    }


def _health_check() -> Config:
    """Twice no answer, within about a second, and a server gets no calls; one good answer, and it does."""
    return {
        "timeout": "0.4s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "interval_jitter": "0.1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {},
    }
