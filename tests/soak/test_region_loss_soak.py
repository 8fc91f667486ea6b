"""The figures of docs/recovery.md: a region is lost, or moved, under callers who do not wait; the other one takes over.

python -m pytest tests/soak/test_region_loss_soak.py -s
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from fraud_data import Transactions
from fraud_scoring.pipeline import Pipeline
from support.redis import MISSING, PROGRAM, RedisServer
from support.region_loss import Rehearsal, Way, rehearse

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.mark.parametrize("way", list(Way), ids=lambda way: way.name.lower())
def test_what_a_lost_region_costs(
    served_repository: Path, small_data: Transactions, served_pipeline: Pipeline, tmp_path: Path, way: Way
) -> None:
    with RedisServer(tmp_path / "redis-1", "--appendonly", "yes") as one, RedisServer(tmp_path / "redis-2") as two:
        scene = Rehearsal(tmp_path, one, two, served_repository, served_pipeline, way)
        found = rehearse(scene, small_data, history=5_000, payments=6_000, rate=300.0, ship_s=10.0)
    sys.stderr.write("\n" + json.dumps(asdict(found)) + "\n")
    assert found.lost == 0 or way is not Way.MOVED
