"""What a release's reasons are measured against: groups of features, and a small background of genuine payments.

A background is an average that stands for many genuine payments, and each of its rows costs the server 2^G − 2 rows of
the model for each payment that it explains. So few rows are chosen, and well: those whose mean comes nearest to that of
a large background in all coalitions of payments that the release flags. Greedy first, then swaps while any helps (the
super-samples of Chen, Welling, Smola, "Super-samples from kernel herding", 2010, with the coalitions as the kernel).
"""

from __future__ import annotations

from math import factorial
from typing import Any, Final

import numpy as np

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import Float32, Float64
from fraud_scoring.schema import Schema
from fraud_scoring.shapley import (
    MOST_GROUPS,
    MOST_ROWS,
    Explanation,
    FeatureGroup,
    Model,
    coalition_weights,
    members,
)
from fraud_scoring.windows import Int64

LARGE: Final = 512
"""Rows of the large background that the small one stands for."""
FLAGGED: Final = 64
"""Payments that are looked at: one half to choose by, the other to say how well that went."""
SIZES: Final = (1, 2, 4, 8, 16, 32)
"""Sizes of a background whose error is told, so that the chosen one can be judged."""


def feature_groups(schema: Schema) -> tuple[FeatureGroup, ...]:
    """The players: amount, each entity's history, other values of the transaction, time; those that have features.

    InvalidDefinition for more than MOST_GROUPS.
    """
    roles = {column.name: column.role for column in schema.columns}
    found: dict[str, list[int]] = {"amount": []}
    found |= {_history(name): [] for _, name in schema.entities}
    found |= {"other values": [], "time": []}
    for position, feature in enumerate(schema.features):
        if feature.entity:
            name = _history(feature.entity)
        elif feature.column:
            name = "amount" if roles[feature.column] == "amount" else "other values"
        else:
            name = "time"
        found[name].append(position)
    groups = tuple(FeatureGroup(name, tuple(positions)) for name, positions in found.items() if positions)
    if len(groups) > MOST_GROUPS:
        raise InvalidDefinition(
            f"schema {schema.name}: its features make {len(groups)} groups ({', '.join(g.name for g in groups)}); "
            f"exact reasons take at most {MOST_GROUPS}: declare features over fewer entities, or train with "
            "--background 0, which gives reasons by the scorecard's points"
        )
    return groups


def _history(entity: str) -> str:
    return f"{entity.removesuffix('_key')} history"


def fit_explanation(
    schema: Schema, model: Model, genuine: Float32, flagged: Float32, rows: int
) -> tuple[Explanation, dict[str, Any]]:
    """(a background of `rows` of the genuine payments FP32 [N, F], facts about it for the manifest).

    `flagged` FP32 [M, F] are payments of the kind that will be explained. The same arguments give the same background.
    """
    groups = feature_groups(schema)
    large = genuine[_evenly(len(genuine), LARGE)]
    payments = flagged[_evenly(len(flagged), FLAGGED)]
    to_choose, to_measure = payments[::2], payments[1::2] if len(payments) > 1 else payments
    by_row = _coalitions(groups, model, to_choose, large).reshape(-1, len(large)).T
    chosen = choose(by_row, min(rows, len(large)))
    measured = _coalitions(groups, model, to_measure, large)
    sizes = {size: choose(by_row, size) for size in SIZES if size <= len(large)}
    background = large[chosen]
    facts = {
        "groups": [group.name for group in groups],
        "background_rows": len(chosen),
        "large_background_rows": len(large),
        "error_share_p95": _error(measured, chosen, len(groups)),
        "error_share_p95_by_rows": {str(size): _error(measured, some, len(groups)) for size, some in sizes.items()},
    }
    return Explanation(groups, background, model(background)[:, 0]), facts


def choose(values: Float64, count: int) -> Int64:
    """The `count` rows of `values` [N, D] whose mean is near that of all N, rising; ties go to the earlier row."""
    target = values.mean(axis=0)
    chosen: list[int] = []
    total = np.zeros(values.shape[1])
    for taken in range(1, count + 1):
        distance = (((total + values) / taken - target) ** 2).sum(axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total += values[chosen[-1]]
    best = float(((total / count - target) ** 2).sum())
    improved = True
    while improved:
        improved = False
        for place, old in enumerate(chosen):
            distance = (((total - values[old] + values) / count - target) ** 2).sum(axis=1)
            distance[chosen] = np.inf
            new = int(distance.argmin())
            if distance[new] < best * (1 - 1e-9):
                total += values[new] - values[old]
                chosen[place], best, improved = new, float(distance[new]), True
    return np.sort(np.array(chosen, np.int64))


def _evenly(available: int, wanted: int) -> Int64:
    """At most `wanted` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, available - 1, min(available, wanted)).astype(np.int64))


def _coalitions(groups: tuple[FeatureGroup, ...], model: Model, payments: Float32, large: Float32) -> Float64:
    """The model's margin [P, 2^G, L] for each payment, coalition and row of the large background."""
    inside = members(groups, large.shape[1])
    out = np.empty((len(payments), len(inside), len(large)))
    for payment, margins in zip(payments, out, strict=True):
        rows = np.where(inside[:, None, :], payment, large).reshape(-1, large.shape[1])
        starts = range(0, len(rows), MOST_ROWS)
        margins.flat = np.concatenate([model(rows[start : start + MOST_ROWS]) for start in starts])
    return out


def _error(coalitions: Float64, chosen: Int64, players: int) -> float:
    """95th percentile over payments of the largest error of a group, as a share of what pushed up."""
    weights = coalition_weights(players).T / factorial(players)
    small, large = coalitions[:, :, chosen].mean(axis=2) @ weights, coalitions.mean(axis=2) @ weights
    rise = np.maximum(large, 0).sum(axis=1)
    share = np.abs(small - large).max(axis=1) / np.where(rise > 0, rise, np.inf)
    return round(float(np.quantile(share, 0.95)), 4)
