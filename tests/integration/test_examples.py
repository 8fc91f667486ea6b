"""The examples that callers start from, against the real server: plain tritonclient, and perf_analyzer."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.server import Server

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "clients" / "examples"
PERF_ANALYZER = ROOT.parent / "shared" / "tools" / "perf_analyzer"


def example(name: str, *arguments: str) -> str:
    """What an example says on standard output; it must succeed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("amount", ["1250", "99900"])
def test_plain_tritonclient_gets_a_decision(server: Server, amount: str) -> None:
    said = example("plain_tritonclient.py", "--url", server.url, "--amount-minor", amount)
    assert re.fullmatch(
        r"transaction \d+: score 0\.\d{6}, (approve|review|decline), reasons \[[\d, ]*\], release r0001, "
        r"source primary\n",
        said,
    )


def test_plain_tritonclient_says_which_rule_was_broken(server: Server) -> None:
    command = [sys.executable, str(EXAMPLES / "plain_tritonclient.py"), "--url", server.url, "--amount-minor", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no decision from {server.url}: StatusCode.INVALID_ARGUMENT: row 0: amount_minor")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def perf_analyzer() -> str:
    """The tool, if this machine can run it."""
    if not PERF_ANALYZER.exists():
        pytest.skip("perf_analyzer is not here: ../shared/tools/perf_analyzer")
    try:
        subprocess.run([PERF_ANALYZER, "--version"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"perf_analyzer does not run here: {type(error).__name__}")
    return str(PERF_ANALYZER)


@pytest.mark.parametrize("rows", ["1", "8"])
def test_perf_analyzer_measures_with_the_input_file(
    rows: str, perf_analyzer: str, server: Server, tmp_path: Path
) -> None:
    data, report = tmp_path / "transactions.json", tmp_path / "report.csv"
    count = 8_000 // int(rows)
    example("perf_analyzer_input.py", "--rows", rows, "--count", str(count), "--out", str(data))
    entries = json.loads(data.read_text())["data"]
    assert len(entries) == 8_000
    command = [
        perf_analyzer, "-m", "fraud_score", "-i", "grpc", "-u", server.url, "--async", "-b", rows,
        "--concurrency-range", "4", "--shape", "transaction:5", "--input-data", str(data),
        "--measurement-interval", "300", "--max-trials", "3", "--stability-percentage", "999", "-f", str(report),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    with report.open() as lines:
        (measured,) = csv.DictReader(lines)
    assert float(measured["Inferences/Second"]) > 0
