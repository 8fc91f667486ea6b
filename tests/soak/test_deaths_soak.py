"""How soon a server is whole again after a part of it was killed: noticed within 2 s, serving within 10 s.

python -m pytest tests/soak/test_deaths_soak.py -s
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import PATIENT, Fresh
from fraud_client import FraudClient
from support.server import Server, until

NOTICED_SECONDS = 2.0
SERVING_SECONDS = 10.0


@pytest.fixture(scope="module")
def mortal(served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(served_repository, tmp_path_factory.mktemp("mortal")) as running:
        yield running


@pytest.mark.parametrize("part", ["tritonserver", "fraud_front_door", "fraud_feedback"])
def test_a_part_that_is_killed_is_noticed_and_replaced_in_time(part: str, mortal: Server, fresh: Fresh) -> None:
    with FraudClient(mortal.url, deadline=PATIENT) as client:
        client.score(fresh.transaction())
        lines, victim = len(mortal.said.lines), mortal.triton() if part == "tritonserver" else mortal.stub(part)
        killed = time.monotonic()
        victim.kill()
        noticed = mortal.said.wait_for("starting again", 60.0, after=lines) - killed
        mortal.said.wait_for("ready on", 60.0, after=lines)
        until(client.ready)
        client.score(fresh.transaction())
        serving = time.monotonic() - killed
    json.dump({"killed": part, "noticed_s": round(noticed, 2), "serving_s": round(serving, 2)}, sys.stdout)
    assert noticed < NOTICED_SECONDS
    assert serving < SERVING_SECONDS
