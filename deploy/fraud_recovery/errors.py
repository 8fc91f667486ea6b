"""What can stop a backup, a restore, or the shipping of a log.

FraudError
├── BackupFailed      something that is to be saved cannot be read, or is not what it should be
├── ArchiveRefused    the archive is not whole, or not what was written; nothing was touched
├── RestoreRefused    the target holds something, or is in use; nothing was touched
└── ShippingRefused   what was shipped before is not the beginning of this log; nothing was sent
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class BackupFailed(FraudError):
    """No archive was made; what was there before is as it was."""


class ArchiveRefused(FraudError):
    """The archive cannot be trusted; the target was not touched."""


class RestoreRefused(FraudError):
    """The target cannot take the archive; it was not touched."""


class ShippingRefused(FraudError):
    """What is there is not the beginning of this log; it was not touched."""
