"""Nothing of a release is opened unless every byte and every name is what a trusted key signed, and not of old."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import socket
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.assembly import next_release, write_release
from fraud_release.errors import ArtifactRefused, ReleaseRefused
from fraud_release.record import read_record
from fraud_release.serving_copy import copy_release
from fraud_release.signing import admit_release, new_statement, sign_release, verified_contents, verify_release
from fraud_release.statement import Statement, sign
from fraud_release.trust import TrustSettings, open_signing_key, public_key_file, read_public_keys
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.key_files import public_text
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE
from support.rows import DEFAULT_SCHEMA

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
THIEF = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUST = TrustSettings((public_text(KEY),))
SIGNATURE = "fraud_r0001/release.sig"
MANIFEST = "fraud_r0001/manifest.json"
MODEL = "fraud_model_r0001/1/model.onnx"


def write_next(repository: Path, key: Ed25519PrivateKey | None = KEY, model: bytes = b"graph" * 40) -> int:
    artifacts = {
        SCHEMA_FILE: DEFAULT_SCHEMA.document.encode(),
        MODEL_FILE: model,
        DECISION_FILE: b'{"release": 1}',
        GOLDEN_FILE: b"golden",
    }
    with next_release(repository) as number:

        def signed(digests) -> bytes:
            return sign(new_statement(repository, number, digests, key), key)

        write_release(repository, number, DEFAULT_SCHEMA, artifacts, {}, None if key is None else signed)
    return number


@pytest.fixture
def signed(repository: Path) -> Path:
    """A repository with release 1, signed."""
    write_next(repository)
    return repository


@pytest.fixture
def remembering(tmp_path: Path) -> TrustSettings:
    return TrustSettings((public_text(KEY),), tmp_path / "home" / "keys" / "record.json")


def refusal(repository: Path, number: int = 1, trust: TrustSettings = TRUST) -> ArtifactRefused:
    with pytest.raises(ArtifactRefused) as refused:
        verify_release(repository, number, trust)
    assert "\n" not in str(refused.value)
    assert refused.value.file in str(refused.value)
    return refused.value


def unseal(path: Path) -> Path:
    path.chmod(0o644)
    return path


def files(repository: Path) -> list[str]:
    found = [path for path in repository.glob("fraud_*r0001/**/*") if path.is_file()]
    return sorted(str(path.relative_to(repository)) for path in found)


def test_a_release_that_is_as_it_was_signed_verifies_and_gives_its_manifest_and_bytes(signed: Path) -> None:
    verified, contents = verified_contents(signed, 1, TRUST)
    assert verified == verify_release(signed, 1, TRUST)
    assert verified.manifest == json.loads((signed / MANIFEST).read_text())
    assert sorted(contents) == files(signed)
    assert {path: (signed / path).read_bytes() for path in contents} == contents
    assert verified.files == len(contents) - 1


def test_any_flipped_bit_of_any_file_is_refused_by_the_files_name(signed: Path) -> None:
    """Every file, every byte class of it: first, last and some in between; the signature's own bytes all of them."""
    chance = random.Random(20261121)
    tried = 0
    for name in files(signed):
        path = unseal(signed / name)
        content = path.read_bytes()
        places = {0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(25))}
        if name == SIGNATURE:
            places = set(range(0, len(content), 3))
        for place in sorted(places):
            changed = bytearray(content)
            changed[place] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            assert refusal(signed).file == name, (name, place)
            tried += 1
        path.write_bytes(content)
    verify_release(signed, 1, TRUST)
    assert tried > 1_000


@pytest.mark.parametrize("change", ["cut", "emptied", "lengthened", "a line end"])
def test_a_file_that_is_cut_or_lengthened_is_refused_by_its_name(signed: Path, change: str) -> None:
    for name in files(signed):
        path = unseal(signed / name)
        content = path.read_bytes()
        path.write_bytes(
            {"cut": content[:-1], "emptied": b"", "lengthened": content + b"\0"}.get(change, content + b"\n")
        )
        assert refusal(signed).file == name
        path.write_bytes(content)
    verify_release(signed, 1, TRUST)


