"""What must hold of everything that we give to Kubernetes, each rule a function that names what breaks it.

A rule takes the documents of one rendering and gives a line for each thing that breaks it: which, and the remedy.
`fraud_deploy.sabotage` breaks each of them, so that a rule that cannot fail is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from fraud_deploy.manifests import (
    Document,
    bytes_of,
    container,
    containers,
    name_of,
    of_kind,
    part_of,
    pod_labels,
    pod_spec,
    selects,
    workloads,
)

Rule = Callable[[Sequence[Document]], Iterator[str]]
DRAIN_SECONDS: Final = 22
"""How long a server may take to finish what it has: 10 s for the front door, 12 more (fraud_server.process)."""
_SECRET_NAME: Final = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|PRIVATE|ACCESS_KEY", re.IGNORECASE)
_SECRET_VALUE: Final = re.compile(r"://[^/\s]*:[^/\s]*@|-----BEGIN|requirepass")
_DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")


def images_go_by_digest(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        if not _DIGEST.search(one.spec["image"]):
            yield f"{one.name}: image {one.spec['image']} has no digest, and a tag may be moved: name @sha256:…"


def nobody_is_root(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        for where, context in (("pod", one.pod.get("securityContext", {})), ("container", _security(one.spec))):
            if context.get("runAsNonRoot") is not True or int(context.get("runAsUser", 0)) < 1000:
                yield f"{one.name}: the {where} may run as root: runAsNonRoot: true, runAsUser: 1000"


def root_file_systems_are_read_only(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        if _security(one.spec).get("readOnlyRootFilesystem") is not True:
            yield f"{one.name}: readOnlyRootFilesystem must be true; what is written belongs on a volume"


def no_privilege_is_gained(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        context = _security(one.spec)
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged", False):
            yield f"{one.name}: allowPrivilegeEscalation must be false, and privileged too"


def capabilities_are_dropped(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        held = _security(one.spec).get("capabilities", {})
        if held.get("drop") != ["ALL"] or held.get("add"):
            yield f"{one.name}: capabilities must be {{drop: [ALL]}}, and none added"


def system_calls_are_filtered(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        for context in (one.pod.get("securityContext", {}), _security(one.spec)):
            if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{one.name}: seccompProfile must be RuntimeDefault, of pod and container"


def no_account_of_the_cluster(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        if pod_spec(document).get("automountServiceAccountToken") is not False:
            yield f"{name_of(document)}: automountServiceAccountToken must be false: nothing of ours asks the cluster"
    for account in of_kind(documents, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{name_of(account)}: automountServiceAccountToken must be false"
    for document in of_kind(documents, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{name_of(document)}: nothing of ours needs rights in the cluster"


def the_node_is_out_of_reach(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        pod = pod_spec(document)
        shared = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
        paths = [volume["name"] for volume in pod.get("volumes", ()) if "hostPath" in volume]
        if shared or paths:
            yield f"{name_of(document)}: {', '.join(shared + paths)} reaches the node: leave it out"
    for one in containers(documents):
        if any("hostPort" in port for port in one.spec.get("ports", ())):
            yield f"{one.name}: hostPort opens a port of the node: leave it out"


def no_secret_is_in_an_environment_or_a_configuration(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        if one.spec.get("envFrom"):
            yield f"{one.name}: envFrom puts what it finds into the environment: mount files"
        for variable in one.spec.get("env", ()):
            value = str(variable.get("value", ""))
            from_secret = "secretKeyRef" in variable.get("valueFrom", {})
            if from_secret or _SECRET_NAME.search(variable["name"]) or _SECRET_VALUE.search(value):
                yield f"{one.name}: {variable['name']} would show a secret in the environment: mount a file"
        if any(_SECRET_VALUE.search(str(word)) for word in (*one.spec.get("command", ()), *one.spec.get("args", ()))):
            yield f"{one.name}: its command line holds a secret: mount a file"
    for document in of_kind(documents, "ConfigMap"):
        for key, text in document.get("data", {}).items():
            if _SECRET_VALUE.search(text):
                yield f"{name_of(document)}: {key} holds a secret: put it into a Secret"
    for document in of_kind(documents, "Secret"):
        yield f"{name_of(document)}: a chart that holds a secret shows it to everybody who renders it"


def memory_is_limited_to_what_is_asked_for(documents: Sequence[Document]) -> Iterator[str]:
    for one in containers(documents):
        resources = one.spec.get("resources", {})
        asked, limit = (resources.get(kind, {}).get("memory") for kind in ("requests", "limits"))
        if asked is None or asked != limit or "cpu" not in resources.get("requests", {}):
            yield f"{one.name}: memory must have a request and the same limit, and cpu a request"


def shared_memory_is_a_volume_within_the_limit(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents, "server"):
        volumes = {volume["name"]: volume for volume in pod_spec(document)["volumes"]}
        server = container(documents, "server", "server") or {}
        mounts = [mount for mount in server.get("volumeMounts", ()) if mount["mountPath"] == "/dev/shm"]  # noqa: S108
        volume = volumes[mounts[0]["name"]].get("emptyDir", {}) if mounts else {}
        if volume.get("medium") != "Memory" or "sizeLimit" not in volume:
            yield f"{name_of(document)}: /dev/shm must be an emptyDir of medium Memory with a sizeLimit"
        elif 2 * bytes_of(volume["sizeLimit"]) > bytes_of(server["resources"]["limits"]["memory"]):
            yield f"{name_of(document)}: /dev/shm counts as memory, and may be half of the server's limit at most"


def golden_vectors_say_who_is_ready(documents: Sequence[Document]) -> Iterator[str]:
    server = container(documents, "server", "server") or {}
    for probe in ("startupProbe", "readinessProbe"):
        command = server.get(probe, {}).get("exec", {}).get("command", [])
        if command[:2] != ["fraudctl", "health"] or "--every-release" not in command:
            yield f"server: {probe} must ask every routed release's golden vectors: fraudctl health --every-release"
    if server.get("livenessProbe", {}).get("exec", {}).get("command", [])[:2] != ["fraudctl", "health"]:
        yield "server: livenessProbe must ask: fraudctl health --alive"


def a_server_has_time_to_drain(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        part = part_of(document)
        if part not in ("server", "gateway"):
            continue
        pod = pod_spec(document)
        main = pod["containers"][0]
        sleeps = _pre_stop_seconds(main.get("lifecycle", {}).get("preStop", {}))
        if sleeps < 5:
            yield f"{name_of(document)}: preStop must sleep 5 s or more, until nobody sends to this pod any more"
        needed = sleeps + (DRAIN_SECONDS if part == "server" else 10)
        if int(pod.get("terminationGracePeriodSeconds", 30)) <= needed:
            yield f"{name_of(document)}: terminationGracePeriodSeconds must be above {needed} s: preStop and drain"


def _pre_stop_seconds(hook: Document) -> int:
    """How long a preStop hook sleeps: by itself, or at the end of the command that it runs."""
    command = " ".join(hook.get("exec", {}).get("command", []))
    last = command.rpartition("sleep ")[2]
    return int(last) if last.isdigit() else int(hook.get("sleep", {}).get("seconds", 0))


def disruptions_leave_somebody(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        if part_of(document) not in ("server", "gateway"):
            continue
        budgets = [
            budget
            for budget in of_kind(documents, "PodDisruptionBudget")
            if selects(budget["spec"]["selector"], pod_labels(document))
        ]
        if len(budgets) != 1 or not 0 < int(budgets[0]["spec"].get("maxUnavailable", 0)) < _least_pods(
            documents, document
        ):
            yield f"{name_of(document)}: one PodDisruptionBudget must select it, with maxUnavailable below its pods"


def pods_are_spread_over_zones(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        keys = {
            constraint["topologyKey"]
            for constraint in pod_spec(document).get("topologySpreadConstraints", ())
            if selects(constraint["labelSelector"], pod_labels(document)) and constraint["maxSkew"] == 1
        }
        if not {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} <= keys:
            yield f"{name_of(document)}: must be spread over zones and nodes (topologySpreadConstraints)"


def there_are_always_two(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents):
        if part_of(document) in ("server", "gateway") and _least_pods(documents, document) < 2:
            yield f"{name_of(document)}: two pods or more, always"


def releases_are_verified_before_the_server_starts(documents: Sequence[Document]) -> Iterator[str]:
    for document in workloads(documents, "server"):
        pod = pod_spec(document)
        once = [one for one in pod.get("initContainers", ()) if "--once" in one.get("args", ())]
        for one in [*once, *(one for one in pod.get("initContainers", ()) if one["name"] == "routes")]:
            variables = {variable["name"]: variable.get("value", "") for variable in one.get("env", ())}
            key = variables.get("FRAUD_RELEASE_KEY", "")
            mounts = {mount["mountPath"]: mount for mount in one["volumeMounts"]}
            mount = mounts.get(key.rpartition("/")[0], {})
            if one["args"][:2] != ["routes", "follow"] or not mount.get("readOnly"):
                yield f"{name_of(document)}/{one['name']}: must be routes follow, with a key that is mounted read-only"
        if not once or "restartPolicy" in once[0]:
            yield f"{name_of(document)}: an init container must fetch and verify the releases: routes follow --once"


def _security(spec: Document) -> Document:
    context: Document = spec.get("securityContext", {})
    return context


def _least_pods(documents: Sequence[Document], workload: Document) -> int:
    name = workload["metadata"]["name"]
    for scaler in of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == name:
            least: int = scaler["spec"].get("minReplicaCount", scaler["spec"].get("minReplicas", 1))
            return least
    return int(workload["spec"].get("replicas", 1))


POD_RULES: Final[tuple[Rule, ...]] = (
    images_go_by_digest,
    nobody_is_root,
    root_file_systems_are_read_only,
    no_privilege_is_gained,
    capabilities_are_dropped,
    system_calls_are_filtered,
    no_account_of_the_cluster,
    the_node_is_out_of_reach,
    no_secret_is_in_an_environment_or_a_configuration,
    memory_is_limited_to_what_is_asked_for,
)
"""Of whatever we give to Kubernetes."""

CHART_RULES: Final[tuple[Rule, ...]] = (
    *POD_RULES,
    shared_memory_is_a_volume_within_the_limit,
    golden_vectors_say_who_is_ready,
    a_server_has_time_to_drain,
    disruptions_leave_somebody,
    pods_are_spread_over_zones,
    there_are_always_two,
    releases_are_verified_before_the_server_starts,
)
"""Of the chart, beside those of `network_rules` and `scaling_rules`."""


def broken(rules: Sequence[Rule], documents: Sequence[Document]) -> list[str]:
    """Everything that breaks a rule, each line with the rule's name."""
    return [f"{rule.__name__}: {line}" for rule in rules for line in rule(documents)]
