"""A reference made from rows: which bins each feature gets, and what lies in them.

A value that alone holds a bin's share (the 95% zeros of a fraud rate) is a bin of its own, and the rest is split by
its own quantiles, so that the rest is seen as well as the bulk. A feature of few distinct values gets a bin for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import (
    DECISIONS,
    HOURS,
    OWN_BINS,
    SCORE_BOUNDS,
    SCORE_SERIES,
    BinnedReference,
    Calibration,
    Float32,
    Float64,
    Int64,
    Reference,
    count_values,
    hour_of_week,
    schema_hash,
)
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema

BINS: Final = 10
MOST_VALUES: Final = 16
"""A feature with at most this many distinct values is discrete."""
SCORE_LEVELS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
"""Quantiles between the score's bins: frauds live in the last percent."""
LEAST_ROWS: Final = 30
"""A bin with fewer rows is joined to its neighbour."""


@dataclass(frozen=True)
class ValidationPart:
    """What a release did on its validation part; features FP32 [N, F], all others [N]."""

    features: Float32
    score: Float32
    decision: npt.NDArray[np.int32]
    amount_minor: Int64
    time_us: Int64
    is_fraud: npt.NDArray[np.int8]


def make_reference(release: int, schema: Schema, part: ValidationPart, costs: Mapping[str, float]) -> Reference:
    """The reference of `part`; InvalidDefinition where a feature has a name that is taken, or a cost is not known."""
    taken = {SCORE_SERIES, "decision"} & set(schema.feature_names)
    if taken:
        raise InvalidDefinition(f"schema {schema.name}: a feature is called {taken.pop()!r}; give it another name")
    levels = np.arange(1, BINS) / BINS
    features = tuple(
        bin_values(name, part.features[:, column], levels) for column, name in enumerate(schema.feature_names)
    )
    score = bin_values(SCORE_SERIES, part.score, np.array(SCORE_LEVELS))
    cells = sum(len(series.counts) for series in (*features, score)) + DECISIONS
    draft = Reference(
        release=release,
        schema_sha256=schema_hash(schema.document),
        time_column=schema.time_index,
        amount_column=schema.amount_index,
        features=features,
        score=score,
        decisions=np.zeros(DECISIONS, np.int64),
        by_hour=np.zeros((HOURS, cells), np.int64),
        by_day=np.zeros((0, cells), np.int64),
        first_day=int(part.time_us.min() // MICROSECONDS_PER_DAY),
        calibration=_calibration(part),
        costs=dict(costs),
        rows=len(part.score),
    )
    hour = hour_of_week(part.time_us)
    day = part.time_us // MICROSECONDS_PER_DAY - draft.first_day
    by_hour = _count(draft, part, hour, HOURS)
    total = by_hour.sum(axis=0)
    places = [total[draft.layout.of(k)] for k in range(len(draft.layout.names))]
    return replace(
        draft,
        features=tuple(replace(series, counts=places[k]) for k, series in enumerate(features)),
        score=replace(score, counts=places[-2]),
        decisions=places[-1],
        by_hour=by_hour,
        by_day=_count(draft, part, day, int(day.max()) + 1),
    ).checked()


def bin_values(name: str, values: Float32, levels: Float64, most_values: int = MOST_VALUES) -> BinnedReference:
    """Bins for `values` FP32 [N] at the quantile `levels`; their counts are still 0 (but for their number)."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        finite = np.zeros(1, np.float32)  # nothing but missing values: one bin that holds no row
    distinct, rows = np.unique(finite, return_counts=True)
    discrete = len(distinct) <= most_values
    edges = distinct[1:] if discrete else _edges(distinct, rows, levels)
    wide = finite.astype(np.float64)
    place = np.searchsorted(edges, finite, side="right")
    rows_in = np.maximum(np.bincount(place, minlength=len(edges) + 1), 1)
    return BinnedReference(
        name=name,
        edges=edges.astype(np.float64),
        low=float(distinct[0]),
        high=float(distinct[-1]),
        discrete=discrete,
        means=np.bincount(place, weights=wide, minlength=len(edges) + 1) / rows_in,
        counts=np.zeros(len(edges) + 1 + len(OWN_BINS), np.int64),
        mean=float(wide.mean()),
        sd=float(wide.std()),
    )


def _edges(distinct: Float32, rows: Int64, levels: Float64) -> Float32:
    """Where a new bin begins, among `distinct` values that `rows` rows have."""
    share = rows / rows.sum()
    atom = share >= 1.0 / (len(levels) + 1)
    rest = np.where(atom, 0.0, share)
    below = (np.cumsum(rest) - rest) / max(rest.sum(), 1e-12)
    # as many quantiles fewer as there are values that take a bin of their own, spread as the levels are
    fewer = max(len(levels) - int(atom.sum()), 1)
    places = np.linspace(0.0, 1.0, fewer + 2)[1:-1]
    kept = np.interp(places, np.linspace(0.0, 1.0, len(levels) + 2), np.concatenate([[0.0], levels, [1.0]]))
    bin_of_rest = np.searchsorted(kept, below, side="right")
    atoms_before = np.cumsum(atom)
    begins = np.ones(len(distinct), bool)
    begins[1:] = (np.diff(bin_of_rest) > 0) & ~atom[1:]
    begins[1:] |= (np.diff(atoms_before) > 0) | atom[:-1]
    starts = np.flatnonzero(begins)
    begin: Float32 = distinct[_joined(starts, atom[starts], np.add.reduceat(rows, starts))[1:]]
    return begin


def _joined(starts: Int64, is_atom: npt.NDArray[np.bool_], rows: Int64) -> Int64:
    """Starts of bins without those of fewer than LEAST_ROWS rows, which join a neighbour that is no atom."""
    kept = [0]
    size = int(rows[0])
    for number in range(1, len(starts)):
        small = min(size, int(rows[number])) < LEAST_ROWS
        if small and not is_atom[number] and not is_atom[kept[-1]]:
            size += int(rows[number])
            continue
        kept.append(number)
        size = int(rows[number])
    return starts[kept]


def _count(draft: Reference, part: ValidationPart, group: Int64, groups: int) -> Int64:
    counts = count_values(draft, part.features, part.score, part.decision, part.amount_minor, group, groups)
    return counts[:, : draft.layout.cells]


def _calibration(part: ValidationPart) -> Calibration:
    number = np.searchsorted(SCORE_BOUNDS, np.rint(1e6 * part.score.astype(np.float64)) / 1e6)
    size = len(SCORE_BOUNDS) + 1
    return Calibration(
        rows=np.bincount(number, minlength=size).astype(np.int64),
        score_sum=np.bincount(number, weights=part.score.astype(np.float64), minlength=size).astype(np.float64),
        frauds=np.bincount(number, weights=part.is_fraud, minlength=size).astype(np.int64),
    )
