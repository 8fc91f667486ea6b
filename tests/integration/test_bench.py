"""The benchmark itself, as short as it can be: real servers, real loads, real figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.server import fraudctl

pytestmark = pytest.mark.triton


def test_a_benchmark_measures_the_served_stack_and_writes_its_page(
    served_repository: Path, small_data_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "transactions.parquet").symlink_to(small_data_file)
    done = fraudctl(
        "bench", "--quick", "--rounds", 1, "--seconds", 0.5, "--only", "coalesced_64,rows_64,ceiling_64", "--json",
        "--repository", served_repository, "--home", tmp_path, "--write", tmp_path / "page.md",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    assert [row["key"] for row in result["rows"]] == ["coalesced_64", "rows_64", "ceiling_64"]
    for row in result["rows"]:
        assert row["trouble"] == ""
        assert row["median"]["per_second"] > 0
        assert row["median"]["cpu_us"]["server"] > 0
        assert row["median"]["latency_ms"]["p50"] <= row["median"]["latency_ms"]["p99.9"]
    assert result["errors"] == 0
    served, logged = result["rows"][0]["rounds"] + result["rows"][1]["rounds"], result["logs"]["lmdb"]
    assert logged == {"answers": sum(one["sent"] for one in served), "repeats": 0, "scorecard": 0}
    assert (done.returncode == 0) == result["held"] == all(one["held"] for one in result["targets"])
    page = (tmp_path / "page.md").read_text()
    assert all(row["title"] in page for row in result["rows"])
    assert not list(tmp_path.glob("bench-*"))
