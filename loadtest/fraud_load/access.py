"""How the generators show a gateway who they are: to a transport, to a bare connection, to a process that we start."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from fraud_client import Access

_VARIABLES: Final = {
    "ca": "FRAUD_GATEWAY_CA",
    "certificate": "FRAUD_GATEWAY_CERTIFICATE",
    "key": "FRAUD_GATEWAY_KEY",
    "token_file": "FRAUD_GATEWAY_TOKEN_FILE",
}
"""As `fraudctl` reads them; Locust's processes have no other way to get them."""


def for_transport(access: Access | None) -> dict[str, Any]:
    """What a transport is made with beside its address; InvalidRequest where a file cannot be read."""
    return {} if access is None else {"credentials": access.credentials(), "headers": access.headers()}


def for_connection(access: Access | None) -> ssl.SSLContext | None:
    """The same for a connection that speaks no gRPC; None for one without TLS."""
    if access is None:
        return None
    context = ssl.create_default_context(cafile=access.ca)
    if access.certificate is not None:
        context.load_cert_chain(access.certificate, access.key)
    context.set_alpn_protocols(["h2"])
    return context


def for_process(access: Access | None) -> dict[str, str]:
    """The files' names as a process finds them in its environment."""
    found = {} if access is None else {variable: getattr(access, name) for name, variable in _VARIABLES.items()}
    return {variable: str(path) for variable, path in found.items() if path is not None}


def of_process(environment: Mapping[str, str]) -> Access | None:
    """What `for_process` said; None where it said nothing."""
    given = {name: environment[variable] for name, variable in _VARIABLES.items() if environment.get(variable)}
    return Access(**given) if given else None
