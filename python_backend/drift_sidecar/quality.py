"""How good the data and the decisions are: before labels by the calibrated scores, after labels by what became of them.

Before labels (CBPE: confidence-based performance estimation; NannyML's documentation, 2022): if a score p is
calibrated, p of the rows with that score are fraud, so that the frauds among any rows are Σ p without any label.
Claimed only as far as the calibration holds: a change of what fraud looks like that the scores do not see is not seen
here either, which is why realised performance and the calibration are told apart from it.

After labels, of decisions as old as labels take (matured): a fraud label says fraud; no label on an approved or
reviewed payment says legitimate, since nobody complained. A DECLINED payment never happened and cannot be complained
of: without a label of its own nothing is claimed of it. Precision is therefore that of the rows whose outcome is
known, with the share that is known beside it; recall is given as bounds, from no to all unlabelled declines being
fraud, and as an estimate that takes them for fraud with the probability that their scores say. No inverse-probability
weights: they would need declines that are approved at random, which the front door does not do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from drift_sidecar.evidence import MINUTES_A_MONTH
from drift_sidecar.null_set import Tolerance
from fraud_scoring import wire
from fraud_scoring.reference import OWN_BINS, SUMS, Calibration, Float64, Int64, Reference

LEGITIMATE: Final = 0
FRAUD: Final = 1
UNLABELLED: Final = 2
CONFIDENCE_SD: Final = 1.96
LEAST_ROWS: Final = 30
"""Bins with fewer rows say nothing about calibration."""
ODDS: Final = (0.25, 0.5, 2.0, 4.0)
"""What is bet on: the odds of fraud, at every score, are so many times those that were calibrated."""
LABEL_SERIES: Final = "labels"


@dataclass(frozen=True)
class SeriesQuality:
    """Shares of a feature's (or the score's) rows in a window."""

    series: str
    rows: int
    missing: float
    unseen: float
    below: float
    above: float


def data_quality(reference: Reference, counts: Int64) -> tuple[SeriesQuality, ...]:
    """Missing, unseen and out-of-range shares per feature and score, from a vector of counts."""
    out = []
    for number, series in enumerate(reference.binned):
        cells = counts[reference.layout.of(number)]
        rows = int(cells.sum())
        share = {name: float(cells[series.bins + place] / max(rows, 1)) for place, name in enumerate(OWN_BINS)}
        out.append(SeriesQuality(series.name, rows, **share))
    return tuple(out)


@dataclass(frozen=True)
class Estimate:
    """Performance before labels. `None` where there is no row to tell it from.

    `precision` of reviews and declines together, `decline_precision` of declines; `recall`: share of the fraud that is
    reviewed or declined; `fraud_share` the mean score; `cost_minor` expected cost of the decisions in minor units, as
    the thresholds were chosen by; `confidence` the mean of |2·score − 1|.
    """

    rows: int
    fraud_share: float | None
    precision: float | None
    decline_precision: float | None
    recall: float | None
    cost_minor: float | None
    confidence: float | None


def estimate(reference: Reference, counts: Int64) -> Estimate:
    """What the scores of a window's rows say of its decisions (CBPE), from a vector of counts."""
    sums = dict(zip(SUMS, counts[reference.layout.sums].tolist(), strict=True))
    rows = counts[reference.layout.of("decision")].astype(np.float64)
    names = [decision.name.lower() for decision in wire.Decision]
    frauds = np.array([sums[f"probability_millionths_{name}"] for name in names]) / 1e6
    loss = np.array([sums[f"loss_thousandths_{name}"] for name in names]) / 1e3
    total = float(rows.sum())
    flagged, caught = float(rows[1:].sum()), float(frauds[1:].sum())
    return Estimate(
        rows=int(total),
        fraud_share=_ratio(float(frauds.sum()), total),
        precision=_ratio(caught, flagged),
        decline_precision=_ratio(float(frauds[2]), float(rows[2])),
        recall=_ratio(caught, float(frauds.sum())),
        cost_minor=_cost(reference, rows, frauds, loss) if total and reference.costs else None,
        confidence=1.0 - sums["doubt_millionths"] / 1e6 / total if total else None,
    )


