"""A sealed release says nothing without its key, and opens only as it was: into whole files, or not at all."""

from __future__ import annotations

import random
import shutil
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.assembly import next_release, write_release
from fraud_release.errors import ArtifactRefused
from fraud_release.sealing import open_sealed, seal_release, sealing_key
from fraud_release.signing import new_statement, verify_release
from fraud_release.statement import sign
from fraud_release.trust import TrustSettings
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.key_files import public_text
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE, existing
from support.release import empty_repository
from support.rows import DEFAULT_SCHEMA

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUST = TrustSettings((public_text(SIGNER),))
KEY = bytes(range(1, 33))
MODEL = "fraud_model_r0001/1/model.onnx.sealed"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two signed releases."""
    folder = empty_repository(tmp_path / "models")
    for graph in (b"secret trees" * 20, b"other trees!" * 20):
        artifacts = {SCHEMA_FILE: DEFAULT_SCHEMA.document.encode(), MODEL_FILE: graph, DECISION_FILE: b"{}"}
        with next_release(folder) as number:

            def signed(digests, number=number) -> bytes:
                return sign(new_statement(folder, number, digests, SIGNER), SIGNER)

            write_release(folder, number, DEFAULT_SCHEMA, {**artifacts, GOLDEN_FILE: b"golden"}, {}, signed)
    return folder


@pytest.fixture
def store(repository: Path, tmp_path: Path) -> Path:
    """Both of them, sealed."""
    (tmp_path / "store").mkdir()
    for number in (1, 2):
        seal_release(repository, number, TRUST, KEY, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return empty_repository(tmp_path / "opened")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(store: Path, target: Path, key: bytes = KEY, trust: TrustSettings = TRUST) -> ArtifactRefused:
    with pytest.raises(ArtifactRefused) as refusal:
        open_sealed(store, 1, trust, key, target)
    assert 1 not in existing(target)
    assert not list(target.glob("fraud_*r0001")), "nothing in the clear"
    return refusal.value


def test_what_was_sealed_opens_to_the_same_files(repository: Path, store: Path, target: Path) -> None:
    opened = open_sealed(store, 1, TRUST, KEY, target)
    assert opened == verify_release(target, 1, TRUST)
    for name, content in files(target).items():
        if "r0001" in name:
            assert (repository / name).read_bytes() == content


def test_nothing_but_the_signature_can_be_read(store: Path) -> None:
    sealed = files(store / "r0001.sealed")
    assert len(sealed) == 12
    for name, content in sealed.items():
        assert name.endswith(".sealed") or name == "fraud_r0001/release.sig"
        assert b"secret trees" not in content
        assert b"columns" not in content


def test_any_flipped_bit_is_refused_by_the_files_name(store: Path, target: Path) -> None:
    chance = random.Random(20261121)
    folder = store / "r0001.sealed"
    for name, content in files(folder).items():
        (folder / name).chmod(0o644)
        for place in sorted({0, 5, 20, len(content) - 1, *(chance.randrange(len(content)) for _ in range(12))}):
            changed = bytearray(content)
            changed[place] ^= 1 << chance.randrange(8)
            (folder / name).write_bytes(changed)
            assert refused(store, target).file == name
        (folder / name).write_bytes(content)
    open_sealed(store, 1, TRUST, KEY, target)


def test_another_key_opens_nothing(store: Path, target: Path) -> None:
    assert "sealed with another key" in refused(store, target, key=bytes(32)).rule
    assert "is not signed by a pinned key" in refused(store, target, trust=TrustSettings(("00" * 32,))).rule


def test_files_of_another_release_or_another_place_do_not_open(store: Path, target: Path) -> None:
    folder = store / "r0001.sealed"
    (folder / MODEL).unlink()
    shutil.copy(store / "r0002.sealed" / MODEL.replace("r0001", "r0002"), folder / MODEL)
    assert refused(store, target).file == MODEL
    shutil.copy(folder / "fraud_model_r0001" / "config.pbtxt.sealed", folder / MODEL.replace("onnx", "txt"))
    assert refused(store, target).rule == "is not in its manifest"


def test_what_is_missing_added_or_linked_is_refused(store: Path, target: Path, tmp_path: Path) -> None:
    folder = store / "r0001.sealed"
    (folder / MODEL).rename(tmp_path / "aside")
    assert refused(store, target).file == MODEL
    (folder / MODEL).symlink_to(tmp_path / "aside")
    assert "is a link" in refused(store, target).rule
    (folder / MODEL).unlink()
    (folder / MODEL).write_bytes(b"short")
    assert "is no sealed file" in refused(store, target).rule


def test_an_older_sealed_release_is_refused_as_an_open_one_is(store: Path, target: Path, tmp_path: Path) -> None:
    remembering = TrustSettings(TRUST.public_keys, tmp_path / "record.json")
    open_sealed(store, 2, remembering, KEY, target)
    assert "older than r0002" in refused(store, target, trust=remembering).rule


def test_the_sealing_key_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "sealing.key"
    key = sealing_key(path, make=True)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sealing_key(path) == key
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(InvalidDefinition, match=r"short is 1 bytes; give a file of 32"):
        sealing_key(tmp_path / "short")
    with pytest.raises(InvalidDefinition, match="none cannot be used: No such file"):
        sealing_key(tmp_path / "none")
