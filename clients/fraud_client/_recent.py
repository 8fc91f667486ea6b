"""Counts over the last seconds, and a budget for extra requests on top of them. Pure: the time is an argument.

A window is ten slots, the running one among them: it reaches back nine to ten tenths of its length. To count costs well
under a microsecond, whatever the rate.
"""

from __future__ import annotations

from typing import Final

SLOTS: Final = 10


class Recent:
    """How many there were in the window, and how many of them were marked."""

    def __init__(self, window: float) -> None:
        self._width = window / SLOTS
        self._counts = [0] * SLOTS
        self._marks = [0] * SLOTS
        self._slot = self._place = 0
        self._until = self._width
        self.count = 0
        self.marked = 0

    def add(self, now: float, count: int, marked: int) -> None:
        if now >= self._until:
            self.look(now)
        self._counts[self._place] += count
        self._marks[self._place] += marked
        self.count += count
        self.marked += marked

    def look(self, now: float) -> None:
        """Forget what has left the window; a clock that goes back is taken to stand still."""
        slot = int(now / self._width)
        if slot <= self._slot:
            return
        for gone in range(max(self._slot + 1, slot - SLOTS + 1), slot + 1):
            place = gone % SLOTS
            self.count -= self._counts[place]
            self.marked -= self._marks[place]
            self._counts[place] = self._marks[place] = 0
        self._slot, self._place = slot, slot % SLOTS
        self._until = (slot + 1) * self._width

    def clear(self) -> None:
        self._counts, self._marks = [0] * SLOTS, [0] * SLOTS
        self.count = self.marked = 0


class Budget:
    """Grants extra requests: in every window that ends with one, extras ≤ reserve + share x requests.

    So over any time, cut into windows: extras ≤ reserve x windows + share x requests. The rule is that of Finagle's
    RetryBudget and of "Handling Overload" in Google's SRE book (retries ≤ 10% of requests, per client); gRPC's retry
    throttling bounds failures by a bucket of fixed size instead, which is empty when many requests die at once.
    """

    def __init__(self, share: float, reserve: int, window: float) -> None:
        self._share, self._reserve = share, reserve
        self._recent = Recent(window)

    def request(self, now: float) -> None:
        """A request goes out that is no extra."""
        self._recent.add(now, 1, 0)

    def grant(self, now: float, kept: float = 0.0) -> bool:
        """Take an extra request from the budget, if there is one; the share `kept` of the budget is for others."""
        self._recent.look(now)
        most = self._reserve + self._share * self._recent.count if self._share else 0
        if self._recent.marked + 1 > most * (1 - kept):
            return False
        self._recent.add(now, 0, 1)
        return True
