"""Which keys lie together. A cluster runs a command only where all of its keys share a hash slot, so keys are put into
48 partitions by their 64 bits, and a partition's tag, in braces in the key's name, decides the slot.

The tags are chosen so that the slots lie evenly: a cluster of 2, 3, 4, 6, 8, 12, 16, 24 or 48 primaries with slots in
equal shares has equal shares of the partitions. A batch costs at most 48 commands, whatever its size. On one server the
names are the same (so that a store can be moved to a cluster) and all keys go into one command.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Final

import numpy as np

from fraud_scoring.windows import Int64

PARTITIONS: Final = 48
SLOTS: Final = 16_384
TAG_BYTES: Final = 3
MIX: Final = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio (Knuth, TAOCP 6.4): keys that follow one another are spread evenly."""


def slot(tag: bytes) -> int:
    """The hash slot of a tag: CRC-16/XMODEM modulo 16,384 (Redis Cluster specification)."""
    crc = 0
    for byte in tag:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % SLOTS


@cache
def tags() -> tuple[bytes, ...]:
    """The tag of each partition: the first of three digits or letters whose slot is in the middle of its share."""
    found: dict[int, bytes] = {}
    for letters in itertools.product(b"0123456789abcdefghijklmnopqrstuvwxyz", repeat=TAG_BYTES):
        share, place = divmod(slot(bytes(letters)) * PARTITIONS, SLOTS)
        if abs(place - SLOTS // 2) < SLOTS // 4:
            found.setdefault(share, bytes(letters))
        if len(found) == PARTITIONS:
            break
    return tuple(found[share] for share in range(PARTITIONS))


def partition_of(keys: Int64) -> Int64:
    """The partition of each key, int64 [N]."""
    mixed = np.ascontiguousarray(keys).view(np.uint64) * MIX
    return (mixed >> np.uint64(32)).astype(np.int64) * PARTITIONS >> 32


def argument(name: bytes) -> bytes:
    """A name as Redis reads one."""
    return b"$%d\r\n%b\r\n" % (len(name), name)


class KeyNames:
    """Names of one kind of key: namespace{tag}kind:, the 64 bits, big-endian, and `behind`; each as Redis reads one."""

    def __init__(self, namespace: str, kind: str, behind: bytes = b"") -> None:
        start, end = f"{namespace}{{".encode(), f"}}{kind}:".encode()
        name_bytes = len(start) + TAG_BYTES + len(end) + 8 + len(behind)
        head = b"$%d\r\n" % name_bytes
        whole = head + start + bytes(TAG_BYTES) + end + bytes(8) + behind + b"\r\n"
        self._template = np.frombuffer(whole, np.uint8)
        self._tag_at = len(head) + len(start)
        self._key_at = len(head) + name_bytes - 8 - len(behind)
        self._tags = np.frombuffer(b"".join(tags()), np.uint8).reshape(PARTITIONS, TAG_BYTES)
        self.size = len(whole)
        """Bytes of an argument."""

    def all(self, keys: Int64) -> bytes:
        """The names of keys int64 [N], one after the other."""
        return self.arguments(keys, partition_of(keys))

    def arguments(self, keys: Int64, partitions: Int64) -> bytes:
        """The names of keys int64 [N], which lie in `partitions` int64 [N], one after the other."""
        block = np.empty((len(keys), self.size), np.uint8)
        block[:] = self._template
        block[:, self._tag_at : self._tag_at + TAG_BYTES] = self._tags[partitions]
        block[:, self._key_at : self._key_at + 8] = keys.astype(">i8").view(np.uint8).reshape(-1, 8)
        return block.tobytes()