def test_a_missing_file_is_refused_by_its_name(signed: Path, tmp_path: Path) -> None:
    for name in files(signed):
        (signed / name).rename(tmp_path / "aside")
        refused = refusal(signed)
        assert (refused.file, "is missing" in refused.rule) == (name, True)
        (tmp_path / "aside").rename(signed / name)


@pytest.mark.parametrize(
    "name",
    [
        "fraud_r0001/1/model.py",
        "fraud_r0001/release.sig.bak",
        "fraud_r0001/.hidden",
        "fraud_model_r0001/1/model.plan",
        "fraud_model_r0001/2/model.onnx",
        "fraud_features_r0001/1/sitecustomize.py",
        "fraud_backdoor_r0001/1/model.py",
    ],
)
def test_an_added_file_is_refused_by_its_name(signed: Path, name: str) -> None:
    (signed / name).parent.mkdir(parents=True, exist_ok=True)
    (signed / name).write_bytes(b"more")
    assert name.startswith(refusal(signed).file)
    assert refusal(signed).rule == "is not in its manifest"


@pytest.mark.parametrize("name", ["fraud_r0001/2", "fraud_model_r0001/2", "fraud_decision_r0001/1/json"])
def test_an_added_folder_is_refused_though_it_is_empty(signed: Path, name: str) -> None:
    """Triton serves the highest version folder that it finds."""
    (signed / name).mkdir()
    assert refusal(signed).file == name


def test_bytecode_beside_a_source_is_removed_by_who_serves_and_passed_over_by_who_looks(
    signed: Path, tmp_path: Path
) -> None:
    """It would run in place of the source that was signed."""
    cache = signed / "fraud_features_r0001" / "1" / "__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").write_bytes(b"worse")
    verify_release(signed, 1, TrustSettings(TRUST.public_keys, remember=False))
    assert cache.exists()
    _, contents = verified_contents(signed, 1, TRUST)
    assert not cache.exists()
    assert [path for path in contents if "__pycache__" in path] == []


@pytest.mark.parametrize("remember", [True, False])
def test_bytecode_that_is_linked_in_or_lies_elsewhere_is_refused(signed: Path, tmp_path: Path, remember: bool) -> None:
    trust = TrustSettings(TRUST.public_keys, remember=remember)
    cache = signed / "fraud_features_r0001" / "1" / "__pycache__"
    (tmp_path / "elsewhere").mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    assert refusal(signed, 1, trust).file == "fraud_features_r0001/1/__pycache__"
    cache.unlink()
    (cache.parent / "model.pyc").write_bytes(b"worse")
    assert refusal(signed, 1, trust).file == "fraud_features_r0001/1/model.pyc"


def test_an_empty_version_folder_that_is_gone_is_missed(signed: Path) -> None:
    (signed / "fraud_r0001" / "1").rmdir()
    assert refusal(signed).file == "fraud_r0001/1"


def test_a_link_is_refused_though_it_leads_to_the_same_content(signed: Path, tmp_path: Path) -> None:
    for name in files(signed):
        (signed / name).rename(tmp_path / "aside")
        (signed / name).symlink_to(tmp_path / "aside")
        assert refusal(signed).file == name
        (signed / name).unlink()
        (tmp_path / "aside").rename(signed / name)
    verify_release(signed, 1, TRUST)


@pytest.mark.parametrize("name", ["fraud_r0001", "fraud_model_r0001", "fraud_model_r0001/1"])
def test_a_folder_that_was_replaced_by_a_link_is_refused(signed: Path, tmp_path: Path, name: str) -> None:
    (signed / name).rename(tmp_path / "aside")
    (signed / name).symlink_to(tmp_path / "aside")
    assert refusal(signed).file.startswith(name)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("make", [pipe, listening, Path.mkdir])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(signed: Path, make: Callable[[Path], None]) -> None:
    for name in (MODEL, SIGNATURE):
        content = (signed / name).read_bytes()
        (signed / name).unlink()
        make(signed / name)
        assert refusal(signed).file == name
        (signed / name).rmdir() if (signed / name).is_dir() else (signed / name).unlink()
        (signed / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "lookalike"),
    [
        ("fraud_model_r0001", "fraud_model_r0001 "),
        ("fraud_model_r0001", "fraud_mоdel_r0001"),  # a Cyrillic o
        ("fraud_model_r0001/1/model.onnx", "fraud_model_r0001/1/model.onnx "),
        ("fraud_model_r0001/1/model.onnx", "fraud_model_r0001/1/Model.onnx"),
        ("fraud_model_r0001/1/model.onnx", "fraud_model_r0001/1/mode\u200bl.onnx"),
        ("fraud_r0001/golden.npz", "fraud_r0001/gôlden.npz"),
        ("fraud_r0001/golden.npz", "fraud_r0001/" + unicodedata.normalize("NFD", "gôlden.npz")),
    ],
)
def test_a_name_that_looks_like_another_is_refused_beside_it_and_in_its_place(
    signed: Path, name: str, lookalike: str
) -> None:
    original, other = signed / name, signed / lookalike
    (shutil.copytree if original.is_dir() else shutil.copy)(original, other)
    assert refusal(signed).file == lookalike
    shutil.rmtree(original) if original.is_dir() else original.unlink()
    assert refusal(signed).file in (lookalike, name)


