"""An engine's answers against the release's own: its golden vectors, and the labelled rows that it carries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_release.agreement import ReducedPrecision, compare, in_batches, require_same
from fraud_release.check_rows import CheckRows
from fraud_release.errors import ReleaseRefused
from fraud_scoring.pipeline import Margin, Pipeline
from fraud_scoring.releases import golden_vectors

SCORE_TOLERANCES: Final = {"fp32": 1e-5, "fp16": 0.01}
"""How far a golden vector's score may lie from the release's own; its decision must be the same."""
GOLDEN_BATCHES: Final = (1, 7, 64)


class PrecisionRefused(ReleaseRefused):
    """Reduced precision did not pass its gate; in FP32 the engine may."""


class AnswerCheck:
    """What release `number` asks of any engine of it."""

    def __init__(self, repository: Path, number: int, pipeline: Pipeline, gate: ReducedPrecision) -> None:
        self._pipeline = pipeline
        self._gate = gate
        self._rows = CheckRows.load(repository, number)
        self._golden = golden_vectors(repository, number)
        self._served = in_batches(pipeline.margin, self._rows.features)

    def check(self, margin: Margin, precision: str) -> dict[str, Any]:
        """How `margin` agrees, for the record. ReleaseRefused where it does not, PrecisionRefused in FP16."""
        try:
            golden = self._check_golden(margin, precision)
            found = compare(
                self._pipeline.rule, self._served, in_batches(margin, self._rows.features), self._rows.is_fraud
            )
            if precision == "fp32":
                require_same(found, "the engine")
            elif objection := self._gate.objection(found):
                raise PrecisionRefused(f"gate: {objection}")
        except PrecisionRefused:
            raise
        except ReleaseRefused as refusal:
            if precision == "fp32":
                raise
            raise PrecisionRefused(str(refusal)) from None
        return {"golden": golden, "check_rows": found.as_dict()}

    def _check_golden(self, margin: Margin, precision: str) -> dict[str, Any]:
        """Golden vectors alone, a few at once and all at once: a score within the tolerance, and the same decision; in
        full precision the same reasons too, which come from the engine as the margin does."""
        features, wanted = self._golden["features"], self._golden["score"]
        tolerance, largest = SCORE_TOLERANCES[precision], 0.0
        compared = slice(None) if precision == "fp32" else slice(0, 1)
        for rows in GOLDEN_BATCHES:
            margins = in_batches(margin, features, rows)
            if not np.isfinite(margins).all():
                raise ReleaseRefused(f"golden vectors: the engine gives no number for a batch of {rows}")
            score, verdict = self._pipeline.rule.decide(margins, features, partial(in_batches, margin))
            largest = max(largest, float(np.abs(score - wanted).max()))
            if largest > tolerance:
                raise ReleaseRefused(
                    f"golden vectors: in batches of {rows} a score differs by {largest:.2g}; {tolerance:g} is allowed"
                )
            if (verdict[:, compared] != self._golden["verdict"][:, compared]).any():
                raise ReleaseRefused(f"golden vectors: in batches of {rows} a verdict differs")
        return {"rows": len(features), "batches": list(GOLDEN_BATCHES), "largest_score_difference": largest}
