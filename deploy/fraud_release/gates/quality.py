"""Is the candidate not worse than the champion: ranking, cost, calibration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fraud_release.gates.bootstrap import Weights, average_precision, interval, resampled
from fraud_release.gates.evidence import Evidence
from fraud_release.gates.result import GateResult, not_run
from fraud_release.gates.settings import GateSettings
from fraud_release.learning import Costs, Labels
from fraud_scoring.features import Float32
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64
from fraud_scoring.wire import Decision

BINS = 10


def quality_gates(evidence: Evidence, costs: Costs, settings: GateSettings) -> list[GateResult]:
    """Average precision and cost against the champion, then the candidate's calibration."""
    names = ("average precision", "cost", "calibration error", "expected frauds")
    if evidence.frauds < settings.tolerances.least_frauds or evidence.frauds == len(evidence):
        why = f"{evidence.frauds} frauds in {len(evidence):,} test rows; {settings.tolerances.least_frauds} are needed"
        return [not_run(name, why) for name in names]
    weights = list(resampled(evidence.customer, settings.resamples, settings.seed))
    return [
        _ranking(evidence, weights, settings),
        _cost(evidence, costs, weights, settings),
        *_calibration(evidence, weights, settings),
    ]


def _ranking(evidence: Evidence, weights: list[Weights], settings: GateSettings) -> GateResult:
    """Lower end of the difference to the champion against the margin; without one, against the share of frauds."""
    ones = np.ones(len(evidence))
    mine = average_precision(evidence.candidate.score[:, 0], evidence.is_fraud)
    if evidence.champion is None:
        found, span = mine(ones), interval([mine(drawn) for drawn in weights])
        bound = float(evidence.is_fraud.mean())
        text = "average precision on the test part; without a champion it must be above the share of frauds"
        return GateResult("average precision", span[0] > bound, found, bound, text, span)
    other = average_precision(evidence.champion.score[:, 0], evidence.is_fraud)
    difference, bound = mine(ones) - other(ones), -settings.tolerances.ap_margin
    span = interval([mine(drawn) - other(drawn) for drawn in weights])
    text = f"candidate {mine(ones):.4f} minus champion {other(ones):.4f}; the interval must lie above the bound"
    return GateResult("average precision", span[0] >= bound, difference, bound, text, span)


def _cost(evidence: Evidence, costs: Costs, weights: list[Weights], settings: GateSettings) -> GateResult:
    """Cost of the decisions over the champion's; without one, over that of approving everything."""
    mine = cost_of(evidence.candidate, evidence.is_fraud, evidence.amount_minor, costs)
    if evidence.champion is None:
        fraud = evidence.is_fraud == 1
        other = np.where(fraud, evidence.amount_minor + costs.chargeback_fee_minor, 0).astype(np.float64)
        bound, than = 1.0, "that of approving everything"
    else:
        other = cost_of(evidence.champion, evidence.is_fraud, evidence.amount_minor, costs)
        bound, than = 1.0 + settings.tolerances.cost_margin, "the champion's"
    span = interval([_ratio(float(drawn @ mine), float(drawn @ other)) for drawn in weights])
    text = f"cost of the decisions over {than}, by the candidate's cost table; the interval must lie below the bound"
    return GateResult("cost", span[1] <= bound, _ratio(mine.sum(), other.sum()), bound, text, span)


def _calibration(evidence: Evidence, weights: list[Weights], settings: GateSettings) -> list[GateResult]:
    tolerances, ones = settings.tolerances, np.ones(len(evidence))
    score = evidence.candidate.score[:, 0]
    error = [calibration_error(score, evidence.is_fraud, drawn) for drawn in (ones, *weights)]
    span = interval(error[1:])
    text = f"expected calibration error over {BINS} bins of equal size, as a share of the fraud rate"
    first = GateResult(
        "calibration error", span[1] <= tolerances.calibration_error, error[0], tolerances.calibration_error, text, span
    )
    expected = score.astype(np.float64)
    ratio = [_ratio(float(drawn @ expected), float(drawn @ evidence.is_fraud)) for drawn in (ones, *weights)]
    span, bound = interval(ratio[1:]), tolerances.fraud_ratio
    text = f"frauds that the scores expect over those that happened; within {1 / bound:.3g} to {bound:.3g}"
    return [
        first,
        GateResult("expected frauds", 1 / bound <= span[0] and span[1] <= bound, ratio[0], bound, text, span),
    ]


def cost_of(answers: Answers, is_fraud: Labels, amount_minor: Int64, costs: Costs) -> NDArray[np.float64]:
    """What each decision cost [N], in minor units, as `Costs` says."""
    fraud, decision = is_fraud == 1, answers.verdict[:, 0]
    approve = np.where(fraud, amount_minor + costs.chargeback_fee_minor, 0).astype(np.float64)
    review = costs.review_minor + costs.review_miss_share * approve
    decline = np.where(fraud, 0.0, float(costs.false_decline_minor))
    return np.select([decision == Decision.APPROVE, decision == Decision.REVIEW], [approve, review], decline)


def calibration_error(score: Float32, is_fraud: Labels, weights: Weights) -> float:
    """Σ |frauds expected − frauds found| over bins of equal size, over the frauds found; NaN without any."""
    order = np.argsort(score, kind="stable")
    excess = (weights * (score.astype(np.float64) - is_fraud))[order]
    starts = np.linspace(0, len(score), BINS + 1).astype(np.int64)[:-1]
    return _ratio(float(np.abs(np.add.reduceat(excess, starts)).sum()), float(weights @ is_fraud))


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else float("nan")
