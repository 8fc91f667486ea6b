"""Frames of the decision log: what one is, to the byte, and how each holds on to the one before it.

    offset  size
         0     4   magic "FRD1"
         4     1   kind (Kind)
         5     3   zero
         8     4   length of the payload
        12     4   CRC-32 of everything but these four bytes
        16     8   sequence: 0, 1, 2 … per writer, without a gap
        24     8   written at, UTC microseconds
        32    32   SHA-256 of the whole frame before it (zero for a writer's first)
        64     …   payload

All numbers are little-endian. A frame is one dynamic batch, so its price is shared by the batch's rows.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.decision import Int32
from fraud_scoring.decision_log.errors import LogDamaged
from fraud_scoring.features import Float32
from fraud_scoring.windows import Int64

MAGIC: Final = b"FRD1"
HEADER: Final = struct.Struct("<4sB3xIIQq32s")
CRC_AT: Final = 12
NO_HASH: Final = bytes(32)
MAX_PAYLOAD: Final = 1 << 28

STAGES: Final = ("check", "recall", "release", "record")
"""Stages of a batch in the front door, in order; their times in microseconds are `Decisions.stage_us`."""
_BATCH: Final = struct.Struct(f"<IHHI{len(STAGES)}I")
"""rows, columns, features, requests refused since the frame before, time of each stage."""
_FAILED: Final = struct.Struct("<I")
"""Requests that failed since the frame before: behind the rows, since frames of older logs end there."""


class Kind(IntEnum):
    """What a frame holds."""

    CONTEXT = 1
    DECISIONS = 2
    LABELS = 3
    GAP = 4


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
        stages = np.clip(self.stage_us, 0, 2**32 - 1).tolist()
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
        n, columns, features, refused, *stages = _BATCH.unpack_from(payload)
        width = 8 * columns + 8 + 4 * features + 4 + 4 * wire.VERDICT_WIDTH + 1
        end = _BATCH.size + n * width
        if len(payload) not in (end, end + _FAILED.size):
            raise LogDamaged(f"a frame of {n} rows is {len(payload)} bytes long")
        at = _BATCH.size

        def take(dtype: type[np.generic], *shape: int) -> Any:
            nonlocal at
            count = int(np.prod(shape))
            found = np.frombuffer(payload, dtype, count, at).reshape(shape)
            at += found.nbytes
            return found

        return cls(
            transaction=take(np.int64, n, columns),
            deadline_left_us=take(np.int64, n),
            features=take(np.float32, n, features),
            score=take(np.float32, n),
            verdict=take(np.int32, n, wire.VERDICT_WIDTH),
            repeat=take(np.bool_, n),
            stage_us=np.array(stages, np.int64),
            refused=refused,
            failed=_FAILED.unpack_from(payload, end)[0] if len(payload) > end else 0,
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


Content = Context | Decisions | Labels | Gap
_PARSERS: Final[dict[int, Any]] = {
    Kind.CONTEXT: Context.parse,
    Kind.DECISIONS: Decisions.parse,
    Kind.LABELS: Labels.parse,
    Kind.GAP: Gap.parse,
}


@dataclass(frozen=True)
class Frame:
    """A frame as it was read; `digest` is its own SHA-256, which the next frame holds."""

    sequence: int
    written_at_us: int
    previous: bytes
    digest: bytes
    size: int
    kind: int
    payload: bytes

    def content(self) -> Content:
        """The payload, parsed; LogDamaged if it is not what its kind says."""
        try:
            found: Content = _PARSERS[self.kind](self.payload)
        except (KeyError, TypeError, ValueError, struct.error):
            raise LogDamaged(f"the payload of frame {self.sequence} cannot be read") from None
        return found


def encode(content: Content, sequence: int, written_at_us: int, previous: bytes) -> tuple[bytes, bytes]:
    """(the frame's bytes, their SHA-256)."""
    payload = content.payload()
    head = bytearray(HEADER.pack(MAGIC, content.kind, len(payload), 0, sequence, written_at_us, previous))
    crc = zlib.crc32(payload, zlib.crc32(bytes(head)))
    head[CRC_AT : CRC_AT + 4] = crc.to_bytes(4, "little")
    frame = bytes(head) + payload
    return frame, hashlib.sha256(frame).digest()


def decode(data: bytes, at: int) -> Frame | None:
    """The frame that begins at `at`; None if `data` ends before the frame does; LogDamaged if it is none."""
    if len(data) - at < HEADER.size:
        return None
    magic, kind, length, crc, sequence, written_at_us, previous = HEADER.unpack_from(data, at)
    if magic != MAGIC or length > MAX_PAYLOAD:
        raise LogDamaged("no frame begins here")
    end = at + HEADER.size + length
    if end > len(data):
        return None
    head = bytearray(data[at : at + HEADER.size])
    head[CRC_AT : CRC_AT + 4] = bytes(4)
    payload = data[at + HEADER.size : end]
    if zlib.crc32(payload, zlib.crc32(bytes(head))) != crc:
        raise LogDamaged(f"frame {sequence} does not match its checksum")
    digest = hashlib.sha256(memoryview(data)[at:end]).digest()
    return Frame(sequence, written_at_us, previous, digest, end - at, kind, payload)
