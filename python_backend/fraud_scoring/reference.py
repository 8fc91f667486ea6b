"""What a release carries about its own validation part, and how rows are counted against it.

Guarantee: all that is counted is integers on bins that were frozen with the release, so that counts add exactly, over
batches, writers, replicas and restarts, in any order. Cost: below a microsecond a row for 17 features in large batches
(join small frames first: each call costs about 0.1 ms).

One int64 vector holds everything that is counted of a set of rows (`Layout`):

    | feature 1 | feature 2 | … | score | decision | sums |

A feature or the score takes B + 4 places: B regular bins (bin b holds edges[b−1] ≤ x < edges[b]), then OWN_BINS. The
decision takes three (wire.Decision). `sums` are the integers that performance is estimated from (SUMS).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.bins import (
    DECISION_SERIES,
    DECISIONS,
    HOURS,
    OWN_BINS,
    SCORE_BOUNDS,
    SCORE_SERIES,
    SUMS,
    BinnedReference,
    Calibration,
    Float32,
    Float64,
    Int64,
    Layout,
    Mask,
    binned_document,
    hour_of_week,
    parse_binned,
)
from fraud_scoring.decision_log import Decisions
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import ensemble_name, release_name

__all__ = [
    "COSTS",
    "DECISIONS",
    "DECISION_SERIES",
    "FORMAT",
    "HOURS",
    "OWN_BINS",
    "REFERENCE_FILE",
    "SCORE_BOUNDS",
    "SCORE_SERIES",
    "SUMS",
    "BinnedReference",
    "Calibration",
    "Float32",
    "Float64",
    "Int64",
    "Layout",
    "Mask",
    "Reference",
    "compared",
    "count",
    "count_groups",
    "count_values",
    "hour_of_week",
    "schema_hash",
]

REFERENCE_FILE: Final = "reference.json"
"""Lies in the ensemble's folder of a release, hashed in its manifest."""
FORMAT: Final = 1
COSTS: Final = ("chargeback_fee_minor", "false_decline_minor", "review_minor", "review_miss_share")
"""What thresholds are chosen with, in minor units; the last is the share of frauds that a review misses."""


