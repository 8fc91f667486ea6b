"""Releases on record: an MLflow registry, stages as its aliases, and an audit of who let what rise, and why.

open_registry   the registry of a model repository (a SQLite file and a folder in it), or a shared MLflow server
stage_of, kept  what traffic may ask: where a release stands, and which three stay loaded
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fraud_release.registry.checks import GateResult
    from fraud_release.registry.registry import Registry

REGISTRY_VARIABLE: Final = "FRAUD_REGISTRY"
DISTINCT_VARIABLE: Final = "FRAUD_REGISTRY_DISTINCT_ACCOUNTS"
DEFAULT_HOME: Final = Path("var")

__all__ = ["DISTINCT_VARIABLE", "REGISTRY_VARIABLE", "kept", "open_registry", "stage_of"]


def open_registry(
    repository: Path,
    home: Path = DEFAULT_HOME,
    url: str | None = None,
    *,
    release_key: Path | None = None,
    gates: Callable[[Path, int, int | None], Sequence[GateResult]] | None = None,
    environment: Mapping[str, str] = os.environ,
    reached: Callable[[str], None] = lambda step: None,
) -> Registry:
    """The registry at `url`, or at FRAUD_REGISTRY, or the one in `repository`. Imports MLflow: a second or more.

    `release_key`: file of the public keys that releases must be signed by; None: FRAUD_RELEASE_KEY's, or the home's.
    `gates` asks the gates (repository, candidate, champion); without it nothing passes them.
    """
    from fraud_release.registry.catalogue import EMBEDDED_FOLDER, Catalogue
    from fraud_release.registry.checks import SignedChecks
    from fraud_release.registry.home import Home
    from fraud_release.registry.registry import Registry, Settings, location

    shared = url or environment.get(REGISTRY_VARIABLE, "")
    folder = repository / EMBEDDED_FOLDER
    catalogue = Catalogue.shared(shared) if shared else Catalogue.embedded(folder)
    return Registry(
        repository,
        catalogue,
        Home(home, shared or location(folder)),
        SignedChecks(home, release_key, gates),
        Settings(distinct_accounts=environment.get(DISTINCT_VARIABLE, "") == "1"),
        reached=reached,
    )


def stage_of(release: int, repository: Path, home: Path = DEFAULT_HOME, url: str | None = None) -> str | None:
    """`dev`, `staging`, `production`, `previous-1`, `previous-2` or `retired`; None for one that is not registered."""
    return open_registry(repository, home, url).stage_of(release)


def kept(
    repository: Path, home: Path = DEFAULT_HOME, url: str | None = None
) -> tuple[int | None, int | None, int | None]:
    """(production, previous-1, previous-2): the releases that stay loaded, None where there is none."""
    return open_registry(repository, home, url).book().stages.kept
