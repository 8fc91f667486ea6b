"""KServe's runtime and service: by its project's types; the pod that they make, by Kubernetes' and by our rules."""

from __future__ import annotations

from typing import Final

import yaml

from fraud_deploy.check import Check, CheckFailed, CheckSkipped
from fraud_deploy.kserve_types import KServeTypes
from fraud_deploy.manifests import Document, parse
from fraud_deploy.rules import POD_RULES, broken
from fraud_deploy.toolbox import Toolbox

_FILES: Final = ("kserve/*.yaml",)
_OF_THE_PREDICTOR: Final = frozenset(
    {"model", "minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "containerConcurrency", "timeout"}
)
"""Fields of a predictor that are not a pod's."""


def checks() -> list[Check]:
    return [
        Check("kserve.types", _FILES, "schema", (), _kserve_takes_it),
        Check("kserve.pod", _FILES, "schema", ("kubernetes-validate",), _kubernetes_takes_the_pod),
        Check("kserve.rules", _FILES, "lint", (), _rules_hold),
    ]


def _documents(toolbox: Toolbox) -> dict[str, Document]:
    found = [one for path in sorted(toolbox.deploy.glob(_FILES[0])) for one in parse(path.read_text(encoding="utf-8"))]
    return {document["kind"]: document for document in found}


def _kserve_takes_it(toolbox: Toolbox) -> None:
    models = next(toolbox.tools.glob("lib/python3.*/site-packages/kserve/models"), None)
    if models is None:
        raise CheckSkipped("KServe's types are not here: make deploy-tools")
    types = KServeTypes(models)
    if lines := [line for document in _documents(toolbox).values() for line in types.findings(document)]:
        raise CheckFailed("\n".join(lines))


def pod_made(documents: dict[str, Document]) -> Document:
    """The workload that KServe makes of runtime and service, as far as both say."""
    runtime, predictor = documents["ServingRuntime"]["spec"], documents["InferenceService"]["spec"]["predictor"]
    labels = {"serving.kserve.io/inferenceservice": documents["InferenceService"]["metadata"]["name"]}
    pod = {key: value for key, value in predictor.items() if key not in _OF_THE_PREDICTOR}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "fraudserve-predictor", "labels": labels},
        "spec": {
            "replicas": predictor["minReplicas"],
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**pod, "containers": runtime["containers"], "volumes": runtime["volumes"]},
            },
        },
    }


def _kubernetes_takes_the_pod(toolbox: Toolbox) -> None:
    file = toolbox.scratch / "pod.yaml"
    file.write_text(yaml.safe_dump(pod_made(_documents(toolbox))), encoding="utf-8")
    toolbox.run("kubernetes-validate", "--strict", "--no-warn", file)


def _rules_hold(toolbox: Toolbox) -> None:
    documents = _documents(toolbox)
    if documents["InferenceService"]["spec"]["predictor"].get("minReplicas", 0) < 2:
        raise CheckFailed("InferenceService: minReplicas must be 2 or more")
    if lines := broken(POD_RULES, [pod_made(documents)]):
        raise CheckFailed("\n".join(lines))
