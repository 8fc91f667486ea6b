"""Where the log's frames lie, and how they are read back.

    <log>/<writer>/00000001.frdlog        a segment: frames one after the other, the first of them a context
    <log>/<writer>/00000001.root.json     what the segment held when it was closed, signed
    <log>/<writer>/00000001.pruned.json   the same, once retention has removed the segment
    <log>/<writer>/head.json              how far the writer had come a moment ago, signed
    <log>/<writer>/head-<time>.json       a head that named frames which the next writer did not find
    <log>/<writer>/00000001.torn-<time>   bytes behind the last whole frame, which the next writer cut off
    <log>/<writer>/writer.lock            held while a writer lives

A writer never appends to a segment that another process left: it begins the next one, whose first frame holds on to the
last frame of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fraud_scoring.decision_log.errors import LogDamaged
from fraud_scoring.decision_log.frames import NO_HASH, Frame, decode

SUFFIX: Final = ".frdlog"
ROOT_SUFFIX: Final = ".root.json"
PRUNED_SUFFIX: Final = ".pruned.json"
HEAD_FILE: Final = "head.json"
LOST_HEADS: Final = "head-*.json"
TORN: Final = "torn-"
LOCK_FILE: Final = "writer.lock"
_READ_BYTES: Final = 1 << 22


class Position(NamedTuple):
    """A place between two frames: the next frame is at `offset` of `segment`, has `sequence` and holds `digest`."""

    segment: int = 1
    offset: int = 0
    sequence: int = 0
    digest: bytes = NO_HASH


def segment_path(folder: Path, number: int) -> Path:
    """The file of a writer's segment."""
    return folder / f"{number:08d}{SUFFIX}"


def root_path(folder: Path, number: int) -> Path:
    """The signed root of a writer's segment."""
    return folder / f"{number:08d}{ROOT_SUFFIX}"


def pruned_path(folder: Path, number: int) -> Path:
    """The signed statement that retention removed a segment."""
    return folder / f"{number:08d}{PRUNED_SUFFIX}"


def segments(folder: Path) -> list[int]:
    """Numbers of a writer's segments, rising."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())


def writers(log: Path) -> list[str]:
    """Names of the writers that wrote into `log`."""
    if not log.is_dir():
        return []
    return sorted(entry.name for entry in log.iterdir() if entry.is_dir() and segments(entry))


def frames_of(folder: Path, segment: int) -> Iterator[Frame]:
    """The frames of one segment, as they stand: what holds them together is not looked at."""
    return (frame for frame, _ in _frames(segment_path(folder, segment), 0))


def read(folder: Path, position: Position | None = None) -> Iterator[tuple[Frame, Position]]:
    """Frames of one writer from `position` on, each with the position behind it, up to what is there now.

    Without a position, from the oldest segment that is kept. May be called while the writer writes: a frame that is not
    complete yet is not given. LogDamaged where the bytes, the sequence or the chain break.
    """
    if position is None:
        kept = segments(folder)
        position = Position(segment=kept[0]) if kept else Position()
        anchored = bool(kept) and kept[0] == 1
    else:
        anchored = True
    while True:
        # looked up before the segment is read: once a later one exists, this one grows no more
        later = [number for number in segments(folder) if number > position.segment]
        path = segment_path(folder, position.segment)
        if not path.exists():
            if later:
                raise LogDamaged(f"segment {position.segment} of writer {folder.name} is missing")
            return
        for frame, offset in _frames(path, position.offset):
            if anchored and (frame.sequence != position.sequence or frame.previous != position.digest):
                raise LogDamaged(
                    f"segment {position.segment} of writer {folder.name}, byte {offset - frame.size}: frame "
                    f"{frame.sequence} does not follow frame {position.sequence - 1}"
                )
            anchored = True
            position = Position(position.segment, offset, frame.sequence + 1, frame.digest)
            yield frame, position
        if not later:
            return
        if position.offset != path.stat().st_size:
            raise LogDamaged(
                f"segment {position.segment} of writer {folder.name}: {path.stat().st_size - position.offset} bytes "
                f"from byte {position.offset} on are no frame"
            )
        position = Position(later[0], 0, position.sequence, position.digest)


def _frames(path: Path, offset: int) -> Iterator[tuple[Frame, int]]:
    """Complete frames of one segment from `offset` on, each with the offset behind it."""
    with path.open("rb") as file:
        file.seek(offset)
        data, at = b"", 0
        while True:
            frame = decode(data, at)
            if frame is None:
                more = file.read(_READ_BYTES)
                if not more:
                    return
                data, at = data[at:] + more, 0
                continue
            at += frame.size
            offset += frame.size
            yield frame, offset
