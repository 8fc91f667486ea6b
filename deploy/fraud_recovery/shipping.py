"""The decision log, shipped to another place while it is written: only what is new is sent, and what arrives is whole.

A file copier that knows nothing of the log brings a head that names frames which the copied segment does not hold yet,
or half a frame: such a copy is refused when it is needed. Here a writer's head is taken first and put there last, and
an open segment goes up to its last whole frame; so the copy verifies at every moment between two runs. A run that was
killed may leave half a frame at the end, which the next run cuts off, and so does a server that goes on from the copy.

A copy that has what the log lacks was written on: somebody answers from it. Then nothing is shipped any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_recovery.archive import copy_file
from fraud_recovery.errors import ShippingRefused
from fraud_recovery.log_part import listed, whole_frames, written
from fraud_scoring.decision_log import segments
from fraud_scoring.decision_log.segments import HEAD_FILE, PRUNED_SUFFIX, SUFFIX, frames_of, root_path, segment_path
from fraud_scoring.decision_log.verification import is_held
from fraud_scoring.disk import sync

_SAME: Final = 4096
"""Bytes at the end of what is there that are compared before anything is put behind them."""


@dataclass(frozen=True)
class Shipped:
    """What a run sent: `bytes` of segments, and what is there now: `segments` of `writers`."""

    writers: int
    segments: int
    bytes: int


class Shipping:
    """Ships the log in the folder `log` into the folder `to`, run by run."""

    def __init__(self, log: Path, to: Path) -> None:
        self._log, self._to = log, to
        self._looked_at: set[Path] = set()

    def run(self) -> Shipped:
        """Send what is new. ShippingRefused: what is there is not this log's beginning; OSError: it is not reached."""
        folders = written(self._log)
        if not folders:
            raise ShippingRefused(f"{self._log} is no decision log; name the folder that holds front-door-0")
        sent = 0
        for folder in folders:
            sent += self._ship(folder, self._to / folder.name)
        return Shipped(len(folders), sum(len(segments(self._to / one.name)) for one in folders), sent)

    def _ship(self, folder: Path, target: Path) -> int:
        target.mkdir(parents=True, exist_ok=True)
        head = (folder / HEAD_FILE).read_bytes() if (folder / HEAD_FILE).exists() else None
        names = listed(folder)
        numbers = [number for number in segments(folder) if segment_path(folder, number).name in names]
        self._check_not_written_on(folder, target, numbers)
        sent = 0
        for number in numbers:
            if not root_path(target, number).exists():
                is_closed = root_path(folder, number).name in names
                sent += self._grow(segment_path(folder, number), segment_path(target, number), is_closed=is_closed)
        for name in names:
            there = segment_path(target, int(name[:8])).exists() if name.endswith(PRUNED_SUFFIX) else False
            if not name.endswith(SUFFIX) and not there and not (target / name).exists():
                copy_file(folder / name, target / f".{name}")
                (target / f".{name}").replace(target / name)
        if head is not None:
            staged = target / f".{HEAD_FILE}.shipped"
            staged.write_bytes(head)
            sync(staged)
            staged.replace(target / HEAD_FILE)
        sync(target)
        return sent

    def _check_not_written_on(self, folder: Path, target: Path, numbers: list[int]) -> None:
        there = segments(target)
        roots = [root_path(target, number) for number in there if root_path(target, number).exists()]
        strange = (
            is_held(target)
            or (there and there[-1] > numbers[-1])
            or any((folder / one.name).exists() and not _same(folder / one.name, one) for one in roots)
            or any(int(one.name[:8]) in numbers and not (folder / one.name).exists() for one in roots)
        )
        if strange:
            raise _written_on(target)

    def _grow(self, source: Path, target: Path, *, is_closed: bool) -> int:
        """Put behind the target what it lacks: all of a closed segment, whole frames of an open one."""
        if target not in self._looked_at and target.exists():
            os.truncate(target, sum(frame.size for frame in frames_of(target.parent, int(target.stem))))
        self._looked_at.add(target)
        have = target.stat().st_size if target.exists() else 0
        with source.open("rb") as reading:
            reading.seek(max(0, have - _SAME))
            before = reading.read(min(have, _SAME))
            new = reading.read()
        if have:
            with target.open("rb") as there:
                there.seek(max(0, have - _SAME))
                if there.read() != before:
                    raise _written_on(target.parent)
        if not is_closed:
            new = new[: whole_frames(new)]
        if new:
            with target.open("ab") as writing:
                writing.write(new)
                writing.flush()
                os.fsync(writing.fileno())
        return len(new)


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _written_on(target: Path) -> ShippingRefused:
    return ShippingRefused(
        f"what is in {target} is not the beginning of this log: a server went on from it, and answers in this one's "
        "place, or it is another log's; nothing was shipped. Fence this region, or ship into an empty folder"
    )
