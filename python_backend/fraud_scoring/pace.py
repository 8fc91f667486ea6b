"""How much of a deadline is left when a batch begins, and when its releases must have answered.

Triton does not say how long a request waited for the batch before it. What waited came after that batch had begun, so
the worst is assumed: it has waited since then. After a pause nothing waited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LEAST_S: Final = 0.020
"""A shorter deadline than this does not shorten the time of those that it is batched with."""
KEPT_BACK: Final = 0.2
"""The share of a deadline that is kept for record, log and the way back."""
_AT_ONCE_S: Final = 0.001
"""A batch that begins so soon after another one was waiting for it."""


class Pace:
    """The times of one front door's batches, one after the other. `clock` gives seconds, as time.monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._ended = float("-inf")
        self._counted_from = 0.0

    def begin(self) -> None:
        """A batch begins."""
        now = self._clock()
        self._counted_from = self._began if now - self._ended < _AT_ONCE_S else now
        self._began = now

    def end(self) -> None:
        """Its answers are ready."""
        self._ended = self._clock()

    def until(self, deadline_us: int) -> float:
        """When the releases must have answered requests of this deadline (microseconds) that are in the batch."""
        return self._counted_from + (1 - KEPT_BACK) * max(deadline_us / 1e6, LEAST_S)
