from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "clients" / "examples"
INT64 = range(-(2**63), 2**63)


def run(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_perf_analyzer_input_has_one_entry_a_row_without_the_batch_dimension(tmp_path: Path) -> None:
    out = tmp_path / "in.json"
    result = run("perf_analyzer_input.py", "--rows", "8", "--count", "50", "--out", str(out))
    assert (result.returncode, result.stdout) == (0, f"{out}: 50 requests of 8 rows; use -b 8\n")
    entries = [entry["transaction"] for entry in json.loads(out.read_text())["data"]]
    assert len(entries) == 400
    assert all(entry["shape"] == [5] and len(entry["content"]) == 5 for entry in entries)


def test_perf_analyzer_input_is_unique_ordered_and_within_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "in.json"
    run("perf_analyzer_input.py", "--count", "500", "--out", str(out))
    rows = [entry["transaction"]["content"] for entry in json.loads(out.read_text())["data"]]
    ids, times, _, _, amounts = zip(*rows, strict=True)
    assert len(set(ids)) == 500
    assert list(times) == sorted(times)
    assert min(amounts) > 0
    assert all(number in INT64 for row in rows for number in row)


def test_perf_analyzer_input_repeats_all_but_ids_and_times_with_its_seed(tmp_path: Path) -> None:
    def contents(name: str, seed: str) -> list[list[int]]:
        run("perf_analyzer_input.py", "--count", "20", "--seed", seed, "--out", str(tmp_path / name))
        data = json.loads((tmp_path / name).read_text())["data"]
        return [entry["transaction"]["content"][2:] for entry in data]

    assert contents("a", "7") == contents("b", "7") != contents("c", "8")


def test_perf_analyzer_input_refuses_a_count_below_one(tmp_path: Path) -> None:
    result = run("perf_analyzer_input.py", "--count", "0", "--out", str(tmp_path / "in.json"))
    assert result.returncode == 2
    assert "must be 1 or more" in result.stderr


def test_the_plain_example_says_in_one_line_that_no_server_is_there(tmp_path: Path) -> None:
    url = f"unix:{tmp_path / 'nobody'}"
    result = run("plain_tritonclient.py", "--url", url)
    assert result.returncode == 1
    assert result.stderr.startswith(f"no decision from {url}: StatusCode.UNAVAILABLE")
    assert result.stderr.count("\n") == 1


def test_the_plain_example_needs_nothing_of_this_project() -> None:
    source = (EXAMPLES / "plain_tritonclient.py").read_text()
    assert "fraud_client" not in source
    assert "fraud_scoring" not in source
