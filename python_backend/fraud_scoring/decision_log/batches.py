"""Many small frames as one: what is counted at once.

A front door under little load writes frames of one row. Parsing and counting each of them costs tens of microseconds;
joined (`Decisions.parse_many`), ten thousand one-row frames cost what a hundred cost frame by frame.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, Frame, Gap, LogDamaged
from fraud_scoring.decision_log.contents import Kind, Shape
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.schema import Schema

Int64 = npt.NDArray[np.int64]

MINUTE_US: Final = 60_000_000
_LABEL_BYTES: Final = 8 * len(wire.LABEL_COLUMNS)


@dataclass(frozen=True)
class Batch:
    """Decisions of one width from many frames; `decisions` holds all their rows, frame after frame.

    `written_at_us`, `rows`, `refused`, `failed` int64 [K] and `stage_us` int64 [K, 4] say for each frame when it was
    written, how many rows it brought, how many requests had been refused and had failed before it, and how long its
    stages took. (The `stage_us` of `decisions` is the sum over the frames.)
    """

    decisions: Decisions
    id_column: int
    """Which column of `decisions.transaction` is the id."""
    written_at_us: Int64
    rows: Int64
    stage_us: Int64
    refused: Int64
    failed: Int64

    def __len__(self) -> int:
        return len(self.decisions)

    @property
    def frame_minute(self) -> Int64:
        """Minutes since 1970 at which each frame was written, int64 [K]."""
        return self.written_at_us // MINUTE_US

    @property
    def row_minute(self) -> Int64:
        """The same for each row, int64 [N]."""
        return np.repeat(self.frame_minute, self.rows)


def join(frames: Sequence[tuple[Shape, Frame]], id_column: int) -> list[Batch]:
    """One batch for each width (columns, features) among `frames`; their order within a batch is by shape."""
    by_shape: dict[Shape, list[Frame]] = {}
    for shape, frame in frames:
        by_shape.setdefault(shape, []).append(frame)
    by_width: dict[tuple[int, int], list[Batch]] = {}
    for shape, alike in by_shape.items():
        by_width.setdefault((shape.columns, shape.features), []).append(_join_alike(shape, alike, id_column))
    return [parts[0] if len(parts) == 1 else _concatenate(parts) for parts in by_width.values()]


def _join_alike(shape: Shape, frames: Sequence[Frame], id_column: int) -> Batch:
    """A batch of frames of one shape."""
    joined = Decisions.parse_many(shape, [frame.payload for frame in frames])
    written_at_us = np.array([frame.written_at_us for frame in frames], np.int64)
    return Batch(**joined._asdict(), id_column=id_column, written_at_us=written_at_us)


def _concatenate(parts: Sequence[Batch]) -> Batch:
    """One batch of several."""
    per_frame = ("written_at_us", "rows", "stage_us", "refused", "failed")
    return Batch(
        decisions=Decisions.concatenate([part.decisions for part in parts]),
        id_column=parts[0].id_column,
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in per_frame},
    )


@lru_cache(maxsize=64)
def parse_schema(document: str) -> Schema | None:
    """The schema that a context holds; None where it is no schema."""
    try:
        return Schema.parse(json.loads(document))
    except (ValueError, InvalidDefinition):
        return None


class Pile:
    """Frames of one writer, sorted by what they hold, until they are joined."""

    def __init__(self) -> None:
        self.frames = 0
        self.rows = 0
        self._decisions: dict[int, list[tuple[Shape, Frame]]] = {}
        self._labels: list[Frame] = []

    def add(self, frame: Frame, context: Context | None) -> Context | Gap | None:
        """Take a frame that was written under `context`; LogDamaged, and not taken, if it is not what its kind says.

        Gives back what is not joined.
        """
        rows, content = 0, None
        if frame.kind == Kind.DECISIONS:
            try:
                shape = Shape.of(frame.payload)
            except (LogDamaged, struct.error) as damage:
                raise LogDamaged(f"the payload of frame {frame.sequence} cannot be read: {damage}") from None
            schema = parse_schema(context.schema) if context else None
            self._decisions.setdefault(schema.id_index if schema else 0, []).append((shape, frame))
            rows = shape.rows
        elif frame.kind == Kind.LABELS:
            rows, rest = divmod(len(frame.payload), _LABEL_BYTES)
            if rest:
                raise LogDamaged(f"frame {frame.sequence} of labels is {len(frame.payload)} bytes long")
            self._labels.append(frame)
        else:
            content = frame.content()
        self.frames += 1
        self.rows += rows
        return content if isinstance(content, Context | Gap) else None

    def batches(self) -> list[Batch]:
        """The decisions: a batch for each width."""
        return [batch for id_column, frames in self._decisions.items() for batch in join(frames, id_column)]

    def labels(self) -> list[Int64]:
        """The labels: int64 [M, 4], a label's columns, then when its frame was written; nothing where there is none."""
        if not self._labels:
            return []
        label = np.frombuffer(b"".join([frame.payload for frame in self._labels]), np.int64)
        counts = [len(frame.payload) // _LABEL_BYTES for frame in self._labels]
        written = np.repeat(np.array([frame.written_at_us for frame in self._labels], np.int64), counts)
        return [np.column_stack([label.reshape(-1, len(wire.LABEL_COLUMNS)), written])]
