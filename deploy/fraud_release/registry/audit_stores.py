"""Where the audit's lines lie. Both kinds append one line under the next number, or say that somebody else did.

SqliteAudit   a file beside the embedded registry; triggers refuse every change but an append
MlflowAudit   a shared MLflow server: one experiment per row, whose name is taken once and for all, even when deleted
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fraud_release.errors import RegistryConflict, RegistryUnavailable

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

WAIT_SECONDS: Final = 30.0
PREFIX: Final = "fraudserve-audit/"
_PIECE: Final = 4_000
"""Characters of a tag; MLflow takes 5,000 of an experiment's."""
_PAGE: Final = 1_000
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS audit (sequence INTEGER PRIMARY KEY, line TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_is_not_updated BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_has_no_gap BEFORE INSERT ON audit
WHEN NEW.sequence <> (SELECT COUNT(*) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'the audit has no gaps'); END;
"""


class AuditStore(Protocol):
    """Lines under the numbers 1, 2, 3 …"""

    def lines(self) -> list[str]:
        """All lines, in order."""
        ...

    def append(self, sequence: int, line: str) -> None:
        """Store `line` under `sequence`, durably; RegistryConflict if that number is taken."""
        ...


class SqliteAudit:
    """Lines in a SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lines(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._open() as connection:
            return [str(line) for (line,) in connection.execute("SELECT line FROM audit ORDER BY sequence")]

    def append(self, sequence: int, line: str) -> None:
        with self._open() as connection:
            try:
                connection.execute("INSERT INTO audit (sequence, line) VALUES (?, ?)", (sequence, line))
            except sqlite3.IntegrityError:
                raise _taken() from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=WAIT_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                yield connection
        except sqlite3.DatabaseError as error:
            raise RegistryUnavailable(f"the audit's file {self._path.name} cannot be used: {error}") from None


class MlflowAudit:
    """Lines in the tags of experiments `fraudserve-audit/NAME/000001` of an MLflow server."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self._prefix = f"{PREFIX}{name}/"

    def lines(self) -> list[str]:
        """Also of experiments that were deleted since; a missing number is left out, so that the chain shows it."""
        from mlflow.entities import ViewType

        found: list[Experiment] = []
        token = None
        while True:
            page = self._client.search_experiments(
                ViewType.ALL, max_results=_PAGE, filter_string=f"name LIKE '{self._prefix}%'", page_token=token
            )
            found += page
            token = page.token
            if not token:
                break
        by_name = sorted((one for one in found if one.name.startswith(self._prefix)), key=lambda one: one.name)
        return ["".join(text for tag, text in sorted(one.tags.items()) if tag.startswith("row.")) for one in by_name]

    def append(self, sequence: int, line: str) -> None:
        from mlflow.exceptions import MlflowException

        pieces = [line[at : at + _PIECE] for at in range(0, len(line), _PIECE)]
        tags = {f"row.{number:03d}": piece for number, piece in enumerate(pieces)}
        try:
            self._client.create_experiment(f"{self._prefix}{sequence:09d}", tags=tags)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                raise _taken() from None
            raise


def _taken() -> RegistryConflict:
    return RegistryConflict("somebody else changed the registry at the same moment; look at it and ask again")
