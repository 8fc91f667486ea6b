"""What can go wrong, as one small tree.

    FraudError
    ├── InvalidInput        the caller's data breaks a rule; names row, field and rule
    ├── InvalidDefinition   a schema, feature or release file breaks a rule
    ├── StoreUnavailable    the window store cannot read or write now; nothing was recorded
    │   ├── StoreEmptied    it lacks what was in it
    │   └── StoreFenced     another region answers: nothing may be answered here
    └── ReleaseUnavailable  no release could answer; nothing was recorded
        └── ReleaseLate     it had not answered when its time was over

A message names the thing, the value's rule and the remedy, and carries no path, key or trace.
"""

from __future__ import annotations

from typing import Final

STORE_AWAY: Final = "the window store"
"""So begins what a caller is told where windows cannot be read."""


class FraudError(Exception):
    """Base of every error that this project raises on purpose."""


class InvalidInput(FraudError):
    """The caller's data breaks a rule: the remedy is with the caller."""


class InvalidDefinition(FraudError):
    """A schema, feature definition or release file breaks a rule."""


class StoreUnavailable(FraudError):
    """The window store cannot serve now; nothing of the batch was recorded. Messages begin with STORE_AWAY."""


class StoreEmptied(StoreUnavailable):
    """The store lacks what was in it: its windows must not be read as if nothing had happened."""

    def __init__(self) -> None:
        super().__init__(
            "the window store was emptied, in part or whole, or is another one than before: it is not read until that "
            "is said to be right; fill it with fraudctl features load, then fraudctl store accept"
        )


class StoreFenced(StoreUnavailable):
    """Another region answers now: who answered here, too, would give a transaction two answers."""

    def __init__(self) -> None:
        super().__init__(
            "the window store is fenced: another region answers now, and nothing is answered here; call that one. To "
            "let this one answer again: fraudctl store accept"
        )


class ReleaseUnavailable(FraudError):
    """No release answered; nothing of the batch was recorded."""


class ReleaseLate(ReleaseUnavailable):
    """It had not answered when its time was over."""
