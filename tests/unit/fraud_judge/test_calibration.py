"""Late labels: wrong scores are found, whichever labels come first, and a champion's faults are not the canary's."""

from __future__ import annotations

import numpy as np

from fraud_judge.calibration import CalibrationEvidence
from fraud_judge.settings import JudgeSettings
from fraud_judge.signs import Float32
from support.rollouts import rows

SETTINGS = JudgeSettings()
SHARE = 2_500


def wealth(canary: float = 1.0, champion: float = 1.0, frauds_told: float = 1.0, others_told: float = 1.0) -> float:
    """ln wealth after labels of 60,000 rows; the arms' scores are so many times the true probability."""
    rng = np.random.default_rng(4)
    drawn = rows(60_000, seed=4)
    truth = np.where(rng.random(60_000) < 0.1, rng.beta(2, 8, 60_000), 0.002)
    is_fraud = (rng.random(60_000) < truth).astype(np.int64)
    factor = np.where(drawn.bucket < SHARE, canary, champion)
    score: Float32 = np.minimum(truth * factor, 0.99).astype(np.float32)
    evidence = CalibrationEvidence(SETTINGS)
    evidence.take(drawn._replace(score=score), 0, SHARE)
    told = rng.random(60_000) < np.where(is_fraud > 0, frauds_told, others_told)
    evidence.label(drawn.identifier[told], is_fraud[told])
    assert evidence.labels > 0.99 * told.sum() * (1 - 60_000 / SETTINGS.slots)
    return evidence.log_wealth


CROSSES = SETTINGS.threshold(0, "calibration", 0)


def test_calibrated_scores_are_let_be() -> None:
    assert wealth() < CROSSES / 2


def test_scores_that_are_far_too_high_or_low_are_found() -> None:
    assert wealth(canary=2.0) > CROSSES
    assert wealth(canary=0.33) > CROSSES


def test_labels_that_come_for_frauds_first_fool_nobody() -> None:
    assert wealth(others_told=0.05) < CROSSES / 2


def test_a_canary_that_is_right_where_the_champion_is_wrong_is_let_be() -> None:
    assert wealth(champion=2.0) < CROSSES / 2


def test_a_canary_as_wrong_as_the_champion_is_let_be() -> None:
    assert wealth(canary=2.0, champion=2.0) < CROSSES / 2


def test_labels_of_unknown_rows_are_passed_over() -> None:
    evidence = CalibrationEvidence(SETTINGS)
    evidence.label(np.arange(10), np.ones(10, np.int64))
    assert evidence.labels == 0
    assert evidence.log_wealth == 0.0
