"""What a host keeps of its own about registries: its key, whose rows it trusts, how far it has seen each audit."""

from __future__ import annotations

import fcntl
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_release.registry.book import Head
from fraud_release.registry.rows import open_key
from fraud_scoring.errors import InvalidDefinition, InvalidInput
from fraud_scoring.key_files import public_text

KEY_FILE: Final = "registry.key"
TRUSTED_FILE: Final = "registry-trusted"
HEADS_FILE: Final = "registry-heads.json"
_KEY: Final = re.compile(r"[0-9a-f]{64}")


class Home:
    """`registry` tells one registry from another: the URL of a shared one, the folder of an embedded one."""

    def __init__(self, folder: Path, registry: str) -> None:
        self._keys = folder / "keys"
        self._heads = folder / HEADS_FILE
        self._registry = registry

    def key(self) -> Ed25519PrivateKey:
        """The key that signs this host's rows; made if there is none."""
        return open_key(self._keys / KEY_FILE)

    def trusted(self) -> frozenset[str]:
        """Public keys whose rows count: the host's own, and those that somebody here trusted."""
        own = {public_text(self.key())} if (self._keys / KEY_FILE).exists() else set()
        try:
            lines = (self._keys / TRUSTED_FILE).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            lines = []
        keys = {text for line in lines if (text := line.partition("#")[0].strip())}
        if strange := [text for text in keys if not _KEY.fullmatch(text)]:
            raise InvalidDefinition(f"{TRUSTED_FILE}: {strange[0][:70]!r} is no public key; write 64 hex digits a line")
        return frozenset(own | keys)

    def trust(self, key: str) -> None:
        """From now on rows that `key` (64 hex digits) signed count here."""
        text = key.strip().lower()
        if not _KEY.fullmatch(text):
            raise InvalidInput("a public key is 64 hex digits; its owner sees it with: fraudctl release audit key")
        if text not in self.trusted():
            self._keys.mkdir(parents=True, exist_ok=True)
            with (self._keys / TRUSTED_FILE).open("a", encoding="utf-8") as file:
                file.write(f"{text}\n")

    def head(self) -> Head | None:
        """How far this host has seen the registry's audit."""
        found = self._read().get(self._registry)
        return None if found is None else Head(int(found["sequence"]), str(found["digest"]))

    def saw(self, head: Head | None) -> None:
        """Remember a head; an older one than is known changes nothing."""
        if head is None or self._knows(head):
            return
        self._heads.parent.mkdir(parents=True, exist_ok=True)
        with self._heads.with_name(f".{HEADS_FILE}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of those who write at once none undoes what another saw
            if self._knows(head):
                return
            staged = self._heads.with_name(f".{HEADS_FILE}.staged")
            staged.write_text(json.dumps({**self._read(), self._registry: asdict(head)}) + "\n", encoding="utf-8")
            staged.replace(self._heads)

    def _knows(self, head: Head) -> bool:
        known = self.head()
        return known is not None and known.sequence >= head.sequence

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads(self._heads.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise InvalidDefinition(f"{HEADS_FILE} in the home folder is broken; restore it, or remove it") from None
        return found