def _cost(reference: Reference, rows: Float64, frauds: Float64, loss: Float64) -> float:
    """As fraud_release.learning.Costs says: of approving, of reviewing, of declining."""
    costs = reference.costs
    approve = loss + costs["chargeback_fee_minor"] * frauds
    review = costs["review_minor"] * rows[1] + costs["review_miss_share"] * approve[1]
    return float(approve[0] + review + costs["false_decline_minor"] * (rows[2] - frauds[2]))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


@dataclass(frozen=True)
class Share:
    """A share of rows with Wilson's 95% interval (1927)."""

    value: float
    low: float
    high: float
    rows: int


def share(part: float, whole: float) -> Share | None:
    """`part` of `whole` rows; None of none."""
    if whole <= 0:
        return None
    value, z2 = part / whole, CONFIDENCE_SD**2 / whole
    middle, half = value + z2 / 2.0, np.sqrt(z2 * value * (1.0 - value) + z2**2 / 4.0)
    return Share(
        value, float((middle - half) / (1.0 + z2)), min(float((middle + half) / (1.0 + z2)), 1.0), round(whole)
    )


@dataclass(frozen=True)
class Realised:
    """Performance of matured decisions. `precision` of reviews and declines whose outcome is known, of which there are
    `known_share`; `recall` as an estimate within [`recall_low`, `recall_high`]."""

    precision: Share | None
    decline_precision: Share | None
    known_share: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    approved_fraud_share: Share | None


def realised(outcomes: Int64, calibration: Calibration) -> Realised:
    """From counts by bin of the score, decision and outcome [S, 3, 3]."""
    approve, review, decline = (outcomes[:, decision].astype(np.float64) for decision in wire.Decision)
    missed = approve[:, FRAUD].sum()
    reviewed_frauds = review[:, FRAUD].sum()
    known_declines = decline[:, FRAUD].sum() + decline[:, LEGITIMATE].sum()
    silent = decline[:, UNLABELLED]
    caught = float(reviewed_frauds + decline[:, FRAUD].sum())
    expected = float((silent * mean_scores(calibration)).sum())
    known = float(review.sum() + known_declines)

    def recall(more: float) -> float | None:
        return _ratio(caught + more, caught + more + float(missed))

    return Realised(
        precision=share(caught, known),
        decline_precision=share(float(decline[:, FRAUD].sum()), float(known_declines)),
        known_share=_ratio(known, float(review.sum() + decline.sum())),
        recall=recall(expected),
        recall_low=recall(0.0),
        recall_high=recall(float(silent.sum())),
        approved_fraud_share=share(float(missed), float(approve.sum())),
    )


def mean_scores(calibration: Calibration) -> Float64:
    """Mean score of each bin of SCORE_BOUNDS in the reference [S]; what bins without rows lie between, lies between."""
    seen = calibration.rows > 0
    means = calibration.score_sum / np.maximum(calibration.rows, 1)
    places = np.arange(len(means))
    found: Float64 = np.interp(places, places[seen], means[seen]) if seen.any() else np.zeros(len(means))
    return found


@dataclass(frozen=True)
class CalibrationCheck:
    """Scores against outcomes. `error`: Σ share of rows × |frauds' share − mean score| (expected calibration error;
    Naeini, Cooper, Hauskrecht, 2015); `by_chance`: what it would be, on average, with perfect scores; `observed` over
    `expected` frauds."""

    rows: int
    error: float | None
    by_chance: float | None
    observed: int
    expected: float
    shares: tuple[Share | None, ...]
    """Share of frauds in each bin of the score."""