def test_folders_that_were_swapped_are_refused(signed: Path) -> None:
    write_next(signed, model=b"another graph")
    one, other = signed / "fraud_model_r0001", signed / "fraud_model_r0002"
    one.rename(signed / "aside")
    other.rename(one)
    (signed / "aside").rename(other)
    for number in (1, 2):
        assert refusal(signed, number).file.startswith(f"fraud_model_r000{number}/")
    shutil.rmtree(signed / "fraud_r0001")
    shutil.copytree(signed / "fraud_r0002", signed / "fraud_r0001")
    assert refusal(signed, 1).file == SIGNATURE


def test_a_release_under_another_number_is_refused(signed: Path) -> None:
    for part in ("", "features_", "model_", "decision_"):
        shutil.copytree(signed / f"fraud_{part}r0001", signed / f"fraud_{part}r0009")
    assert refusal(signed, 9).file == "fraud_r0009/release.sig"


def test_a_release_without_a_signature_is_refused_with_the_command_that_signs_it(repository: Path) -> None:
    write_next(repository, key=None)
    assert str(refusal(repository)) == (
        "release r0001: fraud_r0001/release.sig is missing: the release is not signed; "
        "sign it: fraudctl release sign r0001"
    )
    sign_release(repository, 1, KEY)
    assert verify_release(repository, 1, TRUST).files == 11
    assert stat.S_IMODE((repository / SIGNATURE).stat().st_mode) == 0o444


def test_a_signature_from_another_key_is_refused_though_every_hash_is_right(signed: Path) -> None:
    sign_release(signed, 1, THIEF)
    assert "is not signed by a pinned key" in refusal(signed).rule


def test_a_signature_that_names_the_pinned_key_and_is_anothers_is_refused(signed: Path) -> None:
    mine = json.loads((signed / SIGNATURE).read_bytes())
    sign_release(signed, 1, THIEF)
    theirs = json.loads((signed / SIGNATURE).read_bytes())
    theirs["verificationMaterial"] = mine["verificationMaterial"]
    rewrite(signed / SIGNATURE, theirs)
    assert "is not signed by a pinned key" in refusal(signed).rule


def test_an_edited_manifest_is_refused_with_and_without_a_fitting_list_of_hashes(signed: Path) -> None:
    model, manifest = unseal(signed / MODEL), unseal(signed / MANIFEST)
    model.write_bytes(b"another graph")
    document = json.loads(manifest.read_text())
    document["files"][MODEL] = hashlib.sha256(b"another graph").hexdigest()
    manifest.write_text(json.dumps(document, indent=1) + "\n")
    assert refusal(signed).file in (MODEL, MANIFEST)


def test_an_edited_statement_is_refused(signed: Path) -> None:
    document = json.loads((signed / SIGNATURE).read_bytes())
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    statement["predicate"]["epoch"] += 1
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    rewrite(signed / SIGNATURE, document)
    assert refusal(signed).file == SIGNATURE


