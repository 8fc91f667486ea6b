"""A checkpoint keeps everything or nothing, and says why when it cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from drift_sidecar.checkpoint import FILE, FORMAT, UNUSED_FILE, Changes, Checkpoint
from drift_sidecar.errors import CannotFollow, CheckpointFailed


class Notes:
    """A section that holds what a test puts into it."""

    def __init__(self, **values: bytes) -> None:
        self.due: dict[str, bytes] = dict(values)
        self.gone: list[str] = []

    def changes(self) -> Changes:
        return Changes(self.due, self.gone)

    def saved(self) -> None:
        self.due, self.gone = {}, []

    def restore(self, kept: Mapping[str, bytes]) -> None:
        self.due = dict(kept)


def open_checkpoint(home: Path) -> tuple[Checkpoint, list[str]]:
    said: list[str] = []
    return Checkpoint(home, said.append), said


def kept_in(home: Path) -> tuple[Mapping[str, Mapping[str, bytes]], list[str]]:
    checkpoint, said = open_checkpoint(home)
    kept = checkpoint.load()
    checkpoint.close()
    return kept, said


def write(home: Path, **sections: Notes) -> None:
    checkpoint, _ = open_checkpoint(home)
    checkpoint.write(sections)
    checkpoint.close()


def test_what_was_written_is_there_again(tmp_path: Path) -> None:
    write(tmp_path, counts=Notes(a=b"1", b=b"2"), places=Notes(a=b"3"))
    assert kept_in(tmp_path) == ({"counts": {"a": b"1", "b": b"2"}, "places": {"a": b"3"}}, [])


def test_only_what_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    write(tmp_path, counts=Notes(a=b"1", b=b"2", c=b"3"))
    change = Notes(b=b"20")
    change.gone = ["c"]
    write(tmp_path, counts=change)
    assert kept_in(tmp_path)[0] == {"counts": {"a": b"1", "b": b"20"}}


def test_a_section_that_fails_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoint, _ = open_checkpoint(tmp_path)
    checkpoint.write({"counts": Notes(a=b"1"), "places": Notes(p=b"1")})

    class Full(Notes):
        def changes(self) -> Changes:
            raise sqlite3.OperationalError("database or disk is full")

    counts = Notes(a=b"2")
    with pytest.raises(CheckpointFailed, match="database or disk is full; free some disk"):
        checkpoint.write({"counts": counts, "places": Full()})
    assert counts.due == {"a": b"2"}, "what was not written is still due"
    checkpoint.write({"counts": counts, "places": Notes(p=b"2")})
    checkpoint.close()
    assert kept_in(tmp_path)[0] == {"counts": {"a": b"2"}, "places": {"p": b"2"}}


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from drift_sidecar.checkpoint import Changes, Checkpoint

class Half:
    def __init__(self, value, last):
        self.value, self.last = value, last
    def changes(self):
        if self.last and self.value == b"9":
            os.kill(os.getpid(), signal.SIGKILL)
        return Changes({"value": self.value}, [])
    def saved(self):
        pass

checkpoint = Checkpoint(Path(sys.argv[1]), print)
for value in (b"1", b"9"):
    checkpoint.write({"counts": Half(value, False), "places": Half(value, True)})
"""


def test_a_writer_that_is_killed_half_way_leaves_the_whole_checkpoint_before(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], check=False, timeout=60)
    assert killed.returncode == -9
    assert kept_in(tmp_path) == ({"counts": {"value": b"1"}, "places": {"value": b"1"}}, [])


def test_a_checkpoint_of_another_format_is_put_aside_with_a_line(tmp_path: Path) -> None:
    write(tmp_path, counts=Notes(a=b"1"))
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    kept, said = kept_in(tmp_path)
    assert not kept
    assert said == [
        f"the checkpoint cannot be used (it has format 99, and this version keeps format {FORMAT}); it is kept as "
        f"{UNUSED_FILE}, and the log is counted anew from its oldest segment on"
    ]
    assert (tmp_path / UNUSED_FILE).exists()
    assert kept_in(tmp_path) == ({}, []), "the next start has a good one"


def test_a_flipped_bit_in_a_value_is_seen(tmp_path: Path) -> None:
    write(tmp_path, counts=Notes(a=b"the value that is turned over"))
    file = tmp_path / FILE
    data = bytearray(file.read_bytes())
    data[data.index(b"the value that")] ^= 1
    file.write_bytes(data)
    kept, said = kept_in(tmp_path)
    assert not kept
    assert "the value of 'a' does not match its checksum" in said[0]


@pytest.mark.parametrize("content", [b"", b"no database at all, but long enough to be looked at" * 100])
def test_a_file_that_is_no_checkpoint_is_put_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    kept, said = kept_in(tmp_path)
    assert not kept
    assert len(said) == 1
    write(tmp_path, counts=Notes(a=b"1"))
    assert kept_in(tmp_path) == ({"counts": {"a": b"1"}}, [])


def test_a_checkpoint_that_was_cut_is_put_aside(tmp_path: Path) -> None:
    write(tmp_path, counts=Notes(**{f"name{k}": bytes(3000) for k in range(200)}))
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    kept, said = kept_in(tmp_path)
    assert not kept
    assert "cannot be used" in said[0]


def test_two_sidecars_never_share_a_home(tmp_path: Path) -> None:
    checkpoint, _ = open_checkpoint(tmp_path)
    with pytest.raises(CannotFollow, match=r"another sidecar uses the folder .*; give each its own --home"):
        Checkpoint(tmp_path, print)
    checkpoint.close()
    open_checkpoint(tmp_path)[0].close()


def test_a_home_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CannotFollow, match="cannot be used: Not a directory; give another --home"):
        Checkpoint(tmp_path / "file" / "home", print)
