"""Whether another form of a release's model answers as the served one does, and what counts as that.

A form that computes the same in another way (the plain form, an engine in FP32) must stay within MARGIN_TOLERANCE and
decide every row alike. One of reduced precision may differ, within `ReducedPrecision`; else FP32 it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import onnx
from sklearn.metrics import average_precision_score

from fraud_release.errors import ReleaseRefused
from fraud_release.learning import Labels
from fraud_release.plain_onnx import plain_form
from fraud_scoring.decision import DecisionRule
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Margin, Pipeline, in_this_process

MARGIN_TOLERANCE: Final = 1e-5
AGREEMENT_ROWS: Final = 100_000
ROWS_A_CALL: Final = 4096
"""What the served model takes at once (`max_batch_size`)."""


@dataclass(frozen=True)
class Agreement:
    """How far answers differ on `rows` rows; average precision of both where the labels are known."""

    rows: int
    margins_differ: int
    """Rows whose margin differs in any bit."""
    largest_margin_difference: float
    largest_score_difference: float
    decisions_differ: int
    average_precision: float | None = None
    average_precision_found: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ReducedPrecision:
    """What reduced precision may cost: average precision, and the share of rows that are decided otherwise."""

    average_precision: float = 0.001
    flipped_share: float = 1e-4

    def objection(self, found: Agreement) -> str | None:
        """Why these answers are not good enough, in one line; None if they are."""
        if not np.isfinite(found.largest_margin_difference):
            return "it gives margins that are no numbers"
        if found.decisions_differ > self.flipped_share * found.rows:
            return (
                f"it decides {found.decisions_differ} of {found.rows} rows otherwise; at most a share of "
                f"{self.flipped_share:g} may be"
            )
        if found.average_precision is None or found.average_precision_found is None:
            return "nothing says how good it is: the release carries no labelled rows of both classes"
        if abs(found.average_precision - found.average_precision_found) > self.average_precision:
            return (
                f"its average precision is {found.average_precision_found:.4f} where FP32 has "
                f"{found.average_precision:.4f}; {self.average_precision:g} may lie between"
            )
        return None


def compare(rule: DecisionRule, wanted: Float32, found: Float32, is_fraud: Labels | None = None) -> Agreement:
    """How margins FP32 [N, 1] of two forms agree, and what the release decides by them."""
    if wanted.shape != found.shape:
        raise ReleaseRefused(f"the other form answers with shape {found.shape} where {wanted.shape} is wanted")
    if not np.isfinite(found).all():
        return Agreement(len(wanted), len(wanted), float("inf"), float("inf"), len(wanted))
    scores = [rule.calibrate(margin[:, 0]) for margin in (wanted, found)]
    decisions = [rule.verdict(score)[:, 0] for score in scores]
    precision: list[float | None] = [None, None]
    if is_fraud is not None and 0 < is_fraud.sum() < len(is_fraud):
        precision = [float(average_precision_score(is_fraud, score)) for score in scores]
    return Agreement(
        rows=len(wanted),
        margins_differ=int((wanted != found).sum()),
        largest_margin_difference=_largest(wanted, found),
        largest_score_difference=_largest(*scores),
        decisions_differ=int((decisions[0] != decisions[1]).sum()),
        average_precision=precision[0],
        average_precision_found=precision[1],
    )


def require_same(found: Agreement, what: str) -> None:
    """ReleaseRefused unless `what` answers as the served form does: within the tolerance, every decision the same."""
    if not found.largest_margin_difference <= MARGIN_TOLERANCE:
        raise ReleaseRefused(
            f"parity: a margin of {what} differs by {found.largest_margin_difference:.2g}; "
            f"{MARGIN_TOLERANCE:g} is allowed"
        )
    if found.decisions_differ:
        raise ReleaseRefused(f"parity: {what} decides {found.decisions_differ} of {found.rows} rows otherwise")


def in_batches(margin: Margin, features: Float32, rows: int = ROWS_A_CALL) -> Float32:
    """The margin of all features, `rows` at a time."""
    parts = [margin(np.ascontiguousarray(features[start : start + rows])) for start in range(0, len(features), rows)]
    return np.concatenate(parts)


def check_plain_form(pipeline: Pipeline, graph: bytes, features: Float32) -> dict[str, Any]:
    """What the manifest says of the plain form of `graph`; ReleaseRefused unless it agrees on these rows.

    Up to 100,000 of them, evenly spread. The form itself is not kept: it is made anew from the sealed graph wherever an
    engine is built (docs/tensorrt.md).
    """
    rows = features[np.unique(np.linspace(0, len(features) - 1, AGREEMENT_ROWS).astype(np.int64))]
    plain_graph = plain_form(onnx.load_from_string(graph)).SerializeToString()
    plain = Pipeline(pipeline.schema, pipeline.rule, in_this_process(plain_graph))
    found = compare(pipeline.rule, in_batches(pipeline.margin, rows), in_batches(plain.margin, rows))
    require_same(found, "the form for TensorRT")
    return {name: value for name, value in found.as_dict().items() if value is not None}


def _largest(one: Float32, other: Float32) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))
