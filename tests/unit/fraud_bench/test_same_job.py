"""The job without a server: the same answers, recorded and logged, as whoever serves it must give."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Fresh
from fraud_bench.log_check import Logged, logged
from fraud_bench.same_job import open_job
from fraud_scoring.errors import InvalidInput
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.settings import LogSettings
from support.stores import same_bits


@pytest.fixture
def log(tmp_path: Path) -> LogSettings:
    return LogSettings(tmp_path / "log", tmp_path / "key", durable=True)


def test_the_job_answers_as_the_release_does_and_logs_it(
    served_repository: Path, served_pipeline: Pipeline, tmp_path: Path, log: LogSettings, fresh: Fresh
) -> None:
    rows = fresh.rows(8)
    with open_job(served_repository, f"lmdb://{tmp_path / 'store'}", log, "one") as job:
        assert same_bits(job.answer(rows), served_pipeline.answer_alone(rows))
        found = job.answer_all([part[None, :] for part in fresh.rows(3)])
    assert [len(one.score) for one in found] == [1, 1, 1]
    assert logged(log.folder) == Logged(answers=11, repeats=0, scorecard=0)
    assert logged(log.folder).sound


def test_a_repeat_is_seen_in_the_log(served_repository: Path, tmp_path: Path, log: LogSettings, fresh: Fresh) -> None:
    rows = fresh.rows(2)
    with open_job(served_repository, f"lmdb://{tmp_path / 'store'}", log, "one") as job:
        assert same_bits(job.answer(rows), job.answer(rows))
    assert logged(log.folder) == Logged(answers=4, repeats=2, scorecard=0)
    assert not logged(log.folder).sound


def test_the_job_refuses_what_the_front_door_refuses(
    served_repository: Path, tmp_path: Path, log: LogSettings, fresh: Fresh
) -> None:
    rows = fresh.rows(1)
    rows[0, -1] = 0
    with (
        open_job(served_repository, f"lmdb://{tmp_path / 'store'}", log, "one") as job,
        pytest.raises(InvalidInput, match="amount_minor is 0"),
    ):
        job.answer(rows)


def test_a_log_that_nobody_wrote_proves_nothing(tmp_path: Path) -> None:
    assert not logged(tmp_path / "nothing").sound


@pytest.mark.parametrize(
    ("log", "is_sound"),
    [(Logged(1000, 0, 1), True), (Logged(999, 0, 1), False), (Logged(10_000, 1, 0), False), (Logged(0, 0, 0), False)],
)
def test_one_answer_in_a_thousand_may_be_the_last_resorts_and_none_a_repeat(log: Logged, is_sound: bool) -> None:
    assert log.sound == is_sound
