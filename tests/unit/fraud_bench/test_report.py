"""The JSON document and the tables made of it."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from fraud_bench.log_check import Logged
from fraud_bench.machine import describe
from fraud_bench.report import document, markdown, read, table
from fraud_bench.rounds import Measurements
from fraud_bench.rows import ROWS
from fraud_scoring.errors import InvalidInput

LOGS = {"lmdb": Logged(answers=100, repeats=0, scorecard=0)}
SETTINGS = {
    "rounds": 3, "seconds": 4.0, "customers": 5_000, "terminals": 10_000, "quick": False,
    "started_at": "2026-03-02T00:00:00+00:00", "minutes": 13.5,
}  # fmt: skip


@pytest.fixture
def result(reached: Measurements) -> dict[str, Any]:
    rows = [row for row in ROWS if row.key in reached.found]
    found: dict[str, Any] = json.loads(json.dumps(document(reached, rows, describe(), SETTINGS, LOGS), allow_nan=False))
    return found


def test_the_document_holds_every_round_and_the_medians(result: dict[str, Any]) -> None:
    (row,) = [row for row in result["rows"] if row["key"] == "rows_64"]
    assert len(row["rounds"]) == 3
    assert row["median"]["per_second"] == 110_000
    assert row["median"]["latency_ms"] == {"p50": 2.0, "p99": 4.0, "p99.9": 6.0}
    assert row["median"]["cpu_us"] == {"server": 10.0, "client": 10.0}
    assert result["held"] is True


def test_a_kept_document_is_read_again_and_anything_else_is_refused(result: dict[str, Any]) -> None:
    assert read(json.dumps(result)) == result
    for text in ("", "[]", "{}"):
        with pytest.raises(InvalidInput, match="no result of the benchmark; keep one with"):
            read(text)
    with pytest.raises(InvalidInput, match="has version 0"):
        read(json.dumps({**result, "version": 0}))


def test_the_machine_is_described(result: dict[str, Any]) -> None:
    machine = result["machine"]
    assert machine["cores"] >= 1
    assert machine["triton"].startswith("2.51.0")
    assert all(machine[name] for name in ("processor", "kernel", "python", "memory_gib", "numpy"))


def test_a_missed_target_is_named_and_the_whole_is_not_held(reached: Measurements) -> None:
    reached.found["idle"] = [None, None, None]
    reached.trouble["idle"] = "the server is gone"
    rows = [row for row in ROWS if row.key in reached.found]
    result = document(reached, rows, describe(), SETTINGS, LOGS)
    assert result["held"] is False
    assert [one["found"] for one in result["targets"] if not one["held"]] == ["the server is gone"] * 2
    page = markdown(result, "fraudctl bench")
    assert "| one caller, one row, blocking client | – | – |" in page
    assert "one caller, one row, blocking client: the server is gone" in page


def test_the_page_is_markdown_with_a_line_for_each_row_and_target(result: dict[str, Any]) -> None:
    page = markdown(result, "fraudctl bench --write docs/benchmarks.md")
    assert "`fraudctl bench --write docs/benchmarks.md`" in page
    for one in (*result["rows"], *result["targets"]):
        name = one.get("title") or one["what"]
        assert len(re.findall(rf"^\| {re.escape(name)} \|", page, re.MULTILINE)) == 1
    assert "| coalesced single calls, 256 concurrent | ≥ 10,000/s | ≥ 20,000/s | 25,000/s | aim reached |" in page
    assert max(map(len, page.splitlines())) < 200


def test_the_table_for_a_terminal_says_the_same(result: dict[str, Any]) -> None:
    console = Console(width=200, record=True, file=StringIO())
    console.print(table(result))
    text = console.export_text()
    assert "110,000" in text
    assert text.count("aim reached") == sum(one["aimed"] for one in result["targets"])


@pytest.mark.parametrize("log", [Logged(100, 1, 0), Logged(100, 0, 1), Logged(0, 0, 0)])
def test_figures_of_a_job_that_was_not_done_do_not_hold(reached: Measurements, log: Logged) -> None:
    result = document(reached, [], describe(), SETTINGS, {"lmdb": log})
    assert result["held"] is False
    assert f"decision log of lmdb: {log.answers} answers" in markdown(result, "fraudctl bench")
