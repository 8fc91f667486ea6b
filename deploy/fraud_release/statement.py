"""What is signed of a release: the hash of every file, in the format of sigstore's model-signing, with an Ed25519 key.

A sigstore bundle (v0.3) holds a DSSE envelope, and that an in-toto statement whose predicate is model-signing's
(https://model_signing/signature/v1.0) with two fields more, which its readers skip: the release and an epoch that
rises with every signature. A release has one spelling only: bytes that say the same in another way are refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fraud_scoring.releases import ensemble_name, release_name

SIGNATURE_FILE: Final = "release.sig"
MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class NotAStatement(ValueError):
    """The bytes are no signed statement as this module writes it."""


class NotSignedByAny(ValueError):
    """A statement that none of the given keys signed; `hint` is the hash of the key that it names."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


@dataclass(frozen=True)
class Statement:
    """`digests`: SHA-256 in hexadecimal of each file by its path in the repository; `epoch` is in microseconds UTC."""

    release: int
    epoch: int
    digests: Mapping[str, str]

    @property
    def root(self) -> str:
        """SHA-256 over the files' hashes in the order of their paths: one name for the whole content."""
        joined = b"".join(bytes.fromhex(self.digests[path]) for path in sorted(self.digests))
        return hashlib.sha256(joined).hexdigest()

    @property
    def signature_path(self) -> str:
        """Where the signed statement lies in the repository."""
        return f"{ensemble_name(self.release)}/{SIGNATURE_FILE}"

    def to_bytes(self) -> bytes:
        """The in-toto statement, in the one spelling that is accepted."""
        document = {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": ensemble_name(self.release), "digest": {"sha256": self.root}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [self.signature_path],
                },
                "resources": [
                    {"name": path, "algorithm": "sha256", "digest": self.digests[path]} for path in sorted(self.digests)
                ],
                "release": release_name(self.release),
                "epoch": self.epoch,
            },
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, payload: bytes, release: int) -> Statement:
        """The statement about `release`; NotAStatement unless these are the bytes that `to_bytes` gives."""
        try:
            predicate: dict[str, Any] = json.loads(payload)["predicate"]
            digests = {str(entry["name"]): str(entry["digest"]) for entry in predicate["resources"]}
            statement = cls(release, int(predicate["epoch"]), digests)
            path = _path_of(release)
            if not all(path.fullmatch(name) and _SHA256.fullmatch(digest) for name, digest in digests.items()):
                raise NotAStatement("a path or a hash is none")
            if statement.to_bytes() != payload:
                raise NotAStatement(f"it is not written for {release_name(release)} as such statements are")
        except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            raise NotAStatement("it cannot be read") from None
        return statement


def sign(statement: Statement, key: Ed25519PrivateKey) -> bytes:
    """The bundle: statement and signature, as they lie in the release."""
    payload = statement.to_bytes()
    return _bundle(payload, key.sign(_pae(payload)), key_hint(key.public_key()))


def read(bundle: bytes, release: int, public_keys: Iterable[Ed25519PublicKey]) -> Statement:
    """The statement about `release` that one of `public_keys` signed; NotAStatement or NotSignedByAny."""
    try:
        document: dict[str, Any] = json.loads(bundle)
        hint = str(document["verificationMaterial"]["publicKey"]["hint"])
        envelope = document["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        raise NotAStatement("it cannot be read") from None
    if _bundle(payload, signature, hint) != bundle:
        raise NotAStatement("it is not written as a signature is")  # a letter that does not count is changed, too
    for key in public_keys:
        if key_hint(key) == hint:
            try:
                key.verify(signature, _pae(payload))
            except InvalidSignature:
                continue
            return Statement.from_bytes(payload, release)
    raise NotSignedByAny(hint)


def key_hint(key: Ed25519PublicKey) -> str:
    """What model-signing names a key by: SHA-256 of its PEM."""
    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _bundle(payload: bytes, signature: bytes, hint: str) -> bytes:
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return (json.dumps(document, separators=(",", ":")) + "\n").encode()


def _pae(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding (secure-systems-lab/dsse, protocol v1): what the key signs."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def _path_of(release: int) -> re.Pattern[str]:
    """A file of `release`: plain letters only, so that no two paths look alike, and none leads elsewhere."""
    return re.compile(rf"fraud_(?:[a-z]+_)?{release_name(release)}(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
