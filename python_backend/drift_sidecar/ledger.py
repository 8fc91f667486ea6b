"""Which releases the log tells of, what schema each pinned, and the reference that each carries.

At most `keep` releases are known at a time: the one that was silent for longest makes room, so that memory and the
number of metrics stay bounded however many releases come and go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from drift_sidecar.checkpoint import Changes
from fraud_scoring.decision_log.batches import Batch
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import REFERENCE_FILE, Reference, compared
from fraud_scoring.releases import ensemble_name, release_name


@dataclass(frozen=True)
class Entry:
    """A release: the schema its log pins ("" if the log never said), the hash of the reference that counts are on."""

    release: int
    last_minute: int
    schema: str = ""
    reference_sha256: str = ""


class Ledger:
    """Releases by number. `repository` is the model repository; `report` gets a line for each thing that happens."""

    def __init__(self, repository: Path, keep: int, report: Callable[[str], None]) -> None:
        self._repository = repository
        self._keep = keep
        self._report = report
        self._entries: dict[int, Entry] = {}
        self._loaded: dict[int, tuple[Reference, str]] = {}
        self._mismatch: dict[int, str] = {}
        self._changed: set[int] = set()
        self._removed: set[int] = set()

    @property
    def releases(self) -> list[int]:
        """Numbers of the releases that decided, rising."""
        return sorted(number for number, entry in self._entries.items() if entry.last_minute)

    def last_minute(self, release: int) -> int:
        """The last minute in which a release decided."""
        return self._entries[release].last_minute

    def pin(self, release: int, schema: str) -> None:
        """The log says which schema a release pinned."""
        if self._entries.get(release, Entry(release, 0)).schema != schema:
            self._set(replace(self._entries.get(release, Entry(release, 0)), schema=schema))
            self._mismatch.pop(release, None)

    def see(self, release: int, minute: int) -> list[int]:
        """A release decided in `minute`; gives the releases that have to make room for it."""
        entry = self._entries.get(release, Entry(release, 0))
        if release not in self._entries or minute > entry.last_minute:
            self._set(replace(entry, last_minute=max(minute, entry.last_minute)))
        silent = sorted(self._entries.values(), key=lambda known: (known.last_minute, known.release))
        gone = [known.release for known in silent if known.release != release][: max(0, len(silent) - self._keep)]
        for number in gone:
            if self._entries[number].last_minute:
                self._report(f"release {release_name(number)} makes room: {self._keep} releases are followed at a time")
            self._entries.pop(number)
            self._loaded.pop(number, None)
            self._mismatch.pop(number, None)
            self._changed.discard(number)
            self._removed.add(number)
        return gone

    def mismatch(self, release: int) -> str:
        """Why a release's rows are not compared with a reference; empty if they are."""
        return self._mismatch.get(release, "")

    def reference(self, release: int) -> Reference | None:
        """The reference of a release that fits its log; None, with `mismatch`, if there is none."""
        loaded = self._loaded.get(release) or self._load(release)
        if loaded is None:
            return None
        document = self._entries[release].schema if release in self._entries else ""
        if document and not loaded[0].fits(document):
            self._refuse(
                release, f"the reference of {release_name(release)} was made with another schema than the log's"
            )
            return None
        return None if release in self._mismatch else loaded[0]

    def reference_for(self, release: int, batch: Batch) -> Reference | None:
        """The same, for the rows of a batch; None, too, if none of them is to be compared."""
        reference = self.reference(release)
        if reference is None or not compared(reference, batch.decisions).any():
            return None
        decisions = batch.decisions
        widths = (decisions.transaction.shape[1], decisions.features.shape[1])
        if widths[1] != len(reference.features) or widths[0] <= max(reference.amount_column, reference.time_column):
            known = len(reference.features)
            self._refuse(
                release, f"rows of {release_name(release)} have {widths[1]} features, its reference has {known}"
            )
            return None
        return reference

    def reference_sha256(self, release: int) -> str:
        """The hash of the reference that `reference` gave."""
        return self._loaded[release][1]

    def reference_changed(self, release: int) -> bool:
        """Whether what was counted of a release was counted on another reference than its present one; once."""
        loaded, entry = self._loaded.get(release), self._entries.get(release)
        if loaded is None or entry is None or loaded[1] == entry.reference_sha256:
            return False
        self._set(replace(entry, reference_sha256=loaded[1]))
        return bool(entry.reference_sha256)

    def changes(self) -> Changes:
        """What changed since `saved`."""
        return Changes(
            {str(number): json.dumps(self._entries[number].__dict__).encode() for number in self._changed},
            [str(number) for number in self._removed],
        )

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""
        self._changed.clear()
        self._removed.clear()

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError, KeyError or TypeError if it means nothing."""
        for name, value in kept.items():
            self._entries[int(name)] = Entry(**json.loads(value))

    def _load(self, release: int) -> tuple[Reference, str] | None:
        """Read a release's reference; one that is not there is looked for again each time."""
        try:
            reference = Reference.load(self._repository, release)
            text = (self._repository / ensemble_name(release) / REFERENCE_FILE).read_bytes()
        except InvalidDefinition as error:
            self._refuse(release, str(error))
            return None
        except OSError as error:
            self._refuse(release, f"the reference of {release_name(release)} cannot be read: {error.strerror}")
            return None
        self._mismatch.pop(release, None)
        self._loaded[release] = (reference, sha256(text).hexdigest())
        return self._loaded[release]

    def _refuse(self, release: int, why: str) -> None:
        if self._mismatch.get(release) != why:
            self._mismatch[release] = why
            self._report(f"drift is not told: {why}")

    def _set(self, entry: Entry) -> None:
        self._entries[entry.release] = entry
        self._changed.add(entry.release)
        self._removed.discard(entry.release)
