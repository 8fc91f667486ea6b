"""What can go wrong with the decision log.

FraudError
├── LogUnavailable   the log cannot be written now: nothing may be acknowledged as decided
└── LogDamaged       bytes that are not what a writer wrote
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class LogUnavailable(FraudError):
    """The log cannot be written now; what was to be logged was not."""


class LogDamaged(FraudError):
    """The log holds bytes that no writer left there, or lacks some that one did."""
