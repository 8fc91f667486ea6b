"""What a version in the registry says of its release: most of it is the manifest's, the rest is measured here."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from fraud_release.registry.transport import files_of, manifest_digest
from fraud_scoring import wire
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import ensemble_name, golden_vectors
from fraud_scoring.schema import Schema

SIGNATURE_FILES: Final = ("release.sig",)
_REPEATS: Final = 100
_LONGEST_PARAMETER: Final = 500


@dataclass(frozen=True)
class Facts:
    """`tags` and `parameters` are short texts, `documents` JSON by a name that ends in .json."""

    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    documents: Mapping[str, str]
    description: str


def facts_of(repository: Path, release: int, manifest: Mapping[str, Any]) -> Facts:
    """The facts of a release whose files were verified."""
    before = psutil.Process().memory_info().rss
    pipeline = Pipeline.load(repository, release)
    latency = _latency(pipeline, repository, release)
    memory = max(0, psutil.Process().memory_info().rss - before)
    resources = {
        "disk_bytes": sum(path.stat().st_size for path in files_of(repository, release)),
        "memory_bytes": memory,
        "cpu_threads": 1,
        "gpu_bytes": 0,
    }
    data = manifest.get("data", {})
    documents = {
        "input_schema.json": pipeline.schema.document,
        "output_schema.json": json.dumps(output_schema(pipeline.schema)),
        "expected_latency.json": json.dumps(latency),
        "resource_needs.json": json.dumps(resources),
        "data.json": json.dumps(data),
        "versions.json": json.dumps(manifest.get("versions", {})),
        "signature.json": json.dumps(_signature(repository, release)),
    }
    tags = {
        "created_at": str(manifest.get("created_at", "")),
        "commit": str(manifest.get("commit") or "unknown"),
        "data_sha256": str(data.get("sha256", "unknown")),
        "manifest_sha256": manifest_digest(repository, release),
    }
    numbers = {
        **_flat("evaluation", manifest.get("evaluation", {})),
        **_flat("thresholds", manifest.get("thresholds", {})),
    }
    metrics = {name: float(value) for name, value in numbers.items() if _is_number(value)}
    metrics |= {f"expected_latency.{name}": value for name, value in latency.items()}
    metrics |= {f"resource_needs.{name}": float(value) for name, value in resources.items()}
    settings = {**_flat("plan", manifest.get("plan", {})), **_flat("parameters", manifest.get("parameters", {}))}
    parameters = {name: str(value)[:_LONGEST_PARAMETER] for name, value in settings.items()}
    return Facts(metrics, parameters, tags, documents, f"fraud_{manifest.get('release', '')}, {tags['created_at']}")


def output_schema(schema: Schema) -> dict[str, Any]:
    """The tensors that a release answers with (the wire contract)."""
    return {
        wire.SCORE: {"type": "FP32", "shape": ["rows", 1], "range": [0, 1]},
        wire.VERDICT: {"type": "INT32", "shape": ["rows", wire.VERDICT_WIDTH], "columns": list(wire.VERDICT_COLUMNS)},
        wire.FEATURES: {"type": "FP32", "shape": ["rows", len(schema.features)], "columns": [*schema.feature_names]},
    }


def _latency(
    pipeline: Pipeline, repository: Path, release: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Milliseconds from rows to verdicts in this process, without a server: one row, and the golden vectors at once."""
    rows = np.ascontiguousarray(golden_vectors(repository, release)[wire.TRANSACTION])
    found: dict[str, float] = {}
    for batch in (1, len(rows)):
        pipeline.answer_alone(rows[:batch])
        took = []
        for _ in range(_REPEATS):
            began = clock()
            pipeline.answer_alone(rows[:batch])
            took.append(1_000 * (clock() - began))
        p50, p99 = np.percentile(took, (50, 99))
        found |= {f"rows_{batch}_p50_ms": round(float(p50), 4), f"rows_{batch}_p99_ms": round(float(p99), 4)}
    return found


def _signature(repository: Path, release: int) -> dict[str, str]:
    """The hashes of what signs the release; empty for one that is not signed."""
    paths = (repository / ensemble_name(release) / name for name in SIGNATURE_FILES)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()}


def _flat(name: str, value: object) -> dict[str, Any]:
    """Nested mappings as dotted names."""
    return dict(_walk(name, value))


def _walk(name: str, value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _walk(f"{name}.{inner}", one)
    else:
        yield name, value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