@dataclass(frozen=True)
class Reference:
    """What a release's features, scores and decisions were on its validation part."""

    release: int
    schema_sha256: str
    time_column: int
    amount_column: int
    features: tuple[BinnedReference, ...]
    score: BinnedReference
    decisions: Int64
    by_hour: Int64
    """Counts per hour of the week [168, cells]; they add up to the counts of the series."""
    by_day: Int64
    """Counts per day of the validation part [D, cells]."""
    first_day: int
    """Days from 1970-01-01 to the first of them."""
    calibration: Calibration
    costs: Mapping[str, float]
    """By the names of COSTS; empty where they are not known, so that no cost is estimated."""
    rows: int

    @cached_property
    def binned(self) -> tuple[BinnedReference, ...]:
        """The features and the score, in the order of the layout."""
        return (*self.features, self.score)

    @cached_property
    def layout(self) -> Layout:
        sizes = [len(series.counts) for series in self.binned] + [DECISIONS]
        names = (*(series.name for series in self.features), SCORE_SERIES, DECISION_SERIES)
        return Layout(names, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    @cached_property
    def cells(self) -> Int64:
        """Counts of the whole reference [cells], in the order of the layout."""
        return np.concatenate([*(series.counts for series in self.binned), self.decisions])

    @cached_property
    def hour_volume(self) -> Int64:
        """Rows per hour of the week [168]."""
        volume: Int64 = self.by_hour[:, self.layout.of(DECISION_SERIES)].sum(axis=1)
        return volume

    def fits(self, schema_document: str) -> bool:
        """Whether this reference was made with the schema whose document the log's Context holds."""
        return schema_hash(schema_document) == self.schema_sha256

    def empty(self) -> Int64:
        """The vector of counts of no rows."""
        return np.zeros(self.layout.width, np.int64)

    def to_json(self) -> str:
        """The reference as text; floats keep every bit."""
        document = {
            "format": FORMAT,
            "release": self.release,
            "schema_sha256": self.schema_sha256,
            "time_column": self.time_column,
            "amount_column": self.amount_column,
            "rows": self.rows,
            "features": [binned_document(series) for series in self.features],
            "score": binned_document(self.score),
            "decisions": self.decisions.tolist(),
            "calibration": {name: getattr(self.calibration, name).tolist() for name in ("rows", "score_sum", "frauds")},
            "costs": dict(self.costs),
            "by_hour": self.by_hour.tolist(),
            "by_day": self.by_day.tolist(),
            "first_day": self.first_day,
        }
        return json.dumps(document, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """The reference that `to_json` wrote; InvalidDefinition for anything else."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["format"] != FORMAT:
                raise InvalidDefinition(
                    f"reference: format {document['format']!r} is not known here; this version reads format {FORMAT}"
                )
            calibration = document["calibration"]
            found = cls(
                release=int(document["release"]),
                schema_sha256=document["schema_sha256"],
                time_column=int(document["time_column"]),
                amount_column=int(document["amount_column"]),
                features=tuple(parse_binned(entry) for entry in document["features"]),
                score=parse_binned(document["score"]),
                decisions=np.array(document["decisions"], np.int64),
                by_hour=np.array(document["by_hour"], np.int64),
                by_day=np.array(document["by_day"], np.int64),
                first_day=int(document["first_day"]),
                calibration=Calibration(
                    np.array(calibration["rows"], np.int64),
                    np.array(calibration["score_sum"], np.float64),
                    np.array(calibration["frauds"], np.int64),
                ),
                costs={name: float(value) for name, value in document["costs"].items()},
                rows=int(document["rows"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidDefinition("reference: the file is broken; restore the release") from None
        return found.checked()

    @classmethod
    def load(cls, repository: Path, release: int) -> Reference:
        """The reference that a release in `repository` carries; InvalidDefinition where there is none."""
        try:
            text = (repository / ensemble_name(release) / REFERENCE_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidDefinition(
                f"release {release_name(release)} carries no {REFERENCE_FILE}; drift can be told for releases "
                "that have one: train it again"
            ) from None
        return cls.from_json(text)

    def checked(self) -> Reference:
        """The reference itself; InvalidDefinition where it does not fit itself, or names other costs than COSTS."""
        if self.costs and set(self.costs) != set(COSTS):
            wrong = ", ".join(sorted(set(self.costs) ^ set(COSTS)))
            raise InvalidDefinition(f"reference: costs: {wrong} is missing or unknown; write {', '.join(COSTS)}")
        cells = self.layout.cells
        good = self.by_hour.shape == (HOURS, cells) and self.by_day.ndim == 2 and self.by_day.shape[1] == cells
        good = good and len(self.decisions) == DECISIONS and np.array_equal(self.by_hour.sum(axis=0), self.cells)
        good = good and all(len(series.counts) == series.bins + len(OWN_BINS) for series in self.binned)
        good = good and all(len(series.means) == series.bins for series in self.binned)
        good = good and all((np.diff(series.values) > 0).all() for series in self.binned)
        if not good or int(self.decisions.sum()) != self.rows:
            raise InvalidDefinition("reference: its counts do not fit each other; restore the release")
        return self

    @cached_property
    def _edge_table(self) -> tuple[Float32, Float32, Float32, Int64]:
        """(edges [E, K], padded with infinity; lows [K]; highs [K]; columns of discrete series)."""
        edges = np.full((max(len(series.edges) for series in self.binned), len(self.binned)), np.inf, np.float32)
        for column, series in enumerate(self.binned):
            edges[: len(series.edges), column] = series.edges
        lows = np.array([series.low for series in self.binned], np.float32)
        highs = np.array([series.high for series in self.binned], np.float32)
        return edges, lows, highs, np.flatnonzero([series.discrete for series in self.binned])

    def bin_numbers(self, values: Float32) -> Int64:
        """Which bin each value lies in [N, K], for values [N, K] of the K features and the score, in that order."""
        edges, lows, highs, discrete = self._edge_table
        found = np.zeros(values.shape, np.int16)
        for row in edges:
            found += values >= row
        regular = np.array([series.bins for series in self.binned], np.int16)
        for column in discrete:
            own = np.append(self.binned[column].values, np.inf).astype(np.float32)
            strange = own[np.minimum(found[:, column], len(own) - 1)] != values[:, column]
            found[strange, column] = regular[column] + OWN_BINS.index("unseen")
        for place, mask in (
            ("below", values < lows),
            ("above", values > highs),
            ("missing", ~np.isfinite(values)),
        ):
            if mask.any():
                rows, columns = np.nonzero(mask)
                found[rows, columns] = regular[columns] + OWN_BINS.index(place)
        return found.astype(np.int64)


def schema_hash(document: str) -> str:
    """SHA-256 of a schema's document."""
    return hashlib.sha256(document.encode()).hexdigest()


def compared(reference: Reference, decisions: Decisions) -> Mask:
    """The rows that are compared with `reference`: decided by its release, by the model, and for the first time."""
    mask: Mask = (
        ~decisions.repeat
        & (decisions.verdict[:, 5] < wire.Source.SCORECARD)
        & (decisions.verdict[:, 4] == reference.release)
    )
    return mask


def count(reference: Reference, decisions: Decisions) -> Int64:
    """The vector of counts of a batch's `compared` rows."""
    vector: Int64 = count_groups(reference, decisions, np.zeros(len(decisions), np.int64), 1)[0]
    return vector


def count_groups(reference: Reference, decisions: Decisions, group: Int64, groups: int) -> Int64:
    """One vector of counts for each group of rows [groups, width]; `group` [N] is each row's group (its minute, say).

    InvalidDefinition if the rows do not have the reference's features.
    """
    kept = compared(reference, decisions)
    if not kept.any():
        return np.zeros((groups, reference.layout.width), np.int64)
    if not kept.all():
        group = group[kept]
    return count_values(
        reference,
        decisions.features[kept],
        decisions.score[kept],
        decisions.verdict[kept, 0],
        decisions.transaction[kept, reference.amount_column],
        group,
        groups,
    )


def count_values(
    reference: Reference,
    features: Float32,
    score: Float32,
    decision: npt.NDArray[np.int32],
    amount_minor: Int64,
    group: Int64,
    groups: int,
) -> Int64:
    """`count_groups` for plain arrays: features FP32 [N, F], all others [N]."""
    if features.shape[1] != len(reference.features):
        raise InvalidDefinition(
            f"release {release_name(reference.release)}: the log's rows have {features.shape[1]} features, and its "
            f"reference {len(reference.features)}"
        )
    layout = reference.layout
    values = np.column_stack([features, score]).astype(np.float32, copy=False)
    at = reference.bin_numbers(values)
    at += layout.starts[: at.shape[1]] + group[:, None] * layout.cells
    place = np.concatenate([at.ravel(), layout.starts[-2] + decision + group * layout.cells])
    out = np.empty((groups, layout.width), np.int64)
    out[:, : layout.cells] = np.bincount(place, minlength=groups * layout.cells).reshape(groups, layout.cells)
    out[:, layout.sums] = _sums(score, decision, amount_minor, group, groups)
    return out


def _sums(score: Float32, decision: npt.NDArray[np.int32], amount: Int64, group: Int64, groups: int) -> Int64:
    """SUMS for each group [groups, len(SUMS)]."""
    probability = np.clip(np.nan_to_num(score.astype(np.float64)), 0.0, 1.0)
    terms = np.empty((3, len(score)), np.int64)
    terms[0] = np.rint(1e6 * probability)
    terms[1] = np.rint(1e3 * probability * amount)
    terms[2] = amount
    out = np.zeros((groups, len(SUMS)), np.int64)
    for term in range(len(terms)):
        np.add.at(out, (group, 3 * decision + term), terms[term])
    np.add.at(out[:, -1], group, np.rint(1e6 * (1.0 - np.abs(2.0 * probability - 1.0))).astype(np.int64))
    return out
