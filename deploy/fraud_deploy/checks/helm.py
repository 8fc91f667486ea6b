"""The chart: rendered by Helm for every values file, taken by Kubernetes' own schemas, and held against our rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import yaml

from fraud_deploy.chart_gateway import gateway_starts
from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.custom_resources import check_custom_resources
from fraud_deploy.manifests import Document, containers, name_of, of_kind, parse, render_chart
from fraud_deploy.network_rules import NETWORK_RULES
from fraud_deploy.pod_drill import run_server_pod
from fraud_deploy.rules import CHART_RULES, broken
from fraud_deploy.sabotage import unnoticed
from fraud_deploy.scaling_query import check_scaling_query
from fraud_deploy.scaling_rules import SCALING_RULES
from fraud_deploy.toolbox import ProgramFailed, Toolbox

_CHART: Final = "helm/fraudserve"
_TEMPLATES: Final = (
    f"{_CHART}/Chart.yaml",
    f"{_CHART}/.helmignore",
    f"{_CHART}/templates/*",
    f"{_CHART}/files/rules/*",
)
_SHARED: Final = (f"{_CHART}/values.yaml", f"{_CHART}/values.schema.json", f"{_CHART}/ci/images.yaml")
VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "cpu": ("values-cpu.yaml",),
    "gpu": ("values-gpu.yaml",),
    "multi-region": ("values-cpu.yaml", "values-multi-region.yaml"),
    "multi-region-gpu": ("values-gpu.yaml", "values-multi-region.yaml"),
    "development": ("values-development.yaml",),
    "tokens": ("values-cpu.yaml", "ci/tokens.yaml"),
    "deployment": ("values-cpu.yaml", "ci/deployment.yaml"),
}
"""What is rendered: each a way in which somebody would install the chart."""
_OF_THE_POD: Final = tuple(
    f"{_CHART}/{name}"
    for name in ("templates/server.yaml", "templates/_server.tpl", "templates/redis.yaml", "values-development.yaml")
)
RULES: Final = (*CHART_RULES, *NETWORK_RULES, *SCALING_RULES)
REFUSED: Final = {
    "server.replicas=1": "minimum",
    "scaling.minReplicas=1": "minimum",
    "scaling.scaleDownSeconds=0": "minimum",
    "images.server.digest=latest": "pattern",
    "images.server.repository=registry.example.com/server:latest": "pattern",
    "images.server.digest=": "images.server.digest is missing",
    "server.replica=3": "additional properties",
    "server.kind=Deployment": "would lose the decision log",
    "server.terminationGracePeriodSeconds=60,server.preStopSeconds=40": "must be above preStopSeconds and the drain",
    "redis.url=redis://scorer:open@redis": "pattern",
    "redis.url=": "redis.url is missing",
    "releases.source=": "releases.source is missing",
    "releases.source=http://somewhere": "pattern",
    "networkPolicy.redis=null": "networkPolicy.redis is missing",
    "gateway.settings.tokens.issuer=x": "needs gateway.jwksConfigMap",
    "gateway.settings.servers={a:1}": "not",
}
"""What a value must lead to, by `--set`."""


def checks() -> list[Check]:
    return [
        Check("helm.lint", (*_TEMPLATES, *_SHARED), "lint", ("helm",), _helm_lints),
        *(
            Check(
                f"helm.render-{name}",
                (*_TEMPLATES, *_SHARED, *(f"{_CHART}/{file}" for file in files)),
                "schema",
                ("helm", "kubernetes-validate"),
                _rendering_is_taken(name),
            )
            for name, files in VARIANTS.items()
        ),
        Check(
            "helm.custom-resources",
            (f"{_CHART}/templates/monitoring.yaml", f"{_CHART}/templates/scaling.yaml", "crd-schemas/*"),
            "schema",
            ("helm", "node"),
            lambda toolbox: check_custom_resources(toolbox, rendered(toolbox, "multi-region")),
        ),
        Check("helm.rules", (*_TEMPLATES, f"{_CHART}/values*.yaml"), "schema", ("helm",), _rules_hold),
        Check("helm.rules-notice", (f"{_CHART}/templates/*",), "lint", ("helm",), _rules_notice),
        Check(
            "helm.pod-runs",
            (
                *(f"{_CHART}/templates/{name}" for name in ("server.yaml", "_server.tpl", "redis.yaml")),
                f"{_CHART}/values-development.yaml",
            ),
            "run",
            ("helm", "redis-server"),
            lambda toolbox: run_server_pod(toolbox, rendered(toolbox, "development")),
        ),
        Check(
            "helm.scaling-query",
            (f"{_CHART}/templates/scaling.yaml",),
            "run",
            ("helm", "promtool"),
            lambda toolbox: check_scaling_query(toolbox, rendered(toolbox, "cpu")),
        ),
        Check("helm.commands", (f"{_CHART}/templates/*server*",), "lint", ("helm",), _commands_exist),
        Check(
            "helm.gateway-starts",
            (f"{_CHART}/templates/gateway.yaml", f"{_CHART}/ci/tokens.yaml"),
            "run",
            ("helm", "envoy", "openssl"),
            _gateways_start,
        ),
        Check("helm.values-refused", _SHARED, "schema", ("helm",), _wrong_values_are_refused),
        Check("helm.alerts", (f"{_CHART}/files/rules/*",), "schema", ("helm",), _alerts_are_those_of_monitoring),
    ]


def rendered(toolbox: Toolbox, variant: str) -> list[Document]:
    """The documents of one variant."""
    return parse(_text(toolbox, variant))


def _text(toolbox: Toolbox, variant: str) -> str:
    return render_chart(toolbox, _chart(toolbox), _values(toolbox, variant))


def _chart(toolbox: Toolbox) -> Path:
    return toolbox.deploy / _CHART


def _values(toolbox: Toolbox, variant: str) -> list[Path]:
    return [_chart(toolbox) / file for file in (*VARIANTS[variant], "ci/images.yaml")]


def _helm_lints(toolbox: Toolbox) -> None:
    given = [argument for path in _values(toolbox, "cpu") for argument in ("-f", str(path))]
    toolbox.run("helm", "lint", "--strict", _chart(toolbox), *given)


def _rendering_is_taken(variant: str) -> Callable[[Toolbox], None]:
    def run(toolbox: Toolbox) -> None:
        file = toolbox.scratch / f"{variant}.yaml"
        file.write_text(_text(toolbox, variant), encoding="utf-8")
        toolbox.run("kubernetes-validate", "--strict", "--no-warn", file)
        names = [name_of(document) for document in parse(file.read_text(encoding="utf-8"))]
        if twice := {name for name in names if names.count(name) > 1}:
            raise CheckFailed(f"{variant}: {', '.join(sorted(twice))} is rendered twice: the later one would win")

    return run


def _commands_exist(toolbox: Toolbox) -> None:
    """What containers and probes call is a command of ours, with these options: `--help` reads the others first."""
    fraudctl = toolbox.root / ".venv" / "bin" / "fraudctl"
    called = set()
    for one in containers(rendered(toolbox, "cpu")):
        image = one.spec["image"]
        if "args" in one.spec and ("/server@" in image or "/tools@" in image):
            called.add(tuple(one.spec["args"]))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = one.spec.get(probe, {}).get("exec", {}).get("command", [])
            if command[:1] == ["fraudctl"]:
                called.add(tuple(command[1:]))
    for words in sorted(called):
        toolbox.run(fraudctl, *words, "--help")
    if len(called) < 5:
        raise CheckFailed(f"the chart calls {len(called)} commands of ours; there should be five or more")


def _gateways_start(toolbox: Toolbox) -> None:
    for variant in ("cpu", "tokens"):
        gateway_starts(toolbox, rendered(toolbox, variant), variant)


def _rules_hold(toolbox: Toolbox) -> None:
    lines = [f"{name}: {line}" for name in VARIANTS for line in broken(RULES, rendered(toolbox, name))]
    if lines:
        raise CheckFailed("\n".join(lines))


def _rules_notice(toolbox: Toolbox) -> None:
    if lines := unnoticed(RULES, rendered(toolbox, "cpu")):
        raise CheckFailed("\n".join(lines))


def _wrong_values_are_refused(toolbox: Toolbox) -> None:
    given = [argument for path in _values(toolbox, "cpu") for argument in ("-f", str(path))]
    for setting, said in REFUSED.items():
        try:
            toolbox.run("helm", "template", "fraudserve", _chart(toolbox), *given, "--set", setting)
        except ProgramFailed as refusal:
            if said not in str(refusal):
                raise CheckFailed(f"--set {setting} is refused, and not because of: {said}\n{refusal}") from None
        else:
            raise CheckFailed(f"--set {setting} is taken: the chart must refuse it ({said})")


def _alerts_are_those_of_monitoring(toolbox: Toolbox) -> None:
    """Each file of rules arrives whole, and none is missing."""
    files = sorted((toolbox.deploy / "monitoring" / "rules").glob("*.yaml"))
    wanted = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}
    found = {
        document["metadata"]["name"].removeprefix("fraudserve-"): document["spec"]
        for document in of_kind(rendered(toolbox, "cpu"), "PrometheusRule")
    }
    if found != wanted:
        different = [name for name in {*wanted, *found} if found.get(name) != wanted.get(name)]
        raise CheckFailed(f"rules {', '.join(sorted(different))} are not those of deploy/monitoring/rules")
