"""The script for a machine with a GPU, tried on the CPU: a real tritonserver, every figure, and a wrong model found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gpu_measure import main

from fraud_release.engine.cuda import find_gpu

SCRIPT = Path(__file__).parents[2] / "loadtest" / "gpu" / "gpu_measure.py"
SHORT = ("--calls", "20", "--callers", "2", "--seconds", "0.1", "--repeats", "2")


def measure(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--repository", repository, *SHORT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.triton
def test_on_a_cpu_it_serves_compares_and_times_and_says_that_it_was_no_gpu(
    served_repository: Path, tmp_path: Path
) -> None:
    ran = measure(served_repository, "--device", "cpu", "--batches", 1, 64, "--out", tmp_path)
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["gpu"] is None
    assert result["agreement"]["decisions_differ"] == 0
    assert result["agreement"]["rows"] > 1_000
    assert [call["rows"] for call in result["served"]] == [1, 64]
    assert all(0 < call["p50_us"] <= call["p99_us"] for call in result["served"])
    assert all(call["rows_per_second"] > 0 for call in result["served"])
    assert [kernel["floor_us"] for kernel in result["kernels"]] == [None, None]
    assert (tmp_path / "result.md").read_text() == ran.stdout
    assert "a trial of the script, no GPU" in ran.stdout


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_without_a_gpu_it_measures_nothing_and_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^no GPU here; --device cpu tries the script itself$"):
        main(["--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