def calibration_check(outcomes: Int64, calibration: Calibration) -> CalibrationCheck:
    """Calibration on the rows whose outcome is known, from counts [S, 3, 3]."""
    rows, frauds = known_outcomes(outcomes)
    means = mean_scores(calibration)
    used = rows >= LEAST_ROWS
    total = float(rows[used].sum())
    gap = np.abs(frauds[used] / np.maximum(rows[used], 1.0) - means[used])
    # mean of |X| of a normal X with the binomial's standard deviation
    chance = np.sqrt(2.0 / np.pi * means[used] * (1.0 - means[used]) / np.maximum(rows[used], 1.0))
    return CalibrationCheck(
        rows=int(rows.sum()),
        error=_ratio(float((rows[used] * gap).sum()), total),
        by_chance=_ratio(float((rows[used] * chance).sum()), total),
        observed=int(frauds.sum()),
        expected=float((rows * means).sum()),
        shares=tuple(share(float(part), float(whole)) for part, whole in zip(frauds, rows, strict=True)),
    )


def known_outcomes(outcomes: Int64) -> tuple[Float64, Float64]:
    """(rows, frauds) per bin of the score [S] of counts [S, 3, 3], without declines that have no label."""
    counts = outcomes.astype(np.float64)
    frauds = counts[:, :, FRAUD].sum(axis=1)
    rows: Float64 = counts.sum(axis=(1, 2)) - counts[:, wire.Decision.DECLINE, UNLABELLED]
    return rows, frauds


class LabelEvidence:
    """An e-detector (evidence.py) of labels: what is fraud at a given score is not what it was.

    Nothing has moved while the share of frauds in each bin of the score lies within a band around the reference's:
    Wilson's interval ± the tolerance. A row's bet is fair as in betting.py; the bin itself is not bet on. It has one
    share of the false pages' budget, as each series has, so that `threshold` is that of the release's EvidenceDetector.
    """

    def __init__(self, calibration: Calibration, threshold: float, tolerance: Tolerance | None = None) -> None:
        wanted = tolerance or Tolerance()
        self.threshold = threshold
        self.wealth: Float64 = np.zeros(len(ODDS))
        rows, frauds = calibration.rows.astype(np.float64), calibration.frauds.astype(np.float64)
        centre = (frauds + mean_scores(calibration)) / (rows + 1.0)
        # few rows say little: Clopper and Pearson's interval (1934) instead of Wilson's, whose tails are too short here
        tail = stats.norm.sf(wanted.confidence_sd)
        low = np.where(frauds > 0, stats.beta.ppf(tail, np.maximum(frauds, 0.5), rows - frauds + 1.0), 0.0)
        high = np.where(frauds < rows, stats.beta.isf(tail, frauds + 1.0, np.maximum(rows - frauds, 0.5)), 1.0)
        slack = wanted.share_tolerance * np.minimum(centre, 1.0 - centre) + wanted.least_share
        low, high = np.clip(low - slack, 1e-6, centre), np.clip(high + slack, centre, 1.0 - 1e-6)
        odds = np.array(ODDS)[:, None] * centre / (1.0 - centre)
        bets = odds / (1.0 + odds)
        price = np.clip(bets, low, high)
        self._of_fraud: Float64 = np.log(bets / price)
        self._of_legitimate: Float64 = np.log((1.0 - bets) / (1.0 - price))

    @property
    def value(self) -> float:
        """V, in minutes."""
        return float(self.wealth.mean())

    def look(self, outcomes: Int64, minutes: float) -> bool:
        """Take in the outcomes [S, 3, 3] that matured since the look before; whether V crosses, and begins again,
        now."""
        rows, frauds = known_outcomes(outcomes)
        gain = self._of_fraud @ frauds + self._of_legitimate @ (rows - frauds)
        moved = gain != 0.0
        self.wealth[moved] = np.minimum((self.wealth[moved] + minutes) * np.exp(np.minimum(gain[moved], 500.0)), 1e250)
        if self.value < self.threshold:
            return False
        self.wealth[:] = 0.0
        return True


def label_threshold(series: int, false_pages_per_month: float = 1.0) -> float:
    """The threshold of LabelEvidence beside a detector of so many series."""
    return (series + 1) * MINUTES_A_MONTH / false_pages_per_month
