"""What can stop a release from being made.

FraudError
└── ReleaseRefused   a gate was not passed, or a release's files are not what its manifest says
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class ReleaseRefused(FraudError):
    """A release did not pass a check; nothing was written, or nothing is served."""
