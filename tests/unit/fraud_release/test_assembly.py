"""A release appears whole or not at all, is never changed, and tells when somebody else changed it."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_release.assembly import TEMPLATE_FOLDER, next_release, verify_release, write_release
from fraud_release.errors import ReleaseRefused
from fraud_scoring.releases import DECISION_FILE, GOLDEN_FILE, MODEL_FILE, SCHEMA_FILE, existing
from support.release import IN_GIT
from support.rows import DEFAULT_SCHEMA

ARTIFACTS = {
    SCHEMA_FILE: DEFAULT_SCHEMA.document.encode(),
    MODEL_FILE: b"graph" * 1_000,
    DECISION_FILE: b'{"release": 1}',
    GOLDEN_FILE: b"golden",
}
FILES = {
    "fraud_r{n}/config.pbtxt",
    "fraud_r{n}/golden.npz",
    "fraud_r{n}/manifest.json",
    "fraud_features_r{n}/config.pbtxt",
    "fraud_features_r{n}/1/model.py",
    "fraud_features_r{n}/1/schema.json",
    "fraud_model_r{n}/config.pbtxt",
    "fraud_model_r{n}/1/model.onnx",
    "fraud_decision_r{n}/config.pbtxt",
    "fraud_decision_r{n}/1/model.py",
    "fraud_decision_r{n}/1/decision.json",
}


def files_of(number: int) -> set[str]:
    return {name.format(n=f"{number:04d}") for name in FILES}


def write_next(repository: Path, **artifacts: bytes) -> int:
    with next_release(repository) as number:
        write_release(repository, number, DEFAULT_SCHEMA, {**ARTIFACTS, **artifacts}, {"made_by": "a test"})
    return number


def content(repository: Path) -> dict[str, bytes]:
    """Every file that a release or its writer left, with what is in it."""
    return {
        str(path.relative_to(repository)): path.read_bytes()
        for path in sorted(repository.rglob("*"))
        if path.is_file() and path.relative_to(repository).parts[0] not in (*IN_GIT, ".release.lock")
    }


def test_a_release_is_all_of_its_files_and_the_manifest_has_their_hashes(repository: Path) -> None:
    assert write_next(repository) == 1
    found = content(repository)
    assert found.keys() == files_of(1)
    manifest = json.loads(found.pop("fraud_r0001/manifest.json"))
    assert manifest["release"] == "r0001"
    assert manifest["made_by"] == "a test"
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    assert (repository / "fraud_r0001" / "1").is_dir()
    assert verify_release(repository, 1) == manifest


def test_the_templates_are_filled_in(repository: Path) -> None:
    write_next(repository)
    for name, text in content(repository).items():
        if name.endswith(".pbtxt"):
            assert b"$" not in text
            assert f'name: "{name.partition("/")[0]}"' in text.decode()
    features = content(repository)["fraud_features_r0001/config.pbtxt"].decode()
    assert 'name: "transaction" data_type: TYPE_INT64 dims: [ 5 ]' in features
    assert f'name: "features" data_type: TYPE_FP32 dims: [ {len(DEFAULT_SCHEMA.features)} ]' in features


def test_the_files_of_a_release_are_sealed(repository: Path) -> None:
    write_next(repository)
    for name in files_of(1):
        assert (repository / name).stat().st_mode & 0o777 == 0o444


def test_numbers_rise_and_an_earlier_release_is_never_touched(repository: Path) -> None:
    assert [write_next(repository), write_next(repository), write_next(repository)] == [1, 2, 3]
    before = content(repository)
    assert write_next(repository, **{MODEL_FILE: b"another"}) == 4
    after = content(repository)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == files_of(4)


def test_a_repository_without_templates_is_no_model_repository(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="is no model repository: it has no folder release_template"):
        write_next(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_while_the_first_one_works_and_let_in_afterwards(repository: Path) -> None:
    with next_release(repository), pytest.raises(ReleaseRefused, match="another release is being written") as refusal:
        write_next(repository)
    assert "\n" not in str(refusal.value)
    assert write_next(repository) == 1


def test_what_fails_before_the_first_file_leaves_nothing(repository: Path) -> None:
    (repository / TEMPLATE_FOLDER / "decision" / "config.pbtxt").unlink()
    with pytest.raises(FileNotFoundError):
        write_next(repository)
    assert content(repository) == {}
    assert {path.name for path in repository.iterdir() if path.is_dir()} == set(IN_GIT)


def test_an_artifact_that_is_missing_leaves_nothing(repository: Path) -> None:
    with pytest.raises(KeyError), next_release(repository) as number:
        write_release(repository, number, DEFAULT_SCHEMA, {MODEL_FILE: b"graph"}, {})
    assert content(repository) == {}


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing(repository: Path) -> None:
    write_next(repository)
    before = content(repository)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_next(repository, **{GOLDEN_FILE: b"x" * 200_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(repository) == before
    assert not list(repository.glob(".staging*"))
    assert write_next(repository) == 2


def test_parts_that_cannot_be_completed_are_removed_by_the_next_run(repository: Path) -> None:
    with next_release(repository) as number:
        in_the_way = repository / "fraud_r0001" / "1"
        in_the_way.mkdir(parents=True)
        with pytest.raises(OSError, match="not empty"):
            write_release(repository, number, DEFAULT_SCHEMA, ARTIFACTS, {})
    assert (repository / "fraud_model_r0001").is_dir()
    assert existing(repository) == []
    assert write_next(repository) == 1
    assert verify_release(repository, 1)["release"] == "r0001"


def test_a_writer_that_is_killed_at_any_point_leaves_no_release_or_a_whole_one(
    repository: Path, tmp_path: Path
) -> None:
    write_next(repository)
    before = content(repository)
    script = Path(__file__).with_name("killed_writer.py")
    ran = subprocess.run(
        [sys.executable, str(script), str(repository), str(tmp_path / "killed")],
        check=True,
        capture_output=True,
        text=True,
    )
    steps = int(ran.stdout)
    assert steps > 2 * len(FILES), "every file is opened and sealed"
    written = []
    for step in range(1, steps + 1):
        left = tmp_path / "killed" / str(step)
        assert existing(left) in ([1], [1, 2])
        for number in existing(left):
            verify_release(left, number)
        written.append(write_next(left))
        found = content(left)
        assert {name: found[name] for name in before} == before
        assert found.keys() == set().union(*map(files_of, range(1, written[-1] + 1)))
        assert not list(left.glob(".staging*"))
    assert written == sorted(written)
    assert set(written) == {2, 3}


def test_what_does_not_belong_to_releases_is_left_alone(repository: Path) -> None:
    (repository / "routes.json").write_text("{}")
    (repository / "fraud_rules").mkdir()
    write_next(repository)
    assert {"fraud_score", "routes.json", "fraud_rules"} <= {path.name for path in repository.iterdir()}


@pytest.mark.parametrize("name", sorted(name.format(n="0001") for name in FILES - {"fraud_r{n}/manifest.json"}))
def test_a_changed_file_and_a_missing_file_are_named(repository: Path, name: str) -> None:
    write_next(repository)
    path = repository / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(ReleaseRefused, match=rf"release r0001: {name} was changed after it was made"):
        verify_release(repository, 1)
    path.unlink()
    with pytest.raises(ReleaseRefused, match=rf"release r0001: {name} is missing"):
        verify_release(repository, 1)


@pytest.mark.parametrize(
    "name", ["fraud_r0001/1/model.py", "fraud_model_r0001/2/model.onnx", "fraud_decision_r0001/1/sitecustomize.py"]
)
def test_an_added_file_is_named(repository: Path, name: str) -> None:
    write_next(repository)
    (repository / name).parent.mkdir(exist_ok=True)
    (repository / name).write_bytes(b"more")
    with pytest.raises(ReleaseRefused, match=rf"release r0001: {name} is not in its manifest"):
        verify_release(repository, 1)


def test_a_link_is_named_even_if_it_leads_to_the_same_content(repository: Path, tmp_path: Path) -> None:
    write_next(repository)
    path = repository / "fraud_model_r0001" / "1" / "model.onnx"
    shutil.copy(path, tmp_path / "elsewhere.onnx")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ReleaseRefused, match=r"fraud_model_r0001/1/model.onnx is not in its manifest"):
        verify_release(repository, 1)


@pytest.mark.parametrize("folder", ["fraud_r0001", "fraud_model_r0001", "fraud_model_r0001/1"])
def test_a_folder_that_was_replaced_by_a_link_is_named(repository: Path, tmp_path: Path, folder: str) -> None:
    write_next(repository)
    shutil.move(repository / folder, tmp_path / "elsewhere")
    (repository / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseRefused, match=rf"release r0001: {folder} is"):
        verify_release(repository, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"release": "r0001"}'])
def test_a_manifest_that_is_none_is_refused(repository: Path, text: str) -> None:
    write_next(repository)
    manifest = repository / "fraud_r0001" / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(text)
    with pytest.raises(ReleaseRefused, match="release r0001 has no readable manifest"):
        verify_release(repository, 1)


def test_a_release_that_was_never_made_has_no_manifest(repository: Path) -> None:
    with pytest.raises(ReleaseRefused, match="release r0007 has no readable manifest; train it again or restore it"):
        verify_release(repository, 7)
