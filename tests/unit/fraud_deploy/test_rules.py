"""The rules for what we give to Kubernetes; `make deploy-check` holds the chart against them, and breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fraud_deploy.checks.helm import RULES, VARIANTS
from fraud_deploy.manifests import Document, bytes_of, parse, selects
from fraud_deploy.rules import DRAIN_SECONDS, POD_RULES, broken
from fraud_deploy.sabotage import BREAKS, unnoticed
from fraud_deploy.scaling_rules import EXPORTED
from fraud_server.process import DRAIN_SECONDS as DRAIN_OF_A_SERVER

DEPLOY = Path(__file__).parents[3] / "deploy"
POD = """
kind: Deployment
metadata: {name: one, labels: {app.kubernetes.io/component: gateway}}
spec:
  template:
    metadata: {labels: {app: one}}
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: main
          image: registry.example.com/one@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsNonRoot: true
            runAsUser: 1000
            capabilities: {drop: [ALL]}
            seccompProfile: {type: RuntimeDefault}
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 64Mi}}
"""


def pod() -> list[Document]:
    return parse(POD)


def main(documents: list[Document]) -> Document:
    spec: Document = documents[0]["spec"]["template"]["spec"]["containers"][0]
    return spec


def test_a_pod_that_keeps_the_rules_breaks_none() -> None:
    assert broken(POD_RULES, pod()) == []


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("images_go_by_digest", lambda spec: spec.update(image="one:1.2.3")),
        ("nobody_is_root", lambda spec: spec["securityContext"].update(runAsUser=0)),
        ("nobody_is_root", lambda spec: spec["securityContext"].pop("runAsNonRoot")),
        ("root_file_systems_are_read_only", lambda spec: spec["securityContext"].pop("readOnlyRootFilesystem")),
        ("no_privilege_is_gained", lambda spec: spec["securityContext"].pop("allowPrivilegeEscalation")),
        ("capabilities_are_dropped", lambda spec: spec["securityContext"]["capabilities"].update(add=["NET_RAW"])),
        ("system_calls_are_filtered", lambda spec: spec["securityContext"].pop("seccompProfile")),
        ("the_node_is_out_of_reach", lambda spec: spec.update(ports=[{"containerPort": 1, "hostPort": 1}])),
        ("memory_is_limited_to_what_is_asked_for", lambda spec: spec["resources"].pop("limits")),
        (
            "no_secret_is_in_an_environment_or_a_configuration",
            lambda spec: spec.update(env=[{"name": "API_TOKEN", "value": "x"}]),
        ),
    ],
)
def test_one_change_breaks_one_rule_and_no_other(rule: str, change: Callable[[Document], Any]) -> None:
    documents = pod()
    change(main(documents))
    assert {line.split(":")[0] for line in broken(POD_RULES, documents)} == {rule}


def test_an_init_container_is_held_to_the_same() -> None:
    documents = pod()
    spec = documents[0]["spec"]["template"]["spec"]
    spec["initContainers"] = [{**copy.deepcopy(main(documents)), "name": "first", "image": "one:latest"}]
    (line,) = broken(POD_RULES, documents)
    assert line.startswith("images_go_by_digest: Deployment one/first: image one:latest has no digest")


def test_every_rule_of_the_chart_is_broken_somewhere_and_nothing_else_is() -> None:
    assert set(BREAKS) == {rule.__name__ for rule in RULES}


def test_a_rule_that_cannot_fail_is_found() -> None:
    def nobody_is_root(documents: Sequence[Document]) -> Iterator[str]:
        yield from ()

    def a_new_rule(documents: Sequence[Document]) -> Iterator[str]:
        yield from ()

    documents = [*pod(), *pod()]
    documents[1]["metadata"]["labels"]["app.kubernetes.io/component"] = "server"
    assert unnoticed([nobody_is_root, a_new_rule], documents) == [
        "nobody_is_root: break 1 of 2 is not noticed",
        "nobody_is_root: break 2 of 2 is not noticed",
        "a_new_rule: nothing breaks it",
    ]


def test_every_values_file_is_rendered_in_some_variant() -> None:
    chart = DEPLOY / "helm" / "fraudserve"
    files = {path.name for path in chart.glob("values-*.yaml")} | {"ci/tokens.yaml", "ci/deployment.yaml"}
    assert {file for given in VARIANTS.values() for file in given} == files


def test_the_query_that_scales_reads_what_triton_exports() -> None:
    exported = (DEPLOY / "monitoring" / "tests" / "triton.prom").read_text()
    assert [name for name in EXPORTED if f"\n{name}{{" not in exported] == []


def test_the_time_to_drain_is_the_servers() -> None:
    assert DRAIN_SECONDS == DRAIN_OF_A_SERVER + (DRAIN_OF_A_SERVER + 2)


def test_a_selector_selects_by_every_label_and_by_nothing_that_is_not_written_here() -> None:
    labels = {"a": "1", "b": "2"}
    assert selects({}, labels)
    assert selects({"matchLabels": {"a": "1"}}, labels)
    assert not selects({"matchLabels": {"a": "1", "c": "3"}}, labels)
    assert not selects({"matchExpressions": []}, labels)


def test_quantities_of_memory_are_bytes() -> None:
    assert [bytes_of(text) for text in ("1Gi", "512Mi", "2G", "1024", 7)] == [1 << 30, 512 << 20, 2 * 10**9, 1024, 7]
