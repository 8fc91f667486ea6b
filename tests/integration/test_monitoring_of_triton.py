"""What the SLIs take for granted of the real server's metrics."""

from __future__ import annotations

import re
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fraud_client import FraudClient, InvalidRequest
from support.server import Server, until

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = pytest.mark.triton

SAMPLE = Path(__file__).parents[2] / "deploy" / "monitoring" / "tests" / "triton.prom"


def metrics(server: Server) -> str:
    with closing(urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=5)) as answer:
        text: str = answer.read().decode()
    return text


def count(text: str, name: str) -> float:
    found = re.findall(rf'^{name}{{model="fraud_score"[^}}]*}} (\S+)$', text, flags=re.MULTILINE)
    assert found
    return sum(map(float, found))


def test_the_server_exports_what_the_rules_are_tested_with(server: Server) -> None:
    kinds = re.compile(r"^# TYPE (nv_\w+ \w+)$", flags=re.MULTILINE)
    assert set(kinds.findall(SAMPLE.read_text())) <= set(kinds.findall(metrics(server)))


def test_the_reasons_of_failures_are_those_that_the_rules_are_tested_with(server: Server) -> None:
    reasons = re.compile(r'nv_inference_request_failure{model="fraud_score",reason="(\w+)"')
    assert set(reasons.findall(metrics(server))) == set(reasons.findall(SAMPLE.read_text()))
    assert set(reasons.findall(SAMPLE.read_text())) == {"REJECTED", "CANCELED", "BACKEND", "OTHER"}


def test_a_refused_request_is_a_success_to_triton(server: Server, client: FraudClient, fresh: Fresh) -> None:
    """So a caller's mistake burns no budget by itself, and an error of ours needs a counter of its own."""
    before = metrics(server)
    rows = fresh.rows(1)
    rows[:, 4] = -1
    for _ in range(5):
        with pytest.raises(InvalidRequest):
            client.score_rows(np.array(rows))
    counted = count(before, "nv_inference_request_success") + 5
    # an answer is sent first and counted then
    until(lambda: count(metrics(server), "nv_inference_request_success") >= counted)
    assert count(metrics(server), "nv_inference_request_failure") == count(before, "nv_inference_request_failure")
