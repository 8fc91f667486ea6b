"""Signed statements about a log: what a segment held when it was closed, and how far a writer had come.

Ed25519 over the statement's canonical JSON. A chain alone shows changes inside; these show what was cut from its end,
or written anew by someone without the key. Keep copies of `head.json` elsewhere to see a whole folder put back to an
earlier state.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fraud_scoring.decision_log.errors import LogDamaged, LogUnavailable
from fraud_scoring.key_files import private_key, public_text


class Says(str, Enum):
    """What a statement says; signed with it, so that none can stand in another's place."""

    ROOT = "root"
    """The segment was closed."""
    HEAD = "head"
    """The writer had come so far, in a segment that was open."""
    CLOSED = "closed"
    """The writer had come so far, and closed the segment: its root must be there."""
    PRUNED = "pruned"
    """Retention removed the segment."""


@dataclass(frozen=True)
class Statement:
    """`frames` and `rows` are the segment's up to frame `sequence`, whose hash is `digest` and which ends at `size`."""

    says: Says
    writer: str
    segment: int
    sequence: int
    digest: str
    size: int
    frames: int
    rows: int
    at_us: int

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


class Signer:
    """Signs with a private key that is kept in a file of its own, readable by its owner only."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """The public key in hexadecimal: what `fraudctl log verify --key` takes."""
        return public_text(self._key)

    @classmethod
    def open(cls, path: Path) -> Signer:
        """The key in `path`; made there if there is none."""
        try:
            return cls(private_key(path))
        except (OSError, ValueError) as error:
            raise LogUnavailable(f"the log's signing key cannot be used: {error}; give a file of 32 bytes") from None

    def write(self, path: Path, statement: Statement) -> None:
        """Replace `path` by the signed statement in one step."""
        staged = path.with_name(f".{path.name}.part")
        with staged.open("w", encoding="utf-8") as file:
            file.write(_text(statement, self._key.sign(statement.to_bytes())))
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
        staged.replace(path)


def read_statement(path: Path, public_key: str, *says: Says) -> Statement:
    """The statement in `path`; LogDamaged unless `public_key` (hexadecimal) signed it and it says one of `says`."""
    try:
        text = path.read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
        signature = bytes.fromhex(document.pop("signature"))
        document["says"] = Says(document["says"])
        statement = Statement(**document)
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, statement.to_bytes())
        if text != _text(statement, signature):
            raise ValueError  # a letter that does not count is a changed letter, too
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise LogDamaged(f"{path.name} is missing or cannot be read") from None
    except InvalidSignature:
        raise LogDamaged(f"{path.name} is not signed by the log's key") from None
    if statement.says not in says:
        raise LogDamaged(f"{path.name} is a statement that was signed for another place: {statement.says.value}")
    return statement


def _text(statement: Statement, signature: bytes) -> str:
    """A signed statement as it is written."""
    return json.dumps({**asdict(statement), "signature": signature.hex()}) + "\n"
