"""What a study's test rows say when drawn, and the page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import date

import numpy as np
import pytest

from fraud_release.curves import Scored, cost_curves, cost_minor, cost_summary, precision_recall, reliability
from fraud_release.learning import Costs
from fraud_release.protocol import Protocol
from fraud_release.study import Measured, Study
from fraud_release.study_page import page

COSTS = Costs(chargeback_fee_minor=2_000, false_decline_minor=3_000, review_minor=400, review_miss_share=0.1)


def scored(rows: int = 2_000, seed: int = 1) -> Scored:
    """Calibrated by construction: each row is fraud with its score's chance."""
    draw = np.random.default_rng(seed)
    score = (draw.random(rows) ** 4).astype(np.float32)
    is_fraud = (draw.random(rows) < score).astype(np.int8)
    return Scored(17_737, score, is_fraud, draw.integers(100, 20_000, rows), 0.1, 0.6)


FOUR = Scored(
    17_737,
    np.array([0.9, 0.8, 0.4, 0.1], np.float32),
    np.array([1, 0, 1, 1], np.int8),
    np.array([500, 600, 1_000, 7_000]),
)


def test_cost_counts_missed_frauds_reviews_and_false_declines() -> None:
    assert cost_minor(FOUR, 0.3, 0.7, COSTS) == 3_000 + (400 + 0.1 * 3_000) + 9_000
    assert cost_minor(FOUR, 2.0, 2.0, COSTS) == 2_500 + 3_000 + 9_000


def test_cost_curves_pass_through_what_was_chosen_and_hindsight_is_no_dearer() -> None:
    one = scored()
    review, _ = cost_curves([one], np.array([0.1]), COSTS)
    _, decline = cost_curves([one], np.array([0.6]), COSTS)
    chosen = cost_minor(one, 0.1, 0.6, COSTS) / len(one.score)
    assert (review[0], decline[0]) == (pytest.approx(chosen), pytest.approx(chosen))
    summary = cost_summary([one], COSTS)
    assert summary["hindsight_minor"] <= summary["chosen_minor"] < summary["approve_all_minor"]


def test_reliability_has_bins_of_equally_many_rows_and_a_calibrated_score_keeps_its_word() -> None:
    bins = reliability([scored(20_000)])
    assert {rows for _, _, rows in bins} == {1_000}
    assert all(abs(score - share) < 0.07 for score, share, _ in bins)


def test_precision_over_recall_begins_at_no_recall_and_ends_at_the_share_of_frauds() -> None:
    recall, precision = precision_recall(FOUR)
    assert (recall[0], recall[-1]) == (0.0, 1.0)
    assert precision[-1] == pytest.approx(0.75)
    assert (np.diff(recall) >= 0).all()


def test_the_page_draws_all_four_and_needs_no_other_file() -> None:
    measured = tuple(Measured(17_737, seed, 2_000, 400, 0.7, 0.9, 0.3, 0.001) for seed in (1, 2))
    protocol, gain = Protocol(first_day=date(2018, 7, 25), folds=1), {"a<b": 0.75, "c": 0.25}
    text = page(Study("trees", protocol, measured, (scored(),), gain), COSTS)
    drawings = [ET.fromstring(drawing) for drawing in re.findall(r"<svg.*?</svg>", text)]
    names = ["Precision and recall", "Reliability", "Cost against threshold", "Gain by feature"]
    assert [one.get("aria-label") for one in drawings] == names
    marks = [str(title.text) for title in drawings[2].iter("title")]
    assert marks == ["review from 0.1000", "decline from 0.6000"]
    assert sum(one.get("class") == "dot" for one in drawings[1].iter("circle")) == 20
    assert "a&lt;b" in text
    assert "http" not in text
