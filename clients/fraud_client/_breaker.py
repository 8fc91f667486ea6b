"""A circuit breaker: keeps requests away from an endpoint that fails, and lets it back after one good trial. Pure.

CLOSED ──failures in a row, or their share──▶ OPEN ──its time is over──▶ HALF_OPEN ──trial good──▶ CLOSED
                                                ▲────────trial bad, twice the time────┘
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from fraud_client._policy import Policy
from fraud_client._recent import Recent


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Breaker:
    """`random` gives numbers from 0 to 1, for the jitter: many clients do not come back at the same moment."""

    def __init__(self, policy: Policy, random: Callable[[], float]) -> None:
        self._policy, self._random = policy, random
        self._recent = Recent(policy.window)
        self._in_a_row = 0
        self._open_for = policy.breaker_open
        self._busy = False
        self.state = BreakerState.CLOSED
        self.until = 0.0
        """When the trial is due, while it is open."""
        self.opened = 0
        """How often it has opened."""

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def due(self, now: float) -> bool:
        """Whether it is open and its time is over."""
        return self.state is BreakerState.OPEN and now >= self.until

    def wants_trial(self, now: float) -> bool:
        """Whether one request may go out to see."""
        return self.due(now) or (self.state is BreakerState.HALF_OPEN and not self._busy)

    def begin_trial(self) -> None:
        """A health call or a request is on its way; nothing else goes out until it is back."""
        self.state, self._busy = BreakerState.HALF_OPEN, True

    def healthy(self) -> None:
        """The health call was good: one request may go out. Alone it proves little, a dead model passes it too."""
        if not self.closed:
            self.state, self._busy = BreakerState.HALF_OPEN, False

    def succeeded(self, now: float, trial: bool) -> None:
        if trial:
            self._close()
        elif self.closed:
            self._in_a_row = 0
            self._recent.add(now, 1, 0)

    def failed(self, now: float, trial: bool) -> None:
        if trial:
            self._open_for = min(2 * self._open_for, self._policy.breaker_open_most)
            self._open(now)
        elif self.closed and self._policy.breaker_failures:
            self._in_a_row += 1
            self._recent.add(now, 1, 1)
            if self._in_a_row >= self._policy.breaker_failures or self._share_is_high():
                self._open(now)

    def given_up(self, trial: bool) -> None:
        """A request ended without saying anything of the endpoint."""
        if trial:
            self._busy = False

    def _share_is_high(self) -> bool:
        count = self._recent.count
        return count >= self._policy.breaker_least and self._recent.marked >= self._policy.breaker_share * count

    def _open(self, now: float) -> None:
        self.state, self._busy = BreakerState.OPEN, False
        self.until = now + self._open_for * (0.75 + 0.5 * self._random())
        self.opened += 1

    def _close(self) -> None:
        self.state, self._busy = BreakerState.CLOSED, False
        self._in_a_row, self._open_for = 0, self._policy.breaker_open
        self._recent.clear()
