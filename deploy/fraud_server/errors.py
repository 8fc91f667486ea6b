"""What can stop the server.

FraudError
└── CannotServe    a port, a release, a disk, a library: named, with what to do
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class CannotServe(FraudError):
    """The server cannot start, or cannot go on; the message says why in one line."""
