"""Kubernetes documents as a chart renders them, and where in them pods and containers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_deploy.toolbox import Toolbox

Document = dict[str, Any]
_WORKLOADS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Container:
    """One container of a workload, sidecars and init containers too; `pod` is the pod's spec."""

    workload: str
    pod: Document
    spec: Document

    @property
    def name(self) -> str:
        return f"{self.workload}/{self.spec['name']}"


def render_chart(toolbox: Toolbox, chart: Path, values: Sequence[Path], namespace: str = "fraud") -> str:
    """What Helm makes of `chart` with these values, later ones above earlier ones; ProgramFailed where it refuses."""
    given = [argument for path in values for argument in ("-f", str(path))]
    return toolbox.run("helm", "template", "fraudserve", chart, "--namespace", namespace, *given)


def parse(text: str) -> list[Document]:
    """The documents of a YAML stream, without empty ones."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def name_of(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"


def part_of(document: Document) -> str:
    """Which part of fraudserve a document belongs to: server, gateway, redis."""
    return str(document["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def workloads(documents: Sequence[Document], part: str | None = None) -> list[Document]:
    """What makes pods; of one part, where one is named."""
    found = of_kind(documents, *_WORKLOADS)
    return [document for document in found if part is None or part_of(document) == part]


def pod_spec(workload: Document) -> Document:
    spec: Document = workload["spec"]["template"]["spec"]
    return spec


def pod_labels(workload: Document) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(documents: Sequence[Document]) -> Iterator[Container]:
    """Every container of every workload."""
    for workload in workloads(documents):
        pod = pod_spec(workload)
        for spec in (*pod.get("initContainers", ()), *pod["containers"]):
            yield Container(name_of(workload), pod, spec)


def container(documents: Sequence[Document], part: str, name: str) -> Document | None:
    """The container of that name in a part's pods; None if there is none."""
    for workload in workloads(documents, part):
        pod = pod_spec(workload)
        for spec in (*pod.get("initContainers", ()), *pod["containers"]):
            if spec["name"] == name:
                found: Document = spec
                return found
    return None


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a selector of matchLabels selects who has these labels; one with expressions is none that we write."""
    return "matchExpressions" not in selector and all(
        labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()
    )


def bytes_of(quantity: str | int) -> int:
    """A quantity of memory in bytes: 512Mi, 2G, 1024."""
    text = str(quantity)
    units = {
        "Ki": 1 << 10,
        "Mi": 1 << 20,
        "Gi": 1 << 30,
        "Ti": 1 << 40,
        "k": 10**3,
        "M": 10**6,
        "G": 10**9,
        "T": 10**12,
    }
    for unit, factor in units.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)
