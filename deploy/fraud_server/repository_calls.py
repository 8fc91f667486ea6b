"""Triton's calls that load and unload models: behind a key that only the supervisor knows."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

ADMIN_HEADER: Final = "admin-key"
_CALL_SECONDS: Final = 2.0
_LOOK_EVERY_S: Final = 0.05


@dataclass(frozen=True)
class RepositoryCalls:
    """The calls of the server that listens on loopback's `port` (HTTP) and was started with `key`."""

    port: int
    key: str

    def unload(self, models: Iterable[str], patience: float) -> bool:
        """Whether the models answered all that they had taken, and are gone, within `patience` seconds."""
        give_up = time.monotonic() + patience
        waiting = set(models)
        try:
            for model in waiting:
                self._post(f"models/{model}/unload")
            while waiting & self._present() and time.monotonic() < give_up:
                time.sleep(_LOOK_EVERY_S)
            return not waiting & self._present()
        except (OSError, http.client.HTTPException, ValueError):
            return False  # a server that is gone has nothing to unload

    def _present(self) -> set[str]:
        """Names of the models that are loaded, or still on their way out."""
        states = json.loads(self._post("index"))
        return {model["name"] for model in states if model.get("state") in ("READY", "UNLOADING")}

    def _post(self, call: str) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_CALL_SECONDS)) as connection:
            connection.request("POST", f"/v2/repository/{call}", "{}", {ADMIN_HEADER: self.key})
            return connection.getresponse().read()
