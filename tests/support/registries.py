"""Registries for tests: releases that cost no training, gates that say what is wanted, the way to production."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fraud_release.assembly import next_release, write_release
from fraud_release.gates import GateResult
from fraud_release.golden import golden_file
from fraud_release.registry import open_registry
from fraud_release.registry.checks import SignedChecks
from fraud_release.registry.people import Person
from fraud_release.registry.registry import Registry
from fraud_release.signing import sign_release
from fraud_release.trust import named_signing_key, open_signing_key
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE, part_name

ANN: Final = Person("ann", "ann@desk")
BOB: Final = Person("bob", "bob@desk")


@dataclass(frozen=True)
class WantedGates(SignedChecks):
    """Signatures are checked as ever; the gates named in `failing` say no."""

    home: Path = Path("no home")
    failing: set[str] = field(default_factory=set)
    asked: list[tuple[int, int | None]] = field(default_factory=list)

    def judge(self, repository: Path, candidate: int, champion: int | None) -> Sequence[GateResult]:
        self.asked.append((candidate, champion))
        return [
            GateResult(name, name not in self.failing, None, None, f"{name} was measured")
            for name in ("quality", "latency")
        ]


def another_release(repository: Path, of: int = 1) -> int:
    """The next release, with the model of release `of`."""
    pipeline = Pipeline.load(repository, of)
    with next_release(repository) as number:
        own = Pipeline.load(repository, of)
        own.rule = replace(pipeline.rule, release=number)
        artifacts = {
            SCHEMA_FILE: pipeline.schema.document.encode(),
            MODEL_FILE: (repository / part_name("model", of) / "1" / MODEL_FILE).read_bytes(),
            DECISION_FILE: own.rule.to_json().encode(),
            GOLDEN_FILE: golden_file(own, seed=number),
        }
        facts = {"created_at": "2026-01-01", "data": {"sha256": "d" * 64}, "evaluation": {"all": {"auc": 0.9}}}
        write_release(repository, number, pipeline.schema, artifacts, facts)
        key = named_signing_key()
        assert key is not None
        sign_release(repository, number, open_signing_key(key))
    return number


def registry_of(repository: Path, home: Path, url: str | None = None, **changes: object) -> Registry:
    """The registry of `repository`, with gates that pass."""
    opened = open_registry(repository, home, url, environment={})
    return replace(opened, **{"checks": WantedGates(home), **changes})


def to_production(registry: Registry, release: int) -> None:
    """The whole way up, with two people."""
    registry.register(release, ANN, "trained")
    registry.promote(release, "staging", ANN, "looks right")
    registry.promote(release, "production", ANN, "is better")
    registry.approve(release, BOB)


Copied = Callable[[Path], Path]


def copied(template: Path, folder: Path) -> Path:
    """A copy of a repository, sealed files and its registry included."""
    return Path(shutil.copytree(template, folder, symlinks=True))
