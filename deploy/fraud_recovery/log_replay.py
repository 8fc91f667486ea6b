"""What the log has and a window store may lack, into the store: transactions with their answers, then labels.

A transaction that the store has is left as it is, so more may be read than is missing. Frames of all writers are taken
in the order in which they were written: a label that came before its transaction was not applied then, nor is it now.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fraud_recovery.archive import Progress, quiet
from fraud_scoring.decision_log import Context, Decisions, Frame, Labels, LogDamaged, segments, writers
from fraud_scoring.decision_log.batches import parse_schema
from fraud_scoring.decision_log.contents import SHADOW_WRITERS
from fraud_scoring.decision_log.segments import frames_of, root_path
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, WindowStore
from fraud_scoring.wire import MAX_ROWS, Accepted

OVERLAP_US: Final = 15 * 60 * 1_000_000
"""So long before the moment of a copy its log is read again: a label is logged up to a minute before it is applied, and
while a store was away, what was answered waited."""


@dataclass
class Replayed:
    """What was read, and what of it the store did not have."""

    frames: int = 0
    transactions: int = 0
    transactions_added: int = 0
    labels: int = 0
    labels_applied: int = 0
    other_columns: int = 0
    """Transactions with columns of another schema, which this store cannot hold."""
    last_at_us: int = 0


def replay(
    log: Path,
    store: WindowStore,
    schema: Schema,
    after: Mapping[str, int] | None = None,
    since_us: int = 0,
    progress: Progress = quiet,
) -> Replayed:
    """Add what frames behind frame `after` of a writer, or written from `since_us` on, tell; None: all that is kept."""
    out = Replayed()
    names = [name for name in writers(log) if not name.startswith(SHADOW_WRITERS)]
    streams = [_frames(log / name, None if after is None else after.get(name, -1), since_us) for name in names]
    pending = _Pending(store, out)
    for frame, context in heapq.merge(*streams, key=lambda one: one[0].written_at_us):
        out.frames += 1
        out.last_at_us = max(out.last_at_us, frame.written_at_us)
        content = frame.content()
        if isinstance(content, Decisions) and len(content):
            if _same_columns(context, schema):
                pending.add(content)
            else:
                out.other_columns += len(content)
        elif isinstance(content, Labels):
            pending.flush()
            for start in range(0, len(content), MAX_ROWS):
                accepted = store.label(content.label[start : start + MAX_ROWS])
                out.labels += len(accepted)
                out.labels_applied += int((accepted == Accepted.APPLIED).sum())
        if out.frames % 1_000 == 0:
            progress(0.0, f"log: {out.transactions:,} transactions")
    pending.flush()
    return out


class _Pending:
    """Rows of frames of one width that go into the store with one call."""

    def __init__(self, store: WindowStore, out: Replayed) -> None:
        self._store = store
        self._out = out
        self._parts: list[Decisions] = []
        self._rows = 0

    def add(self, content: Decisions) -> None:
        if self._parts and self._parts[0].features.shape[1] != content.features.shape[1]:
            self.flush()
        self._parts.append(content)
        self._rows += len(content)
        if self._rows >= MAX_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._parts:
            return
        joined = Decisions.concatenate(self._parts)
        self._parts, self._rows = [], 0
        for start in range(0, len(joined), MAX_ROWS):
            part = slice(start, start + MAX_ROWS)
            answers = Answers(joined.score[part, None], joined.verdict[part], joined.features[part])
            stood = self._store.record(np.ascontiguousarray(joined.transaction[part]), answers)
            self._out.transactions += len(stood)
            self._out.transactions_added += sum(one is None for one in stood)


def _frames(folder: Path, after: int | None, since_us: int) -> Iterator[tuple[Frame, Context | None]]:
    """Frames that are wanted, each with the context before it; closed segments that hold none are not opened."""
    for number in segments(folder):
        if after is not None and _ended_before(root_path(folder, number), after, since_us):
            continue
        context: Context | None = None
        for frame in frames_of(folder, number):
            content = frame.content() if _is_context(frame) else None
            if isinstance(content, Context):
                context = content
            elif after is None or frame.sequence > after or frame.written_at_us >= since_us:
                yield frame, context


def _is_context(frame: Frame) -> bool:
    return frame.kind == Context.kind


def _ended_before(root: Path, after: int, since_us: int) -> bool:
    try:
        statement = json.loads(root.read_text(encoding="utf-8"))
        return bool(statement["sequence"] <= after and statement["at_us"] < since_us)
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        raise LogDamaged(f"{root.name} cannot be read") from None


def _same_columns(context: Context | None, schema: Schema) -> bool:
    found = parse_schema(context.schema) if context is not None else None
    return found is not None and found.column_names == schema.column_names
