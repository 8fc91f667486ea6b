"""What a release learns, against slow and plain ways to get the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from fraud_release.learning import Costs, choose_thresholds, fit_calibration, fit_scorecard, fit_trees
from fraud_scoring.schema import Schema
from support.rows import SEEDED

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]), st.booleans(), st.integers(1, 20_000)),
    min_size=1,
    max_size=14,
)
COSTS = st.builds(
    Costs, st.integers(0, 5_000), st.integers(0, 9_000), st.integers(0, 3_000), st.sampled_from([0.0, 0.1, 0.5, 1.0])
)


def cost_of(rows: list[tuple[float, bool, int]], costs: Costs, review_at: float, decline_at: float) -> float:
    """What the decisions by two thresholds cost, a row at a time, as Costs says."""
    total = 0.0
    for score, is_fraud, amount in rows:
        lost = amount + costs.chargeback_fee_minor if is_fraud else 0
        if np.float32(score) >= np.float32(decline_at):
            total += 0 if is_fraud else costs.false_decline_minor
        elif np.float32(score) >= np.float32(review_at):
            total += costs.review_minor + costs.review_miss_share * lost
        else:
            total += lost
    return total


@given(ROWS, COSTS)
@settings(SEEDED, max_examples=500)
def test_no_pair_of_thresholds_costs_less_than_the_chosen_one(
    rows: list[tuple[float, bool, int]], costs: Costs
) -> None:
    score = np.array([row[0] for row in rows], np.float32)
    is_fraud = np.array([row[1] for row in rows], np.int8)
    amount = np.array([row[2] for row in rows], np.int64)
    review_at, decline_at = choose_thresholds(score, is_fraud, amount, costs)
    assert review_at <= decline_at
    candidates = sorted({float(value) for value in score} | {1.5})
    least = min(cost_of(rows, costs, low, high) for low in candidates for high in candidates if low <= high)
    assert cost_of(rows, costs, review_at, decline_at) == pytest.approx(least, abs=1e-6)


def test_reviews_that_cost_nothing_and_miss_nothing_are_had_wherever_a_fraud_may_be() -> None:
    score = np.linspace(0, 1, 11).astype(np.float32)
    is_fraud = (score > 0.45).astype(np.int8)
    free = Costs(review_minor=0, review_miss_share=0.0, false_decline_minor=1)
    review_at, _ = choose_thresholds(score, is_fraud, np.full(11, 500), free)
    assert review_at <= np.float32(0.5)


def test_where_nothing_is_worth_a_decision_everything_is_approved() -> None:
    dear = Costs(chargeback_fee_minor=0, false_decline_minor=10**6, review_minor=10**6)
    thresholds = choose_thresholds(
        np.array([0.2, 0.9], np.float32), np.array([1, 0], np.int8), np.array([100, 1], np.int64), dear
    )
    assert min(thresholds) > 1


def labelled_margins(slope: float, intercept: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    margin = random.normal(-2, 3, 4_000).astype(np.float32)
    probability = 1 / (1 + np.exp(-(slope * margin + intercept)))
    return margin, (random.random(4_000) < probability).astype(np.int8)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.4, -1.5), (2.5, 1.0)])
def test_the_calibration_table_is_platts_sigmoid_to_a_thousandth(slope: float, intercept: float) -> None:
    margin, is_fraud = labelled_margins(slope, intercept, seed=3)

    def log_loss(parameters: np.ndarray) -> float:
        logits = parameters[0] * margin.astype(np.float64) + parameters[1]
        return float(np.mean(np.logaddexp(0, logits) - is_fraud * logits))

    a, b = minimize(log_loss, np.array([1.0, 0.0]), tol=1e-12).x
    asked = np.linspace(-40, 40, 50_001)
    wanted = 1 / (1 + np.exp(-np.clip(a * asked + b, -60, 60)))
    assert np.abs(np.interp(asked, *fit_calibration(margin, is_fraud)) - wanted).max() < 1e-3


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_the_calibration_table_rises_even_where_the_model_is_upside_down(slope: float) -> None:
    margins, probabilities = fit_calibration(*labelled_margins(slope, 0.0, seed=5))
    assert (np.diff(margins) > 0).all()
    assert (np.diff(probabilities) > 0).all()
    assert 0 < probabilities[0] < 1e-5 < 1 - 1e-5 < probabilities[-1] < 1


THREE_FEATURES = Schema.parse(
    {
        "name": "three",
        "columns": [
            {"name": "id", "role": "id"},
            {"name": "at", "role": "time"},
            {"name": "card", "role": "entity"},
            {"name": "amount_minor", "role": "amount"},
        ],
        "features": [
            {"name": "amount", "of": "value", "column": "amount_minor", "reason": 1},
            {"name": "is_night", "of": "night", "reason": 7},
            {"name": "card_count_1d", "of": "count", "entity": "card", "days": [1], "reason": 4},
        ],
    }
)


def test_a_scorecard_gives_points_for_what_frauds_have_and_takes_them_for_what_they_have_not() -> None:
    random = np.random.default_rng(2)
    amount, night = random.uniform(0, 100, 8_000), random.integers(0, 2, 8_000)
    features = np.stack([amount, night, random.uniform(0, 9, 8_000)], axis=1).astype(np.float32)
    is_fraud = (random.random(8_000) < np.where(amount > 80, 0.5, 0.02)).astype(np.int8)
    large, night_time, unrelated = fit_scorecard(THREE_FEATURES, features, is_fraud)
    assert [f.name for f in (large, night_time, unrelated)] == ["amount", "is_night", "card_count_1d"]
    assert [f.reason for f in (large, night_time, unrelated)] == [1, 7, 4]
    assert large.points[-1] > 1 > -1 > large.points[0]
    for feature in (night_time, unrelated):
        assert np.abs(feature.points).max() < large.points.max() / 2


def test_scorecard_points_are_finite_where_a_bin_holds_no_fraud_and_where_a_feature_never_changes() -> None:
    features = np.stack([np.arange(400), np.zeros(400), np.ones(400)], axis=1).astype(np.float32)
    is_fraud = np.zeros(400, np.int8)
    is_fraud[-10:] = 1
    for feature in fit_scorecard(THREE_FEATURES, features, is_fraud):
        assert np.isfinite(feature.points).all()
        assert len(feature.points) == len(feature.edges) + 1
        assert (np.diff(feature.edges) > 0).all()


def trees_from(seed: int) -> tuple[str, list[float]]:
    random = np.random.default_rng(1)
    features = random.normal(size=(4_000, 6)).astype(np.float32)
    is_fraud = (random.random(4_000) < 1 / (1 + np.exp(3 - 2 * features[:, 0]))).astype(np.int8)
    shares: list[float] = []
    booster = fit_trees(features, is_fraud, seed=seed, trees=12, progress=lambda share, text: shares.append(share))
    return booster.model_to_string(), shares


def test_the_same_data_and_seed_give_the_same_trees_and_another_seed_gives_others() -> None:
    assert trees_from(7)[0] == trees_from(7)[0]
    assert trees_from(7)[0] != trees_from(8)[0]


def test_every_tree_is_progress() -> None:
    assert trees_from(7)[1] == [tree / 12 for tree in range(1, 13)]
