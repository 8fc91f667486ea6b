"""The other end of a log's handover, in this process: what the backend `coalesce` does for a real front door."""

from __future__ import annotations

import os
from pathlib import Path

from fraud_scoring.decision_log.handover import SIZE_BITS, TOLD


class Disk:
    """Syncs what a writer names, in the order in which it was named, and says so."""

    def reach(self, named: bytes | None) -> bool:
        """Whether what is named is on the disk; the writer is told."""
        if named is None:
            return True
        place, path, told = _read(named)
        if _is_lost(told, place):
            return False
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        _, lost = _words(told)
        _tell(told, place, lost)
        return True

    def lose(self, named: bytes) -> None:
        """A sync of what is named fails."""
        place, _, told = _read(named)
        synced, _ = _words(told)
        segment = place >> SIZE_BITS
        if not _is_lost(told, place):
            _tell(told, synced, synced if synced >> SIZE_BITS == segment else segment << SIZE_BITS)


def size_of(named: bytes) -> int:
    """The size up to which what is named must be on the disk."""
    return _read(named)[0] & (1 << SIZE_BITS) - 1


def _read(named: bytes) -> tuple[int, Path, Path]:
    place, path, told = named.decode().split("\n")
    segment, size = map(int, place.split())
    return segment << SIZE_BITS | size, Path(path), Path(told)


def _words(told: Path) -> tuple[int, int]:
    synced, lost = TOLD.unpack(told.read_bytes()[: TOLD.size])
    return synced, lost


def _is_lost(told: Path, place: int) -> bool:
    return _words(told)[1] >> SIZE_BITS == place >> SIZE_BITS


def _tell(told: Path, synced: int, lost: int) -> None:
    descriptor = os.open(told, os.O_WRONLY)
    try:
        os.pwrite(descriptor, TOLD.pack(synced, lost), 0)
    finally:
        os.close(descriptor)
