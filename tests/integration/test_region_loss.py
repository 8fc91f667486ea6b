"""A region is lost under traffic and another one takes over, by the commands of the procedure as they stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_data import Transactions
from fraud_scoring.pipeline import Pipeline
from support.redis import MISSING, PROGRAM, RedisServer
from support.region_loss import Rehearsal, Way, rehearse

pytestmark = [pytest.mark.triton, pytest.mark.timeout(400), pytest.mark.skipif(PROGRAM is None, reason=MISSING)]


def test_what_the_second_region_knows_gets_its_first_answer_and_the_first_region_answers_nobody(
    served_repository: Path, small_data: Transactions, served_pipeline: Pipeline, tmp_path: Path
) -> None:
    with RedisServer(tmp_path / "redis-1", "--appendonly", "yes") as one, RedisServer(tmp_path / "redis-2") as two:
        scene = Rehearsal(tmp_path, one, two, served_repository, served_pipeline, Way.ARCHIVE)
        found = rehearse(scene, small_data, history=600, payments=300, rate=100.0, ship_s=0.5)
    assert found.acknowledged > 600
    assert found.sent_again >= found.acknowledged > found.lost
    assert {line.split()[1] for line in scene.unused} <= {"restore", "store"}, "the rest of the procedure was done"
