"""Latency and memory are measured on a real server that serves the candidate alone, and is gone afterwards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest

from fraud_data import Transactions
from fraud_release.errors import ArtifactRefused
from fraud_release.gates import Tolerances
from fraud_release.gates.service import server_gates
from fraud_release.trust import TrustSettings
from fraud_server.trial import WARM_UP, measure
from support.variants import slow, variant

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> TrustSettings:
    return TrustSettings.read(tmp_path_factory.mktemp("home"), remember=False)


@pytest.fixture(scope="module")
def repository(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(served_repository, tmp_path_factory.mktemp("gates") / "models"))


def test_a_model_that_is_too_slow_fails_on_the_real_server_and_leaves_nothing_behind(
    repository: Path, small_data: Transactions, trust: TrustSettings
) -> None:
    number = variant(repository, graph=slow())
    before = {path.name for path in repository.iterdir()}
    last = small_data.slice(len(small_data) - WARM_UP - 150)
    found = measure(repository, number, last, trust, rate=50.0)
    assert len(found.latency_ms) == 150
    results = {one.name: one for one in server_gates(found, Tolerances(latency_ms=60.0, memory_mib=50.0))}
    assert not results["latency"].passed
    assert np.median(found.latency_ms) > 60.0
    assert not results["memory"].passed
    assert found.memory_mib > 50.0
    generous = server_gates(found, Tolerances(latency_ms=float("inf"), memory_mib=65_536.0))
    assert {one.name: one.passed for one in generous}["memory"]
    assert {path.name for path in repository.iterdir()} == before
    assert [one for one in psutil.Process().children() if one.name() == "tritonserver"] == []


def test_a_release_that_was_changed_does_not_come_to_a_server(
    repository: Path, small_data: Transactions, trust: TrustSettings
) -> None:
    number = variant(repository)
    (repository / f"fraud_model_r{number:04d}" / "1" / "model.plan").write_bytes(b"")
    with pytest.raises(ArtifactRefused, match=r"model.plan is not in its manifest"):
        measure(repository, number, small_data, trust)
