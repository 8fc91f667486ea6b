"""Counts that wait to be looked at: per release, second and hour of the week, until all writers are past the second.

Evidence is gathered second by second, in order, and each hour of the week has a reference of its own. So a second's
counts wait here until no writer can add to them any more; a checkpoint keeps them with everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np

from drift_sidecar.checkpoint import Changes
from drift_sidecar.evidence import LOOK_SECONDS
from fraud_scoring.decision_log.batches import Int64

LOOK_US: Final = 1_000_000 * LOOK_SECONDS
"""How long a look is: a shorter one sees sooner, and any length keeps the rate of false pages (evidence.py)."""


class Look(NamedTuple):
    """All rows of a release in one second since 1970 whose transactions lie in one hour of the week."""

    release: int
    second: int
    hour: int
    counts: Int64


Key = tuple[int, int, int]


class Looks:
    """What is to be looked at, by (second, release, hour)."""

    def __init__(self) -> None:
        self._waiting: dict[Key, Int64] = {}
        self._changed: set[Key] = set()
        self._removed: set[Key] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, release: int, seconds: Int64, hours: Int64, vectors: Int64) -> None:
        """Add vectors [G, W] of the seconds [G] and hours [G]."""
        for second, hour, vector in zip(seconds.tolist(), hours.tolist(), vectors, strict=True):
            key = (second, release, hour)
            known = self._waiting.get(key)
            if known is None:
                self._waiting[key] = vector.copy()
            else:
                known += vector
            self._changed.add(key)
            self._removed.discard(key)

    def take(self, before_second: int) -> list[Look]:
        """Hand out, in order, what lies before a second."""
        due = sorted(key for key in self._waiting if key[0] < before_second)
        self._changed.difference_update(due)
        self._removed.update(due)
        return [
            Look(release, second, hour, self._waiting.pop((second, release, hour))) for second, release, hour in due
        ]

    def forget(self, release: int) -> None:
        """Drop what waits of a release."""
        for key in [key for key in self._waiting if key[1] == release]:
            del self._waiting[key]
            self._changed.discard(key)
            self._removed.add(key)

    def changes(self) -> Changes:
        """What changed since `saved`."""
        return Changes(
            {_name(key): self._waiting[key].tobytes() for key in self._changed}, [_name(key) for key in self._removed]
        )

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""
        self._changed.clear()
        self._removed.clear()

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError if it means nothing."""
        for name, value in kept.items():
            second, release, hour = map(int, name.split(" "))
            self._waiting[second, release, hour] = np.frombuffer(value, np.int64).copy()


def _name(key: Key) -> str:
    return " ".join(map(str, key))
