"""A registry in an archive: who let what rise is there afterwards, and so are the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fraud_recovery.archive import quiet
from fraud_recovery.backup import Source, back_up
from fraud_recovery.errors import ArchiveRefused
from fraud_recovery.files_part import audit_lines, check_registry, copy_registry
from fraud_recovery.restore import Target, restore
from fraud_release.registry.registry import Registry
from support.registries import registry_of, to_production
from support.release import empty_repository

AUDIT = ".registry/audit.sqlite"


@pytest.fixture
def promoted(registry: Registry, repository: Path, home: Path) -> Registry:
    """Release r0001 in production, by two people."""
    to_production(registry, 1)
    return registry


def test_stages_audit_and_files_come_back(promoted: Registry, repository: Path, home: Path, tmp_path: Path) -> None:
    source = Source(repository, home, f"lmdb://{home / 'store'}")
    archive = back_up(source, tmp_path / "out", with_keys=True, without=["store", "log"]).archive
    models, new = empty_repository(tmp_path / "new-models"), tmp_path / "new-home"
    restore(archive, Target(models, new, f"lmdb://{new / 'store'}"))
    assert audit_lines(models / AUDIT) == audit_lines(repository / AUDIT)
    again = registry_of(models, new)
    assert again.stage_of(1) == "production"
    shutil.rmtree(models / "fraud_r0001")
    assert again.fetch(1) is not None


def test_an_audit_that_was_changed_in_the_archive_is_refused(
    promoted: Registry, repository: Path, tmp_path: Path
) -> None:
    copy_registry(repository, tmp_path / "copy", quiet)
    assert check_registry(tmp_path / "copy") == len(audit_lines(repository / AUDIT)) > 3
    path = tmp_path / "copy" / "audit.sqlite"
    path.write_bytes(path.read_bytes().replace(b"is better", b"is worser"))
    with pytest.raises(ArchiveRefused, match="the archive's audit of releases is broken"):
        check_registry(tmp_path / "copy")
