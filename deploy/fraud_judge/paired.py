"""Two releases on the same transactions: where a shadow agrees with who answered, and what would be different.

Transactions of a customer belong together, so every interval is over customers, at 95%. Shares: Clopper and Pearson's
with the effective sample size that the variance of clusters gives (Korn and Graubard, Confidence intervals for
proportions with small expected number of positive counts estimated from survey data, Survey Methodology 24, 1998);
where nothing, or all, was counted, each customer is one draw. Means and shares of money: `business.ratio`. The distance
of the scores: percentiles of a bootstrap in which each customer counts a Poisson(1) number of times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.stats import beta

from fraud_judge.betting import Float64, Int64
from fraud_judge.business import LEAST_CUSTOMERS, Figure, Mask, ratio
from fraud_scoring.wire import Decision

LEVEL: Final = 0.95
QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
DRAWS: Final = 200
_BINS: Final = 1_000
NAMES: Final = tuple(one.name.lower() for one in Decision)


class Pairs(NamedTuple):
    """What was answered and what the shadow says, all [N]; `amount` in minor units, scores as logged."""

    at_us: Int64
    identifier: Int64
    customer: Int64
    amount: Int64
    champion_score: Float64
    score: Float64
    champion: Int64
    challenger: Int64


def compare(pairs: Pairs, *, examples: int = 5, seed: int = 7) -> dict[str, Any]:
    """All figures of N ≥ 1 pairs, as plain values."""
    return {
        "transactions": len(pairs.at_us),
        "customers": len(np.unique(pairs.customer)),
        "from_us": int(pairs.at_us.min()),
        "to_us": int(pairs.at_us.max()),
        "amount_minor": int(pairs.amount.sum()),
        "agreement": share(pairs.champion == pairs.challenger, pairs.customer).document(),
        "stricter": share(pairs.challenger > pairs.champion, pairs.customer).document(),
        "milder": share(pairs.challenger < pairs.champion, pairs.customer).document(),
        "decisions": {name: _decision(pairs, code) for code, name in enumerate(NAMES)},
        "matrix": _matrix(pairs),
        "flips": _flips(pairs, examples),
        "scores": _scores(pairs, seed),
    }


def share(counted: Mask, customer: Int64) -> Figure:
    """The share of rows [N] that are `counted`."""
    n, found = len(counted), int(counted.sum())
    value = found / n
    _, place = np.unique(customer, return_inverse=True)
    clusters = int(place.max()) + 1
    if clusters < LEAST_CUSTOMERS:
        return Figure(value)
    size = float(clusters)
    if 0 < found < n:
        variance = ratio(counted.astype(np.float64), np.ones(n), customer).variance
        size = min(float(n), value * (1.0 - value) / variance) if variance > 0 else float(n)
    tail, count = (1.0 - LEVEL) / 2, value * size
    low = float(beta.ppf(tail, count, size - count + 1.0)) if found else 0.0
    high = float(beta.ppf(1.0 - tail, count + 1.0, size - count)) if found < n else 1.0
    return Figure(value, low, high)


def distance(champion: Float64, challenger: Float64) -> float:
    """Kolmogorov and Smirnov's: the largest difference of the two scores' distributions, 0 to 1."""
    pooled = np.concatenate([champion, challenger])
    below = [np.searchsorted(np.sort(one), pooled, side="right") / len(one) for one in (champion, challenger)]
    return float(np.abs(below[0] - below[1]).max())


def _distance(pairs: Pairs, seed: int) -> Figure:
    value = distance(pairs.champion_score, pairs.score)
    _, place = np.unique(pairs.customer, return_inverse=True)
    clusters = int(place.max()) + 1
    if clusters < LEAST_CUSTOMERS:
        return Figure(value)
    pooled = np.concatenate([pairs.champion_score, pairs.score])
    edges = np.unique(np.quantile(pooled, np.linspace(0, 1, _BINS + 1)[1:-1]))
    bins = [np.searchsorted(edges, one, side="left") for one in (pairs.champion_score, pairs.score)]
    rng = np.random.default_rng(seed)
    drawn = np.empty(DRAWS)
    for i in range(DRAWS):
        weight = rng.poisson(1.0, clusters).astype(np.float64)[place]
        counts = [np.bincount(one, weight, len(edges) + 1) for one in bins]
        drawn[i] = np.abs(np.cumsum(counts[0] - counts[1])).max() / max(weight.sum(), 1.0)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Figure(value, min(low, value), max(high, value))


def _decision(pairs: Pairs, code: int) -> dict[str, Any]:
    champion, challenger = pairs.champion == code, pairs.challenger == code
    more = challenger.astype(np.float64) - champion.astype(np.float64)
    return {
        "champion": share(champion, pairs.customer).document(),
        "challenger": share(challenger, pairs.customer).document(),
        "difference": ratio(more, np.ones(len(more)), pairs.customer).document(),
    }


def _matrix(pairs: Pairs) -> list[list[dict[str, int]]]:
    """Champion's decision (rows) by challenger's: transactions and their amounts."""
    cells = (pairs.champion * len(NAMES) + pairs.challenger).astype(np.int64)
    counts = np.bincount(cells, minlength=len(NAMES) ** 2)
    amounts = np.zeros(len(counts), np.int64)
    np.add.at(amounts, cells, pairs.amount)
    found = [
        {"transactions": int(count), "amount_minor": int(amount)} for count, amount in zip(counts, amounts, strict=True)
    ]
    return [found[row * len(NAMES) : (row + 1) * len(NAMES)] for row in range(len(NAMES))]


def _flips(pairs: Pairs, examples: int) -> list[dict[str, Any]]:
    """Decisions that would be others, the most frequent first; examples are the largest amounts."""
    flips = []
    amount = pairs.amount.astype(np.float64)
    for champion, challenger in sorted({*zip(pairs.champion.tolist(), pairs.challenger.tolist(), strict=True)}):
        if champion == challenger:
            continue
        mine = (pairs.champion == champion) & (pairs.challenger == challenger)
        largest = np.flatnonzero(mine)[np.argsort(-pairs.amount[mine], kind="stable")][:examples]
        flips.append(
            {
                "champion": NAMES[champion],
                "challenger": NAMES[challenger],
                "transactions": int(mine.sum()),
                "customers": len(np.unique(pairs.customer[mine])),
                "share": share(mine, pairs.customer).document(),
                "amount_minor": int(pairs.amount[mine].sum()),
                "amount_share": _part_of(ratio(amount * mine, amount, pairs.customer)).document(),
                "examples": [_example(pairs, i) for i in largest.tolist()],
            }
        )
    return sorted(flips, key=lambda one: -one["transactions"])


def _part_of(figure: Figure) -> Figure:
    """A part of a whole: the interval ends where a share does."""
    if figure.low is None or figure.high is None:
        return figure
    return replace(figure, low=max(0.0, figure.low), high=min(1.0, figure.high))


def _example(pairs: Pairs, i: int) -> dict[str, Any]:
    return {
        "transaction": int(pairs.identifier[i]),
        "amount_minor": int(pairs.amount[i]),
        "champion_score": float(pairs.champion_score[i]),
        "challenger_score": float(pairs.score[i]),
    }


def _scores(pairs: Pairs, seed: int) -> dict[str, Any]:
    difference = pairs.score - pairs.champion_score

    def quantiles(values: Float64) -> Mapping[str, float]:
        return {f"{q:g}": value for q, value in zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True)}

    return {
        "champion": quantiles(pairs.champion_score),
        "challenger": quantiles(pairs.score),
        "difference": quantiles(difference),
        "mean_difference": ratio(difference, np.ones(len(difference)), pairs.customer).document(),
        "ks_distance": _distance(pairs, seed).document(),
    }