def test_a_signature_that_is_written_in_another_way_is_refused(signed: Path) -> None:
    document = json.loads((signed / SIGNATURE).read_bytes())
    unseal(signed / SIGNATURE).write_text(json.dumps(document, indent=1))
    assert "is no signature" in refusal(signed).rule
    document["dsseEnvelope"]["signatures"] *= 2
    rewrite(signed / SIGNATURE, document)
    assert "is no signature" in refusal(signed).rule


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff" * 9, b"[" * 100_000, b"x" * (5 << 20)])
def test_a_signature_file_that_holds_something_else_is_refused(signed: Path, content: bytes) -> None:
    unseal(signed / SIGNATURE).write_bytes(content)
    assert refusal(signed).file == SIGNATURE


@pytest.mark.parametrize(
    "path", ["../routes.json", "fraud_model_r0002/1/model.onnx", "/etc/passwd", "fraud_r0001/../x"]
)
def test_a_statement_about_a_file_outside_the_release_is_refused_though_the_key_signed_it(
    signed: Path, path: str
) -> None:
    statement = Statement(1, 1, {path: "00" * 32})
    unseal(signed / SIGNATURE).write_bytes(sign(statement, KEY))
    assert "is no signature" in refusal(signed).rule


def test_a_manifest_that_does_not_list_what_was_signed_is_refused_though_the_key_signed_it(signed: Path) -> None:
    verified, contents = verified_contents(signed, 1, TRUST)
    digests = dict(verified.statement.digests)
    (signed / MODEL).unlink()
    del digests[MODEL]
    unseal(signed / SIGNATURE).write_bytes(sign(Statement(1, verified.statement.epoch, digests), KEY))
    (signed / MODEL).parent.rmdir()
    assert refusal(signed).file == MANIFEST
    assert MODEL in contents


def test_a_damaged_release_is_not_signed(signed: Path) -> None:
    unseal(signed / MODEL).write_bytes(b"another graph")
    with pytest.raises(ReleaseRefused, match=rf"{MODEL} was changed"):
        sign_release(signed, 1, KEY)


def test_what_was_verified_is_remembered_and_may_be_served_again(signed: Path, remembering: TrustSettings) -> None:
    write_next(signed)
    for number in (1, 2, 1, 2):
        verify_release(signed, number, remembering)
    record = read_record(remembering.record)
    assert record is not None
    assert set(record.releases) == {1, 2}


def test_an_older_release_that_was_never_verified_is_refused_until_it_is_admitted(
    signed: Path, remembering: TrustSettings, tmp_path: Path
) -> None:
    write_next(signed)
    for part in ("", "features_", "model_", "decision_"):
        (signed / f"fraud_{part}r0001").rename(tmp_path / f"fraud_{part}r0001")
    verify_release(signed, 2, remembering)
    for part in ("", "features_", "model_", "decision_"):
        (tmp_path / f"fraud_{part}r0001").rename(signed / f"fraud_{part}r0001")
    refused = refusal(signed, 1, remembering)
    assert refused.file == SIGNATURE
    assert "older than r0002, which was; if you want the old release, say so: fraudctl release admit r0001" in str(
        refused
    )
    admit_release(signed, 1, remembering)
    verify_release(signed, 1, remembering)


def test_releases_that_a_host_finds_at_its_first_look_are_no_downgrade(
    signed: Path, remembering: TrustSettings
) -> None:
    write_next(signed)
    verify_release(signed, 2, remembering)
    verify_release(signed, 1, remembering)


def test_an_old_signed_release_in_place_of_a_new_one_of_its_number_is_refused(
    signed: Path, remembering: TrustSettings, tmp_path: Path
) -> None:
    old = shutil.copytree(signed, tmp_path / "old")
    for folder in signed.glob("fraud_*r0001"):
        shutil.rmtree(folder)
    assert write_next(signed, model=b"a better graph") == 1
    verify_release(signed, 1, remembering)
    for folder in old.glob("fraud_*r0001"):
        shutil.rmtree(signed / folder.name)
        shutil.copytree(folder, signed / folder.name)
    verify_release(signed, 1, TRUST)
    refused = refusal(signed, 1, remembering)
    assert (refused.file, refused.rule) == (SIGNATURE, "is older than the signature that was verified here before")
    with pytest.raises(ArtifactRefused, match="is older than the signature"):
        admit_release(signed, 1, remembering)


def test_an_old_signature_in_place_of_a_new_one_is_refused_though_the_files_are_the_same(
    signed: Path, remembering: TrustSettings
) -> None:
    old = (signed / SIGNATURE).read_bytes()
    sign_release(signed, 1, KEY)
    verify_release(signed, 1, remembering)
    unseal(signed / SIGNATURE).write_bytes(old)
    assert refusal(signed, 1, remembering).file == SIGNATURE


def test_two_contents_under_one_epoch_are_refused(signed: Path, remembering: TrustSettings) -> None:
    first = verify_release(signed, 1, remembering).statement
    model = unseal(signed / MODEL)
    model.write_bytes(b"another graph")
    manifest = json.loads((signed / MANIFEST).read_text())
    manifest["files"][MODEL] = hashlib.sha256(b"another graph").hexdigest()
    unseal(signed / MANIFEST).write_text(json.dumps(manifest))
    sign_release(signed, 1, KEY)
    second = verify_release(signed, 1, TRUST).statement
    unseal(signed / SIGNATURE).write_bytes(sign(Statement(1, first.epoch, second.digests), KEY))
    assert "says something else" in refusal(signed, 1, remembering).rule


def test_epochs_rise_even_where_the_clock_was_set_back(signed: Path) -> None:
    before = verify_release(signed, 1, TRUST).statement.epoch
    assert sign_release(signed, 1, KEY, now_us=lambda: 5).epoch == before + 1


def test_a_key_that_is_being_replaced_is_trusted_beside_the_new_one(signed: Path) -> None:
    both = TrustSettings((public_text(THIEF), public_text(KEY)))
    verify_release(signed, 1, both)
    sign_release(signed, 1, THIEF)
    verify_release(signed, 1, both)


def test_who_only_looks_obeys_the_record_and_does_not_write_it(signed: Path, remembering: TrustSettings) -> None:
    looking = TrustSettings(remembering.public_keys, remembering.record, remember=False)
    verify_release(signed, 1, looking)
    assert read_record(remembering.record) is None


def test_a_broken_record_is_named_with_what_to_do(signed: Path, remembering: TrustSettings) -> None:
    verify_release(signed, 1, remembering)
    remembering.record.write_text("{")
    with pytest.raises(
        InvalidDefinition, match=r"record.json, the record of verified releases, cannot be read; restore"
    ):
        verify_release(signed, 1, remembering)


def test_the_first_use_makes_a_private_key_for_its_owner_and_a_public_key_that_is_trusted(tmp_path: Path) -> None:
    path = tmp_path / "home" / "keys" / "release.key"
    key = open_signing_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_public_keys(public_key_file(path)) == (public_text(key),)
    assert public_text(open_signing_key(path)) == public_text(key)
    assert TrustSettings.read(tmp_path / "home", environment={}).public_keys == (public_text(key),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no key is pinned"),
        (b"", "holds no key"),
        (b"# nothing\n", "holds no key"),
        (b"abc", "is no public key"),
        (b"\xff\xfe", "is no file of public keys"),
    ],
)
def test_a_file_of_keys_that_pins_none_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "mine.pub").write_bytes(content)
    with pytest.raises(InvalidDefinition, match=said):
        TrustSettings.read(tmp_path, tmp_path / "mine.pub")


