"""Intervals for two releases on the same rows: customers are drawn again, and each draw counts for both.

A customer's transactions share its fate (a leaked card is a dozen frauds), so rows are no independent draws; pairing
takes out what both releases find hard. Percentile intervals: Efron and Tibshirani, "An Introduction to the Bootstrap"
(1993), ch. 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fraud_release.learning import Labels
from fraud_scoring.features import Float32
from fraud_scoring.windows import Int64

Weights = NDArray[np.float64]
LOW, HIGH = 2.5, 97.5


def resampled(clusters: Int64, resamples: int, seed: int) -> Iterator[Weights]:
    """Weights [N] of the rows, once for each resample: how often the row's cluster was drawn."""
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        yield drawn[cluster].astype(np.float64)


def interval(draws: list[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The 95% percentile interval; (−∞, ∞) where a draw gave no number."""
    values = np.asarray(draws, np.float64)
    if not len(values) or np.isnan(values).any():
        return -np.inf, np.inf
    low, high = np.percentile(values, (LOW, HIGH))
    return float(low), float(high)


def average_precision(score: Float32, is_fraud: Labels) -> Callable[[Weights], float]:
    """Average precision of `score` as a function of the rows' weights; with weights of 1, scikit-learn's.

    Sorted once: a resample costs two running sums. NaN where no fraud was drawn.
    """
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    fraud = is_fraud[order] == 1

    def of(weights: Weights) -> float:
        drawn = weights[order]
        taken = np.cumsum(drawn)[last_of_ties]
        found = np.cumsum(np.where(fraud, drawn, 0.0))[last_of_ties]
        if found[-1] == 0:
            return float("nan")
        precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / found[-1])

    return of
