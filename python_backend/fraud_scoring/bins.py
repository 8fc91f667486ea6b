"""Frozen bins: what a reference says of one feature or the score, and where it lies in the vector of counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

OWN_BINS: Final = ("below", "above", "unseen", "missing")
"""Below the reference's minimum, above its maximum, no value of the reference (discrete features), NaN or infinite."""
HOURS: Final = 168
"""Hours of a week, Monday 00:00 UTC first."""
DECISIONS: Final = len(wire.Decision)
SCORE_SERIES: Final = "score"
DECISION_SERIES: Final = "decision"

SCORE_BOUNDS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)
"""Upper bounds, inclusive, of the bins of the score that calibration is judged in; one more bin lies above."""

SUMS: Final = (
    *(
        f"{what}_{decision.name.lower()}"
        for decision in wire.Decision
        for what in ("probability_millionths", "loss_thousandths", "amount_minor")
    ),
    "doubt_millionths",
)
"""Per decision: Σ score, Σ score × amount (thousandths of a minor unit), Σ amount; over all rows: Σ 1 − |2·score − 1|.

Each row's term is rounded to an integer first, so that the sums add exactly."""

_MICROSECONDS_PER_HOUR: Final = 3_600_000_000
_EPOCH_HOUR: Final = 72  # 1970-01-01 was a Thursday


def hour_of_week(time_us: Int64) -> Int64:
    """Hour of the week, 0 to 167, of UTC microseconds; 0 is Monday 00:00."""
    hours: Int64 = (time_us // _MICROSECONDS_PER_HOUR + _EPOCH_HOUR) % HOURS
    return hours


@dataclass(frozen=True)
class BinnedReference:
    """One feature, or the score, in the reference. All floats are values of FP32, so that comparisons are exact."""

    name: str
    edges: Float64
    """Rising inner edges [B − 1]."""
    low: float
    high: float
    discrete: bool
    """Few distinct values, each a bin of its own: bin b holds `low` or edges[b − 1], and nothing else."""
    means: Float64
    """Mean of the reference's rows in each regular bin [B]: where a bin's rows are taken to lie."""
    counts: Int64
    """[B + 4]: regular bins, then OWN_BINS (0 in the reference but for missing)."""
    mean: float
    sd: float
    """Of the finite values."""

    @property
    def bins(self) -> int:
        """B, the regular bins."""
        return len(self.edges) + 1

    @property
    def values(self) -> Float64:
        """Lower bound of each regular bin [B]; for a discrete feature the values themselves."""
        return np.concatenate([[self.low], self.edges])


@dataclass(frozen=True)
class Calibration:
    """Per bin of SCORE_BOUNDS [S]: rows, Σ score, and how many were fraud, on the validation part."""

    rows: Int64
    score_sum: Float64
    frauds: Int64


@dataclass(frozen=True)
class Layout:
    """Where what lies in the vector of counts: series k takes [starts[k], starts[k + 1])."""

    names: tuple[str, ...]
    starts: Int64

    @property
    def cells(self) -> int:
        """Places of all series together; the sums follow."""
        return int(self.starts[-1])

    @property
    def width(self) -> int:
        return self.cells + len(SUMS)

    @property
    def sums(self) -> slice:
        return slice(self.cells, self.width)

    def of(self, series: str | int) -> slice:
        """The places of one series, by name or number."""
        number = self.names.index(series) if isinstance(series, str) else series
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


def binned_document(series: BinnedReference) -> dict[str, Any]:
    """A series as JSON."""
    return {
        "name": series.name,
        "edges": series.edges.tolist(),
        "low": series.low,
        "high": series.high,
        "discrete": series.discrete,
        "means": series.means.tolist(),
        "counts": series.counts.tolist(),
        "mean": series.mean,
        "sd": series.sd,
    }


def parse_binned(entry: Mapping[str, Any]) -> BinnedReference:
    """The series that `binned_document` wrote."""
    return BinnedReference(
        name=entry["name"],
        edges=np.array(entry["edges"], np.float64),
        low=float(entry["low"]),
        high=float(entry["high"]),
        discrete=bool(entry["discrete"]),
        means=np.array(entry["means"], np.float64),
        counts=np.array(entry["counts"], np.int64),
        mean=float(entry["mean"]),
        sd=float(entry["sd"]),
    )
