"""Are some customers treated worse than others: false-positive rate and recall of each segment, with intervals.

A segment is compared with what is expected of it: the champion's figure in the same segment, where there is a champion;
else that of all rows. Amounts are left out of the latter: a high amount is what a model goes by, and no bias. A gate
fails where a whole interval lies beyond the tolerance, with the level shared among the segments (Bonferroni): a dozen
small segments could never all be proven good.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fraud_release.gates.bootstrap import Weights, resampled
from fraud_release.gates.evidence import Evidence
from fraud_release.gates.result import GateResult, not_run
from fraud_release.gates.settings import GateSettings
from fraud_scoring.stores import Answers
from fraud_scoring.wire import Decision

Mask = NDArray[np.bool_]
LEVEL = 0.05
AMOUNT, VOLUME, AGE = "amount", "terminal volume", "customer's age"
_AGES = (0.0, 30.0, 90.0, np.inf)


@dataclass(frozen=True)
class Segment:
    """`rows` [N] says who belongs to it."""

    kind: str
    name: str
    rows: Mask


def segments(evidence: Evidence) -> list[Segment]:
    """Quarters of the amounts, thirds of the terminals' volumes, the customer's days in the data."""
    out = _bands(AMOUNT, evidence.amount, 4) + _bands(VOLUME, evidence.terminal_volume.astype(float), 3)
    for low, high in pairwise(_AGES):
        name = f"{low:g} to {high:g} days" if np.isfinite(high) else f"from {low:g} days"
        out.append(Segment(AGE, name, (evidence.age_days >= low) & (evidence.age_days < high)))
    return [segment for segment in out if segment.rows.any()]


def segment_gates(evidence: Evidence, settings: GateSettings) -> list[GateResult]:
    """A gate of false positives and one of recall; each shows the segment that is worst."""
    wanted = ("false positives by segment", "recall by segment")
    least = settings.tolerances.least_frauds
    fraud = evidence.is_fraud == 1
    chosen = segments(evidence)
    if evidence.champion is None:
        chosen = [segment for segment in chosen if segment.kind != AMOUNT]
    weights = list(resampled(evidence.customer, settings.resamples, settings.seed))
    out = []
    for name, group, tolerance, high_is_bad in (
        (wanted[0], ~fraud, settings.tolerances.false_positive_ratio, True),
        (wanted[1], fraud, settings.tolerances.recall_ratio, False),
    ):
        judged = [segment for segment in chosen if (segment.rows & group).sum() >= least]
        if not judged:
            out.append(not_run(name, f"no segment has {least} {'frauds' if not high_is_bad else 'genuine payments'}"))
            continue
        ratios = [_ratios(evidence, segment.rows & group, group, weights) for segment in judged]
        spans = [_span(ratio[1:], LEVEL / len(judged)) for ratio in ratios]
        beyond = [span[0] > tolerance if high_is_bad else span[1] < tolerance for span in spans]
        figures = [ratio[0] if high_is_bad else -ratio[0] for ratio in ratios]
        worst = int(np.argmax([figure + 1e9 * bad for figure, bad in zip(figures, beyond, strict=True)]))
        out.append(_told(name, judged, worst, ratios[worst][0], tolerance, spans[worst], sum(beyond), evidence))
    return out


def _told(
    name: str,
    judged: list[Segment],
    worst: int,
    figure: float,
    tolerance: float,
    span: tuple[float, float],
    beyond: int,
    evidence: Evidence,
) -> GateResult:
    than = "the champion's there" if evidence.champion is not None else "that of all rows"
    text = f"{judged[worst].kind} {judged[worst].name}, over {than}; the worst of {len(judged)} segments"
    text += f", {beyond} proven beyond the tolerance" if beyond else ", none proven beyond the tolerance"
    return GateResult(name, beyond == 0, figure, tolerance, text, span)


def _ratios(evidence: Evidence, rows: Mask, group: Mask, weights: list[Weights]) -> NDArray[np.float64]:
    """Share of `rows` that is flagged over what is expected, for the data as it is and for each resample.

    Half a row is added to both counts: a segment in which nobody was flagged is no division by nothing.
    """
    mine = _flagged(evidence.candidate)
    other, compared = (mine, group) if evidence.champion is None else (_flagged(evidence.champion), rows)
    out = []
    for drawn in (np.ones(len(evidence)), *weights):
        one = (drawn[rows] @ mine[rows] + 0.5) / (drawn[rows].sum() + 1)
        expected = (drawn[compared] @ other[compared] + 0.5) / (drawn[compared].sum() + 1)
        out.append(one / expected)
    return np.array(out)


def _flagged(answers: Answers) -> Mask:
    flagged: Mask = answers.verdict[:, 0] != Decision.APPROVE
    return flagged


def _span(draws: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.percentile(draws, (50 * level, 100 - 50 * level))
    return float(low), float(high)


def _bands(kind: str, values: NDArray[np.float64], count: int) -> list[Segment]:
    """`count` bands of about as many rows each; a border is a value, so equal values share a band."""
    borders = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1], method="higher"))
    band = np.searchsorted(borders, values, side="right")
    out = []
    for number in range(len(borders) + 1):
        low = f"from {borders[number - 1]:g}" if number else ""
        high = f"below {borders[number]:g}" if number < len(borders) else ""
        out.append(Segment(kind, " ".join(part for part in (low, high) if part), band == number))
    return out
