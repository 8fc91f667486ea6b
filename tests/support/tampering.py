"""Every way we know to change a decision log behind its writer's back, by the seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring.decision_log import Decisions, Gap, LogWriter, Signer, segments
from fraud_scoring.decision_log.frames import decode, encode
from fraud_scoring.decision_log.segments import HEAD_FILE, frames_of, pruned_path, root_path, segment_path
from fraud_scoring.decision_log.signing import Says, Statement
from support.decision_logs import FEEDBACK, FRONT_DOOR, Traffic
from support.rows import MONDAY_US, Clock

WRITERS: Final = (FRONT_DOOR, "front-door-1", FEEDBACK)


def write_log(folder: Path, signer: Signer, seed: int = 1, frames: int = 60) -> Path:
    """A closed log of several writers, five segments or so each."""
    from fraud_scoring.decision_log import Context, Labels

    traffic = Traffic(np.random.default_rng(seed))
    clock = Clock(MONDAY_US)
    for name in WRITERS:
        writer = LogWriter(
            folder / name,
            Context(7, traffic.schema.document),
            signer,
            durable=False,
            segment_bytes=5_000 if name == FEEDBACK else 20_000,
            now_us=clock,
        )
        for number in range(frames):
            clock.now_us += 400_000
            if name == FEEDBACK:
                writer.append(Labels(traffic.rng.integers(0, 99, (6, 3))))
            elif number % 17 == 5:
                writer.append(Gap(clock.now_us, 3, "No space left on device"))
            else:
                writer.append(traffic.decisions(int(traffic.rng.integers(1, 40)), clock.now_us))
        writer.close()
    return folder


class Tamperer:
    """Changes the log in `folder`, which it may spoil, in one way that the seed draws; `done` says what it did."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._log = folder
        self._folder = folder / str(self._rng.choice(WRITERS))
        self._other = folder / str(self._rng.choice([name for name in WRITERS if name != self._folder.name]))
        self._kept = segments(self._folder)
        self._number = int(self._rng.choice(self._kept))
        self._path = segment_path(self._folder, self._number)
        self.done = ""

    def tamper(self) -> None:
        way = WAYS[int(self._rng.integers(len(WAYS)))]
        before = self._state()
        while self._state() == before:
            way(self)
        self.done = f"{way.__name__.strip('_')} in {self._folder.name}, segment {self._number}"

    def _state(self) -> dict[str, bytes]:
        return {str(path.relative_to(self._log)): path.read_bytes() for path in self._log.rglob("*") if path.is_file()}

    def _ends(self, path: Path | None = None) -> list[int]:
        """Byte positions between frames, both ends included."""
        data, ends = (path or self._path).read_bytes(), [0]
        while ends[-1] < len(data):
            frame = decode(data, ends[-1])
            assert frame is not None
            ends.append(ends[-1] + frame.size)
        return ends

    def _parts(self) -> list[bytes]:
        data, ends = self._path.read_bytes(), self._ends()
        return [data[a:b] for a, b in pairwise(ends)]

    def _write(self, parts: list[bytes]) -> None:
        self._path.write_bytes(b"".join(parts))

    def _flip_a_bit(self) -> None:
        data = bytearray(self._path.read_bytes())
        data[int(self._rng.integers(len(data)))] ^= 1 << int(self._rng.integers(8))
        self._path.write_bytes(data)

    def _flip_a_bit_of_a_statement(self) -> None:
        path = self._rng.choice(sorted(self._folder.glob("*.json")))
        data = bytearray(path.read_bytes())
        data[int(self._rng.integers(len(data)))] ^= 1 << int(self._rng.integers(8))
        path.write_bytes(data)

    def _cut_bytes_out(self) -> None:
        data = self._path.read_bytes()
        at, length = int(self._rng.integers(len(data))), int(self._rng.integers(1, 400))
        self._path.write_bytes(data[:at] + data[at + length :])

    def _put_bytes_in(self) -> None:
        data = self._path.read_bytes()
        at = int(self._rng.integers(len(data) + 1))
        self._path.write_bytes(data[:at] + self._rng.bytes(int(self._rng.integers(1, 400))) + data[at:])

    def _overwrite_bytes(self) -> None:
        data = self._path.read_bytes()
        at, length = int(self._rng.integers(len(data))), int(self._rng.integers(1, 400))
        new = bytes(length) if self._rng.random() < 0.5 else self._rng.bytes(length)
        self._path.write_bytes((data[:at] + new + data[at + length :])[: len(data)])

    def _truncate_anywhere(self) -> None:
        data = self._path.read_bytes()
        self._path.write_bytes(data[: int(self._rng.integers(len(data)))])

    def _put_an_older_copy_back(self) -> None:
        ends = self._ends()
        self._path.write_bytes(self._path.read_bytes()[: ends[int(self._rng.integers(len(ends) - 1))]])

    def _remove_frames(self) -> None:
        parts = self._parts()
        at = int(self._rng.integers(len(parts)))
        self._write(parts[:at] + parts[at + int(self._rng.integers(1, 4)) :])

    def _swap_frames(self) -> None:
        parts = self._parts()
        one, other = self._rng.choice(len(parts), 2, replace=len(parts) < 2)
        parts[one], parts[other] = parts[other], parts[one]
        if len(parts) < 2:
            self._flip_a_bit()
        else:
            self._write(parts)

    def _repeat_a_frame(self) -> None:
        parts = self._parts()
        at = int(self._rng.integers(len(parts)))
        self._write([*parts[: at + 1], parts[int(self._rng.integers(len(parts)))], *parts[at + 1 :]])

    def _swap_frames_between_writers(self) -> None:
        number = segments(self._other)[0]
        theirs, mine = segment_path(self._other, number), self._parts()
        ends = self._ends(theirs)
        mine[int(self._rng.integers(len(mine)))] = theirs.read_bytes()[ends[-2] : ends[-1]]
        self._write(mine)

    def _rewrite_history(self) -> None:
        """Change what a frame says and mend checksum, sequence and chain of all that follow in every segment."""
        changed_at = int(self._rng.integers(len(self._parts())))
        previous: bytes | None = None
        for number in [one for one in self._kept if one >= self._number]:
            out = []
            for i, frame in enumerate(frames_of(self._folder, number)):
                content = frame.content()
                if number == self._number and i == changed_at:
                    content = Gap(1, 0, "nothing to see") if not isinstance(content, Decisions) else _gentler(content)
                new, digest = encode(
                    content, frame.sequence, frame.written_at_us, frame.previous if previous is None else previous
                )
                previous = digest
                out.append(new)
            segment_path(self._folder, number).write_bytes(b"".join(out))

    def _forge_a_frame_at_the_end(self) -> None:
        last = self._kept[-1]
        *_, frame = frames_of(self._folder, last)
        forged, _ = encode(Gap(1, 0, "nothing to see"), frame.sequence + 1, frame.written_at_us, frame.digest)
        with segment_path(self._folder, last).open("ab") as file:
            file.write(forged)

    def _remove_a_segment(self) -> None:
        self._path.unlink()
        if self._rng.random() < 0.5:
            root_path(self._folder, self._number).unlink()

    def _remove_a_segment_as_if_by_retention(self) -> None:
        number = self._kept[0]
        segment_path(self._folder, number).unlink()
        root_path(self._folder, number).rename(pruned_path(self._folder, number))

    def _remove_all_segments(self) -> None:
        for number in self._kept:
            segment_path(self._folder, number).unlink()

    def _remove_the_end_and_put_a_root_for_the_head(self) -> None:
        keep = int(self._rng.choice(self._kept[:-1]))
        for number in [one for one in self._kept if one > keep]:
            segment_path(self._folder, number).unlink()
            root_path(self._folder, number).unlink()
        shutil.copy(root_path(self._folder, keep), self._folder / HEAD_FILE)

    def _remove_a_root(self) -> None:
        root_path(self._folder, self._number).unlink()

    def _remove_the_head(self) -> None:
        (self._folder / HEAD_FILE).unlink()

    def _sign_with_another_key(self) -> None:
        """Truncate the log at the end of a segment and state it all anew."""
        thief = Signer(Ed25519PrivateKey.generate())
        self._put_an_older_copy_back()
        ends = self._ends()
        *_, last = list(frames_of(self._folder, self._number)) or [None]
        root = json.loads(root_path(self._folder, self._number).read_text())
        root.pop("signature")
        statement = replace(Statement(**{**root, "says": Says.ROOT}), frames=len(ends) - 1, size=ends[-1])
        if last is not None:
            statement = replace(statement, sequence=last.sequence, digest=last.digest.hex())
        thief.write(root_path(self._folder, self._number), statement)

    def _swap_segments(self) -> None:
        other = int(self._rng.choice([number for number in self._kept if number != self._number]))
        _swap(self._path, segment_path(self._folder, other))
        if self._rng.random() < 0.5:
            _swap(root_path(self._folder, self._number), root_path(self._folder, other))

    def _swap_writers(self) -> None:
        _swap(self._folder, self._other)

    def _copy_a_segment_to_the_end(self) -> None:
        last = self._kept[-1]
        shutil.copy(self._path, segment_path(self._folder, last + 1))
        shutil.copy(root_path(self._folder, self._number), root_path(self._folder, last + 1))

    def _copy_a_writer(self) -> None:
        shutil.copytree(self._folder, self._log / "front-door-9")


def _gentler(content: Decisions) -> Decisions:
    verdict = content.verdict.copy()
    verdict[0, 0] = (verdict[0, 0] + 1) % 3
    return replace(content, verdict=verdict)


def _swap(one: Path, other: Path) -> None:
    aside = one.with_name(f"{one.name}.aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


_COMMON = ("_flip_a_bit", "_cut_bytes_out", "_put_bytes_in", "_swap_frames", "_truncate_anywhere", "_remove_frames")
_ALL = [
    value
    for name, value in vars(Tamperer).items()
    if name.startswith("_")
    and name
    not in {
        "__init__",
        "_state",
        "_ends",
        "_parts",
        "_write",
    }
    and not name.startswith("__")
    and callable(value)
]
WAYS: Final[list[Callable[[Tamperer], None]]] = [*_ALL, *(getattr(Tamperer, name) for name in _COMMON * 2)]
"""The ways that the issue names come three times as often as the others."""
