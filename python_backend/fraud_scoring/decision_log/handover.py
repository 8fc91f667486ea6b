"""A segment that another process brings to the disk, while its writer writes on.

The writer hands over a place, which says up to where; who takes it syncs the file before anybody is told an answer, and
says how far that is done in the writer's lock file:

synced  u64   the place up to which the disk has the log
lost    u64   a sync of that segment failed: what lies behind this place was acknowledged to nobody, and never will be

A place is a segment's number times 2^36, and a size of it in bytes; 0 is none. python_backend/coalesce/disk.h is the
other end.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

SIZE_BITS: Final = 36
TOLD: Final = struct.Struct("<QQ")
LOOK_S: Final = 0.0002


class Handover:
    """What is handed over of a log whose lock file is `path`; nothing is at first."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.pwrite(descriptor, bytes(TOLD.size), 0)  # also takes the room that a map needs
            self._told = mmap.mmap(descriptor, TOLD.size)
        finally:
            os.close(descriptor)
        self._path = path
        self._place = 0

    def name(self, segment: int, size: int, path: Path) -> bytes:
        """What to give to who syncs: of the segment in `path`, `size` bytes."""
        self._place = segment << SIZE_BITS | size
        return f"{segment} {size}\n{path}\n{self._path}".encode()

    def synced(self, segment: int) -> int:
        """The size up to which a segment is on the disk, as far as was said."""
        synced, _ = TOLD.unpack_from(self._told)
        return _size(synced) if synced >> SIZE_BITS == segment else 0

    def lost(self, segment: int) -> int | None:
        """The size behind which nothing of a segment was acknowledged, if a sync of it failed."""
        _, lost = TOLD.unpack_from(self._told)
        return _size(lost) if lost >> SIZE_BITS == segment else None

    def is_settled(self) -> bool:
        """Whether all that was handed over is on the disk, or known to be lost."""
        synced, lost = TOLD.unpack_from(self._told)
        return bool(synced >= self._place or lost >> SIZE_BITS == self._place >> SIZE_BITS)

    def wait(self, seconds: float) -> None:
        """Return when it is so, or after that time."""
        give_up = time.monotonic() + seconds
        while not self.is_settled() and time.monotonic() < give_up:
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Let go of the lock file."""
        self._told.close()


def _size(place: int) -> int:
    return int(place & (1 << SIZE_BITS) - 1)
