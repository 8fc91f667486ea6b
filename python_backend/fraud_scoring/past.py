"""An entity's past as a store keeps it: its newest events, and a ledger of those before.

Most entities have the first part only. A store keeps two values for each: one with the newest events, read and written
with every transaction; and the ledger, written once in `seal_at` − `recent` events, read where the first says that
there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fraud_scoring import events, ledger
from fraud_scoring.ledger import Ledger
from fraud_scoring.windows import FOLDING, NEVER, Folding

_MARK: Final = b"\1"


def split(value: bytes) -> tuple[bytes, bool]:
    """(packed events, whether there is a ledger) of an entity's first value."""
    if len(value) % events.EVENT.size:
        return value[: -len(_MARK)], True
    return value, False


def join(recent: bytes, has_ledger: bool) -> bytes:
    """An entity's first value: its packed events, marked where there is a ledger."""
    return recent + _MARK if has_ledger else recent


class Past:
    """One entity's past while it is changed. `value` is its first value; `load` gives its ledger, b"" for none."""

    __slots__ = ("_changed", "_folding", "_has_ledger", "_keep_us", "_load", "_older", "recent")

    def __init__(self, value: bytes, load: Callable[[], bytes], keep_us: int, folding: Folding = FOLDING) -> None:
        self.recent, self._has_ledger = split(value)
        self._older: Ledger | None = None
        self._changed = False
        self._load = load
        self._keep_us = keep_us
        self._folding = folding

    @property
    def value(self) -> bytes:
        """What is to be stored beside the ledger; b"" for an entity that has no events."""
        return join(self.recent, self._has_ledger)

    @property
    def ledger(self) -> bytes | None:
        """The ledger that is to be stored; None where it has not changed, b"" where there is none any more."""
        if not self._changed:
            return None
        return ledger.pack(self._ledger()) if self._has_ledger else b""

    def add(self, event: bytes) -> None:
        """Insert a packed event at its place, once; trimmed to what is kept behind the newest."""
        before = self.recent
        if self._has_ledger and events.order(event) < events.order(before):
            newest_us, _ = events.newest(before)
            if events.order(event)[0] > newest_us - self._keep_us:
                self._replace(ledger.insert(self._ledger(), events.unpack(event)[0], newest_us, self._folding))
            return
        self.recent = events.insert(before, event, self._keep_us)
        if self._has_ledger and events.order(self.recent) != events.order(before):
            self._has_ledger, self._older, self._changed = False, None, True  # all of it is older than what was trimmed
        if len(self.recent) > self._folding.seal_at * events.EVENT.size:
            self._seal()

    def set_fraud_known_at(self, time_us: int, transaction_id: int, known_at_us: int, before_us: int = NEVER) -> None:
        """Change an event's label, which was `before_us`; nothing if the event is no longer there."""
        if not self._has_ledger or (time_us, transaction_id) >= events.order(self.recent):
            self.recent = events.set_fraud_known_at(self.recent, time_us, transaction_id, known_at_us)
            return
        newest_us, _ = events.newest(self.recent)
        self._replace(
            ledger.set_fraud_known_at(
                self._ledger(), time_us, transaction_id, known_at_us, newest_us, before_us, self._folding
            )
        )

    def _seal(self) -> None:
        """Move all but the newest events into the ledger."""
        cut = len(self.recent) - self._folding.recent * events.EVENT.size
        newest_us, _ = events.newest(self.recent)
        old = events.unpack(self.recent[:cut])
        sealed = ledger.append(self._ledger(), old, newest_us, self._keep_us, self._folding)
        self.recent, self._has_ledger, self._older, self._changed = self.recent[cut:], True, sealed, True

    def _ledger(self) -> Ledger:
        if self._older is None:
            self._older = ledger.unpack(self._load()) if self._has_ledger else ledger.EMPTY
        return self._older

    def _replace(self, changed: Ledger) -> None:
        self._changed |= changed is not self._older
        self._older = changed
