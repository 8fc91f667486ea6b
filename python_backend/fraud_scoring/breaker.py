"""A circuit breaker: who has failed several times in a row is asked nothing until a trial has gone well.

    closed ── `failures` in a row, or one that took its whole time ──▶ open ── trials ──▶ the first good one ──▶ closed

A trial is not a caller's request: nobody waits for it. (Nygard, Release It!, 2007: the pattern's half-open state.)
Who let a caller wait in vain is not given the next one's time to waste; if it was a moment's trouble, the trial, which
then comes at once, tells within milliseconds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How many failures in a row open a breaker, and how many seconds lie between trials."""

    failures: int = 2
    pause_s: float = 0.25


class Breaker:
    """Closed at first. Threads may share it. Times are of `time.monotonic`."""

    def __init__(self, patience: Patience = Patience()) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._open_since: float | None = None
        self._next_trial = 0.0

    @property
    def is_open(self) -> bool:
        return self._open_since is not None

    def failed(self, now: float, *, in_vain: bool = False) -> bool:
        """A request failed, having waited `in_vain` for all of its time or not; whether that opened the breaker."""
        with self._lock:
            self._in_a_row += 1
            if self._open_since is not None or (self._in_a_row < self._patience.failures and not in_vain):
                return False
            self._open_since = now
            self._next_trial = now + (0.0 if in_vain else self._patience.pause_s)
            return True

    def succeeded(self) -> None:
        """A request was answered."""
        if self._in_a_row and self._open_since is None:
            with self._lock:
                if self._open_since is None:
                    self._in_a_row = 0

    def trial_due(self, now: float) -> bool:
        """Whether somebody should try now; the next one is asked to after another pause."""
        with self._lock:
            if self._open_since is None or now < self._next_trial:
                return False
            self._next_trial = now + self._patience.pause_s
            return True

    def close(self) -> None:
        """A trial went well."""
        with self._lock:
            self._open_since = None
            self._in_a_row = 0
