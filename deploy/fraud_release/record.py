"""What a host has verified so far: a file that only moves on, so that an old release cannot stand in for a new one.

For each release the epoch of its newest signature and the hash of its content. A release that was verified before may
be served again (that is what a rollback does); one that turns up later than newer ones, and a signature that is older
than one that was seen, may not. As with ssh's known hosts, the first look believes its eyes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fraud_release.errors import ArtifactRefused
from fraud_release.statement import Statement
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import release_name, release_number


@dataclass(frozen=True)
class Seen:
    """The newest signature of a release that was verified here: its epoch, and the hash of what it covers."""

    epoch: int
    root: str


@dataclass(frozen=True)
class Record:
    """What was verified here, by the release's number."""

    releases: Mapping[int, Seen]

    def check(self, statement: Statement) -> None:
        """ArtifactRefused if `statement` is older than what was verified here before."""
        release, known = release_name(statement.release), self.releases.get(statement.release)
        if known is not None:
            if statement.epoch < known.epoch:
                raise ArtifactRefused(
                    release,
                    statement.signature_path,
                    "is older than the signature that was verified here before",
                    "restore the newer one",
                )
            if statement.epoch == known.epoch and statement.root != known.root:
                raise ArtifactRefused(
                    release, statement.signature_path, "says something else than when it was verified here before"
                )
        elif self.releases:
            newest = max(self.releases)
            latest = max(seen.epoch for seen in self.releases.values())
            if statement.release < newest or statement.epoch < latest:
                raise ArtifactRefused(
                    release,
                    statement.signature_path,
                    f"was never verified here, and is older than {release_name(newest)}, which was",
                    f"if you want the old release, say so: fraudctl release admit {release}",
                )

    def with_statement(self, statement: Statement) -> Record:
        """The record that holds `statement`, too."""
        return Record({**self.releases, statement.release: Seen(statement.epoch, statement.root)})

    def to_json(self) -> str:
        releases = {release_name(n): {"epoch": s.epoch, "root": s.root} for n, s in sorted(self.releases.items())}
        return json.dumps({"releases": releases}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record:
        """The record that `to_json` wrote; ValueError, KeyError, TypeError or AttributeError for anything else."""
        entries: dict[str, Any] = json.loads(text)["releases"]
        return cls({release_number(n): Seen(int(entry["epoch"]), str(entry["root"])) for n, entry in entries.items()})


def read_record(path: Path) -> Record | None:
    """The record in `path`, None where there is none yet; InvalidDefinition for a broken one."""
    try:
        return Record.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidDefinition):
        raise InvalidDefinition(
            f"{path.name}, the record of verified releases, cannot be read; restore it, or remove it if you trust "
            "every release in the repository"
        ) from None


@contextmanager
def record_held(path: Path) -> Iterator[None]:
    """While this lasts nobody else writes the record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_record(path: Path, record: Record) -> None:
    """Replace the record in one step; the caller holds it."""
    staged = path.with_name(f".{path.name}.part")
    with staged.open("w", encoding="utf-8") as file:
        file.write(record.to_json())
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
