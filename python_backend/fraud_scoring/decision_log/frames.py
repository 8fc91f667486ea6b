"""Frames of the decision log: what one is, to the byte, and how each holds on to the one before it.

    offset  size
         0     4   magic "FRD1"
         4     1   kind (contents.Kind)
         5     3   zero
         8     4   length of the payload
        12     4   CRC-32 of everything but these four bytes
        16     8   sequence: 0, 1, 2 … per writer, without a gap
        24     8   written at, UTC microseconds
        32    32   SHA-256 of the whole frame before it (zero for a writer's first)
        64     …   payload (contents)

All numbers are little-endian. A frame is one dynamic batch, so its price is shared by the batch's rows.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from fraud_scoring.decision_log.contents import PARSERS, Content
from fraud_scoring.decision_log.errors import LogDamaged

MAGIC: Final = b"FRD1"
HEADER: Final = struct.Struct("<4sB3xIIQq32s")
CRC_AT: Final = 12
NO_HASH: Final = bytes(32)
MAX_PAYLOAD: Final = 1 << 28


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
            found: Content = PARSERS[self.kind](self.payload)
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
