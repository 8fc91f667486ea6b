"""Answers out of the decision log: batches of frames as `Rows`, with each customer's bucket."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fraud_judge.signs import Int64, Rows
from fraud_scoring.decision_log import Position, segments, writers
from fraud_scoring.decision_log.batches import Batch
from fraud_scoring.decision_log.segments import frames_of
from fraud_scoring.decision_log.tail import Place
from fraud_scoring.routes import bucket_of


def rows_of(batch: Batch, customer_column: int, salt: str) -> Rows:
    """The answers of a batch that were given for the first time."""
    decisions = batch.decisions
    kept = ~decisions.repeat
    customer = np.ascontiguousarray(decisions.transaction[kept, customer_column])
    return Rows(
        at_us=np.repeat(batch.written_at_us, batch.rows)[kept],
        identifier=decisions.transaction[kept, batch.id_column],
        customer=customer,
        bucket=bucket_of(salt, customer),
        score=decisions.score[kept],
        decision=decisions.verdict[kept, 0].astype(np.int64),
        release=decisions.verdict[kept, 4].astype(np.int64),
        source=decisions.verdict[kept, 5].astype(np.int64),
        latency_us=np.repeat(batch.stage_us.sum(axis=1), batch.rows)[kept],
    )


def join(parts: Iterable[Rows]) -> Rows | None:
    """All rows of several, in the order of their time; None of nothing."""
    found = list(parts)
    if not found:
        return None
    columns = Rows(*(np.concatenate(column) for column in zip(*found, strict=True)))
    return columns.pick(np.argsort(columns.at_us, kind="stable"))


def newest_places(log: Path) -> dict[str, Place]:
    """Where each writer's newest segment begins: far enough back for a baseline, and no more."""
    places = {}
    for name in writers(log):
        newest = segments(log / name)[-1]
        first = next(frames_of(log / name, newest), None)
        if first is not None:
            places[name] = Place(Position(newest, 0, first.sequence, first.previous))
    return places


def labels_of(labels: list[Int64]) -> tuple[Int64, Int64]:
    """(identifiers, is_fraud) of what the tail gave."""
    if not labels:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    joined = np.concatenate(labels)
    return joined[:, 0], joined[:, 1]
