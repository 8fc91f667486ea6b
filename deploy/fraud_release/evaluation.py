"""How good a release is: on the test part, by the score that it would have served."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_release.learning import Labels
from fraud_release.splits import Mask, Split
from fraud_scoring.features import Float32, Float64
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from fraud_scoring.windows import Int64

CARDS_A_DAY = 100


@dataclass(frozen=True)
class Quality:
    """Ranking quality; `card_precision_100` is the mean over days of the share of frauds among the top 100 cards."""

    transactions: int
    frauds: int
    auc: float
    average_precision: float
    card_precision_100: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def quality(score: Float32 | Float64, is_fraud: Labels, customer: Int64, times_us: Int64) -> Quality:
    """Quality of `score` FP32 [N]; both classes must be there."""
    return Quality(
        transactions=len(score),
        frauds=int(is_fraud.sum()),
        auc=float(roc_auc_score(is_fraud, score)),
        average_precision=float(average_precision_score(is_fraud, score)),
        card_precision_100=card_precision(score, is_fraud, customer, times_us),
    )


def card_precision(
    score: Float32 | Float64, is_fraud: Labels, customer: Int64, times_us: Int64, top: int = CARDS_A_DAY
) -> float:
    """Card precision@top (Fraud Detection Handbook, ch. 4): a card's score is its highest of the day; a card that was
    found is not looked at again on later days."""
    day = times_us // MICROSECONDS_PER_DAY
    found: set[int] = set()
    shares = []
    for today in np.unique(day):
        rows = np.flatnonzero((day == today) & ~np.isin(customer, list(found)))
        cards, index = np.unique(customer[rows], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, index, score[rows])
        fraudulent = np.zeros(len(cards), bool)
        np.logical_or.at(fraudulent, index, is_fraud[rows] == 1)
        picked = np.argsort(-highest, kind="stable")[:top]
        shares.append(fraudulent[picked].sum() / top)
        found.update(cards[picked][fraudulent[picked]].tolist())
    return float(np.mean(shares))


def calibration_error(score: Float32, is_fraud: Labels, bins: int = 20) -> float:
    """ECE: how far the mean score lies from the share of frauds, over `bins` of equally many rows in order of score."""
    order = np.argsort(score, kind="stable")
    parts = zip(
        np.array_split(score[order].astype(np.float64), bins), np.array_split(is_fraud[order], bins), strict=True
    )
    return float(sum(abs(s.sum() - f.sum(dtype=np.int64)) for s, f in parts) / len(score))


def not_known_as_compromised(customer: Int64, times_us: Int64, known_at_us: Int64, split: Split) -> Mask:
    """The test rows of customers of whom no fraud was known when the test began (the Handbook's protocol); frauds
    before the training part are forgotten, as the cards were replaced."""
    remembered = times_us >= times_us[split.train].min()
    known = np.unique(customer[remembered & (known_at_us < split.test_from_us)])
    return split.test & ~np.isin(customer, known)
