"""The listeners: calls over TLS; figures for Prometheus; on loopback, the word to send callers elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fraud_gateway import contract
from fraud_gateway.filters import CALLER_HEADER, CERTIFICATE_HEADER, KEYS, REFUSAL_HEADER, SUBJECT_HEADER, http_filters
from fraud_gateway.settings import Gateway
from fraud_gateway.upstream import OTHERS, cluster_names, socket_address

Config = dict[str, Any]

ADMIN: Final = "admin"
"""The cluster of the admin page, a socket in the file system."""
SERVER_SECRET: Final = "certificate"  # noqa: S105 - names of files
CLIENTS_SECRET: Final = "clients"  # noqa: S105
_MANAGER: Final = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_ROUTER: Final = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_EARLY: Final = "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_STDOUT: Final = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
_FEW: Final = 64 * 1024

NOT_FOR_SERVERS: Final = ("authorization", "cookie", "admin-key", "x-forwarded-client-cert", "x-forwarded-for")
"""Headers of a client that no server may see; admin-key opens Triton's restricted calls."""
IDENTITY: Final = (CALLER_HEADER, SUBJECT_HEADER, CERTIFICATE_HEADER)
ACCESS_LOG: Final = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "caller": f"%REQ({CALLER_HEADER})%",
    "peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "method": "%ROUTE_NAME%",
    "model": "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%",
    "grpc_status": "%GRPC_STATUS%",
    "http_status": "%RESPONSE_CODE%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "server": "%UPSTREAM_HOST%",
}
"""Nothing that a caller writes: its identity is signed, the request's id is the gateway's, method and model are one of
those that are offered, or not there."""


def listeners(gateway: Gateway) -> list[Config]:
    keys = [_keys(gateway, gateway.tokens.jwks)] if gateway.tokens else []
    return [_calls(gateway), _figures(gateway), _drain(gateway), *keys]


def _calls(gateway: Gateway) -> Config:
    manager = {
        "@type": _MANAGER,
        "stat_prefix": "gateway",
        "codec_type": "HTTP2",
        "http2_protocol_options": {
            "max_concurrent_streams": gateway.limits.streams,
            "initial_stream_window_size": 1 << 18,
            "initial_connection_window_size": 1 << 20,
            "connection_keepalive": {"interval": "30s", "timeout": "5s"},
        },
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "max_connection_duration": "900s",  # so that callers come to a gateway that was added
            "max_headers_count": 50,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "drain_timeout": _seconds(gateway.limits.seconds),
        "max_request_headers_kb": 16,
        "request_headers_timeout": "5s",
        "request_timeout": _seconds(gateway.limits.seconds),
        "stream_idle_timeout": _seconds(gateway.limits.seconds),
        "always_set_request_id_in_response": True,
        "use_remote_address": True,
        "skip_xff_append": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "forward_client_cert_details": "SANITIZE",
        "server_name": "fraudserve",
        "early_header_mutation_extensions": [_identity(gateway)],
        "route_config": {"name": "calls", "virtual_hosts": [_routes(gateway)]},
        "http_filters": http_filters(gateway),
        "local_reply_config": _local_replies(),
        "access_log": [_access_log()],
    }
    return {
        "name": "calls",
        "address": socket_address(gateway.listen),
        "per_connection_buffer_limit_bytes": gateway.limits.message_bytes + _FEW,
        "listener_filters": [],
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "5s",
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _tls(gateway)},
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
            }
        ],
    }


def _seconds(value: float) -> str:
    return f"{value:g}s"


def _secret(gateway: Gateway, name: str) -> Config:
    file = gateway.configuration / f"{name}.yaml"
    return {
        "name": name,
        "sds_config": {
            "path_config_source": {"path": str(file), "watched_directory": {"path": str(file.parent)}},
            "resource_api_version": "V3",
        },
    }


def _tls(gateway: Gateway) -> Config:
    asked = gateway.tls.client_certificates
    versions = {"tls_minimum_protocol_version": f"TLSv{gateway.tls.least.replace('.', '_')}"}
    common: Config = {
        "tls_params": {**versions, "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_secret(gateway, SERVER_SECRET)],
    }
    if asked != "none":
        common["validation_context_sds_secret_config"] = _secret(gateway, CLIENTS_SECRET)
    return {
        "@type": _TLS,
        "require_client_certificate": asked == "required",
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": common,
    }


def _identity(gateway: Gateway) -> Config:
    """Before anything is routed: what a client says of itself goes, what its certificate says comes."""
    mutations: list[Config] = [{"remove": name} for name in (*IDENTITY, *NOT_FOR_SERVERS[1:])]
    if gateway.identity != "token":
        named = {"key": CERTIFICATE_HEADER, "value": "%DOWNSTREAM_PEER_URI_SAN%"}
        mutations.append({"append": {"header": named, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}})
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": _EARLY, "mutations": mutations},
    }


