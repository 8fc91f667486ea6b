"""Whom a host trusts: the pinned public keys, and the record of what it has verified so far.

The keys are lines of hexadecimal in a file (`#` begins a comment), several while one is being replaced. Without a file
of the operator's own it is `keys/release.pub` in the home folder, which the first training writes beside its own key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.key_files import private_key, public_text

SIGNING_KEY_VARIABLE: Final = "FRAUD_RELEASE_SIGNING_KEY"
RELEASE_KEY_VARIABLE: Final = "FRAUD_RELEASE_KEY"
KEYS_FOLDER: Final = "keys"
SIGNING_KEY_FILE: Final = "release.key"
PUBLIC_KEY_FILE: Final = "release.pub"
RECORD_FILE: Final = "releases-verified.json"


@dataclass(frozen=True)
class TrustSettings:
    """`public_keys` in hexadecimal, one or more; `record` is the file of what was verified, None: it is not kept.

    With `remember` off nothing is written: for who only looks. The record is obeyed, and bytecode that a running server
    left is passed over; who is about to serve removes it, since it would run in place of the source.
    """

    public_keys: tuple[str, ...]
    record: Path | None = None
    remember: bool = True

    @classmethod
    def read(
        cls,
        home: Path,
        key_file: Path | None = None,
        *,
        remember: bool = True,
        environment: Mapping[str, str] = os.environ,
    ) -> TrustSettings:
        """The settings of the host with folder `home`; InvalidDefinition where no key is pinned.

        The keys are in `key_file`, or in the file that FRAUD_RELEASE_KEY names, or in the home folder's own.
        """
        path = key_file or pinned_key_file(home, environment)
        return cls(read_public_keys(path), home / KEYS_FOLDER / RECORD_FILE, remember)

    @property
    def keys(self) -> list[Ed25519PublicKey]:
        return [Ed25519PublicKey.from_public_bytes(bytes.fromhex(text)) for text in self.public_keys]


def pinned_key_file(home: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The file of the pinned keys where nobody names one: FRAUD_RELEASE_KEY's, or the home folder's own."""
    named = environment.get(RELEASE_KEY_VARIABLE, "")
    return Path(named) if named else home / KEYS_FOLDER / PUBLIC_KEY_FILE


def read_public_keys(path: Path) -> tuple[str, ...]:
    """The public keys that `path` pins; InvalidDefinition says what to write."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        raise InvalidDefinition(
            f"no key is pinned: the file of release keys, {path.name}, cannot be read; name one with --release-key or "
            "FRAUD_RELEASE_KEY, or sign with a key of your own: fraudctl release sign"
        ) from None
    except UnicodeDecodeError:
        raise InvalidDefinition(f"{path.name} is no file of public keys; write one key a line, 64 hex digits") from None
    keys = [text for line in lines if (text := line.partition("#")[0].strip())]
    for text in keys:
        if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
            raise InvalidDefinition(f"{path.name}: {text[:70]!r} is no public key; write 64 hex digits a line")
    if not keys:
        raise InvalidDefinition(f"{path.name} holds no key; write one public key a line, 64 hex digits")
    return tuple(keys)


def open_signing_key(path: Path) -> Ed25519PrivateKey:
    """The private key in `path`, made there (mode 0600) with its public key beside it if there is none."""
    try:
        key = private_key(path)
        public = public_key_file(path)
        if not public.exists():
            public.write_text(f"{public_text(key)}  # trusted to sign releases\n", encoding="utf-8")
        return key
    except ValueError:
        raise InvalidDefinition(
            f"{path.name} is no private key; give a file of 32 bytes, or a name for a new one"
        ) from None


def public_key_file(signing_key: Path) -> Path:
    """Where the public key of the private key in file `signing_key` lies: `release.pub` beside `release.key`."""
    return signing_key.with_suffix(".pub")


def named_signing_key(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file that FRAUD_RELEASE_SIGNING_KEY names."""
    named = environment.get(SIGNING_KEY_VARIABLE, "")
    return Path(named) if named else None


def home_signing_key(home: Path) -> Path:
    """The file of the home folder's own key, where nobody names another."""
    return home / KEYS_FOLDER / SIGNING_KEY_FILE
