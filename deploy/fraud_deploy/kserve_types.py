"""The types of KServe's custom resources, read out of the models that its project publishes for Python.

The models are read as text and never run: each class names its fields (`attribute_map`, as they are written) and their
types (`openapi_types`). What is Kubernetes' own (V1Container, V1Volume) is left to Kubernetes' own schemas.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_PLAIN: Final[dict[str, type | tuple[type, ...]]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "object": object,
    "ResourceQuantity": (str, int),
    "K8sIoApimachineryPkgApiResourceQuantity": (str, int),
}


class KServeTypes:
    """`models` is the folder of the models; ValueError where a document's kind is none of them."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._read: dict[str, dict[str, str] | None] = {}

    def findings(self, document: dict[str, Any]) -> Iterator[str]:
        """What in a custom resource has no such field, or another type."""
        version = str(document["apiVersion"]).rpartition("/")[2]
        kind = f"V{version[1:]}{document['kind']}"
        if self._fields(kind) is None:
            raise ValueError(f"{document['apiVersion']} {document['kind']} is no type of KServe")
        yield from self._of_type(document, kind, str(document["kind"]))

    def _of_type(self, value: Any, kind: str, where: str) -> Iterator[str]:
        if match := re.fullmatch(r"list\[(.+)\]", kind):
            if not isinstance(value, list):
                yield f"{where} must be a list"
                return
            for index, one in enumerate(value):
                yield from self._of_type(one, match.group(1), f"{where}[{index}]")
        elif match := re.fullmatch(r"dict\(str, (.+)\)", kind):
            if not isinstance(value, dict):
                yield f"{where} must be a mapping"
                return
            for key, one in value.items():
                yield from self._of_type(one, match.group(1), f"{where}.{key}")
        elif kind in _PLAIN:
            if not isinstance(value, _PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
                yield f"{where} must be {kind}"
        elif (fields := self._fields(kind)) is not None:
            if not isinstance(value, dict):
                yield f"{where} must be an object"
                return
            for key, one in value.items():
                if key in fields:
                    yield from self._of_type(one, fields[key], f"{where}.{key}")
                else:
                    yield f"{where} has no field {key}"

    def _fields(self, kind: str) -> dict[str, str] | None:
        """Types by field; None for what is not KServe's."""
        if kind not in self._read:
            path = self._models / f"{_snake(kind)}.py"
            self._read[kind] = _fields_in(path) if path.is_file() else None
        return self._read[kind]


def _fields_in(path: Path) -> dict[str, str]:
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("openapi_types", "attribute_map"):
                found[name] = ast.literal_eval(node.value)
    return {written: found["openapi_types"][name] for name, written in found["attribute_map"].items()}


def _snake(kind: str) -> str:
    """V1beta1InferenceService: v1beta1_inference_service."""
    match = re.fullmatch(r"(V\d+(?:alpha\d+|beta\d+)?)(.+)", kind)
    version, rest = match.groups() if match else ("", kind)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", rest)
    return f"{version}_{words}".lower().lstrip("_")