def _routes(gateway: Gateway) -> Config:
    """Each listed caller to its own cluster, by method; whoever is left is refused."""
    callers: list[tuple[Config, str]] = [
        ({"name": CALLER_HEADER, "string_match": {"exact": caller}}, cluster)
        for caller, cluster in cluster_names(gateway).items()
    ]
    if gateway.other_callers:
        callers.append(({"name": CALLER_HEADER, "present_match": True}, OTHERS))
    routes = [route for who, cluster in callers for route in _caller_routes(gateway, who, cluster)]
    unknown: Config = {"name": CALLER_HEADER, "present_match": True, "invert_match": True}
    refusals = [
        {"name": "nobody", "match": {"prefix": "/", "headers": [unknown]}, "direct_response": {"status": 401}},
        {"name": "stranger", "match": {"prefix": "/"}, "direct_response": {"status": 403}},
    ]
    return {
        "name": "calls",
        "domains": ["*"],
        "routes": [*routes, *refusals],
        "request_headers_to_remove": list(NOT_FOR_SERVERS),
        "response_headers_to_remove": ["server-timing"],
    }


def _caller_routes(gateway: Gateway, who: Config, cluster: str) -> list[Config]:
    soon = {"name": "grpc-timeout", "string_match": {"safe_regex": {"regex": r"\d{1,3}m|\d{1,6}u|\d{1,8}n"}}}
    quick = {**_to(gateway, cluster), "hedge_policy": {"hedge_on_per_try_timeout": True}}
    quick["retry_policy"] = {**quick["retry_policy"], "per_try_timeout": _seconds(gateway.retries.hedge_after_ms / 1e3)}
    return [
        _route(contract.INFER, [who, soon], quick),
        *(_route(method, [who], _to(gateway, cluster)) for method in contract.METHODS),
    ]


def _route(method: contract.Method, headers: list[Config], action: Config) -> Config:
    return {"name": method.name, "match": {"path": method.path, "grpc": {}, "headers": headers}, "route": action}


def _to(gateway: Gateway, cluster: str) -> Config:
    """A call goes to a second server where the first refused it, or lost it: a transaction counts once."""
    most = _seconds(gateway.limits.seconds)
    return {
        "cluster": cluster,
        "timeout": most,
        "max_stream_duration": {"max_stream_duration": most, "grpc_timeout_header_max": most},
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset,unavailable",
            "num_retries": 1,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/"
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            # a dead server has the fewest calls on their way, and is drawn three times in four
            "host_selection_retry_max_attempts": 50,
        },
    }


def _local_replies() -> Config:
    """Marks for refusals.lua, which gives them their gRPC status; HTTP has none that says it."""
    return {
        "mappers": [
            _mapper("size", {"status_code_filter": {"comparison": {"op": "EQ", "value": _value(413, "size")}}}),
            _mapper("busy", {"response_flag_filter": {"flags": ["UO"]}}),
        ],
        "body_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE%"}},
    }


def _value(number: int, name: str) -> Config:
    return {"default_value": number, "runtime_key": f"gateway.{name}"}


def _mapper(mark: str, matches: Config) -> Config:
    return {"filter": matches, "headers_to_add": [{"header": {"key": REFUSAL_HEADER, "value": mark}}]}


def _access_log() -> Config:
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": _STDOUT, "log_format": {"json_format": ACCESS_LOG, "omit_empty_values": True}},
    }


def _figures(gateway: Gateway) -> Config:
    """Of the admin page, two readings and nothing that changes anything."""
    return _plain(
        "figures", socket_address(gateway.metrics), [_admin("GET", "/stats/prometheus"), _admin("GET", "/ready")]
    )


def _drain(gateway: Gateway) -> Config:
    """And one change, for who is on this machine."""
    return _plain("drain", socket_address(gateway.drain), [_admin("POST", "/drain_listeners")])


def _admin(method: str, path: str) -> Config:
    asked = {"path": path, "headers": [{"name": ":method", "string_match": {"exact": method}}]}
    return {"match": asked, "route": {"cluster": ADMIN, "timeout": "5s"}}


def _keys(gateway: Gateway, file: Path) -> Config:
    """The issuer's public keys, from their file, on a socket that only this process asks."""
    body = {"filename": str(file), "watched_directory": {"path": str(file.parent)}}
    address = {"pipe": {"path": str(gateway.sockets / "jwks.sock"), "mode": 0o600}}
    return _plain(KEYS, address, [{"match": {"path": "/"}, "direct_response": {"status": 200, "body": body}}])


def _plain(name: str, address: Config, routes: list[Config]) -> Config:
    """A listener for HTTP/1.1, and for 1.0, which a shell speaks; without TLS. These routes, and 404 for all else."""
    rest = {"match": {"prefix": "/"}, "direct_response": {"status": 404}}
    manager = {
        "@type": _MANAGER,
        "stat_prefix": name,
        "codec_type": "HTTP1",
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "gateway"},
        "route_config": {
            "name": name,
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [*routes, rest]}],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
    }
    return {
        "name": name,
        "address": address,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