@pytest.mark.parametrize("what", ["sign", "copy"])
def test_a_signing_or_a_copy_that_is_killed_at_any_point_leaves_what_verifies_or_is_refused(
    repository: Path, tmp_path: Path, what: str
) -> None:
    """The old signature or the new one; a copy that verifies or none, which the next one mends."""
    key = repository.with_suffix(".key")
    trust = TrustSettings((public_text(open_signing_key(key)),))
    write_next(repository, open_signing_key(key))
    script = Path(__file__).with_name("killed_writer.py")
    command = [sys.executable, str(script), str(repository), str(tmp_path / "killed"), what]
    steps = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert steps > (3 if what == "sign" else 25)
    refusals = []
    for step in range(1, steps + 1):
        left = tmp_path / "killed" / str(step)
        try:
            verify_release(left, 1, trust)
        except ArtifactRefused as refused:
            refusals.append(refused.rule)
        if what == "copy":
            copy_release(repository, 1, trust, left)
            verify_release(left, 1, trust)
    assert all(rule.startswith("is missing") for rule in refusals)
    assert what == "copy" or refusals == []
    assert len(refusals) <= steps - 2


def rewrite(path: Path, document: dict) -> None:
    unseal(path).write_text(json.dumps(document, separators=(",", ":")) + "\n")
