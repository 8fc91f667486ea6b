"""Who may reach whom: nothing but what a policy names, and what the policies may name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fraud_deploy.manifests import Document, name_of, of_kind, pod_labels, selects, workloads
from fraud_deploy.rules import Rule

_GRPC: Final = 8001
_SERVER_METRICS: Final = frozenset({8002, 8003})
_DNS: Final = frozenset({53})


def nothing_is_open_that_no_policy_names(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        closed = [
            policy
            for policy in of_kind(documents, "NetworkPolicy")
            if selects(policy["spec"]["podSelector"], pod_labels(document))
            and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            and "ingress" not in policy["spec"]
            and "egress" not in policy["spec"]
        ]
        if not closed:
            yield f"{name_of(document)}: no NetworkPolicy closes it: one must select it and open nothing"


def every_opening_names_peers_and_ports(documents: Sequence[Document]) -> Iterator[str]:
    for policy in of_kind(documents, "NetworkPolicy"):
        for side, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(side, ()):
                if not rule.get(peers) or any(not peer for peer in rule[peers]):
                    yield f"{name_of(policy)}: an {side} rule without `{peers}` lets everybody through"
                if not rule.get("ports"):
                    yield f"{name_of(policy)}: an {side} rule without ports opens them all"


def only_the_gateway_calls_servers(documents: Sequence[Document]) -> Iterator[str]:
    gateways = [pod_labels(document) for document in workloads(documents, "gateway")]
    for rule in _rules(documents, "server", "ingress"):
        ports = _ports(rule)
        if ports <= _SERVER_METRICS:
            continue
        peers = rule.get("from", [])
        exact = len(peers) == 1 and set(peers[0]) == {"podSelector"} and peers[0]["podSelector"].get("matchLabels")
        is_gateway = exact and any(selects(peers[0]["podSelector"], labels) for labels in gateways)
        names_part = exact and "app.kubernetes.io/component" in peers[0]["podSelector"]["matchLabels"]
        if ports != {_GRPC} or not (is_gateway and names_part):
            yield f"server: ingress to {sorted(ports)} must be gRPC (8001), and from the gateway's pods alone"


def servers_reach_names_store_and_releases(documents: Sequence[Document]) -> Iterator[str]:
    found = [_ports(rule) for rule in _rules(documents, "server", "egress")]
    others = [ports for ports in found if ports != _DNS and ports != {443}]
    if len(others) != 1 or len(others[0]) != 1:
        listed = sorted(map(sorted, found))
        yield f"server: egress must be DNS, the window store's one port and releases by HTTPS, not {listed}"
    for rule in _rules(documents, "server", "egress"):
        if any(_is_everywhere(peer) for peer in rule.get("to", ())):
            yield "server: egress to everywhere: name the addresses of the window store and of the releases"


def the_gateway_reaches_names_and_servers(documents: Sequence[Document]) -> Iterator[str]:
    servers = [pod_labels(document) for document in workloads(documents, "server")]
    for rule in _rules(documents, "gateway", "egress"):
        ports, peers = _ports(rule), rule.get("to", [])
        to_servers = ports == {_GRPC} and all(
            any(selects(peer.get("podSelector", {"matchExpressions": []}), labels) for labels in servers)
            for peer in peers
        )
        if ports != _DNS and not to_servers:
            yield f"gateway: egress to {sorted(ports)}: it may reach DNS and the servers' gRPC, and nobody else"


def _rules(documents: Sequence[Document], part: str, side: str) -> Iterator[dict[str, Any]]:
    """The rules of one direction of every policy that selects a part's pods."""
    labels = [pod_labels(document) for document in workloads(documents, part)]
    for policy in of_kind(documents, "NetworkPolicy"):
        if any(selects(policy["spec"]["podSelector"], one) for one in labels):
            yield from policy["spec"].get(side, ())


def _ports(rule: dict[str, Any]) -> frozenset[int]:
    return frozenset(int(port["port"]) for port in rule.get("ports", ()) if "port" in port)


def _is_everywhere(peer: dict[str, Any]) -> bool:
    return str(peer.get("ipBlock", {}).get("cidr", "")).endswith("/0")


NETWORK_RULES: Final[tuple[Rule, ...]] = (
    nothing_is_open_that_no_policy_names,
    every_opening_names_peers_and_ports,
    only_the_gateway_calls_servers,
    servers_reach_names_store_and_releases,
    the_gateway_reaches_names_and_servers,
)
