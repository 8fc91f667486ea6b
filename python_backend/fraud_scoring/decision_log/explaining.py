"""One logged decision, explained again: what each group of features gave, from the features that were logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_scoring import wire
from fraud_scoring.decision_log.export import decisions
from fraud_scoring.decision_log.segments import frames_of, segments, writers
from fraud_scoring.errors import InvalidInput
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import reason_text
from fraud_scoring.releases import release_name
from fraud_scoring.schema import Schema


@dataclass(frozen=True)
class Contribution:
    """What a group gave to the margin, in log odds, and its features as the model saw them."""

    group: str
    value: float
    features: dict[str, float]


@dataclass(frozen=True)
class Explained:
    """A decision; `margin` = `base` + the sum of the groups' values. `reasons` are those that were answered."""

    transaction_id: int
    decision: str
    score: float
    release: str
    reasons: tuple[str, ...]
    base: float
    margin: float
    groups: tuple[Contribution, ...]


@dataclass(frozen=True)
class _Logged:
    schema: Schema
    features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    verdict: list[int]
    score: float


def explain(log: Path, repository: Path, transaction_id: int) -> Explained:
    """The decision of a transaction in `log`, by the release in `repository` that made it.

    InvalidInput where it is not in the log, or nothing can be said of it.
    """
    logged = _find(log, transaction_id)
    release = logged.verdict[wire.VERDICT_RELEASE]
    if logged.verdict[wire.VERDICT_SOURCE] >= wire.Source.SCORECARD:
        source = wire.Source(logged.verdict[wire.VERDICT_SOURCE]).name.lower()
        raise InvalidInput(f"transaction {transaction_id} was answered by the {source}: no model to be explained")
    pipeline = Pipeline.load(repository, release)
    explanation = pipeline.rule.explanation
    if explanation is None:
        raise InvalidInput(
            f"release {release_name(release)} has no background: its reasons are the scorecard's points; "
            "train one with: fraudctl release train --data FILE --background 8"
        )
    features = logged.features[None]
    margin = pipeline.margin(features)
    values = explanation.contributions(features, margin, pipeline.margin)[0].tolist()
    names = logged.schema.feature_names
    return Explained(
        transaction_id=transaction_id,
        decision=wire.Decision(logged.verdict[0]).name.lower(),
        score=logged.score,
        release=release_name(release),
        reasons=tuple(reason_text(code) for code in logged.verdict[1 : 1 + wire.REASON_SLOTS] if code),
        base=explanation.base,
        margin=float(margin[0, 0]),
        groups=tuple(
            Contribution(group.name, value, {names[i]: float(features[0, i]) for i in group.features})
            for group, value in sorted(zip(explanation.groups, values, strict=True), key=lambda one: -one[1])
        ),
    )


def _find(log: Path, transaction_id: int) -> _Logged:
    """The first answer to a transaction; newest segments are looked at first."""
    found: _Logged | None = None
    for name in writers(log):
        for number in reversed(segments(log / name)):
            for _, schema, content in decisions(frames_of(log / name, number)):
                where = np.flatnonzero((content.transaction[:, schema.id_index] == transaction_id) & ~content.repeat)
                if len(where) and found is None:
                    i = int(where[0])
                    found = _Logged(schema, content.features[i], content.verdict[i].tolist(), float(content.score[i]))
            if found is not None:
                return found
    raise InvalidInput(f"transaction {transaction_id} is not in the log; see what is: fraudctl log tail")
