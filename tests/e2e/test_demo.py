"""`fraudctl demo`: from nothing to a summary, once; and again with what the first one left."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.release import empty_repository
from support.server import fraudctl

pytestmark = [pytest.mark.triton, pytest.mark.timeout(400)]

TRANSACTIONS = 2_000


def demo(home: Path, repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return fraudctl(
        "demo", "--home", home, "--repository", repository, "--transactions", TRANSACTIONS, *options, within=360
    )


def test_from_nothing_to_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRAUD_RELEASE_KEY", "FRAUD_RELEASE_SIGNING_KEY"):
        monkeypatch.delenv(name)  # the first run makes its own keys, and trusts them
    done = demo(tmp_path / "home", empty_repository(tmp_path / "repository"), "--json")
    assert done.returncode == 0, done.stderr
    for step in ("data: ", "release: training", "history: ", "serve: ready on", "stream: scoring", "serve: draining"):
        assert step in done.stderr
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    assert found["transactions"] == TRANSACTIONS
    assert found["release"] == "r0001"
    assert set(found["decisions"]) == {"approve", "review", "decline"}
    assert sum(kind["transactions"] for kind in found["decisions"].values()) == TRANSACTIONS
    assert sum(kind["frauds"] for kind in found["decisions"].values()) == found["frauds"]
    caught = sum(found["decisions"][kind]["frauds"] for kind in ("review", "decline"))
    assert 0 < caught == found["frauds_caught"]
    assert 0.5 < found["average_precision"] <= 1
    assert 0.8 < found["auc"] <= 1
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["per_second"] > 0
    assert found["history"] > 100_000
    assert found["labels"] > 0
    assert found["total_seconds"] > 0


def test_it_uses_the_data_and_the_release_that_are_there(
    small_data_file: Path, served_repository: Path, tmp_path: Path
) -> None:
    data = tmp_path / "home" / "data" / "transactions.parquet"
    data.parent.mkdir(parents=True)
    shutil.copyfile(small_data_file, data)
    done = demo(tmp_path / "home", served_repository)
    assert done.returncode == 0, done.stderr
    assert data.read_bytes() == small_data_file.read_bytes()
    assert "release: training" not in done.stderr
    for line in ("release", "transactions scored", "frauds caught", "average precision", "latency", "throughput"):
        assert line in done.stdout
    assert "2,000 on top of a history of" in done.stdout
