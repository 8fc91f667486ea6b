"""An A/B test in money: what each arm caught, whom it turned away, what it cost, with intervals.

Customers are drawn into arms, not transactions, so a figure is a ratio of sums over customers, and its variance that of
a ratio estimator of clusters (Cochran, Sampling Techniques, 3rd ed., 1977, sections 6.4 and 9A.2): for R = ΣY/ΣX over
m customers, m/(m−1) · Σ(Y − R·X)² / (ΣX)². Intervals are R ± 1.96 of its root; a difference of two arms adds the
variances, as no customer is in both.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_judge.betting import Float64, Int64
from fraud_scoring.wire import Decision

Z: Final = 1.959964
LEAST_CUSTOMERS: Final = 30
"""With fewer customers in an arm no interval is given: the normal distribution does not stand for so few."""
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Costs:
    """Stated costs in minor units. A reviewed fraud is missed with `review_miss_share`."""

    chargeback_fee: float = 2_000.0
    false_decline: float = 3_000.0
    review: float = 400.0
    review_miss_share: float = 0.2


class Decided(NamedTuple):
    """Matured decisions, all [N]; `amount` in minor units; `is_fraud`: as the labels say, else no fraud."""

    arm: Int64
    customer: Int64
    amount: Int64
    decision: Int64
    is_fraud: Mask


@dataclass(frozen=True)
class Figure:
    """A ratio with its 95% interval; `low` and `high` are None where there are too few customers."""

    value: float | None
    low: float | None = None
    high: float | None = None
    variance: float = float("nan")

    @property
    def known(self) -> bool:
        return self.low is not None

    def document(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


FIGURES: Final = {
    "frauds_caught_share": "frauds reviewed or declined, of all frauds",
    "fraud_amount_caught_share": "their amount, of all fraud's amount",
    "good_declined_per_1000": "good transactions declined, of 1,000 good ones",
    "reviews_per_1000": "reviews, of 1,000 transactions",
    "cost_per_1000": "cost of 1,000 transactions, minor units",
}


def ratio(numerator: Float64, denominator: Float64, customer: Int64) -> Figure:
    """Σ numerator / Σ denominator of rows [N], clustered by customer."""
    total = float(denominator.sum())
    if total <= 0:
        return Figure(None)
    value = float(numerator.sum()) / total
    _, place = np.unique(customer, return_inverse=True)
    clusters = int(place.max()) + 1
    if clusters < LEAST_CUSTOMERS:
        return Figure(value)
    left = np.bincount(place, numerator - value * denominator)
    variance = clusters / (clusters - 1) * float((left**2).sum()) / total**2
    reach = Z * variance**0.5
    return Figure(value, value - reach, value + reach, variance)


def figures(decided: Decided, costs: Costs) -> dict[str, Figure]:
    """FIGURES of one arm."""
    fraud, good = decided.is_fraud.astype(np.float64), (~decided.is_fraud).astype(np.float64)
    ones, amount = np.ones(len(fraud)), decided.amount.astype(np.float64)
    reviewed = (decided.decision == Decision.REVIEW).astype(np.float64)
    declined = (decided.decision == Decision.DECLINE).astype(np.float64)
    caught = fraud * (reviewed + declined)
    loss = fraud * (amount + costs.chargeback_fee)
    cost = loss * (1.0 - reviewed - declined) + reviewed * costs.review
    cost += loss * reviewed * costs.review_miss_share + good * declined * costs.false_decline
    thousand = 1_000.0
    return {
        "frauds_caught_share": ratio(caught, fraud, decided.customer),
        "fraud_amount_caught_share": ratio(caught * amount, fraud * amount, decided.customer),
        "good_declined_per_1000": ratio(thousand * good * declined, good, decided.customer),
        "reviews_per_1000": ratio(thousand * reviewed, ones, decided.customer),
        "cost_per_1000": ratio(cost * thousand, ones, decided.customer),
    }


def difference(one: Figure, other: Figure) -> Figure:
    """`one` − `other`, of different customers."""
    if one.value is None or other.value is None:
        return Figure(None)
    value = one.value - other.value
    if not (one.known and other.known):
        return Figure(value)
    variance = one.variance + other.variance
    return Figure(value, value - Z * variance**0.5, value + Z * variance**0.5, variance)


def compare(decided: Decided, names: dict[int, str], base: int, costs: Costs) -> dict[str, Any]:
    """Figures of each arm of `names`, and how each differs from the arm `base`."""
    by_arm: dict[int, dict[str, Figure]] = {}
    arms: dict[str, Any] = {}
    for arm, name in names.items():
        mine = decided.arm == arm
        own = Decided(*(column[mine] for column in decided))
        by_arm[arm] = figures(own, costs)
        arms[name] = {
            "transactions": int(mine.sum()),
            "customers": len(np.unique(own.customer)),
            "frauds": int(own.is_fraud.sum()),
            **{figure: found.document() for figure, found in by_arm[arm].items()},
        }
    differences = {
        name: {figure: difference(by_arm[arm][figure], by_arm[base][figure]).document() for figure in FIGURES}
        for arm, name in names.items()
        if arm != base
    }
    return {"arms": arms, "against": names[base], "differences": differences, "costs": asdict(costs)}
