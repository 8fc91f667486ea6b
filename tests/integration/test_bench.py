"""The benchmark itself, as short as it can be: real servers, real loads, real figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from fraud_bench.floor import ONE_HOP, THREE_HOPS
from fraud_bench.servers import floor
from fraud_load.processes import tree
from support.server import fraudctl

pytestmark = pytest.mark.triton


def test_a_benchmark_measures_the_served_stack_and_writes_its_page(
    served_repository: Path, small_data_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "transactions.parquet").symlink_to(small_data_file)
    done = fraudctl(
        "bench", "--quick", "--rounds", 1, "--seconds", 0.5, "--only", "coalesced_64,rows_64,http_64,ceiling_64",
        "--repository", served_repository, "--home", tmp_path, "--write", tmp_path / "page.md", "--json",
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    result = json.loads(done.stdout)
    assert [row["key"] for row in result["rows"]] == ["coalesced_64", "rows_64", "ceiling_64", "http_64"]
    for row in result["rows"]:
        assert row["trouble"] == ""
        assert row["median"]["per_second"] > 0
        assert row["median"]["cpu_us"]["server"] > 0
        assert row["median"]["latency_ms"]["p50"] <= row["median"]["latency_ms"]["p99.9"]
    assert result["errors"] == 0
    sent = sum(row["rounds"][0]["sent"] for row in result["rows"] if row["key"] != "ceiling_64")
    logged = result["logs"]["lmdb"]
    assert logged["answers"] > sent > 0  # and what warmed the server up
    assert logged["repeats"] == 0
    assert 0 <= logged["scorecard"] < logged["answers"]  # what is late on a machine that is kept busy
    assert (done.returncode == 0) == result["held"] == all(one["held"] for one in result["targets"])
    page = (tmp_path / "page.md").read_text()
    assert all(row["title"] in page for row in result["rows"])
    assert not list(tmp_path.glob("bench-*"))


def test_the_floor_answers_a_transaction_with_itself_in_one_hop_and_in_three(tmp_path: Path) -> None:
    rows = np.arange(10, dtype=np.int64).reshape(2, 5) << 40
    with floor(tmp_path, 5) as server:
        (root,) = server.groups["server"]
        assert len(tree(root)) == 1 + 4  # tritonserver, and a python process for each hop
        with triton.InferenceServerClient(server.url) as client:
            for model in (ONE_HOP, THREE_HOPS):
                tensor = triton.InferInput("transaction", rows.shape, "INT64")
                tensor.set_data_from_numpy(rows)
                assert client.infer(model, [tensor]).as_numpy("answer").tolist() == rows.tolist()
    assert tree(root) == []
