"""The last resort: an answer from the transaction alone, under its own name."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule, ScorecardFeature
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.scorecard import Scorecard
from support.rows import DAY_US, DEFAULT_SCHEMA, HOUR_US, MONDAY_US, matrix, row

POINTS = {
    "amount": ([100.0, 500.0], [-1.0, 0.5, 3.0]),
    "is_night": ([0.5], [0.0, 0.75]),
    "is_weekend": ([0.5], [0, 0.25]),
}
BASE = -4.0


@pytest.fixture
def rule() -> DecisionRule:
    """Points for what needs no history, and huge ones, which must not count, for what does."""
    features = []
    for feature in DEFAULT_SCHEMA.features:
        edges, points = POINTS.get(feature.name, ([0.5], [50.0, 90.0]))
        features.append(ScorecardFeature(feature.name, 1, np.array(edges, np.float64), np.array(points, np.float64)))
    return DecisionRule(7, np.array([-9.0, 9.0]), np.array([0.0, 1.0]), 0.05, 0.3, tuple(features), BASE)


def probability(log_odds: float) -> np.float32:
    return np.float32(1 / (1 + np.exp(-log_odds)))


@pytest.mark.parametrize(
    ("amount", "time_us", "points"),
    [
        (5_000, MONDAY_US + 12 * HOUR_US, -1.0),
        (10_000, MONDAY_US + 12 * HOUR_US, 0.5),
        (60_000, MONDAY_US + 12 * HOUR_US, 3.0),
        (60_000, MONDAY_US + 2 * HOUR_US, 3.75),
        (5_000, MONDAY_US + 5 * DAY_US + 12 * HOUR_US, -0.75),
    ],
)
def test_log_odds_add_up_over_what_needs_no_history(
    rule: DecisionRule, amount: int, time_us: int, points: float
) -> None:
    answers = Scorecard(DEFAULT_SCHEMA, rule)(matrix(row(1, time_us, amount=amount)))
    assert answers.score[0, 0] == probability(BASE + points)


def test_the_answer_names_its_source_its_release_and_no_features(rule: DecisionRule) -> None:
    answers = Scorecard(DEFAULT_SCHEMA, rule)(matrix(row(1), row(2, amount=90_000)))
    assert (answers.score.shape, answers.score.dtype) == ((2, 1), np.float32)
    assert (answers.verdict.shape, answers.verdict.dtype) == ((2, wire.VERDICT_WIDTH), np.int32)
    assert answers.features.shape == (2, 0)
    assert answers.verdict[:, wire.VERDICT_COLUMNS.index("source")].tolist() == [wire.Source.SCORECARD] * 2
    assert answers.verdict[:, wire.VERDICT_COLUMNS.index("release")].tolist() == [7, 7]


def test_it_decides_by_the_release_s_thresholds(rule: DecisionRule) -> None:
    noon = MONDAY_US + 12 * HOUR_US
    answers = Scorecard(DEFAULT_SCHEMA, rule)(
        matrix(row(1, noon, amount=1_000), row(2, noon, amount=20_000), row(3, MONDAY_US, amount=90_000))
    )
    expected = [0 if score < 0.05 else 1 if score < 0.3 else 2 for score in answers.score[:, 0].tolist()]
    assert answers.verdict[:, 0].tolist() == expected
    assert len(set(expected)) > 1


def test_a_row_is_answered_as_it_is_alone_whoever_it_comes_with(rule: DecisionRule) -> None:
    rng = np.random.default_rng(1)
    rows = matrix(
        *(row(i, MONDAY_US + int(rng.integers(0, 9)) * DAY_US, amount=int(rng.integers(1, 99_999))) for i in range(64))
    )
    card = Scorecard(DEFAULT_SCHEMA, rule)
    together = card(rows)
    alone = [card(rows[i : i + 1]) for i in range(64)]
    assert together.score.tobytes() == b"".join(one.score.tobytes() for one in alone)
    assert together.verdict.tobytes() == b"".join(one.verdict.tobytes() for one in alone)
    turned = rows.copy()
    turned[:, 2:4] = rng.integers(1, 99, (64, 2))  # nothing is known of customer and terminal, so they change nothing
    assert card(turned).score.tobytes() == together.score.tobytes()


def test_a_trained_release_carries_one_that_tells_large_amounts_from_small(served_pipeline: Pipeline) -> None:
    card = Scorecard(served_pipeline.schema, served_pipeline.rule)
    noon = MONDAY_US + 12 * HOUR_US
    small, large = card(matrix(row(1, noon, amount=2_000), row(2, noon, amount=60_000))).score[:, 0]
    assert 0 < small < large < 1
