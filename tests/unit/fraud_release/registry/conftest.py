"""Repositories of three releases with an empty registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_release.registry.registry import Registry
from support.registries import another_release, copied, registry_of


@pytest.fixture(scope="session")
def template(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases r0001 to r0004 and a registry that was opened once; copy it."""
    repository = copied(served_repository, tmp_path_factory.mktemp("template") / "models")
    for _ in range(3):
        another_release(repository)
    registry_of(repository, repository.parent / "home")
    return repository


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    return copied(template, tmp_path / "models")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def registry(repository: Path, home: Path) -> Registry:
    return registry_of(repository, home)
