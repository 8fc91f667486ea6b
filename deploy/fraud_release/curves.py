"""What a study's test rows say when drawn: precision and recall, reliability, cost against thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from fraud_release.learning import Costs, Labels, choose_thresholds
from fraud_scoring.features import Float32, Float64
from fraud_scoring.windows import Int64


@dataclass(frozen=True, eq=False)
class Scored:
    """The test rows of one fold: calibrated scores [N], labels, amounts; thresholds that were chosen before it."""

    start: int
    score: Float32
    is_fraud: Labels
    amount_minor: Int64
    review_at: float = 1.5
    decline_at: float = 1.5


def precision_recall(one: Scored) -> tuple[Float64, Float64]:
    """(recall, precision), recall rising from 0 to 1."""
    precision, recall, _ = precision_recall_curve(one.is_fraud, one.score)
    return recall[::-1], precision[::-1]


def reliability(scored: Sequence[Scored], bins: int = 20) -> list[tuple[float, float, int]]:
    """(mean score, share of frauds, rows) of `bins` of equally many rows of all folds, in order of score."""
    score = np.concatenate([one.score for one in scored]).astype(np.float64)
    is_fraud = np.concatenate([one.is_fraud for one in scored])
    parts = np.array_split(np.argsort(score, kind="stable"), bins)
    return [(float(score[rows].mean()), float(is_fraud[rows].mean()), len(rows)) for rows in parts]


def cost_minor(one: Scored, review_at: float, decline_at: float, costs: Costs) -> float:
    """What the mistakes and reviews of a fold cost with these thresholds, minor units."""
    lost = np.where(one.is_fraud == 1, one.amount_minor + costs.chargeback_fee_minor, 0).astype(np.float64)
    declined = one.score >= decline_at
    reviewed = (one.score >= review_at) & ~declined
    approved = ~(declined | reviewed)
    return float(
        lost[approved].sum()
        + costs.review_minor * reviewed.sum()
        + costs.review_miss_share * lost[reviewed].sum()
        + costs.false_decline_minor * (declined & (one.is_fraud == 0)).sum()
    )


def cost_curves(scored: Sequence[Scored], thresholds: Float64, costs: Costs) -> tuple[Float64, Float64]:
    """Cost a transaction, minor units, at each threshold [T]: of reviewing from it on (what is declined stays as it
    was chosen), and of declining from it on (what is reviewed stays, below it)."""
    rows = sum(len(one.score) for one in scored)
    review = [
        sum(cost_minor(one, min(at, one.decline_at), one.decline_at, costs) for one in scored) for at in thresholds
    ]
    decline = [sum(cost_minor(one, min(one.review_at, at), at, costs) for one in scored) for at in thresholds]
    return np.array(review) / rows, np.array(decline) / rows


def cost_summary(scored: Sequence[Scored], costs: Costs) -> dict[str, Any]:
    """Cost a transaction, minor units: approving everything, as chosen, and at the thresholds best in hindsight."""
    rows = sum(len(one.score) for one in scored)
    best = [choose_thresholds(one.score, one.is_fraud, one.amount_minor, costs) for one in scored]
    return {
        "approve_all_minor": sum(cost_minor(one, 2.0, 2.0, costs) for one in scored) / rows,
        "chosen_minor": sum(cost_minor(one, one.review_at, one.decline_at, costs) for one in scored) / rows,
        "hindsight_minor": sum(cost_minor(one, *at, costs) for one, at in zip(scored, best, strict=True)) / rows,
        "thresholds": [{"review_at": one.review_at, "decline_at": one.decline_at} for one in scored],
    }
