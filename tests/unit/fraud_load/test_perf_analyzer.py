"""perf_analyzer found, fed and read; the program itself runs in the integration tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fraud_load.perf_analyzer import (
    Load,
    PerfAnalyzerFailed,
    PerfAnalyzerMissing,
    find_perf_analyzer,
    read_export,
    read_report,
    run,
    write_input,
)
from fraud_load.processes import tree
from fraud_scoring.errors import InvalidInput

REPORT = """Concurrency,Inferences/Second,Client Send,Server Queue,p50 latency,p99 latency,
16,3335.58,1,1216,3589,19612,
"""
EXPORT = {
    "experiments": [
        {
            "experiment": {"mode": "concurrency", "value": 2},
            "requests": [
                {"timestamp": 3_000_000, "response_timestamps": [5_000_000]},
                {"timestamp": 1_000_000, "response_timestamps": [4_500_000]},
                {"timestamp": 4_000_000, "response_timestamps": []},
            ],
        }
    ]
}
LOAD = Load("fraud_score", concurrency=2, window_ms=100)


def program(folder: Path, text: str) -> Path:
    """A program in perf_analyzer's place, which gets its arguments."""
    path = folder / "perf_analyzer"
    path.write_text(f"#!{sys.executable}\nimport sys\nargument = dict(zip(sys.argv[2::2], sys.argv[3::2]))\n{text}")
    path.chmod(0o755)
    return path


def test_the_program_is_the_one_given_then_the_variables_then_the_paths(tmp_path: Path) -> None:
    given, variable, path = (program(tmp_path / name, "") for name in made(tmp_path, "given", "variable", "path"))
    environment = {"FRAUD_PERF_ANALYZER": str(variable), "PATH": str(path.parent)}
    assert find_perf_analyzer(given, environment) == given
    assert find_perf_analyzer(None, environment) == variable
    assert find_perf_analyzer(None, {"PATH": str(path.parent)}) == path


def made(folder: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (folder / name).mkdir()
    return names


def test_a_missing_program_says_how_to_name_it(tmp_path: Path) -> None:
    with pytest.raises(PerfAnalyzerMissing, match="give --perf-analyzer PATH, set FRAUD_PERF_ANALYZER"):
        find_perf_analyzer(None, {"PATH": str(tmp_path)})
    with pytest.raises(InvalidInput, match="nothing is no program"):
        find_perf_analyzer(tmp_path / "nothing", {})


def test_the_input_has_an_entry_for_each_row(tmp_path: Path) -> None:
    rows = np.array([[2**62, 1, -3, 4, 5], [6, 7, 8, 9, 10]], np.int64)
    write_input(tmp_path / "input.json", rows)
    entries = json.loads((tmp_path / "input.json").read_text())["data"]
    assert [entry["transaction"]["content"] for entry in entries] == rows.tolist()
    assert {tuple(entry["transaction"]["shape"]) for entry in entries} == {(5,)}


def test_the_report_is_one_row_of_figures(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_text(REPORT)
    assert read_report(path) == {
        "Concurrency": 16, "Inferences/Second": 3335.58, "Client Send": 1, "Server Queue": 1216,
        "p50 latency": 3589, "p99 latency": 19612,
    }  # fmt: skip
    path.write_text(REPORT + "32,1,1,1,1,1,\n")
    with pytest.raises(PerfAnalyzerFailed, match="reported 2 loads"):
        read_report(path)


def test_the_export_is_every_answered_request_in_the_order_of_sending(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(EXPORT))
    sent, answered = read_export(path)
    assert sent.tolist() == [1_000_000, 3_000_000]
    assert answered.tolist() == [4_500_000, 5_000_000]


def test_an_export_without_an_answer_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"experiments": [{"requests": []}]}))
    with pytest.raises(PerfAnalyzerFailed, match="measured no request"):
        read_export(path)


def test_a_run_gives_latencies_and_figures(tmp_path: Path) -> None:
    text = "\n".join(
        f"open(argument[{option!r}], 'w').write({content!r})"
        for option, content in (("-f", REPORT), ("--profile-export-file", json.dumps(EXPORT)))
    )
    seen: list[int] = []
    found = run(program(tmp_path, text), LOAD, "127.0.0.1:1", tmp_path / "input.json", started=seen.append)
    assert found.latency_ms.tolist() == [3.5, 2.0]
    assert found.rows == 2
    assert found.report["Inferences/Second"] == 3335.58
    assert len(seen) == 1


def test_a_run_that_fails_says_what_the_program_said(tmp_path: Path) -> None:
    failing = program(tmp_path, "print('failed to connect to all addresses')\nprint('Usage: …')\nsys.exit(99)")
    with pytest.raises(PerfAnalyzerFailed, match="ended with code 99: failed to connect"):
        run(failing, LOAD, "127.0.0.1:1", tmp_path / "input.json")


def test_a_run_that_hangs_is_ended_whole(tmp_path: Path) -> None:
    hanging = program(
        tmp_path, "import subprocess\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    seen: list[int] = []
    with pytest.raises(PerfAnalyzerFailed, match=r"did not end within 1 s"):
        run(hanging, LOAD, "127.0.0.1:1", tmp_path / "input.json", limit_s=1.0, started=seen.append)
    assert tree(seen[0]) == []
