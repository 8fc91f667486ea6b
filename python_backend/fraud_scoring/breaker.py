"""A circuit breaker: who has failed several times in a row is asked nothing until a trial has gone well.

    closed ── `failures` in a row ──▶ open ── every `pause_s` a trial; the first that goes well ──▶ closed

A trial is not a caller's request: nobody waits for it. (Nygard, Release It!, 2007: the pattern's half-open state.)
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

    def open_for(self, now: float) -> float:
        """Seconds since it opened; 0 while it is closed."""
        since = self._open_since
        return 0.0 if since is None else now - since

    def failed(self, now: float) -> bool:
        """A request failed; whether that opened the breaker."""
        with self._lock:
            self._in_a_row += 1
            if self._open_since is not None or self._in_a_row < self._patience.failures:
                return False
            self._open_since = now
            self._next_trial = now + self._patience.pause_s
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
