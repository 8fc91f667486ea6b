"""The HTTP filters of a call, in their order: who is it, how much, how large, for which model; then to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fraud_gateway import contract
from fraud_gateway.settings import CallerLimits, Gateway, Tokens

Config = dict[str, Any]

CALLER_HEADER: Final = "x-fraud-caller"
"""Who calls, set by the gateway and by nobody else: a token's subject or, without one, a certificate's URI name."""
SUBJECT_HEADER: Final = "x-fraud-subject"
CERTIFICATE_HEADER: Final = "x-fraud-certificate"
"""What the caller is made of; neither leaves the gateway."""
REFUSAL_HEADER: Final = "x-fraud-refusal"
"""From the gateway's own answers to refusals.lua; no caller sees it."""
KEYS: Final = "jwks"
"""The cluster and the listener of the issuer's public keys: the gateway asks itself, through a socket of its own.

Envoy reads a key set that it is given as a file once. One that it fetches it fetches again, and the file behind a
direct response is read anew when it is replaced.
"""
_V3: Final = "type.googleapis.com/envoy.extensions.filters.http"
_EXTRACTED: Final = "envoy.filters.http.grpc_field_extraction"
_SANITIZER: Final = Path(__file__).with_name("refusals.lua")
_CALLERS_REMEMBERED: Final = 1000
"""Token buckets of callers that are not listed; the one that was used longest ago gives way."""


def http_filters(gateway: Gateway) -> list[Config]:
    return [
        _responses(),
        *([_tokens(gateway.tokens, gateway.identity == "either")] if gateway.tokens else []),
        _caller(),
        _routed_anew(),
        _caller_rates(gateway),
        _offered(),
        _size(gateway.limits.message_bytes),
        _model_names(),
        _models_only(),
        _filter("router", "router.v3.Router", suppress_envoy_headers=True),
    ]


def _filter(name: str, kind: str, **settings: Any) -> Config:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_V3}.{kind}", **settings}}


def _responses() -> Config:
    """First, so that it is the last to see an answer."""
    code = _SANITIZER.read_text(encoding="utf-8")
    return _filter("lua", "lua.v3.Lua", default_source_code={"inline_string": code})


def _tokens(tokens: Tokens, may_be_missing: bool) -> Config:
    """Signature, issuer, audience, expiry; the token goes no further, its subject does."""
    provider = {
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        "remote_jwks": {
            "http_uri": {"uri": "http://jwks/", "cluster": KEYS, "timeout": "1s"},
            "cache_duration": "2s",
        },
        "require_expiration": True,
        "clock_skew_seconds": tokens.clock_skew_s,
        "forward": False,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [{"header_name": SUBJECT_HEADER, "claim_name": "sub"}],
    }
    needs: Config = {"provider_name": "issuer"}
    if may_be_missing:
        needs = {"requires_any": {"requirements": [needs, {"allow_missing": {}}]}}
    return _filter(
        "jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        providers={"issuer": provider},
        rules=[{"match": {"prefix": "/"}, "requires": needs}],
        strip_failure_response=True,
    )


def _caller() -> Config:
    caller = {"key": CALLER_HEADER, "value": f"%REQ({SUBJECT_HEADER}?{CERTIFICATE_HEADER})%"}
    mutations = [
        {"append": {"header": caller, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
        {"remove": SUBJECT_HEADER},
        {"remove": CERTIFICATE_HEADER},
    ]
    return _filter("header_mutation", "header_mutation.v3.HeaderMutation", mutations={"request_mutations": mutations})


def _routed_anew() -> Config:
    """A route was chosen before the caller was known; this filter is here for what it does beside setting a value."""
    value = {
        "object_key": "fraud.caller",
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": f"%REQ({CALLER_HEADER})%"}},
    }
    return _filter("set_filter_state", "set_filter_state.v3.Config", on_request_headers=[value], clear_route_cache=True)


def _bucket(limits: CallerLimits) -> Config:
    return {"max_tokens": limits.burst, "tokens_per_fill": limits.rate, "fill_interval": "1s"}


def _caller_rates(gateway: Gateway) -> Config:
    """A token bucket for each listed caller, and one for each that is not."""
    listed = [
        {"entries": [{"key": "caller", "value": caller}], "token_bucket": _bucket(limits)}
        for caller, limits in gateway.callers.items()
    ]
    others = (
        [{"entries": [{"key": "caller"}], "token_bucket": _bucket(gateway.other_callers)}]
        if gateway.other_callers
        else []
    )
    nobody = CallerLimits(rate=10, burst=10, concurrency=1)
    return _filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="caller_rate",
        token_bucket=_bucket(nobody),
        filter_enabled={"default_value": {"numerator": 100}},
        filter_enforced={"default_value": {"numerator": 100}},
        always_consume_default_token_bucket=False,
        rate_limited_as_resource_exhausted=True,
        rate_limits=[{"actions": [{"request_headers": {"header_name": CALLER_HEADER, "descriptor_key": "caller"}}]}],
        descriptors=[*listed, *others],
        max_dynamic_descriptors=_CALLERS_REMEMBERED,
    )


def _size(most: int) -> Config:
    return _filter("buffer", "buffer.v3.Buffer", max_request_bytes=most + 5)


def _model_names() -> Config:
    return _filter(
        "grpc_field_extraction",
        "grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        descriptor_set={"inline_bytes": contract.descriptors()},
        extractions_by_method={
            f"{contract.PACKAGE}.{contract.SERVICE}.{method.name}": {
                "request_field_extractions": {method.model_field[0]: {}}
            }
            for method in contract.NAMES_A_MODEL
            if method.model_field
        },
    )


def _offered() -> Config:
    """Calls that are not offered end here, before anything of them is kept."""
    return _allow({"offered": [_path(method) for method in contract.METHODS]})


def _models_only() -> Config:
    """Of the calls that name a model, those that name one of ours; the policy's name is what the log says of a call."""
    asks = {model: [_asks(method, model) for method in contract.NAMES_A_MODEL] for model in contract.MODELS}
    return _allow({**asks, "health": [_path(method) for method in contract.HEALTH if not method.model_field]})


def _allow(policies: dict[str, list[Config]]) -> Config:
    """Whatever fits one of the principals of one of the policies, and nothing else."""
    return _filter(
        "rbac",
        "rbac.v3.RBAC",
        rules={
            "action": "ALLOW",
            "policies": {
                name: {"permissions": [{"any": True}], "principals": [{"or_ids": {"ids": ids}}]}
                for name, ids in policies.items()
            },
        },
    )


def _path(method: contract.Method) -> Config:
    return {"header": {"name": ":path", "string_match": {"exact": method.path}}}


def _asks(method: contract.Method, model: str) -> Config:
    named = {"metadata_matcher": _extracted(method, model), "metadata_source": "DYNAMIC"}
    return {"and_ids": {"ids": [_path(method), {"sourced_metadata": named}]}}


def _extracted(method: contract.Method, model: str) -> Config:
    assert method.model_field is not None
    return {
        "filter": _EXTRACTED,
        "path": [{"key": method.model_field[0]}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": model}}}},
    }
