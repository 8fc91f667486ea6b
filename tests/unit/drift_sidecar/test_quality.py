"""Data quality; performance before labels by calibrated scores, after labels by what became of the decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from drift_sidecar import worlds
from drift_sidecar.quality import (
    FRAUD,
    LEGITIMATE,
    UNLABELLED,
    LabelEvidence,
    calibration_check,
    data_quality,
    estimate,
    label_threshold,
    mean_scores,
    realised,
    share,
)
from fraud_scoring import wire
from fraud_scoring.reference import SCORE_BOUNDS, Calibration, Int64, count_values

COSTS = {"chargeback_fee_minor": 2000.0, "false_decline_minor": 3000.0, "review_minor": 400.0, "review_miss_share": 0.1}
REFERENCE = replace(worlds.draw_reference(np.random.default_rng(1), 50_000, 0.0), costs=COSTS)
FEATURES = len(REFERENCE.features)
CALIBRATION = worlds.draw_calibration(np.random.default_rng(2), 1_000_000)
BINS = len(SCORE_BOUNDS) + 1
APPROVE, REVIEW, DECLINE = wire.Decision


def rows(count: int = 400_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(score, decision, amount, fraud) of rows whose scores are calibrated."""
    rng = np.random.default_rng(3)
    score = rng.beta(0.15, 4.0, count).astype(np.float32)
    decision = np.digitize(score, [0.2, 0.6]).astype(np.int32)
    return score, decision, rng.integers(100, 50_000, count), rng.random(count) < score


def vector(score: np.ndarray, decision: np.ndarray, amount: np.ndarray) -> Int64:
    features = np.ones((len(score), FEATURES), np.float32)
    found: Int64 = count_values(REFERENCE, features, score, decision, amount, np.zeros(len(score), np.int64), 1)[0]
    return found


def outcomes(**cells: int) -> Int64:
    """Counts [S, 3, 3] in the bin of scores around 0.06; `review_fraud=3` and so on."""
    table = np.zeros((BINS, 3, 3), np.int64)
    names = {"legitimate": LEGITIMATE, "fraud": FRAUD, "unlabelled": UNLABELLED}
    for name, count in cells.items():
        decision, outcome = name.split("_")
        table[4, wire.Decision[decision.upper()], names[outcome]] = count
    return table


def test_missing_and_strange_values_are_shares_of_the_rows() -> None:
    score, decision, amount, _ = rows(1000)
    features = np.full((1000, FEATURES), 2.0, np.float32)
    features[:250, 0] = np.nan
    features[250:300, 0] = -9.0
    features[300:400, 0] = 99.0
    counts = count_values(REFERENCE, features, score, decision, amount, np.zeros(1000, np.int64), 1)[0]
    found = data_quality(REFERENCE, counts)
    assert (found[0].rows, found[0].missing, found[0].below, found[0].above) == (1000, 0.25, 0.05, 0.1)
    assert found[1].missing == 0.0
    assert found[-1].series == "score"


def test_estimates_without_labels_are_what_the_labels_turn_out_to_say() -> None:
    score, decision, amount, fraud = rows()
    found = estimate(REFERENCE, vector(score, decision, amount))
    flagged = decision > 0
    assert found.rows == len(score)
    assert found.precision == pytest.approx(fraud[flagged].mean(), abs=0.02)
    assert found.decline_precision == pytest.approx(fraud[decision == 2].mean(), abs=0.04)
    assert found.recall == pytest.approx((fraud & flagged).sum() / fraud.sum(), abs=0.03)
    assert found.fraud_share == pytest.approx(fraud.mean(), abs=0.004)


def test_the_estimated_cost_is_each_rows_expected_cost() -> None:
    score, decision, amount, _ = rows(2000)
    expected = 0.0
    for p, chosen, paid in zip(score.tolist(), decision.tolist(), amount.tolist(), strict=True):
        approve = p * (paid + COSTS["chargeback_fee_minor"])
        review = COSTS["review_minor"] + COSTS["review_miss_share"] * approve
        expected += (approve, review, (1 - p) * COSTS["false_decline_minor"])[chosen]
    found = estimate(REFERENCE, vector(score, decision, amount)).cost_minor
    assert found == pytest.approx(expected, rel=1e-5)


def test_confidence_is_how_far_scores_lie_from_one_half() -> None:
    score, decision, amount, _ = rows(2000)
    found = estimate(REFERENCE, vector(score, decision, amount)).confidence
    assert found == pytest.approx(np.abs(2 * score.astype(np.float64) - 1).mean(), abs=1e-5)


def test_of_no_rows_nothing_is_claimed() -> None:
    found = estimate(REFERENCE, REFERENCE.empty())
    assert found.rows == 0
    assert (found.precision, found.recall, found.cost_minor, found.confidence) == (None,) * 4
    after = realised(np.zeros((BINS, 3, 3), np.int64), CALIBRATION)
    assert (after.precision, after.recall, after.known_share) == (None, None, None)
    assert calibration_check(np.zeros((BINS, 3, 3), np.int64), CALIBRATION).error is None


def test_a_payment_that_nobody_complained_of_was_legitimate_unless_it_was_declined() -> None:
    found = realised(
        outcomes(approve_unlabelled=900, approve_fraud=10, review_fraud=20, review_unlabelled=60), CALIBRATION
    )
    assert found.precision is not None
    assert found.precision.value == pytest.approx(20 / 80)
    assert found.recall == pytest.approx(20 / 30)
    assert found.approved_fraud_share is not None
    assert found.approved_fraud_share.value == pytest.approx(10 / 910)


