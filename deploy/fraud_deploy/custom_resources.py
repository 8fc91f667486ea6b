"""Custom resources by their projects' own types, as npm has them: values by validators, names by TypeScript."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fraud_deploy.check import CheckFailed, CheckSkipped
from fraud_deploy.manifests import Document, name_of, of_kind
from fraud_deploy.toolbox import ProgramFailed, Toolbox

_PACKAGES: Final = {
    "ScaledObject": "keda/keda.sh/v1alpha1",
    "ServiceMonitor": "prometheus-operator/monitoring.coreos.com/v1",
    "PrometheusRule": "prometheus-operator/monitoring.coreos.com/v1",
}
_COMPILE: Final = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler")


def check_custom_resources(toolbox: Toolbox, documents: Sequence[Document]) -> None:
    """CheckFailed for a value of another type, a missing field, or one that the type does not have."""
    folder = toolbox.tools / "crd-schemas"
    if not (folder / "node_modules").is_dir():
        raise CheckSkipped("the types of custom resources are not here: apt-get install npm, then make deploy-tools")
    custom = of_kind(documents, *_PACKAGES)
    said = _values(toolbox, folder, custom)
    asked = {line.partition(":")[0] for line in said.splitlines()}
    if missing := {name_of(document) for document in custom} - asked:
        raise CheckFailed(f"nobody asked about {', '.join(sorted(missing))}: name its kind in crd-schemas/validate.mjs")
    _names(toolbox, folder, custom)
    _see_that_both_notice(toolbox, folder, custom)


def _values(toolbox: Toolbox, folder: Path, documents: Sequence[Document]) -> str:
    script = folder / "validate.mjs"
    script.write_bytes((toolbox.deploy / "crd-schemas" / "validate.mjs").read_bytes())
    return toolbox.run("node", script, given=json.dumps(documents))


def _names(toolbox: Toolbox, folder: Path, documents: Sequence[Document]) -> None:
    """Each document as a constant of its type: TypeScript refuses a literal with a field that the type has not."""
    lines = [
        f'import type {{ I{kind} }} from "@kubernetes-models/{package}/{kind}";' for kind, package in _PACKAGES.items()
    ]
    lines += [f"export const d{n}: I{one['kind']} = {json.dumps(one)};" for n, one in enumerate(documents)]
    (folder / "documents.ts").write_text("\n".join(lines), encoding="utf-8")
    compiler = folder / "node_modules" / "typescript" / "bin" / "tsc"
    toolbox.run("node", compiler, *_COMPILE, "--target", "es2022", folder / "documents.ts", cwd=folder)


def _see_that_both_notice(toolbox: Toolbox, folder: Path, documents: Sequence[Document]) -> None:
    without, misspelt = copy.deepcopy(list(documents)), copy.deepcopy(list(documents))
    for document in of_kind(without, "ScaledObject"):
        del document["spec"]["triggers"][0]["metadata"]
    for document in of_kind(misspelt, "ServiceMonitor"):
        document["spec"]["endpoints"][0]["intervall"] = "5s"
    for check, spoiled in ((_values, without), (_names, misspelt)):
        try:
            check(toolbox, folder, spoiled)
        except ProgramFailed:
            continue
        raise CheckFailed("a custom resource without a field, or with one too many, passes: the types are not read")
