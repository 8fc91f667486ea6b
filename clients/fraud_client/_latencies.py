"""Rolling quantiles of how long answers took: when to hedge, and whether a hedge has a chance. Pure.

Of the last 512 answers, sorted again after every 32: some 10 µs then, nothing in between.
"""

from __future__ import annotations

from typing import Final

KEPT: Final = 512
LEAST: Final = 64
"""Answers below which nothing is said."""
_RENEWED: Final = 32


class Latencies:
    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._kept: list[float] = []
        self._next = 0
        self.median: float | None = None
        self.slow: float | None = None
        """The quantile asked for; None until enough answers are known."""

    def add(self, seconds: float) -> None:
        """An answer's time; for one that was given up, the time until then."""
        if len(self._kept) < KEPT:
            self._kept.append(seconds)
        else:
            self._kept[self._next % KEPT] = seconds
        self._next += 1
        if self._next % _RENEWED == 0 and len(self._kept) >= LEAST:
            ordered = sorted(self._kept)
            self.median = ordered[len(ordered) // 2]
            self.slow = ordered[int(len(ordered) * self._quantile)]
