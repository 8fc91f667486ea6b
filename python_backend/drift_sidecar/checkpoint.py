"""What the sidecar knows, on the disk: positions in the log and the counts they led to, always together.

One SQLite file; a checkpoint is one transaction over what changed since the one before, on the disk when `write`
returns. A process that is killed at any moment finds the last whole checkpoint, reads the log on from there, and so
counts each frame once. (Writing everything to a new file and renaming it gives the same, but a month of counts is tens
of megabytes, and a checkpoint is due every second.) Each value carries a CRC-32, as SQLite alone sees no flipped bit.
"""

from __future__ import annotations

import fcntl
import sqlite3
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from drift_sidecar.errors import CannotFollow, CheckpointFailed

FORMAT: Final = 2
"""Rises with every change of what is kept or of what its bytes mean."""
FILE: Final = "checkpoint.sqlite"
UNUSED_FILE: Final = "checkpoint.unused.sqlite"
LOCK_FILE: Final = "sidecar.lock"
_TABLE: Final = """
CREATE TABLE kept (section TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL, crc INTEGER NOT NULL,
                   PRIMARY KEY (section, name))
"""

Kept = dict[str, dict[str, bytes]]
"""Values by section and name."""


class Changes(NamedTuple):
    """What changed in a section since it was saved last: new values by name, and names that are gone."""

    changed: Mapping[str, bytes]
    removed: list[str]


class Section(Protocol):
    """A part of the sidecar that is kept."""

    def changes(self) -> Changes:
        """What changed since `saved` was called last."""

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError, KeyError or TypeError if it means nothing."""


class Checkpoint:
    """The checkpoint in the folder `home`, which one sidecar holds at a time; CannotFollow where it cannot be used."""

    def __init__(self, home: Path, report: Callable[[str], None]) -> None:
        self._file = home / FILE
        self._report = report
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._lock = (home / LOCK_FILE).open("ab")
        except OSError as error:
            raise CannotFollow(f"the folder {home} cannot be used: {error.strerror}; give another --home") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise CannotFollow(f"another sidecar uses the folder {home}; give each its own --home") from None
        try:
            self._database = self._open()
        except (OSError, sqlite3.Error) as error:
            self._lock.close()
            raise CannotFollow(f"no checkpoint can be kept in {home}: {error}; free some disk") from None

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        beside = self._file.with_name(f"{FILE}-wal")
        return sum(path.stat().st_size for path in (self._file, beside) if path.exists())

    def load(self) -> Kept:
        """All that was kept; nothing if there is no checkpoint, or none that can be used (which is then reported)."""
        try:
            return _load(self._database)
        except (sqlite3.Error, ValueError) as error:
            self.discard(str(error))
            return {}

    def discard(self, why: str) -> None:
        """Put the checkpoint aside and begin with an empty one."""
        self._report(
            f"the checkpoint cannot be used ({why}); it is kept as {UNUSED_FILE}, and the log is counted anew from its "
            "oldest segment on"
        )
        with suppress(sqlite3.Error):
            self._database.close()
        self._file.replace(self._file.with_name(UNUSED_FILE))
        for beside in (f"{FILE}-wal", f"{FILE}-journal", f"{FILE}-shm"):
            self._file.with_name(beside).unlink(missing_ok=True)
        self._database = self._open()

    def write(self, sections: Mapping[str, Section]) -> None:
        """Keep what the sections are now; CheckpointFailed: the one before stands, and they know what is due."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for name, section in sections.items():
                changed, removed = section.changes()
                self._database.executemany(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)",
                    [(name, key, value, zlib.crc32(value)) for key, value in changed.items()],
                )
                self._database.executemany(
                    "DELETE FROM kept WHERE section = ? AND name = ?", [(name, key) for key in removed]
                )
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise CheckpointFailed(f"the checkpoint cannot be written: {error}; free some disk") from None
        for section in sections.values():
            section.saved()

    def close(self) -> None:
        """Let go of the file and of the folder."""
        with suppress(sqlite3.Error):
            self._database.close()
        self._lock.close()

    def _open(self) -> sqlite3.Connection:
        new = not self._file.exists()
        database = sqlite3.connect(self._file, isolation_level=None)
        with suppress(sqlite3.DatabaseError):  # what is no database is told by `load`
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        if new:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_TABLE)
            database.execute(f"PRAGMA user_version = {FORMAT}")
            database.execute("COMMIT")
        return database


def _load(database: sqlite3.Connection) -> Kept:
    """Every value; ValueError or sqlite3.Error where it is not what was written."""
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise ValueError(f"it has format {found}, and this version keeps format {FORMAT}")
    (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise ValueError("it is damaged")
    kept: Kept = {}
    for section, name, value, crc in database.execute("SELECT section, name, value, crc FROM kept"):
        if zlib.crc32(value) != crc:
            raise ValueError(f"the value of {name!r} does not match its checksum")
        kept.setdefault(section, {})[name] = value
    return kept
