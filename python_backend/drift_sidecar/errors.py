"""What can stop the sidecar.

FraudError
├── CannotFollow       a setting, a folder, a port: named, with what to do
└── CheckpointFailed   nothing new can be kept now; what was kept before stands
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class CannotFollow(FraudError):
    """The sidecar cannot start; the message says why in one line."""


class CheckpointFailed(FraudError):
    """A checkpoint could not be written; the one before it stands, and the next one tries again."""
