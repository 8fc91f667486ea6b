"""Is the log what was written? Every byte of every writer, read again from the start.

Found by name (writer, segment, byte, frame): flipped bytes (checksum), frames removed, inserted or put elsewhere
(sequence and chain), ends cut off and histories written anew (signed roots and heads), and whole frames that a writer
had to put aside when it took up a damaged log.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fraud_scoring.decision_log.contents import Decisions
from fraud_scoring.decision_log.errors import LogDamaged
from fraud_scoring.decision_log.frames import MAGIC, NO_HASH, Frame, decode
from fraud_scoring.decision_log.segments import (
    HEAD_FILE,
    LOCK_FILE,
    LOST_HEADS,
    TORN,
    pruned_path,
    root_path,
    segment_path,
    segments,
)
from fraud_scoring.decision_log.signing import Says, Statement, read_statement

INSIDE_A_FRAME = "the segment ends inside a frame"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `byte` and `sequence` say where, as far as that can be told."""

    writer: str
    segment: int
    byte: int
    sequence: int
    what: str


@dataclass
class Verification:
    """What was read and what was found."""

    writers: int = 0
    segments: int = 0
    frames: int = 0
    decisions: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify_log(
    log: Path, public_key: str, progress: Callable[[float, str], None] = lambda share, text: None
) -> Verification:
    """Verify all writers of `log` against the `public_key` (hexadecimal) that signs its roots."""
    out = Verification()
    names = [entry.name for entry in sorted(log.iterdir()) if entry.is_dir()] if log.is_dir() else []
    for number, name in enumerate(names):
        progress(number / len(names), f"writer {name}")
        _Writer(log / name, public_key, out).verify()
        out.writers += 1
    progress(1.0, "verified")
    return out


