"""Custom resources held against the models that KServe publishes: what is no field, and what is of another type."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_deploy.kserve_types import KServeTypes

MODEL = """
class {name}(object):
    openapi_types = {types!r}
    attribute_map = {fields!r}

    def __init__(self):
        raise SystemExit("a model is read, and never run")
"""


@pytest.fixture
def types(tmp_path: Path) -> KServeTypes:
    """A kind with a spec that has one field of each sort."""
    spec = {"most": "int", "on": "bool", "names": "list[str]", "marks": "dict(str, str)", "pods": "list[V1Container]"}
    for file, name, kinds, fields in (
        ("v1beta1_inference_service", "A", {"spec": "V1beta1ArtSpec"}, {"spec": "spec"}),
        ("v1beta1_art_spec", "B", spec, {**{name: name for name in spec}, "most": "mostReplicas"}),
    ):
        (tmp_path / f"{file}.py").write_text(MODEL.format(name=name, types=kinds, fields=fields))
    return KServeTypes(tmp_path)


def findings(types: KServeTypes, **spec: object) -> list[str]:
    document = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "spec": spec}
    found = list(types.findings(document))
    return [line for line in found if line.startswith("InferenceService.spec")]


def test_a_document_of_the_right_types_has_no_findings(types: KServeTypes) -> None:
    good = {"mostReplicas": 3, "on": True, "names": ["a"], "marks": {"a": "b"}, "pods": [{"anything": 1}]}
    assert findings(types, **good) == []


@pytest.mark.parametrize(
    ("spec", "finding"),
    [
        ({"most": 3}, "InferenceService.spec has no field most"),
        ({"mostReplicas": "3"}, "InferenceService.spec.mostReplicas must be int"),
        ({"mostReplicas": True}, "InferenceService.spec.mostReplicas must be int"),
        ({"on": "yes"}, "InferenceService.spec.on must be bool"),
        ({"names": "a"}, "InferenceService.spec.names must be a list"),
        ({"names": ["a", 1]}, "InferenceService.spec.names[1] must be str"),
        ({"marks": {"a": 1}}, "InferenceService.spec.marks.a must be str"),
    ],
)
def test_what_is_no_field_or_of_another_type_is_named(
    types: KServeTypes, spec: dict[str, object], finding: str
) -> None:
    assert findings(types, **spec) == [finding]


def test_a_kind_that_is_none_of_its_types_is_refused(types: KServeTypes) -> None:
    with pytest.raises(ValueError, match=r"serving\.kserve\.io/v1 Thing is no type of KServe"):
        list(types.findings({"apiVersion": "serving.kserve.io/v1", "kind": "Thing"}))
