"""Many small frames as one: what is counted at once.

A front door under little load writes frames of one row. Parsing and counting each of them costs tens of microseconds;
joined, frames of one shape are one view over their bytes. Parsing ten thousand one-row frames this way costs what
parsing a hundred costs frame by frame.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.decision_log import STAGES, Context, Decisions, Frame, Gap, LogDamaged
from fraud_scoring.decision_log.frames import Kind
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.schema import Schema

Int64 = npt.NDArray[np.int64]

MINUTE_US: Final = 60_000_000
_SHAPE: Final = struct.Struct("<IHH")
_LABEL_BYTES: Final = 8 * len(wire.LABEL_COLUMNS)


class Shape(NamedTuple):
    """Rows, transaction columns and features of one frame, and whether it tells of requests that failed."""

    rows: int
    columns: int
    features: int
    tells_failed: bool


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


def shape_of(frame: Frame) -> Shape:
    """The shape of a frame of decisions; LogDamaged if its length is not what it says."""
    try:
        rows, columns, features = _SHAPE.unpack_from(frame.payload)
    except struct.error:
        raise LogDamaged(f"the payload of frame {frame.sequence} cannot be read") from None
    width = 8 * columns + 8 + 4 * features + 4 + 4 * wire.VERDICT_WIDTH + 1
    behind = len(frame.payload) - (_SHAPE.size + 4 + 4 * len(STAGES) + rows * width)
    if behind not in (0, 4):
        raise LogDamaged(f"frame {frame.sequence} of {rows} rows is {len(frame.payload)} bytes long")
    return Shape(rows, columns, features, tells_failed=behind > 0)


def join(frames: Sequence[tuple[Shape, Frame]], id_column: int) -> list[Batch]:
    """One batch for each width (columns, features) among `frames`; their order within a batch is by shape."""
    by_shape: dict[Shape, list[Frame]] = {}
    for shape, frame in frames:
        by_shape.setdefault(shape, []).append(frame)
    by_width: dict[tuple[int, int], list[Batch]] = {}
    for shape, alike in by_shape.items():
        by_width.setdefault((shape.columns, shape.features), []).append(_join_alike(shape, alike, id_column))
    return [parts[0] if len(parts) == 1 else _concatenate(parts) for parts in by_width.values()]


@lru_cache(maxsize=4096)
def _layout(shape: Shape) -> np.dtype[Any]:
    """The payload of a frame, to the byte: what `Decisions.payload` writes."""
    n, columns, features, tells_failed = shape
    return np.dtype(
        [
            ("rows", "<u4"),
            ("columns", "<u2"),
            ("features_wide", "<u2"),
            ("refused", "<u4"),
            ("stage_us", "<u4", (len(STAGES),)),
            ("transaction", "<i8", (n, columns)),
            ("deadline_left_us", "<i8", (n,)),
            ("features", "<f4", (n, features)),
            ("score", "<f4", (n,)),
            ("verdict", "<i4", (n, wire.VERDICT_WIDTH)),
            ("repeat", "?", (n,)),
            *([("failed", "<u4")] if tells_failed else []),
        ]
    )


def _join_alike(shape: Shape, frames: Sequence[Frame], id_column: int) -> Batch:
    """A batch of frames of one shape."""
    many = np.frombuffer(b"".join([frame.payload for frame in frames]), _layout(shape))
    stage_us = many["stage_us"].astype(np.int64)
    failed = many["failed"].astype(np.int64) if shape.tells_failed else np.zeros(len(frames), np.int64)

    def rows(name: str, *width: int) -> Any:
        # a copy in one piece: the views are as far apart as a frame is long
        return np.ascontiguousarray(many[name]).reshape(len(frames) * shape.rows, *width)

    return Batch(
        decisions=Decisions(
            transaction=rows("transaction", shape.columns),
            features=rows("features", shape.features),
            score=rows("score"),
            verdict=rows("verdict", wire.VERDICT_WIDTH),
            repeat=rows("repeat"),
            deadline_left_us=rows("deadline_left_us"),
            stage_us=stage_us.sum(axis=0),
            refused=int(many["refused"].sum(dtype=np.int64)),
            failed=int(failed.sum()),
        ),
        id_column=id_column,
        written_at_us=np.array([frame.written_at_us for frame in frames], np.int64),
        rows=np.full(len(frames), shape.rows, np.int64),
        stage_us=stage_us,
        refused=many["refused"].astype(np.int64),
        failed=failed,
    )


def _concatenate(parts: Sequence[Batch]) -> Batch:
    """One batch of several."""
    decisions = [part.decisions for part in parts]
    return Batch(
        decisions=Decisions(
            transaction=np.concatenate([one.transaction for one in decisions]),
            features=np.concatenate([one.features for one in decisions]),
            score=np.concatenate([one.score for one in decisions]),
            verdict=np.concatenate([one.verdict for one in decisions]),
            repeat=np.concatenate([one.repeat for one in decisions]),
            deadline_left_us=np.concatenate([one.deadline_left_us for one in decisions]),
            stage_us=np.sum([one.stage_us for one in decisions], axis=0),
            refused=sum(one.refused for one in decisions),
            failed=sum(one.failed for one in decisions),
        ),
        id_column=parts[0].id_column,
        written_at_us=np.concatenate([part.written_at_us for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
        stage_us=np.concatenate([part.stage_us for part in parts]),
        refused=np.concatenate([part.refused for part in parts]),
        failed=np.concatenate([part.failed for part in parts]),
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
            shape = shape_of(frame)
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
