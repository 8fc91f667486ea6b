"""What a release learns: the trees, the calibration, the thresholds and the scorecard that gives the reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import lightgbm
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from fraud_scoring.decision import ScorecardFeature
from fraud_scoring.features import Float32, Float64
from fraud_scoring.schema import Schema

Labels = npt.NDArray[np.int8]
Progress = Callable[[float, str], None]

PARAMETERS: Final[dict[str, Any]] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 200,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbose": -1,
}


@dataclass(frozen=True)
class Costs:
    """What mistakes and reviews cost, in minor units.

    An approved fraud costs its amount and the chargeback fee; a declined genuine payment costs goodwill; a reviewed one
    costs the analyst's time, and the share of frauds that a review misses is lost as if approved.
    """

    chargeback_fee_minor: int = 2_000
    false_decline_minor: int = 3_000
    review_minor: int = 400
    review_miss_share: float = 0.1


def fit_trees(
    features: Float32,
    is_fraud: Labels,
    *,
    seed: int,
    trees: int,
    progress: Progress,
    parameters: Mapping[str, Any] = PARAMETERS,
) -> lightgbm.Booster:
    """Gradient-boosted trees; the same data, seed and library give the same trees."""

    def report(environment: Any) -> None:
        progress((environment.iteration + 1) / trees, f"training {trees} trees")

    dataset = lightgbm.Dataset(features, is_fraud, free_raw_data=True)
    return lightgbm.train({**parameters, "seed": seed}, dataset, trees, callbacks=[report])


def fit_calibration(margin: Float32, is_fraud: Labels, knots: int = 257) -> tuple[Float64, Float64]:
    """(margins, probabilities): knots of a rising table, from Platt scaling on the validation part.

    Platt, "Probabilistic outputs for support vector machines" (1999): p = 1 / (1 + exp(−(a·m + b))). A straight line
    between 257 knots is within 1e-3 of it, and needs no exp where it is served.
    """
    model = LogisticRegression(C=1e6).fit(margin[:, None].astype(np.float64), is_fraud)
    slope, intercept = max(float(model.coef_[0, 0]), 1e-6), float(model.intercept_[0])
    logits = np.linspace(-14.0, 14.0, knots)
    return (logits - intercept) / slope, 1.0 / (1.0 + np.exp(-logits))


def choose_thresholds(
    score: Float32, is_fraud: Labels, amount_minor: npt.NDArray[np.int64], costs: Costs
) -> tuple[float, float]:
    """(review_at, decline_at) of least total cost on the validation part, review_at ≤ decline_at.

    With rows in falling score, the cost is g(i) + h(j): the first i are declined, those up to j ≥ i reviewed, the rest
    approved. For each j the best i is a running minimum, so that one pass finds the best pair.
    """
    order = np.argsort(-score, kind="stable")
    fraud = is_fraud[order] == 1
    approve = np.where(fraud, amount_minor[order] + costs.chargeback_fee_minor, 0).astype(np.float64)
    review = costs.review_minor + costs.review_miss_share * approve
    decline = np.where(fraud, 0, costs.false_decline_minor).astype(np.float64)
    # cost of declining the first i instead of reviewing them, of reviewing the first j instead of approving them
    decline_first = np.concatenate([[0.0], np.cumsum(decline - review)])
    review_first = np.concatenate([[0.0], np.cumsum(review - approve)])
    # a threshold stands between two different scores only
    ordered = score[order]
    allowed = np.concatenate([[True], ordered[1:] != ordered[:-1], [True]])
    decline_first[~allowed] = np.inf
    best_decline = np.minimum.accumulate(decline_first)
    total = np.where(allowed, review_first + best_decline, np.inf)
    reviewed = int(np.argmin(total))
    declined = int(np.argmin(decline_first[: reviewed + 1]))
    return _threshold(ordered, reviewed), _threshold(ordered, declined)


def _threshold(falling: Float32, count: int) -> float:
    """A score from which exactly the first `count` rows are taken; above every probability where none is.

    Halfway to the next lower score, so that no row lies on it and another form of the same model, whose scores differ
    in the last bit, decides alike.
    """
    if not count:
        return 1.5
    last = float(falling[count - 1])
    halfway = float(np.float32((last + float(falling[count])) / 2)) if count < len(falling) else last
    return halfway if count < len(falling) and halfway > falling[count] else last


def fit_scorecard(schema: Schema, features: Float32, is_fraud: Labels, bins: int = 16) -> tuple[ScorecardFeature, ...]:
    """Points per feature and bin: log odds of fraud in the bin against the average, shrunk by 10 average rows.

    The weight of evidence of credit scorecards (Siddiqi, "Credit Risk Scorecards", 2006).
    """
    base = float(is_fraud.mean())
    out = []
    for position, feature in enumerate(schema.features):
        values = features[:, position].astype(np.float64)
        # half of the edges from the frauds: they are few, and gather where nobody else is
        quantiles = np.linspace(0, 1, bins // 2 + 1)[1:-1]
        from_all, from_fraud = np.quantile(values, quantiles), np.quantile(values[is_fraud == 1], quantiles)
        edges = np.unique(np.concatenate([from_all, from_fraud]))
        index = np.searchsorted(edges, values, side="right")
        rows = np.bincount(index, minlength=len(edges) + 1)
        frauds = np.bincount(index, weights=is_fraud, minlength=len(edges) + 1)
        share = (frauds + 10 * base) / (rows + 10)
        points = np.log(share / (1 - share)) - np.log(base / (1 - base))
        out.append(ScorecardFeature(feature.name, feature.reason, edges, points))
    return tuple(out)
