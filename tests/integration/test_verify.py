"""`fraudctl features verify`: offline = online on the running server, and a proof that it would say so if not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fraud_client import FraudClient
from fraud_data import Transactions
from fraud_load.verify import verify
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import SCHEMA_FILE, part_name
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from support.server import Server, fraudctl, json_of

pytestmark = pytest.mark.triton

ROWS = 20_000
"""Some 36 days of the small history: the longest windows fill, labels come, terminals have known frauds."""


def test_a_history_through_the_server_has_the_features_and_decisions_of_the_replay(
    server: Server, small_data_file: Path
) -> None:
    found = json_of(
        "features", "verify", "--data", small_data_file, "--url", server.url,
        "--repository", server.repository, "--limit", ROWS, "--repeat-share", 0.2,
    )  # fmt: skip
    assert found["rows"] == ROWS
    assert found["mismatches"] == found["feature_mismatches"] == found["decision_mismatches"] == 0
    assert found["repeat_mismatches"] == 0
    assert 0.1 * ROWS < found["repeats"] < 0.3 * ROWS
    assert found["labels"] > 0.5 * ROWS
    assert found["labels_unknown"] == 0
    assert found["rows_per_second"] > 0


def test_it_says_what_it_found_in_words(server: Server, small_data_file: Path) -> None:
    done = fraudctl(
        "features", "verify", "--data", small_data_file, "--url", server.url,
        "--repository", server.repository, "--limit", 500,
    )  # fmt: skip
    assert done.returncode == 0
    said = dict(line.rstrip().rsplit("  ", 1) for line in done.stdout.splitlines())
    assert {name.strip(): value.strip() for name, value in said.items()}.items() >= {
        "rows": "500",
        "mismatches": "0",
    }.items()
    assert "verify: streaming" in done.stderr


def test_another_definition_of_a_feature_is_found_and_the_exit_code_says_so(
    server: Server, small_data_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "repository"
    shutil.copytree(server.repository, other)
    path = other / part_name("features", 1) / "1" / SCHEMA_FILE
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"until_hour": 6', '"until_hour": 7'))
    done = fraudctl(
        "features", "verify", "--data", small_data_file, "--url", server.url,
        "--repository", other, "--limit", 500, "--json",
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert 0 < found["feature_mismatches"] < 500
    assert found["mismatches"] >= found["feature_mismatches"]


class ForgetfulFeed(FraudClient):
    """Tells every label three days later than it was known."""

    def label_rows(self, labels: np.ndarray, *, deadline: float = 5.0) -> np.ndarray:
        late = labels + np.array([0, 0, 3 * MICROSECONDS_PER_DAY])
        return super().label_rows(late, deadline=deadline)


class CarelessServer(FraudClient):
    """Answers a repeat with a score that differs in its last bit."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._seen: set[int] = set()

    def score_rows(self, rows: np.ndarray, **options: object) -> object:
        answer = super().score_rows(rows, **options)
        if int(rows[0, 0]) in self._seen:
            return answer._replace(score=np.nextafter(answer.score, np.float32(1)))
        self._seen.add(int(rows[0, 0]))
        return answer


def test_labels_that_come_too_late_are_found(
    server: Server, small_data: Transactions, served_pipeline: Pipeline
) -> None:
    with ForgetfulFeed(server.url) as client:
        found = verify(small_data.slice(0, 9_000), served_pipeline, client)
    assert found.feature_mismatches > 0
    assert found.mismatches >= found.feature_mismatches


def test_a_repeat_that_differs_in_one_bit_is_found(
    server: Server, small_data: Transactions, served_pipeline: Pipeline
) -> None:
    with CarelessServer(server.url) as client:
        found = verify(small_data.slice(0, 600), served_pipeline, client, batch=20, repeat_share=0.5)
    assert found.feature_mismatches == found.decision_mismatches == 0
    assert found.repeat_mismatches == found.repeats > 0


def test_a_server_that_is_not_there_is_one_line(small_data_file: Path, server: Server) -> None:
    done = fraudctl(
        "features", "verify", "--data", small_data_file, "--url", "127.0.0.1:1",
        "--repository", server.repository, "--limit", 10, "--kill-halfway", "--home", server.home / "nobody",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("fraudctl: no server is supervised from")
