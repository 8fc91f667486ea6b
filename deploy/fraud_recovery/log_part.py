"""The decision log, copied while it is written: closed segments, and the open one up to its last whole frame.

A copy is verified before it counts: `verify_log` reads every byte of it again, against the log's public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fraud_recovery.archive import Progress, copy_file
from fraud_recovery.errors import ArchiveRefused, BackupFailed
from fraud_scoring.decision_log import Finding, Frame, LogDamaged, Verification, segments, verify_log
from fraud_scoring.decision_log.frames import decode
from fraud_scoring.decision_log.segments import HEAD_FILE, LOCK_FILE, frames_of, root_path, segment_path
from fraud_scoring.decision_log.signing import Says, read_statement
from fraud_scoring.decision_log.verification import INSIDE_A_FRAME, next_frame

_ATTEMPTS: Final = 5
"""Retention may remove a segment while its folder is copied: then the folder is copied anew."""


@dataclass(frozen=True)
class Reached:
    """How far a writer had come: its last frame that a signed head names; -1 where nothing was signed yet."""

    sequence: int
    at_us: int


def reached(log: Path, public_key: str) -> dict[str, Reached]:
    """How far each writer has come by its signed head, which is at most a second old while it writes."""
    found = {}
    for folder in written(log):
        try:
            head = read_statement(folder / HEAD_FILE, public_key, Says.HEAD, Says.CLOSED)
            found[folder.name] = Reached(head.sequence, head.at_us)
        except LogDamaged:
            found[folder.name] = Reached(-1, 0)
    return found


def copy_log(log: Path, target: Path, public_key: str, progress: Progress) -> dict[str, Any]:
    """Copy all writers of `log` and verify the copy; what the manifest says of it. BackupFailed: it is damaged."""
    folders = written(log)
    for number, folder in enumerate(folders):
        progress(number / len(folders), f"log of {folder.name}")
        _insist(folder, target / folder.name)
    found = verify_log(target, public_key)
    if found.findings:
        one = found.findings[0]
        raise BackupFailed(
            f"the decision log is damaged: {one.writer} segment {one.segment} byte {one.byte}: {one.what}; "
            "see fraudctl log verify, and the runbook LogDamaged"
        )
    return {
        "writers": {name: one.sequence for name, one in reached(target, public_key).items()},
        "segments": found.segments,
        "frames": found.frames,
        "decisions": found.decisions,
        "public_key": public_key,
    }


def check_log(log: Path, public_key: str, what: str) -> Verification:
    """Verify a log that is to be restored or replayed; ArchiveRefused names the first finding.

    A last segment may end inside a frame: that is how a writer ends that is killed while it writes, or a log that is
    shipped by one. Nothing in such a frame was acknowledged, and the next writer puts it aside.
    """
    found = verify_log(log, public_key)
    if findings := [one for one in found.findings if not _is_a_killed_writer_s_end(log, one)]:
        one = findings[0]
        raise ArchiveRefused(
            f"{what}: writer {one.writer}, segment {one.segment}, byte {one.byte}: {one.what}; "
            "it is not what was written: restore another archive"
        )
    return found


def _is_a_killed_writer_s_end(log: Path, one: Finding) -> bool:
    """Whether there is nothing but the beginning of a frame, at the end of the last segment."""
    folder = log / one.writer
    if one.what != INSIDE_A_FRAME or one.segment != segments(folder)[-1]:
        return False
    data = segment_path(folder, one.segment).read_bytes()
    return next_frame(data, one.byte + 1) == len(data)


def _insist(folder: Path, target: Path) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            _copy_writer(folder, target)
            return
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise BackupFailed(f"the log of {folder.name} changes while it is copied; try again") from None
            for path in target.iterdir():
                path.unlink()


def _copy_writer(folder: Path, target: Path) -> None:
    """Everything that is there when the copy begins; what grows meanwhile ends at its last whole frame."""
    target.mkdir(parents=True, exist_ok=True)
    head = (folder / HEAD_FILE).read_bytes() if (folder / HEAD_FILE).exists() else None
    names = listed(folder)
    numbers = segments(folder)
    closed = {number for number in numbers if root_path(folder, number).name in names}
    for name in names:
        copy_file(folder / name, target / name)
    for number in numbers:
        path = segment_path(target, number)
        if number not in closed and path.exists():
            _cut_at_last_frame(path)
    if head is not None:
        (target / HEAD_FILE).write_bytes(head)


def listed(folder: Path) -> list[str]:
    """What a writer keeps, its head left out: a listing that a new segment came into may lack the root before it."""
    names: list[str] = []
    while (found := sorted(path.name for path in folder.iterdir() if _is_kept(path))) != names:
        names = found
    return names


def _is_kept(path: Path) -> bool:
    """Segments, roots, statements and what was put aside; not the head, which is taken first, nor what is staged."""
    return path.is_file() and path.name not in (HEAD_FILE, LOCK_FILE) and not path.name.startswith(".")


def _cut_at_last_frame(path: Path) -> None:
    """Cut off a frame that was being written when the file was copied."""
    data = path.read_bytes()
    if (at := whole_frames(data)) < len(data):
        with path.open("r+b") as file:
            file.truncate(at)


def whole_frames(data: bytes) -> int:
    """Where the last whole frame ends; all of it where something is no frame, for `verify_log` to name."""
    at = 0
    try:
        while (frame := decode(data, at)) is not None:
            at += frame.size
    except LogDamaged:
        return len(data)
    return at


def written(log: Path) -> list[Path]:
    """The folders of all writers of a log."""
    return sorted(path for path in log.iterdir() if path.is_dir() and segments(path)) if log.is_dir() else []


def continues(archived: Path, surviving: Path) -> None:
    """ArchiveRefused unless each archived writer's last frame is in the `surviving` log; both were verified."""
    for folder in written(archived):
        last = segments(folder)[-1]
        *_, frame = frames_of(folder, last)
        there = surviving / folder.name
        if not segments(there) or not _has(there, last, frame):
            raise ArchiveRefused(
                f"the surviving log of {folder.name} does not hold frame {frame.sequence}, which the archive's does: "
                "it is another log, or an older one; restore without --surviving-log"
            )


def _has(folder: Path, segment: int, frame: Frame) -> bool:
    kept = segments(folder)
    if segment not in kept:
        return kept[0] > segment  # retention removed it; what it left holds the chain
    return any(one.digest == frame.digest for one in frames_of(folder, segment))
