"""What a frame of the decision log holds: a context, decisions, labels, a gap, or what a shadow would have decided.

Decisions are kept as columns: everything of one kind lies together, so that a batch costs a few copies to write, and
many frames of one shape are read as one view over their bytes. Parsing ten thousand one-row frames that way costs what
parsing a hundred costs frame by frame.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.decision import Int32
from fraud_scoring.decision_log.errors import LogDamaged
from fraud_scoring.features import Float32
from fraud_scoring.windows import Int64

STAGES: Final = ("check", "recall", "release", "record")
"""Stages of a batch in the front door, in order; their times in microseconds are `Decisions.stage_us`."""
_BATCH: Final = struct.Struct(f"<IHHI{len(STAGES)}I")
"""rows, columns, features, requests refused since the frame before, time of each stage."""
_FAILED: Final = struct.Struct("<I")
"""Requests that failed since the frame before: behind the rows, since frames of older logs end there."""
CHAMPION_COLUMNS: Final = ("release", "source", "decision")
"""What `Shadowed.champion` says of an answer."""
DROPPED: Final = ("full", "late", "failed")
"""Why a shadow did not score a row: too many waited; it waited too long, as while the machine was busy; no answer."""
SHADOW_WRITERS: Final = "shadow-"
"""What the names of the writers begin with that write `Shadowed` frames, and nothing else."""
_SHADOW: Final = struct.Struct(f"<IHI{len(DROPPED)}I")
"""rows, columns, the shadow's release, rows dropped since the frame before."""
_COLUMNS: Final = ("transaction", "features", "score", "verdict", "repeat", "deadline_left_us")
"""What `Decisions` has a row of for each answer."""


class Kind(IntEnum):
    """What a frame holds."""

    CONTEXT = 1
    DECISIONS = 2
    LABELS = 3
    GAP = 4
    SHADOW = 5


@dataclass(frozen=True)
class Context:
    """What the decisions after it mean: written at the start of each segment, and when the release changes.

    `schema` is the release's pinned document, so that columns and features have names wherever the log is read.
    """

    release: int
    schema: str

    kind = Kind.CONTEXT

    def payload(self) -> bytes:
        return json.dumps({"release": self.release, "schema": self.schema}).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Context:
        document: dict[str, Any] = json.loads(payload)
        return cls(document["release"], document["schema"])


