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
    from fraud_release.registry.book import Book
    from fraud_release.registry.checks import GateResult
    from fraud_release.registry.registry import Registry

REGISTRY_VARIABLE: Final = "FRAUD_REGISTRY"
DISTINCT_VARIABLE: Final = "FRAUD_REGISTRY_DISTINCT_ACCOUNTS"
DEFAULT_HOME: Final = Path("var")

__all__ = ["DISTINCT_VARIABLE", "REGISTRY_VARIABLE", "audited", "kept", "open_registry", "stage_of"]


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
    from fraud_release.registry.registry import Registry, Settings

    shared = url or environment.get(REGISTRY_VARIABLE, "")
    folder = repository / EMBEDDED_FOLDER
    catalogue = Catalogue.shared(shared) if shared else Catalogue.embedded(folder)
    return Registry(
        repository,
        catalogue,
        Home(home, shared or os.fspath(folder.absolute())),
        SignedChecks(home, release_key, gates),
        Settings(distinct_accounts=environment.get(DISTINCT_VARIABLE, "") == "1"),
        reached=reached,
    )


def stage_of(release: int, repository: Path, home: Path = DEFAULT_HOME, url: str | None = None) -> str | None:
    """`dev`, `staging`, `production`, `previous-1`, `previous-2` or `retired`; None for one that is not registered."""
    book = audited(repository, home, url)
    return None if book.registration(release) is None else book.stage_of(release)


def kept(
    repository: Path, home: Path = DEFAULT_HOME, url: str | None = None
) -> tuple[int | None, int | None, int | None]:
    """(production, previous-1, previous-2): the releases that stay loaded, None where there is none."""
    return audited(repository, home, url).stages.kept


def audited(
    repository: Path, home: Path = DEFAULT_HOME, url: str | None = None, environment: Mapping[str, str] = os.environ
) -> Book:
    """The audit, checked as ever; of an embedded registry without MLflow, in milliseconds."""
    from fraud_release.registry.audit_stores import SqliteAudit
    from fraud_release.registry.book import check_seen
    from fraud_release.registry.catalogue import AUDIT_FILE, EMBEDDED_FOLDER
    from fraud_release.registry.home import Home

    if url or environment.get(REGISTRY_VARIABLE, ""):
        return open_registry(repository, home, url, environment=environment).book()
    folder = repository / EMBEDDED_FOLDER
    known = Home(home, os.fspath(folder.absolute()))
    return check_seen(SqliteAudit(folder / AUDIT_FILE).lines(), known.trusted(), known.head())
