"""Exact counts per series and minute, and what they add up to.

A series is a named int64 vector ("flow", "mix/7", "drift/7"); the counts of a minute are the sum of all that was
written in it, by the log's own time. Windows of any length are sums of minutes, and of whole hours where they reach far
back. Minutes are kept for MINUTES_KEPT, hours for HOURS_KEPT, totals for ever, of at most `releases` releases. Cost: a
release takes about 3.5 kB a minute and a hour, 8 MB when it has been busy for the whole time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from drift_sidecar.checkpoint import Changes
from fraud_scoring.decision_log.batches import Int64

MINUTES_PER_HOUR: Final = 60
MINUTES_KEPT: Final = 26 * 60
HOURS_KEPT: Final = 35 * 24
_LATE_MINUTES: Final = 24 * 60
_MINUTE, _HOUR, _TOTAL = "minute", "hour", "total"
_GRAINS: Final = (_MINUTE, _HOUR, _TOTAL)
_NEWEST: Final = "newest"

Key = tuple[str, str, int]
"""Series, grain, and the minute or hour since 1970 (0 for the total)."""


class Counters:
    """Counts that add, of any number of series."""

    def __init__(self) -> None:
        self._vectors: dict[str, dict[str, dict[int, Int64]]] = {}
        self._changed: set[Key] = set()
        self._removed: set[Key] = set()
        self._newest = 0

    @property
    def newest_minute(self) -> int:
        """The last minute that anything was counted in; 0 before the first."""
        return self._newest

    @property
    def series(self) -> list[str]:
        return sorted(self._vectors)

    def add(self, series: str, minutes: Int64, vectors: Int64, now_minute: int) -> None:
        """Add vectors [G, W] to the minutes [G] of a series. What a wrong clock wrote ahead of now ages nothing."""
        grains = self._vectors.setdefault(series, {grain: {} for grain in _GRAINS})
        for minute, vector in zip(minutes.tolist(), vectors, strict=True):
            self._newest = max(self._newest, min(minute, now_minute))
            self._add(series, _MINUTE, grains[_MINUTE], minute, vector)
            self._add(series, _HOUR, grains[_HOUR], minute // MINUTES_PER_HOUR, vector)
        self._add(series, _TOTAL, grains[_TOTAL], 0, vectors.sum(axis=0))

    def total(self, series: str) -> Int64 | None:
        """All that was ever counted of a series."""
        return self._vectors[series][_TOTAL].get(0) if series in self._vectors else None

    def minute(self, series: str, minute: int) -> Int64 | None:
        """The counts of one minute."""
        return self._vectors[series][_MINUTE].get(minute) if series in self._vectors else None

    def minutes(self, series: str) -> list[int]:
        """Minutes that have counts, rising."""
        return sorted(self._vectors[series][_MINUTE]) if series in self._vectors else []

    def last_minute(self, series: str) -> int:
        """The last minute that has counts; 0 without any."""
        return max(self._vectors[series][_MINUTE], default=0) if series in self._vectors else 0

    def window(self, series: str, end: int, length: int) -> Int64 | None:
        """Counts of the `length` minutes before minute `end`: a sliding window, or a tumbling one at its own end.

        Where minutes are no longer kept, whole hours stand in for them. None without any count.
        """
        if series not in self._vectors:
            return None
        grains, start = self._vectors[series], end - length
        first_hour, last_hour = -(-start // MINUTES_PER_HOUR), end // MINUTES_PER_HOUR
        if first_hour >= last_hour:
            found = [grains[_MINUTE].get(minute) for minute in range(start, end)]
        else:
            found = [grains[_HOUR].get(hour) for hour in range(first_hour, last_hour)]
            edges = (*range(start, first_hour * MINUTES_PER_HOUR), *range(last_hour * MINUTES_PER_HOUR, end))
            found += [grains[_MINUTE].get(minute) for minute in edges]
        there = [vector for vector in found if vector is not None]
        if not there:
            return None
        added: Int64 = np.sum(there, axis=0)
        return added

    def forget(self, series: str) -> None:
        """Drop a series."""
        for grain, vectors in self._vectors.pop(series, {}).items():
            for at in vectors:
                self._drop((series, grain, at))

    def prune(self, watermark_minute: int) -> None:
        """Drop what is older than what is kept; the minutes behind a late watermark are kept for a day more."""
        until = max(min(self._newest, watermark_minute), self._newest - _LATE_MINUTES)
        oldest = {
            _MINUTE: until - MINUTES_KEPT + 1,
            _HOUR: until // MINUTES_PER_HOUR - HOURS_KEPT + 1,
            _TOTAL: 0,
        }
        for series, grains in self._vectors.items():
            for grain, vectors in grains.items():
                for at in [at for at in vectors if at < oldest[grain]]:
                    del vectors[at]
                    self._drop((series, grain, at))

    def changes(self) -> Changes:
        """What changed since `saved`: vectors by "grain time series"."""
        changed = {_name(key): self._vectors[key[0]][key[1]][key[2]].tobytes() for key in self._changed}
        if changed:
            changed[_NEWEST] = str(self._newest).encode()
        return Changes(changed, [_name(key) for key in self._removed])

    def saved(self) -> None:
        """All that `changes` gave last is on the disk."""
        self._changed.clear()
        self._removed.clear()

    def restore(self, kept: Mapping[str, bytes]) -> None:
        """Take up what was kept; ValueError or KeyError if it means nothing."""
        for name, value in kept.items():
            if name == _NEWEST:
                self._newest = int(value)
                continue
            grain, at, series = name.split(" ", 2)
            grains = self._vectors.setdefault(series, {grain: {} for grain in _GRAINS})
            grains[grain][int(at)] = np.frombuffer(value, np.int64).copy()

    def _add(self, series: str, grain: str, vectors: dict[int, Int64], at: int, vector: Int64) -> None:
        known = vectors.get(at)
        if known is None:
            vectors[at] = vector.copy()
        else:
            known += vector
        self._changed.add((series, grain, at))
        self._removed.discard((series, grain, at))

    def _drop(self, key: Key) -> None:
        self._changed.discard(key)
        self._removed.add(key)


def _name(key: Key) -> str:
    series, grain, at = key
    return f"{grain} {at} {series}"
