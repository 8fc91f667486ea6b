"""Releases by name: where the parts of release 7 lie in the served repository.

fraud_r0007            ensemble   manifest.json, golden.npz; this folder appears last: with it the release exists
fraud_features_r0007   python     1/schema.json
fraud_model_r0007      onnxruntime; an engine for a GPU lies elsewhere, under a name of its own (`model_name`)
fraud_decision_r0007   python     1/decision.json
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.decision import DecisionRule
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.schema import Schema, load_schema

PARTS: Final = ("features", "model", "decision")
SCHEMA_FILE: Final = "schema.json"
MODEL_FILE: Final = "model.onnx"
DECISION_FILE: Final = "decision.json"
MANIFEST_FILE: Final = "manifest.json"
GOLDEN_FILE: Final = "golden.npz"
ENGINES_VARIABLE: Final = "FRAUD_ENGINES"
ENGINE_PREFIX: Final = "fraud_engine_"
_ENSEMBLE: Final = re.compile(r"fraud_r(\d{4,})")


def release_name(number: int) -> str:
    """`r0007`"""
    return f"r{number:04d}"


def release_number(name: str) -> int:
    """7 for `r0007`; InvalidDefinition for anything that is no release's name."""
    match = re.fullmatch(r"r(\d{4,})", name)
    if not match:
        raise InvalidDefinition(f"{name!r} is not a release; write r and four digits, as in r0001")
    return int(match.group(1))


def ensemble_name(number: int) -> str:
    """The Triton model that answers for the whole release: `fraud_r0007`."""
    return f"fraud_{release_name(number)}"


def part_name(part: str, number: int) -> str:
    """The Triton model of one part: `fraud_features_r0007`."""
    return f"fraud_{part}_{release_name(number)}"


def model_name(number: int, environment: Mapping[str, str] = os.environ) -> str:
    """The Triton model that gives a release's margins on this host: its engine, or `fraud_model_r0007`."""
    return engine_name(number, environment) or part_name("model", number)


def engine_name(number: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """The engine that this host has for a release; None where it has none.

    FRAUD_ENGINES: names of engines (`fraud_engine_r0007_…`), a comma between.
    """
    prefix = f"{ENGINE_PREFIX}{release_name(number)}_"
    named = (name.strip() for name in environment.get(ENGINES_VARIABLE, "").split(","))
    return next((name for name in named if name.startswith(prefix)), None)


def existing(repository: Path) -> list[int]:
    """Numbers of the complete releases in `repository`, rising."""
    if not repository.is_dir():
        return []
    found = (_ENSEMBLE.fullmatch(entry.name) for entry in repository.iterdir() if (entry / MANIFEST_FILE).exists())
    return sorted(int(match.group(1)) for match in found if match)


def pinned_schema(repository: Path, number: int) -> Schema:
    """The schema that a release was trained with."""
    return load_schema(repository / part_name("features", number) / "1" / SCHEMA_FILE)


def golden_vectors(repository: Path, number: int) -> dict[str, npt.NDArray[Any]]:
    """What a release answered when it was made, by the tensors' names; ReleaseUnavailable if it has no such file."""
    try:
        content = (repository / ensemble_name(number) / GOLDEN_FILE).read_bytes()
    except OSError:
        raise ReleaseUnavailable(f"release {release_name(number)} has no {GOLDEN_FILE}") from None
    return dict(np.load(io.BytesIO(content)))


def check_columns(schemas: Mapping[int, Schema], production: int) -> None:
    """ReleaseUnavailable unless all releases, schemas by their numbers, take the columns that production does."""
    for number, schema in schemas.items():
        if schema.columns != schemas[production].columns:
            raise ReleaseUnavailable(
                f"release {release_name(number)} takes other columns than {release_name(production)}, which "
                "is in production; releases that share a table must take the same"
            )


def decision_rule(repository: Path, number: int) -> DecisionRule:
    """The decision parameters of a release."""
    path = repository / part_name("decision", number) / "1" / DECISION_FILE
    return DecisionRule.from_json(path.read_text(encoding="utf-8"))
