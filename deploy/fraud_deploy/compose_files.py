"""What must hold of deploy/compose: read from the document, service by service. Pure: a document in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

GATEWAY: Final = "gateway"
_OUTSIDE: Final = frozenset({"outside", "pages"})
"""Networks with a way out of the host: the gateway's, and the one for pages that are published on loopback."""
_MAY_MOUNT: Final = ("../monitoring/", "./secrets/tls")
_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_URL_WITH_SECRET: Final = re.compile(r"\w+://[^/\s:@]*:[^/\s@]+@")
_DIGEST: Final = re.compile(r"@\$\{[A-Z_]+_DIGEST:\?[^}]*\}$|@sha256:[0-9a-f]{64}$")


def findings(document: Mapping[str, Any]) -> list[str]:
    """Each as service: what, the rule; empty where every rule holds."""
    services: Mapping[str, Mapping[str, Any]] = document["services"]
    found = [f"{name}: {said}" for name, service in services.items() for said in _of_service(name, service)]
    return found + list(_of_document(document))


def drain_hook(service: Mapping[str, Any]) -> str | None:
    """What bash runs before the gateway is stopped; None where nothing, or something else, is run."""
    commands = [hook.get("command", []) for hook in service.get("pre_stop", [])]
    return commands[0][2] if len(commands) == 1 and commands[0][:2] == ["bash", "-c"] else None


def _of_service(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    if not _DIGEST.search(service.get("image", "")):
        yield "its image has no digest; a tag may mean something else tomorrow"
    yield from _of_confinement(service)
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    for what in ("cpus", "memory", "pids"):
        if what not in limits:
            yield f"has no limit of {what}; one container must not take the host from the others"
    once = service.get("restart") == "no"
    if not once and "healthcheck" not in service:
        yield "has no healthcheck; who waits for it waits for a process, not for a service"
    if not once and service.get("restart") != "unless-stopped":
        yield "is not started again when it ends; write restart: unless-stopped"
    if name == GATEWAY and "/drain_listeners" not in (drain_hook(service) or ""):
        yield "is stopped with calls on their way; drain it by a pre_stop hook"
    yield from _of_ports(name, service)
    yield from _of_secrets(service)
    for volume in service.get("volumes", []):
        source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
        if source.startswith(("/", ".", "~")) and not source.startswith(_MAY_MOUNT):
            yield f"mounts {source} of the host; keep data in a volume, settings in configs"


def _of_confinement(service: Mapping[str, Any]) -> Iterator[str]:
    if service.get("read_only") is not True:
        yield "may write to its root; write read_only: true, and a tmpfs or volume where it must write"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "has capabilities; write cap_drop: [ALL], and add none"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges by a set-uid program; write no-new-privileges:true"
    if service.get("privileged") or service.get("network_mode", "none") != "none" or service.get("pid"):
        yield "shares what is the host's; take privileged, network_mode and pid away"
    if not re.match(r"[1-9]\d*(:|$)", str(service.get("user", ""))):
        yield "runs as root, or as whoever its image says; write user: with a number that is not 0"


def _of_ports(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        if not (isinstance(port, str) and port.startswith("127.0.0.1:")) and name != GATEWAY:
            yield f"publishes {port} to others than this host; only the gateway may"
    if name != GATEWAY and service.get("ports") and "pages" not in service.get("networks", []):
        yield "publishes a port and is on no network that can be published; put it on pages"
    if "outside" in service.get("networks", []) and name != GATEWAY:
        yield "is on the network outside, which is the gateway's"


def _of_secrets(service: Mapping[str, Any]) -> Iterator[str]:
    environment = service.get("environment", {})
    pairs = environment.items() if isinstance(environment, dict) else (str(one).split("=", 1) for one in environment)
    for key, value in pairs:
        if _SECRET_NAME.search(key) and not str(value).startswith("/"):
            yield f"has {key} in its environment, which every inspection shows; name a file below /run/secrets"
    for text in [str(value) for value in (environment or {}).values()] + [str(service.get("command", ""))]:
        if _URL_WITH_SECRET.search(text):
            yield "has an address with a password in it; name a file below /run/secrets"


def _of_document(document: Mapping[str, Any]) -> Iterator[str]:
    services = document["services"].values()
    for kind in ("secrets", "configs"):
        used = {
            one["source"] if isinstance(one, dict) else one for service in services for one in service.get(kind, [])
        }
        for name in sorted(used ^ set(document.get(kind, {}))):
            yield f"{kind}: {name} is used or declared, and not both"
        for name, one in document.get(kind, {}).items():
            if set(one) != {"file"}:
                yield f"{kind}: {name} is no file"
    for name, network in document["networks"].items():
        if name not in _OUTSIDE and not (network or {}).get("internal"):
            yield f"networks: {name} has a way out of the host; write internal: true"
    volumes = {str(one).split(":")[0] for service in services for one in service.get("volumes", [])}
    for name in sorted(set(document["volumes"]) - volumes):
        yield f"volumes: {name} is used by nobody"