def test_of_declines_without_a_label_only_bounds_are_claimed() -> None:
    table = outcomes(approve_fraud=10, review_fraud=20, review_unlabelled=60, decline_unlabelled=100, decline_fraud=5)
    found = realised(table, CALIBRATION)
    assert found.known_share == pytest.approx(85 / 185)
    assert found.precision is not None
    assert found.precision.rows == 85
    assert found.recall_low == pytest.approx(25 / 35)
    assert found.recall_high == pytest.approx(125 / 135)
    expected = 25 + 100 * mean_scores(CALIBRATION)[4]
    assert found.recall == pytest.approx(expected / (expected + 10))


def test_labels_of_declines_count_where_they_exist() -> None:
    found = realised(outcomes(decline_fraud=8, decline_legitimate=2, approve_unlabelled=50), CALIBRATION)
    assert found.decline_precision is not None
    assert found.decline_precision.value == pytest.approx(0.8)
    assert found.known_share == 1.0


def test_a_share_comes_with_wilsons_interval() -> None:
    found = share(7, 50)
    expected = stats.binomtest(7, 50).proportion_ci(0.95, "wilson")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert share(0, 0) is None


def drawn(rng: np.random.Generator, factor: float = 1.0, count: int = 60_000) -> Int64:
    """Outcomes of approved rows with the reference's scores, fraud at `factor` times the odds."""
    seen = rng.multinomial(count, worlds.CALIBRATION_SHARES / worlds.CALIBRATION_SHARES.sum())
    odds = factor * worlds.CALIBRATION_MEANS / (1 - worlds.CALIBRATION_MEANS)
    table = np.zeros((BINS, 3, 3), np.int64)
    table[:, APPROVE, FRAUD] = rng.binomial(seen, odds / (1 + odds))
    table[:, APPROVE, UNLABELLED] = seen - table[:, APPROVE, FRAUD]
    return table


def test_calibrated_scores_err_by_no_more_than_chance() -> None:
    rng = np.random.default_rng(4)
    found = [calibration_check(drawn(rng), CALIBRATION) for _ in range(40)]
    errors, chance = (np.array([getattr(one, name) for one in found]) for name in ("error", "by_chance"))
    assert errors.mean() == pytest.approx(chance.mean(), rel=0.25)
    assert found[0].observed == pytest.approx(found[0].expected, rel=0.2)


def test_twice_the_fraud_at_the_same_scores_shows_as_an_error_of_calibration() -> None:
    found = calibration_check(drawn(np.random.default_rng(5), 2.0), CALIBRATION)
    assert found.error is not None
    assert found.by_chance is not None
    assert found.error > 4 * found.by_chance
    assert found.observed > 1.2 * found.expected


def test_the_error_is_the_mean_gap_weighted_by_rows() -> None:
    calibration = Calibration(np.array([100, 100]), np.array([10.0, 50.0]), np.array([10, 50]))
    table = np.zeros((2, 3, 3), np.int64)
    table[0, APPROVE] = [0, 30, 70]
    table[1, REVIEW] = [0, 60, 240]
    found = calibration_check(table, calibration)
    assert found.error == pytest.approx((100 * abs(0.3 - 0.1) + 300 * abs(0.2 - 0.5)) / 400)


def test_bins_without_rows_in_the_reference_lie_between_their_neighbours() -> None:
    calibration = Calibration(np.array([10, 0, 10]), np.array([1.0, 0.0, 5.0]), np.array([1, 0, 5]))
    assert mean_scores(calibration).tolist() == pytest.approx([0.1, 0.3, 0.5])


def evidence(seed: int) -> LabelEvidence:
    calibration = worlds.draw_calibration(np.random.default_rng(seed), 200_000)
    return LabelEvidence(calibration, label_threshold(17))


def test_labels_as_they_were_are_no_evidence() -> None:
    for seed in range(20):
        found, rng = evidence(seed), np.random.default_rng(100 + seed)
        assert not any(found.look(drawn(rng, count=3_000), 10.0) for _ in range(200))
        assert found.value < found.threshold / 100


def test_more_fraud_at_the_same_scores_crosses() -> None:
    found, rng = evidence(1), np.random.default_rng(6)
    crossed = [found.look(drawn(rng, 2.0), 10.0) for _ in range(12)]
    assert any(crossed)
    assert found.value < found.threshold


def test_less_fraud_at_the_same_scores_crosses_too() -> None:
    found, rng = evidence(2), np.random.default_rng(7)
    assert any(found.look(drawn(rng, 0.5), 10.0) for _ in range(12))


def test_declines_without_labels_are_no_evidence_of_anything() -> None:
    table = np.zeros((BINS, 3, 3), np.int64)
    table[:, DECLINE, UNLABELLED] = 100_000
    found = evidence(3)
    assert not found.look(table, 1000.0)
    assert found.value == 0.0


def test_no_share_within_the_band_gains_by_a_bet_on_labels() -> None:
    """The mean of a row's factor at the ends of each bin's band; between them it is a straight line."""
    found = evidence(4)
    one_fraud, one_legitimate = np.exp(found._of_fraud), np.exp(found._of_legitimate)
    for fraud_share in (CALIBRATION.frauds / CALIBRATION.rows, worlds.CALIBRATION_MEANS):
        mean = fraud_share * one_fraud + (1 - fraud_share) * one_legitimate
        assert mean.max() <= 1.0 + 1e-9
