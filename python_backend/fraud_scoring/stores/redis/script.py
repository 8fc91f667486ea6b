"""A Lua script: its parts in order, and the command that runs it."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

from fraud_scoring.windows import Folding

KEPT: Final = Folding(recent=64, seal_at=512)
"""How a busy entity lies here: up to 16 kB are read with each transaction, and the ledger is written once in 448
events, since it is sent over a network. What features are does not depend on these two."""
MOST_AMENDMENTS: Final = 64
"""As many, and a ledger is written anew."""


class Script:
    """The `.lua` files `parts`, with the numbers that they go by, and the name that Redis gives them."""

    def __init__(self, *parts: str, folding: Folding = KEPT) -> None:
        folder = resources.files("fraud_scoring.stores.redis")
        numbers = f"local SEAL_AT, MOST_AMENDMENTS = {folding.seal_at}, {MOST_AMENDMENTS}"
        texts = [(folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts]
        self.text = "\n".join([numbers, *texts])
        name = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self._head = b"$7\r\nEVALSHA\r\n$40\r\n%s\r\n" % name.encode()

    def call(self, keys: int, names: bytes, *arguments: bytes) -> bytes:
        """The command that runs it over `keys` keys, whose `names` are encoded."""
        count = b"%d" % keys
        return b"".join(
            [
                b"*%d\r\n" % (3 + keys + len(arguments)),
                self._head,
                b"$%d\r\n%b\r\n" % (len(count), count),
                names,
                *[b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments],
            ]
        )