class _Writer:
    """One writer's segments in order; `_sequence` and `_digest` are what the next frame must hold."""

    def __init__(self, folder: Path, public_key: str, out: Verification) -> None:
        self._folder = folder
        self._public_key = public_key
        self._out = out
        self._sequence, self._digest = 0, NO_HASH
        # before the segments are looked at: a writer that lives goes on, and its next head names what was not read
        self._head_seen = (folder / HEAD_FILE).exists()
        self._head = self._statement(folder / HEAD_FILE, 0, Says.HEAD, Says.CLOSED)
        self._kept = segments(folder)
        self._digests: dict[tuple[int, int], str] = {}

    def verify(self) -> None:
        if not self._kept:
            self._find(1, 0, "every segment is missing")
            return
        for number in range(1, self._kept[-1] + 1):
            if number in self._kept:
                self._segment(number, self._statement(root_path(self._folder, number), number, Says.ROOT))
            else:
                self._removed(number)
        self._check_head()
        self._check_what_was_lost()

    def _find(self, segment: int, byte: int, what: str, sequence: int | None = None) -> None:
        at = self._sequence if sequence is None else sequence
        self._out.findings.append(Finding(self._folder.name, segment, byte, at, what))

    def _removed(self, number: int) -> None:
        """Retention removes segments from the oldest on, and leaves a signed statement that holds the chain."""
        pruned = self._statement(pruned_path(self._folder, number), number, Says.PRUNED)
        if pruned is None:
            self._find(number, 0, "the segment is missing")
            return
        if number > min(self._kept):
            self._find(number, 0, f"the segment was removed, and older ones were not: frames up to {pruned.sequence}")
        self._sequence, self._digest = pruned.sequence + 1, bytes.fromhex(pruned.digest)

    def _segment(self, number: int, root: Statement | None) -> None:
        self._out.segments += 1
        is_open = root is None and number == self._kept[-1] and is_held(self._folder)
        frames, end = 0, 0
        for byte, found in _scan(segment_path(self._folder, number).read_bytes(), is_open):
            if isinstance(found, str):
                self._find(number, byte, found)
                continue
            self._frame(number, byte, found)
            frames, end = frames + 1, byte + found.size
        if root is None:
            if not is_open and number != self._kept[-1]:
                self._find(number, end, "the segment was closed and has no root", self._sequence - 1)
        elif (root.digest, root.frames, root.size) != (self._digest.hex(), frames, end):
            what = f"the segment's root was signed for {root.frames} frames up to {root.sequence}"
            self._find(number, end, what, self._sequence - 1)

    def _frame(self, number: int, byte: int, frame: Frame) -> None:
        if frame.sequence != self._sequence:
            what = f"frame {frame.sequence} stands where {self._sequence} belongs"
            self._find(number, byte, what, frame.sequence)
        elif frame.previous != self._digest:
            self._find(number, byte, f"frame {frame.sequence} does not hold the one before it", frame.sequence)
        self._sequence, self._digest = frame.sequence + 1, frame.digest
        self._digests[number, frame.sequence] = frame.digest.hex()
        self._out.frames += 1
        try:
            content = frame.content()
        except LogDamaged as damage:
            self._find(number, byte, str(damage), frame.sequence)
        else:
            self._out.decisions += len(content) if isinstance(content, Decisions) else 0

    def _check_head(self) -> None:
        last, head = self._kept[-1], self._head
        if head is None:
            if not self._head_seen:
                self._find(last, 0, f"no {HEAD_FILE}: what was cut from the end cannot be seen")
        elif head.segment > last:
            self._find(head.segment, 0, "the segment that the head names is missing", head.sequence)
        elif head.segment in self._kept:
            self._expect(head, "the last when the head was signed")
            if head.says is Says.CLOSED and not root_path(self._folder, head.segment).exists():
                self._find(head.segment, head.size, "the segment was closed and has no root", head.sequence)

    def _check_what_was_lost(self) -> None:
        """What a writer found, cut off and went on from is no less lost."""
        for path in sorted(self._folder.glob(LOST_HEADS)):
            head = self._statement(path, 0, Says.HEAD, Says.CLOSED)
            if head is not None:
                self._expect(head, "which a head had named before the next writer began")
        for path in sorted(self._folder.glob(f"*.{TORN}*")):
            data = path.read_bytes()
            at = next_frame(data, 0)
            if at < len(data):
                self._find(int(path.stem), at, f"whole frames were put aside into {path.name}")

    def _expect(self, head: Statement, words: str) -> None:
        if self._digests.get((head.segment, head.sequence)) != head.digest:
            self._find(head.segment, head.size, f"frame {head.sequence}, {words}, is not there", head.sequence)

    def _statement(self, path: Path, number: int, *says: Says) -> Statement | None:
        """The statement in `path` about segment `number` (0: whichever it names); None, and a finding, if it is bad."""
        if not path.exists():
            return None
        try:
            found = read_statement(path, self._public_key, *says)
        except LogDamaged as damage:
            self._find(number, 0, str(damage))
            return None
        if found.writer != self._folder.name or number not in (0, found.segment):
            self._find(number, 0, f"{path.name} was signed for segment {found.segment} of writer {found.writer}")
            return None
        return found


def is_held(folder: Path) -> bool:
    """Whether a living process writes here now."""
    try:
        with (folder / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _scan(data: bytes, is_open: bool) -> Iterator[tuple[int, Frame | str]]:
    """(byte, frame) of every frame of a segment, or (byte, what is wrong there); goes on behind what is wrong."""
    at = 0
    while at < len(data):
        try:
            frame = decode(data, at)
            if frame is not None:
                yield at, frame
                at += frame.size
                continue
            what = INSIDE_A_FRAME
            if is_open and next_frame(data, at + 1) == len(data):
                return  # the writer is writing it
        except LogDamaged as damage:
            what = str(damage)
        yield at, what
        at = next_frame(data, at + 1)


def next_frame(data: bytes, at: int) -> int:
    """Where the next sound frame begins; the end if none does."""
    while (at := data.find(MAGIC, at)) >= 0:
        try:
            if decode(data, at) is not None:
                return at
        except LogDamaged:
            pass
        at += 1
    return len(data)