@dataclass(frozen=True)
class Decisions:
    """A dynamic batch's answers, one row per answered transaction.

    `transaction` int64 [N, C]; `features` float32 [N, F] (F = 0 for a scorecard); `score` float32 [N]; `verdict` int32
    [N, 6] (wire.VERDICT_COLUMNS); `repeat` bool [N]: answered again, from what was recorded; `deadline_left_us` int64
    [N]: what was left of the caller's deadline when the answer was ready; `stage_us` int64 [4]: STAGES; `refused`:
    requests refused since the frame before (the caller's mistakes); `failed`: those answered with an error of ours.
    """

    transaction: Int64
    features: Float32
    score: Float32
    verdict: Int32
    repeat: npt.NDArray[np.bool_]
    deadline_left_us: Int64
    stage_us: Int64
    refused: int = 0
    failed: int = 0

    kind = Kind.DECISIONS

    @classmethod
    def none(cls, columns: int, refused: int, failed: int) -> Decisions:
        """No answer at all: a frame that only tells of requests that got none."""
        return cls(
            transaction=np.empty((0, columns), np.int64),
            features=np.empty((0, 0), np.float32),
            score=np.empty(0, np.float32),
            verdict=np.empty((0, wire.VERDICT_WIDTH), np.int32),
            repeat=np.empty(0, np.bool_),
            deadline_left_us=np.empty(0, np.int64),
            stage_us=np.zeros(len(STAGES), np.int64),
            refused=refused,
            failed=failed,
        )

    def __len__(self) -> int:
        return len(self.score)

    def payload(self) -> bytes:
        stages = self.stage_us.clip(0, 2**32 - 1).tolist()
        columns, features = self.transaction.shape[1], self.features.shape[1]
        return b"".join(
            (
                _BATCH.pack(len(self), columns, features, self.refused, *stages),
                np.ascontiguousarray(self.transaction, np.int64).tobytes(),
                np.ascontiguousarray(self.deadline_left_us, np.int64).tobytes(),
                np.ascontiguousarray(self.features, np.float32).tobytes(),
                np.ascontiguousarray(self.score, np.float32).tobytes(),
                np.ascontiguousarray(self.verdict, np.int32).tobytes(),
                np.ascontiguousarray(self.repeat, np.bool_).tobytes(),
                _FAILED.pack(self.failed),
            )
        )

    @classmethod
    def parse(cls, payload: bytes) -> Decisions:
        return cls.parse_many(Shape.of(payload), [payload]).decisions

    @classmethod
    def parse_many(cls, shape: Shape, payloads: Sequence[bytes]) -> Joined:
        """The payloads of frames of one shape as one, which costs little more than one of them."""
        many = np.frombuffer(payloads[0] if len(payloads) == 1 else b"".join(payloads), _layout(shape))
        stage_us, refused = many["stage_us"].astype(np.int64), many["refused"].astype(np.int64)
        failed = many["failed"].astype(np.int64) if shape.tells_failed else np.zeros(len(many), np.int64)

        def column(name: str) -> Any:
            # in one piece: the views are as far apart as a frame is long
            found = np.ascontiguousarray(many[name])
            return found.reshape(len(many) * shape.rows, *found.shape[2:])

        columns = {name: column(name) for name in _COLUMNS}
        joined = cls(**columns, stage_us=stage_us.sum(axis=0), refused=int(refused.sum()), failed=int(failed.sum()))
        return Joined(joined, np.full(len(many), shape.rows, np.int64), stage_us, refused, failed)

    @classmethod
    def concatenate(cls, parts: Sequence[Decisions]) -> Decisions:
        """All rows of `parts`, which have columns of one width, in their order; stage times and counts are added."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return cls(
            **columns,
            stage_us=np.sum([part.stage_us for part in parts], axis=0),
            refused=sum(part.refused for part in parts),
            failed=sum(part.failed for part in parts),
        )

    def rows(self, kept: npt.NDArray[np.bool_]) -> Decisions:
        """The rows of a mask [N]; stage times and counts stay those of the whole batch."""
        return replace(self, **{name: getattr(self, name)[kept] for name in _COLUMNS})


class Shape(NamedTuple):
    """What a payload of decisions is laid out by: rows, columns of the transaction, features, and whether it tells of
    requests that failed."""

    rows: int
    columns: int
    features: int
    tells_failed: bool

    @classmethod
    def of(cls, payload: bytes) -> Shape:
        """LogDamaged if the payload is not as long as it says; struct.error if it is no payload of decisions."""
        rows, columns, features, *_ = _BATCH.unpack_from(payload)
        width = 8 * columns + 8 + 4 * features + 4 + 4 * wire.VERDICT_WIDTH + 1
        behind = len(payload) - _BATCH.size - rows * width
        if behind not in (0, _FAILED.size):
            raise LogDamaged(f"a frame of {rows} rows is {len(payload)} bytes long")
        return cls(rows, columns, features, behind > 0)


class Joined(NamedTuple):
    """Decisions of K frames: all rows, frame after frame (their `stage_us`, `refused` and `failed` are sums), and for
    each frame its rows, stage times [K, 4], and requests refused and failed before it; int64 [K]."""

    decisions: Decisions
    rows: Int64
    stage_us: Int64
    refused: Int64
    failed: Int64


@lru_cache(maxsize=4096)
def _layout(shape: Shape) -> np.dtype[Any]:
    """A payload of decisions, to the byte: what `Decisions.payload` writes."""
    n = shape.rows
    return np.dtype(
        [
            ("rows", "<u4"),
            ("columns", "<u2"),
            ("width", "<u2"),
            ("refused", "<u4"),
            ("stage_us", "<u4", (len(STAGES),)),
            ("transaction", "<i8", (n, shape.columns)),
            ("deadline_left_us", "<i8", (n,)),
            ("features", "<f4", (n, shape.features)),
            ("score", "<f4", (n,)),
            ("verdict", "<i4", (n, wire.VERDICT_WIDTH)),
            ("repeat", "?", (n,)),
            *([("failed", "<u4")] if shape.tells_failed else []),
        ]
    )


@dataclass(frozen=True)
class Labels:
    """Labels that were applied: `label` int64 [N, 3] (wire.LABEL_COLUMNS)."""

    label: Int64

    kind = Kind.LABELS

    def __len__(self) -> int:
        return len(self.label)

    def payload(self) -> bytes:
        return np.ascontiguousarray(self.label, np.int64).tobytes()

    @classmethod
    def parse(cls, payload: bytes) -> Labels:
        if len(payload) % (8 * len(wire.LABEL_COLUMNS)):
            raise LogDamaged(f"a frame of labels is {len(payload)} bytes long")
        return cls(np.frombuffer(payload, np.int64).reshape(-1, len(wire.LABEL_COLUMNS)))


@dataclass(frozen=True)
class Gap:
    """The log could not be written for a while: this many answers were given by the fallback, and are not in it."""

    since_us: int
    answers: int
    reason: str

    kind = Kind.GAP

    def payload(self) -> bytes:
        return json.dumps({"since_us": self.since_us, "answers": self.answers, "reason": self.reason}).encode()

    @classmethod
    def parse(cls, payload: bytes) -> Gap:
        return cls(**json.loads(payload))


@dataclass(frozen=True)
class Shadowed:
    """What `release` would have answered to transactions that another one answered, one row per transaction.

    `transaction` int64 [N, C]; `champion` int32 [N, 3] (CHAMPION_COLUMNS) and `champion_score` float32 [N]: what was
    answered; `score` float32 [N] and `decision` int32 [N]: what the shadow says; `dropped` int64 [3]: rows since the
    frame before that it did not score, by DROPPED.
    """

    release: int
    transaction: Int64
    champion: Int32
    champion_score: Float32
    score: Float32
    decision: Int32
    dropped: Int64

    kind = Kind.SHADOW

    def __len__(self) -> int:
        return len(self.score)

    def payload(self) -> bytes:
        dropped = np.clip(self.dropped, 0, 2**32 - 1).tolist()
        return b"".join(
            (
                _SHADOW.pack(len(self), self.transaction.shape[1], self.release, *dropped),
                np.ascontiguousarray(self.transaction, np.int64).tobytes(),
                np.ascontiguousarray(self.champion, np.int32).tobytes(),
                np.ascontiguousarray(self.champion_score, np.float32).tobytes(),
                np.ascontiguousarray(self.score, np.float32).tobytes(),
                np.ascontiguousarray(self.decision, np.int32).tobytes(),
            )
        )

    @classmethod
    def parse(cls, payload: bytes) -> Shadowed:
        rows, columns, release, *dropped = _SHADOW.unpack_from(payload)
        parts = (("<i8", columns), ("<i4", len(CHAMPION_COLUMNS)), ("<f4", 1), ("<f4", 1), ("<i4", 1))
        ends = np.cumsum([_SHADOW.size] + [rows * width * int(code[-1]) for code, width in parts]).tolist()
        if len(payload) != ends[-1]:
            raise LogDamaged(f"a shadow's frame of {rows} rows is {len(payload)} bytes long")
        transaction, champion, champion_score, score, decision = (
            np.frombuffer(payload, code, rows * width, start).reshape(rows, width)
            for (code, width), start in zip(parts, ends, strict=False)
        )
        return cls(
            release=release,
            transaction=transaction,
            champion=champion,
            champion_score=champion_score[:, 0],
            score=score[:, 0],
            decision=decision[:, 0],
            dropped=np.array(dropped, np.int64),
        )


Content = Context | Decisions | Labels | Gap | Shadowed
PARSERS: Final[dict[int, Any]] = {
    Kind.CONTEXT: Context.parse,
    Kind.DECISIONS: Decisions.parse,
    Kind.LABELS: Labels.parse,
    Kind.GAP: Gap.parse,
    Kind.SHADOW: Shadowed.parse,
}
