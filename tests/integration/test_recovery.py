"""A machine is lost: what a backup that was made while serving brings back, and what is lost, measured."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from fraud_client import FraudClient, Source
from fraud_data import Transactions
from fraud_recovery.restore import Target, restore
from fraud_scoring.decision_log import Finding, Signer, verify_log
from fraud_scoring.pipeline import Pipeline
from support.recovery import PATIENT, answered, compare_windows, lose_a_machine
from support.release import empty_repository
from support.server import Server, json_of

pytestmark = pytest.mark.triton

ROWS = 4_000
MORE = 600


def test_a_lost_machine_comes_back_with_the_windows_that_it_had(
    served_repository: Path, small_data: Transactions, served_pipeline: Pipeline, tmp_path: Path
) -> None:
    schema = served_pipeline.schema
    home, other_disk, archives = tmp_path / "home", tmp_path / "other-disk" / "log", tmp_path / "archives"
    home.mkdir()
    other_disk.mkdir(parents=True)
    (home / "log").symlink_to(other_disk)
    with Server(served_repository, home) as server:
        loss = lose_a_machine(server, small_data, schema, archives, ROWS)
    archive = Path(str(loss.backup["archive"]))
    assert loss.acknowledged > loss.rows_at_backup > 0

    # nothing survived but the archive: what came after it is lost, and only that
    alone = tmp_path / "alone"
    models = empty_repository(tmp_path / "models")
    where = ("--repository", models, "--home", alone)
    report = asdict(restore(archive, Target(models, alone, f"lmdb://{alone / 'store'}")))
    saved = answered(archive / "log", schema)
    found = compare_windows(f"lmdb://{alone / 'store'}", alone / "log", small_data, schema, loss.acknowledged, MORE)
    assert found.different == 0
    assert found.compared == MORE
    assert found.kept >= len(saved) >= loss.rows_at_backup
    assert found.lost == loss.acknowledged - found.kept
    assert found.lost > 0, "the rehearsal lost nothing: it did not rehearse"
    assert findings(alone) == []
    tell("the archive alone", report, found)

    # the log was on another disk: nothing that was acknowledged is lost, and the server goes on with that log
    began = time.monotonic()
    with_log = tmp_path / "with-log"
    report = json_of("restore", "--latest", archives, *where[:2], "--home", with_log, "--surviving-log", other_disk)
    with Server(models, with_log) as restored:
        ready = time.monotonic() - began
        with FraudClient(restored.url, deadline=PATIENT) as client:
            first = client.score_rows(small_data.rows[:8])
    assert set(first.verdict[:, 5].tolist()) == {int(Source.PRIMARY)}, "a repeat gets its first answer"
    copy = tmp_path / "copy"
    shutil.copytree(with_log / "store", copy)
    found = compare_windows(f"lmdb://{copy}", other_disk, small_data, schema, loss.acknowledged, MORE)
    assert (found.different, found.lost, found.compared) == (0, 0, MORE)
    assert findings(with_log) == []
    tell("the archive and the log", report, found, ready)


def findings(home: Path) -> list[Finding]:
    return verify_log(home / "log", Signer.open(home / "keys" / "decision-log.key").public_key).findings


def tell(what: str, report: dict[str, object], found: object, ready: float = 0.0) -> None:
    took = {name: report[name] for name in ("seconds", "verifying", "copying", "replaying", "bytes")}
    sys.stderr.write(f"{what}: {took}, {found}{f', ready after {ready:.1f} s' if ready else ''}\n")
