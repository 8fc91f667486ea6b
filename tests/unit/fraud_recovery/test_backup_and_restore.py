"""An archive is whole or refused; a restore verifies before it touches, and completes the store from the log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fraud_recovery import restore as restore_module
from fraud_recovery.archive import archives, new_archive, read_archive
from fraud_recovery.backup import back_up
from fraud_recovery.errors import ArchiveRefused, BackupFailed, RestoreRefused
from fraud_recovery.restore import Target, check_archive, restore
from fraud_release.errors import ArtifactRefused
from fraud_scoring.decision_log import Labels, Signer, verify_log
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import existing
from fraud_scoring.routes import Routes
from fraud_scoring.stores import open_store
from fraud_server.errors import CannotServe
from fraud_server.preflight import check
from fraud_server.settings import RESTORING_FILE, Ports, ServeSettings

if TYPE_CHECKING:
    from conftest import Kept  # the one beside this file


def recalled(url: str, kept: Kept, count: int) -> int:
    """How many of the first `count` transactions a store knows with their answers."""
    store = open_store(url, kept.schema)
    try:
        found = store.recall(np.arange(1, count + 1))
    finally:
        store.close()
    return sum(one is not None and one.answer is not None for one in found)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestArchive:
    def test_everything_comes_back(self, kept: Kept, target: Target, tmp_path: Path) -> None:
        made = back_up(kept.source, tmp_path / "out", with_keys=True)
        done = restore(made.archive, target)
        assert recalled(target.store_url, kept, 60) == 60
        assert existing(target.repository) == [1]
        assert Routes.read(target.repository) == Routes.read(kept.repository)
        key = Signer.open(target.home / "keys" / "decision-log.key").public_key
        found = verify_log(target.home / "log", key)
        assert (found.findings, found.decisions) == ([], 60)
        assert done.replay is not None
        assert (done.replay.transactions, done.replay.transactions_added, done.replay.labels_applied) == (60, 0, 0)
        assert (target.home / "judge" / "judge.jsonl").exists()

    def test_windows_and_labels_are_those_that_were_there(self, kept: Kept, target: Target, tmp_path: Path) -> None:
        restore(back_up(kept.source, tmp_path / "out", with_keys=True).archive, target)
        rows = kept.rows(20)
        features = []
        for url in (kept.store_url, target.store_url):
            store = open_store(url, kept.schema)
            features.append(kept.pipeline.features(rows, store.read(rows)).tobytes())
            store.close()
        assert features[0] == features[1]

    def test_private_keys_are_in_it_only_where_that_is_asked_for(self, kept: Kept, tmp_path: Path) -> None:
        made = back_up(kept.source, tmp_path / "out")
        assert list(made.archive.rglob("*.key")) == []
        secret = (kept.home / "keys" / "decision-log.key").read_bytes()
        assert not [path for path in made.archive.rglob("*") if path.is_file() and secret in path.read_bytes()]
        with_keys = back_up(kept.source, tmp_path / "out", with_keys=True)
        assert [path.stat().st_mode & 0o777 for path in with_keys.archive.rglob("*.key")] == [0o600]

    def test_a_frame_that_was_being_written_is_left_out(self, kept: Kept, target: Target, tmp_path: Path) -> None:
        newest = sorted((kept.home / "log" / "front-door-0").glob("*.frdlog"))[-1]
        with newest.open("ab") as file:
            file.write(b"FRD1 half a frame")
        made = back_up(kept.source, tmp_path / "out", with_keys=True)
        assert made.parts["log"]["decisions"] == 60
        check_archive(made.archive, target)

    def test_a_damaged_log_is_not_saved_as_if_it_were_sound(self, kept: Kept, tmp_path: Path) -> None:
        first = sorted((kept.home / "log" / "front-door-0").glob("*.frdlog"))[0]
        data = bytearray(first.read_bytes())
        data[len(data) // 2] ^= 1
        first.write_bytes(data)
        with pytest.raises(BackupFailed, match=r"the decision log is damaged: front-door-0 segment 1 .*LogDamaged"):
            back_up(kept.source, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_release_that_was_changed_is_not_saved(self, kept: Kept, tmp_path: Path) -> None:
        path = kept.repository / "fraud_decision_r0001" / "1" / "decision.json"
        path.chmod(0o644)
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(ArtifactRefused, match=r"decision\.json"):
            back_up(kept.source, tmp_path / "out")
        assert archives(tmp_path / "out") == []

    def test_an_interrupted_backup_leaves_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            begin_and_die(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_backup_leaves_is_refused(self, kept: Kept, tmp_path: Path) -> None:
        made = back_up(kept.source, tmp_path / "out").archive
        left = made.rename(made.with_name(f".{made.name}.part"))
        with pytest.raises(ArchiveRefused, match="what an interrupted backup left"):
            read_archive(left)
        (left / "manifest.json").unlink()
        with pytest.raises(ArchiveRefused, match=r"no manifest\.json: it is no archive, or was not finished"):
            read_archive(left.rename(made))
        assert archives(tmp_path / "out") == []


def begin_and_die(folder: Path) -> None:
    with new_archive(folder, 1) as (staging, _):
        (staging.folder / "a").write_bytes(b"half")
        raise KeyboardInterrupt


def flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x20
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


HARMS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a byte of the store": (lambda a: flip(a / "store" / "data.mdb"), "store/data.mdb is not what was saved"),
    "a byte of the log": (lambda a: flip(next(a.rglob("*.frdlog"))), "frdlog is not what was saved"),
    "the end of the log": (lambda a: shorten(sorted(a.rglob("*.frdlog"))[-1]), "frdlog is not what was saved"),
    "a release": (lambda a: flip(next(a.rglob("model.onnx"))), "model.onnx is not what was saved"),
    "the routes": (lambda a: (a / "releases" / "routes.json").unlink(), "releases/routes.json is missing"),
    "something more": (lambda a: (a / "log" / "more").write_text(""), "log/more is not in the manifest"),
    "a link": (lambda a: (a / "store" / "link").symlink_to("data.mdb"), "store/link is not in the manifest"),
    "the manifest": (lambda a: shorten(a / "manifest.json") or shorten(a / "manifest.json"), "cannot be read"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_an_archive_that_is_not_what_was_saved_touches_nothing(
    kept: Kept, target: Target, tmp_path: Path, harm: str
) -> None:
    archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
    do, says = HARMS[harm]
    do(archive)
    before = snapshot(target.repository)
    with pytest.raises(ArchiveRefused, match=says):
        restore(archive, target)
    assert not target.home.exists()
    assert snapshot(target.repository) == before


def test_a_log_that_was_forged_together_with_the_manifest_is_refused(
    kept: Kept, target: Target, tmp_path: Path
) -> None:
    archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
    with pytest.raises(ArchiveRefused, match="signed by another key"):
        restore(archive, replace(target, log_key="ab" * 32))
    assert not target.home.exists()


class TestTarget:
    def test_one_that_holds_something_is_refused_and_then_put_aside(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        restore(archive, target)
        before = snapshot(target.home)
        with pytest.raises(RestoreRefused, match=r"not empty: store, log; .*--replace"):
            restore(archive, target)
        assert snapshot(target.home) == before
        done = restore(archive, replace(target, replace=True))
        assert {Path(path).name for path in done.put_aside} == {"store", "log"}
        assert all(Path(path).exists() for path in done.put_aside)
        assert recalled(target.store_url, kept, 60) == 60

    def test_another_release_of_the_same_name_is_not_overwritten(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        restore(archive, target)
        shutil.rmtree(target.home)
        signature = target.repository / "fraud_r0001" / "release.sig"
        signature.chmod(0o644)
        signature.write_bytes(b"another")
        with pytest.raises(RestoreRefused, match="fraud_r0001"):
            restore(archive, target)
        done = restore(archive, replace(target, replace=True))
        assert "fraud_r0001" in {Path(path).name for path in done.put_aside}

    def test_one_without_the_log_s_key_is_told_to_bring_it_back(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out").archive
        with pytest.raises(RestoreRefused, match=r"put keys/decision-log\.key back"):
            restore(archive, target)
        shutil.copytree(kept.home / "keys", target.home / "keys")
        restore(archive, target)
        assert recalled(target.store_url, kept, 60) == 60

    def test_an_interrupted_restore_is_not_served_and_can_be_run_again(
        self, kept: Kept, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive

        def dies(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(restore_module, "_replay", dies)
            with pytest.raises(KeyboardInterrupt):
                restore(archive, target)
        assert (target.home / RESTORING_FILE).exists()
        settings = ServeSettings(target.repository, target.home, Ports(), target.store_url)
        with pytest.raises(CannotServe, match="was begun and did not end"):
            check(settings)
        restore(archive, target)
        assert not (target.home / RESTORING_FILE).exists()
        assert recalled(target.store_url, kept, 60) == 60

    def test_a_store_of_another_kind_is_refused_before_anything_is_touched(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        with pytest.raises(RestoreRefused, match=r"of lmdb, and --store is of redis.*--rebuild-store"):
            restore(archive, replace(target, store_url="redis://127.0.0.1:1"))
        assert not target.home.exists()


class TestOnly:
    def test_a_lost_store_comes_back_and_what_is_newer_beside_it_stays(self, kept: Kept, tmp_path: Path) -> None:
        archive = back_up(kept.source, tmp_path / "out").archive
        kept.decide(kept.rows(40), kept.writer())
        newer = Routes.read(kept.repository).with_shadow().write(kept.repository)
        shutil.rmtree(kept.home / "store")
        here = Target(kept.repository, kept.home, kept.store_url, only=frozenset({"store"}))
        done = restore(archive, here)
        assert recalled(kept.store_url, kept, 100) == 100
        assert done.put_aside == []
        assert Routes.read(kept.repository).epoch == newer.epoch > 1

    def test_the_log_that_completes_it_is_verified_first(self, kept: Kept, tmp_path: Path) -> None:
        archive = back_up(kept.source, tmp_path / "out").archive
        flip(sorted((kept.home / "log" / "front-door-0").glob("*.frdlog"))[0])
        shutil.rmtree(kept.home / "store")
        with pytest.raises(ArchiveRefused, match="the home's log: writer front-door-0, segment 1"):
            restore(archive, Target(kept.repository, kept.home, kept.store_url, only=frozenset({"store"})))
        assert not (kept.home / "store").exists()

    def test_a_second_home_completes_a_store_that_is_there(self, kept: Kept, target: Target, tmp_path: Path) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        restore(archive, target)
        kept.decide(kept.rows(40), kept.writer(), record=False)
        again = back_up(kept.source, tmp_path / "out", with_keys=True, without=["store"]).archive
        second = replace(target, home=tmp_path / "second", only=frozenset({"log"}))
        done = restore(again, second)
        assert done.replay is not None
        assert done.replay.transactions_added == 40
        assert recalled(target.store_url, kept, 100) == 100


class TestLog:
    def test_what_came_after_the_copy_of_the_store_comes_from_the_surviving_log(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        writer = kept.writer()
        kept.decide(kept.rows(40), writer, record=False)
        done = restore(archive, replace(target, surviving_log=kept.home / "log"))
        assert recalled(target.store_url, kept, 100) == 100
        assert done.replay is not None
        assert done.replay.transactions_added == 40
        assert (target.home / "log").resolve() == kept.home / "log"

    def test_a_surviving_log_that_lacks_what_the_archive_has_is_refused(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        older = Path(shutil.copytree(kept.home / "log", tmp_path / "older"))
        kept.decide(kept.rows(40), kept.writer())
        archive = back_up(kept.source, tmp_path / "out", with_keys=True).archive
        with pytest.raises(ArchiveRefused, match="another log, or an older one"):
            restore(archive, replace(target, surviving_log=older))
        assert not target.home.exists()

    def test_a_store_is_built_from_the_log_alone(self, kept: Kept, target: Target, tmp_path: Path) -> None:
        archive = back_up(kept.source, tmp_path / "out", with_keys=True, without=["store"]).archive
        done = restore(archive, replace(target, rebuild_store=True))
        assert recalled(target.store_url, kept, 60) == 60
        assert done.replay is not None
        assert (done.replay.transactions_added, done.replay.labels_applied) == (60, 10)

    def test_a_label_that_came_before_its_transaction_is_not_applied_later(
        self, kept: Kept, target: Target, tmp_path: Path
    ) -> None:
        rows = kept.rows(1)
        kept.writer("feedback-1").append(Labels(np.array([[rows[0, 0], 1, rows[0, 1] + 1]])))
        kept.decide(rows, kept.writer())
        archive = back_up(kept.source, tmp_path / "out", with_keys=True, without=["store"]).archive
        done = restore(archive, replace(target, rebuild_store=True))
        assert done.replay is not None
        assert (done.replay.labels, done.replay.labels_applied) == (11, 10)


def test_errors_of_recovery_are_errors_of_ours() -> None:
    assert all(issubclass(one, FraudError) for one in (ArchiveRefused, BackupFailed, RestoreRefused))


def test_the_manifest_names_every_file_with_its_hash(kept: Kept, tmp_path: Path) -> None:
    made = back_up(kept.source, tmp_path / "out")
    document = json.loads((made.archive / "manifest.json").read_text())
    there = {str(path.relative_to(made.archive)) for path in made.archive.rglob("*") if path.is_file()}
    assert set(document["files"]) | {"manifest.json"} == there
    assert made.bytes == sum(size for size, _ in document["files"].values())
