"""Ways to break each rule, on what the chart really renders: a rule that does not notice is no rule."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

from fraud_deploy.manifests import Document, of_kind, part_of, pod_spec, workloads
from fraud_deploy.rules import Rule

Break = Callable[[list[Document]], object]


def _in_container(part: str, change: Callable[[Document], object], number: int = 0) -> Break:
    def apply(documents: list[Document]) -> None:
        change(pod_spec(workloads(documents, part)[0])["containers"][number])

    return apply


def _in_pod(part: str, change: Callable[[Document], object]) -> Break:
    return lambda documents: change(pod_spec(workloads(documents, part)[0]))


def _in_spec(kind: str, change: Callable[[Document], object], part: str | None = None) -> Break:
    def apply(documents: list[Document]) -> None:
        found = [one for one in of_kind(documents, kind) if part is None or part_of(one) == part]
        change(found[0]["spec"])

    return apply


def _policy(name: str, change: Callable[[Document], object]) -> Break:
    def apply(documents: list[Document]) -> None:
        change(next(p for p in of_kind(documents, "NetworkPolicy") if p["metadata"]["name"].endswith(name))["spec"])

    return apply


def _set(*path: str, to: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for key in path[:-1]:
            document = document.setdefault(key, {})
        document[path[-1]] = to

    return change


def _add_env(**variable: Any) -> Callable[[Document], None]:
    return lambda spec: spec.setdefault("env", []).append(variable)


def _drop(kind: str) -> Break:
    def apply(documents: list[Document]) -> None:
        documents[:] = [document for document in documents if document["kind"] != kind]

    return apply


def _first_claim_of_memory(spec: Document) -> None:
    spec["resources"]["limits"]["memory"] = "64Gi"


def _init(name: str, change: Callable[[Document], object]) -> Callable[[Document], object]:
    return lambda pod: change(next(one for one in pod["initContainers"] if one["name"] == name))


def _writable_key(spec: Document) -> None:
    for mount in spec["volumeMounts"]:
        if mount["name"] == "release-key":
            mount["readOnly"] = False


def _shm(change: Callable[[Document], object]) -> Callable[[Document], object]:
    return lambda pod: change(next(volume for volume in pod["volumes"] if volume["name"] == "shm"))


def _triggers(change: Callable[[list[Document]], object]) -> Callable[[Document], object]:
    return lambda spec: change(spec["triggers"])


def _behavior(*path: str, to: Any) -> Callable[[Document], None]:
    return _set("advanced", "horizontalPodAutoscalerConfig", "behavior", *path, to=to)


def _everywhere(spec: Document) -> None:
    spec["egress"][-1]["to"] = [{"ipBlock": {"cidr": "0.0.0.0/0"}}]


BREAKS: Final[dict[str, tuple[Break, ...]]] = {
    "images_go_by_digest": (_in_container("server", _set("image", to="fraudserve/server:latest")),),
    "nobody_is_root": (
        _in_container("server", _set("securityContext", "runAsUser", to=0)),
        _in_pod("gateway", _set("securityContext", "runAsNonRoot", to=False)),
    ),
    "root_file_systems_are_read_only": (
        _in_container("gateway", _set("securityContext", "readOnlyRootFilesystem", to=False)),
    ),
    "no_privilege_is_gained": (
        _in_container("server", _set("securityContext", "allowPrivilegeEscalation", to=True)),
        _in_container("server", _set("securityContext", "privileged", to=True)),
    ),
    "capabilities_are_dropped": (
        _in_container("server", _set("securityContext", "capabilities", to={"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
        _in_container("gateway", lambda spec: spec["securityContext"].pop("capabilities")),
    ),
    "system_calls_are_filtered": (
        _in_pod("server", _set("securityContext", "seccompProfile", to={"type": "Unconfined"})),
    ),
    "no_account_of_the_cluster": (
        _in_pod("server", lambda pod: pod.pop("automountServiceAccountToken")),
        lambda documents: of_kind(documents, "ServiceAccount")[0].update(automountServiceAccountToken=True),
        lambda documents: documents.append({"kind": "ClusterRole", "metadata": {"name": "all"}}),
    ),
    "the_node_is_out_of_reach": (
        _in_pod("server", _set("hostNetwork", to=True)),
        _in_pod("server", lambda pod: pod["volumes"].append({"name": "node", "hostPath": {"path": "/"}})),
        _in_container("gateway", lambda spec: spec["ports"][0].update(hostPort=443)),
    ),
    "no_secret_is_in_an_environment_or_a_configuration": (
        _in_container("server", _add_env(name="REDIS_PASSWORD", value="x")),
        _in_container("server", _add_env(name="STORE", value="redis://scorer:open@redis:6379")),
        _in_container("server", _add_env(name="X", valueFrom={"secretKeyRef": {"name": "s", "key": "k"}})),
        _in_container("server", _set("envFrom", to=[{"secretRef": {"name": "s"}}])),
        _in_container("server", lambda spec: spec["args"].append("redis://scorer:open@redis:6379")),
        lambda documents: of_kind(documents, "ConfigMap")[0]["data"].update(key="-----BEGIN PRIVATE KEY-----"),
        lambda documents: documents.append({"kind": "Secret", "metadata": {"name": "s"}}),
    ),
    "memory_is_limited_to_what_is_asked_for": (
        _in_container("server", _first_claim_of_memory),
        _in_container("gateway", lambda spec: spec.pop("resources")),
    ),
    "shared_memory_is_a_volume_within_the_limit": (
        _in_pod("server", _shm(lambda volume: volume["emptyDir"].pop("medium"))),
        _in_pod("server", _shm(_set("emptyDir", "sizeLimit", to="1Ti"))),
        _in_pod("server", lambda pod: pod["containers"][0].update(volumeMounts=[])),
    ),
    "golden_vectors_say_who_is_ready": (
        _in_container("server", _set("readinessProbe", to={"tcpSocket": {"port": 8001}})),
        _in_container("server", lambda spec: spec["startupProbe"]["exec"]["command"].remove("--every-release")),
        _in_container("server", lambda spec: spec.pop("livenessProbe")),
    ),
    "a_server_has_time_to_drain": (
        _in_pod("server", _set("terminationGracePeriodSeconds", to=30)),
        _in_container("gateway", lambda spec: spec.pop("lifecycle")),
    ),
    "disruptions_leave_somebody": (
        _drop("PodDisruptionBudget"),
        _in_spec("PodDisruptionBudget", _set("maxUnavailable", to=100)),
    ),
    "pods_are_spread_over_zones": (_in_pod("server", lambda pod: pod.pop("topologySpreadConstraints")),),
    "there_are_always_two": (
        _in_spec("ScaledObject", _set("minReplicaCount", to=1)),
        _in_spec("Deployment", _set("replicas", to=1), "gateway"),
    ),
    "releases_are_verified_before_the_server_starts": (
        _in_pod("server", lambda pod: pod["initContainers"].clear()),
        _in_pod("server", _init("releases", _writable_key)),
        _in_pod("server", _init("releases", lambda spec: spec.pop("env"))),
        _in_pod("server", _init("releases", _set("args", to=["release", "fetch", "--once"]))),
    ),
    "nothing_is_open_that_no_policy_names": (_policy("-nothing", _set("ingress", to=[{}])), _drop("NetworkPolicy")),
    "every_opening_names_peers_and_ports": (
        _policy("-server", lambda spec: spec["ingress"][0].pop("from")),
        _policy("-gateway", lambda spec: spec["egress"][0].pop("ports")),
        _policy("-server", lambda spec: spec["egress"][0].update(to=[{}])),
    ),
    "only_the_gateway_calls_servers": (
        _policy("-server", lambda spec: spec["ingress"][0]["from"].append({"namespaceSelector": {}})),
        _policy("-server", lambda spec: spec["ingress"][0]["from"][0].update(podSelector={})),
        _policy("-server", lambda spec: spec["ingress"][0]["ports"].append({"protocol": "TCP", "port": 8000})),
    ),
    "servers_reach_names_store_and_releases": (
        _policy("-server", _everywhere),
        _policy("-server", lambda spec: spec["egress"].append({"to": [{"podSelector": {}}], "ports": [{"port": 25}]})),
    ),
    "the_gateway_reaches_names_and_servers": (
        _policy(
            "-gateway", lambda spec: spec["egress"].append({"to": [{"podSelector": {}}], "ports": [{"port": 6379}]})
        ),
    ),
    "servers_scale_on_waiting_and_on_cpu": (
        _in_spec("ScaledObject", _triggers(lambda triggers: triggers.pop())),
        _in_spec("ScaledObject", _triggers(lambda triggers: triggers[0].update(metricType="AverageValue"))),
        _in_spec("ScaledObject", _triggers(lambda triggers: triggers[0]["metadata"].update(query="nv_queue_seconds"))),
    ),
    "servers_come_fast_and_go_slowly": (
        _in_spec("ScaledObject", _behavior("scaleUp", "stabilizationWindowSeconds", to=300)),
        _in_spec("ScaledObject", _behavior("scaleDown", "stabilizationWindowSeconds", to=0)),
        _in_spec("ScaledObject", _behavior("scaleDown", "policies", to=[{"type": "Percent", "value": 100}])),
    ),
}
"""By the rule's name: changes of a rendering with KEDA that the rule must find."""


def unnoticed(rules: Sequence[Rule], documents: Sequence[Document]) -> list[str]:
    """Rules that nothing here breaks, or that let one of their breaks pass; none is what is wanted."""
    found = []
    for rule in rules:
        breaks = BREAKS.get(rule.__name__, ())
        if not breaks:
            found.append(f"{rule.__name__}: nothing breaks it")
        for number, change in enumerate(breaks, 1):
            broken = copy.deepcopy(list(documents))
            change(broken)
            if not list(rule(broken)):
                found.append(f"{rule.__name__}: break {number} of {len(breaks)} is not noticed")
    return found
