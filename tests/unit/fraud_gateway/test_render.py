"""What is rendered: the listeners and where they listen, what may pass, and what each caller has to itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import descriptor_pb2
from tritonclient.grpc import service_pb2

from fraud_gateway import contract
from fraud_gateway.listeners import ACCESS_LOG, NOT_FOR_SERVERS
from fraud_gateway.render import render
from fraud_gateway.settings import Address, Gateway
from fraud_server.repository_calls import ADMIN_HEADER

EXAMPLES = sorted((Path(__file__).parents[3] / "deploy" / "gateway").glob("*.yaml"))


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def gateway(request: pytest.FixtureRequest) -> Gateway:
    return Gateway.read(request.param)


@pytest.fixture
def envoy(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(render(gateway)["envoy.yaml"])
    return found


def every(node: Any, name: str) -> Iterator[Any]:
    """Each value under a name, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from every(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from every(value, name)


def test_nothing_listens_off_loopback_but_for_calls_and_where_figures_are_told_to(
    gateway: Gateway, envoy: dict[str, Any]
) -> None:
    listeners = {one["name"]: one["address"] for one in envoy["static_resources"]["listeners"]}
    assert listeners["calls"] == {"socket_address": {"address": "0.0.0.0", "port_value": 8443}}
    assert listeners["figures"] == {"socket_address": {"address": "127.0.0.1", "port_value": 9464}}
    assert listeners["drain"] == {"socket_address": {"address": "127.0.0.1", "port_value": 9465}}
    assert set(listeners) <= {"calls", "figures", "drain", "jwks"}
    if gateway.tokens:
        assert listeners["jwks"]["pipe"]["mode"] == 0o600
    assert envoy["admin"]["address"]["pipe"] == {"path": "/run/fraudserve-gateway/admin.sock", "mode": 0o600}


def test_figures_are_two_pages_that_are_read(envoy: dict[str, Any]) -> None:
    (figures,) = [one for one in envoy["static_resources"]["listeners"] if one["name"] == "figures"]
    routes = next(every(figures, "routes"))
    assert [route["match"].get("path") for route in routes if "route" in route] == ["/stats/prometheus", "/ready"]
    assert all("direct_response" in route for route in routes if route["match"].get("prefix"))


def test_what_changes_the_gateway_is_one_word_on_loopback(envoy: dict[str, Any]) -> None:
    (drain,) = [one for one in envoy["static_resources"]["listeners"] if one["name"] == "drain"]
    routes = next(every(drain, "routes"))
    assert [route["match"].get("path") for route in routes if "route" in route] == ["/drain_listeners"]


def test_tls_is_1_3_unless_1_2_is_asked_for(gateway: Gateway, envoy: dict[str, Any]) -> None:
    (versions,) = every(envoy, "tls_params")
    assert versions["tls_minimum_protocol_version"] == f"TLSv1_{gateway.tls.least[-1]}"
    assert versions["tls_maximum_protocol_version"] == "TLSv1_3"
    (required,) = every(envoy, "require_client_certificate")
    assert required is (gateway.tls.client_certificates == "required")


def test_every_caller_has_a_cluster_a_bucket_and_routes_of_its_own(gateway: Gateway, envoy: dict[str, Any]) -> None:
    clusters = [one for one in envoy["static_resources"]["clusters"] if "circuit_breakers" in one]
    listed = len(gateway.callers) + (gateway.other_callers is not None)
    assert len(clusters) == listed == len({one["name"] for one in clusters})
    assert len(next(every(envoy, "descriptors"))) == listed
    most = [one["circuit_breakers"]["thresholds"][0]["max_requests"] for one in clusters]
    assert most[: len(gateway.callers)] == [limits.concurrency for limits in gateway.callers.values()]
    calls = envoy["static_resources"]["listeners"][0]
    assert set(every(next(every(calls, "routes")), "cluster")) == {one["name"] for one in clusters}


def test_nobody_else_is_routed_to_a_server(gateway: Gateway, envoy: dict[str, Any]) -> None:
    routes = next(every(envoy["static_resources"]["listeners"][0], "routes"))
    for route in routes:
        if "route" in route:
            assert route["match"]["path"] in {method.path for method in contract.METHODS}
            assert route["match"]["headers"][0]["name"] == "x-fraud-caller"
            exact = route["match"]["headers"][0].get("string_match", {}).get("exact")
            assert exact in gateway.callers or gateway.other_callers


def test_the_description_of_the_calls_agrees_with_tritons() -> None:
    files = descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(contract.descriptors()))
    (file,) = files.file
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert f"{file.package}.{file.service[0].name}" == theirs.full_name
    assert [method.name for method in file.service[0].method] == [
        "ModelInfer",
        "ServerLive",
        "ServerReady",
        "ModelReady",
    ]
    for method in contract.NAMES_A_MODEL:
        assert method.model_field is not None
        name, number = method.model_field
        field = theirs.methods_by_name[method.name].input_type.fields_by_name[name]
        assert (field.number, field.type) == (number, descriptor_pb2.FieldDescriptorProto.TYPE_STRING)


def test_a_call_of_triton_that_names_a_model_is_known_to_name_one() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in contract.METHODS:
        fields = {field.name for field in theirs.methods_by_name[method.name].input_type.fields}
        assert bool(method.model_field) is bool(fields & {"name", "model_name"})


def test_the_key_of_tritons_restricted_calls_and_the_token_never_reach_a_server(
    gateway: Gateway, envoy: dict[str, Any]
) -> None:
    assert {ADMIN_HEADER, "authorization"} <= set(NOT_FOR_SERVERS)
    (removed,) = every(envoy, "request_headers_to_remove")
    assert set(removed) == set(NOT_FOR_SERVERS)
    assert all(forward is False for forward in every(envoy, "forward"))


def test_what_is_logged_is_none_of_a_callers_words(envoy: dict[str, Any]) -> None:
    (format_,) = every(envoy, "json_format")
    assert format_ == ACCESS_LOG
    asked = "".join(ACCESS_LOG.values())
    assert "REQ(X-REQUEST-ID)" in asked
    for word in ("AUTHORIZATION", "PATH", "USER-AGENT", "QUERY", "BODY", "TRAILER", "RESP(", "PEER_CERT"):
        assert word not in asked


def test_a_call_is_repeated_once_and_within_a_budget(gateway: Gateway, envoy: dict[str, Any]) -> None:
    policies = list(every(envoy, "retry_policy"))
    assert {policy["num_retries"] for policy in policies} == {1}
    assert {policy["retry_on"] for policy in policies} == {"connect-failure,refused-stream,reset,unavailable"}
    for budget in every(envoy, "retry_budget"):
        assert budget["budget_percent"]["value"] == gateway.retries.share * 100
        assert budget["min_retry_concurrency"] == gateway.retries.reserve


def test_servers_with_names_are_looked_up_again_and_those_with_numbers_are_not(gateway: Gateway) -> None:
    named = yaml.safe_load(render(gateway)["envoy.yaml"])["static_resources"]["clusters"][0]
    assert named["cluster_type"]["typed_config"]["dns_refresh_rate"] == "5s"
    numbers = replace(gateway, servers=(Address("10.0.0.1", 8001), Address("::1", 8001)))
    assert yaml.safe_load(render(numbers)["envoy.yaml"])["static_resources"]["clusters"][0]["type"] == "STATIC"


def test_no_secret_is_in_what_is_rendered(gateway: Gateway) -> None:
    for name, text in render(gateway).items():
        assert "BEGIN" not in text, name
        assert "inline_string" not in json.dumps(list(every(yaml.safe_load(text), "private_key")))
