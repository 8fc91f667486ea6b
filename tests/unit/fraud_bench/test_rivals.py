"""Peers: pinned to the versions that we run, each with an application of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from fraud_bench.rivals import PEERS, RIVALS, Rival, install
from fraud_bench.servers import CannotMeasure

LOCK = Path(__file__).parents[3] / "requirements.lock"
JOB = {"cryptography", "lmdb", "numba", "numpy", "onnxruntime", "pyyaml"}


def pins(path: Path) -> dict[str, set[str]]:
    """The versions of each package; there may be one for each version of Python."""
    found = defaultdict[str, set[str]](set)
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", path.read_text(), re.MULTILINE):
        found[name].add(version)
    return dict(found)


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_peer_runs_the_job_with_the_versions_that_we_run(rival: Rival) -> None:
    ours, theirs = pins(LOCK), pins(PEERS / rival.folder / "requirements.txt")
    assert {name: theirs.get(name) for name in JOB} == {name: ours[name] for name in JOB}
    assert rival.folder in theirs
    assert (PEERS / rival.folder / "app.py").exists()


def test_the_job_wants_no_package_that_peers_have_not() -> None:
    asked = "import sys, fraud_bench.same_job; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert {"redis", "hiredis", "lightgbm", "sklearn", "pandas", "mlflow", "tritonclient", "grpc"} & {*loaded} == set()


def test_every_folder_of_peers_has_a_peer() -> None:
    assert {path.parent.name for path in PEERS.glob("*/app.py")} == {rival.folder for rival in RIVALS}


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "fastapi").write_text("a file where a folder is wanted")
    with pytest.raises(CannotMeasure, match="its environment could not be made: "):
        install(RIVALS[0], tmp_path)
