"""Answers out of the decision log: batches of frames as `Rows`, with each customer's bucket."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from fraud_judge.signs import Int64, Rows
from fraud_scoring.decision_log import LogDamaged, Position, segments, writers
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
    """All rows of several, in the order of their time, whichever brought them; None of nothing."""
    found = list(parts)
    if not found:
        return None
    columns = Rows(*(np.concatenate(column) for column in zip(*found, strict=True)))
    return columns.pick(np.lexsort((columns.identifier, columns.at_us)))


def places_since(log: Path, at_us: int) -> dict[str, Place]:
    """Where to begin with each writer to miss nothing from `at_us` on: a segment's start, no earlier than needed.

    A writer that cannot be read is left out: who follows it finds the damage.
    """
    places = {}
    with suppress(OSError):
        for name in writers(log):
            with suppress(OSError, LogDamaged):
                for number in reversed(segments(log / name)):
                    first = next(frames_of(log / name, number), None)
                    if first is not None:
                        places[name] = Place(Position(number, 0, first.sequence, first.previous))
                        if first.written_at_us <= at_us:
                            break
    return places


def labels_of(labels: list[Int64]) -> tuple[Int64, Int64]:
    """(identifiers, is_fraud) of what the tail gave."""
    if not labels:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    joined = np.concatenate(labels)
    return joined[:, 0], joined[:, 1]
