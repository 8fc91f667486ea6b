"""Rows of the registry's audit: what a row says, and how each holds on to the one before it.

A row is one line of canonical JSON: the act, who and why, what the gates said, the stages after it, the SHA-256 of the
whole row before it (zeros for the first), the public key, and an Ed25519 signature over all of that. The digest of a
row is the SHA-256 of its line, signature included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fraud_release.errors import RegistryDamaged, RegistryUnavailable
from fraud_scoring.key_files import private_key, public_text

NO_DIGEST: Final = "0" * 64


class Act(str, Enum):
    """What a row says that somebody did."""

    REGISTERED = "registered"
    BOOTSTRAPPED = "bootstrapped"
    """The first release of an empty registry went to production, without a second person."""
    PROMOTED = "promoted"
    REQUESTED = "requested"
    """Production was asked for; a second person must approve."""
    REJECTED = "rejected"
    """A second person said no, or the one who asked took it back."""
    REFUSED = "refused"
    """A gate said no."""
    ROLLED_BACK = "rolled back"
    RESTORED = "restored"
    """The aliases had been changed by other means, and were put back."""


@dataclass(frozen=True)
class Row:
    """`stages` are those after the act; `request` is the sequence of the request that the act answers."""

    sequence: int
    previous: str
    at: str
    act: Act
    release: str
    to: str | None
    actor: str
    account: str
    approver: str | None
    approver_account: str | None
    reason: str
    request: int | None
    gates: tuple[tuple[str, bool, str], ...]
    """Each gate's name, whether it passed, and what it measured against which bound."""
    manifest: str
    """SHA-256 of the release's manifest."""
    version: str
    """The release's version in the registry."""
    run: str
    stages: Mapping[str, str]
    key: str
    signature: str = ""

    def line(self) -> str:
        return _canonical(asdict(self))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.line().encode()).hexdigest()

    def signed(self, key: Ed25519PrivateKey) -> Row:
        unsigned = replace(self, key=public_text(key), signature="")
        return replace(unsigned, signature=key.sign(unsigned.line().encode()).hex())

    def check_signature(self) -> None:
        """RegistryDamaged unless the row's own key signed it."""
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), replace(self, signature="").line().encode())
        except (ValueError, InvalidSignature):
            raise RegistryDamaged(f"row {self.sequence} is not signed by the key that it names") from None


def parse(line: str) -> Row:
    """The row in `line`; ValueError for anything but what `Row.line` writes."""
    document: dict[str, Any] = json.loads(line)
    if not isinstance(document, dict) or set(document) != {field.name for field in fields(Row)}:
        raise ValueError("not a row")
    gates = tuple((str(name), bool(passed), str(detail)) for name, passed, detail in document.pop("gates"))
    row = Row(act=Act(document.pop("act")), gates=gates, **document)
    if row.line() != line:
        raise ValueError("not written as a row is")
    return row


def open_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs this home's rows; made in `path` if there is none, readable by its owner only."""
    try:
        return private_key(path)
    except (OSError, ValueError):
        raise RegistryUnavailable(
            f"{path.name}, the registry's signing key, cannot be used; give a file of 32 bytes"
        ) from None


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
