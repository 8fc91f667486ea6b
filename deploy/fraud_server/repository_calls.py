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

    def load(self, model: str, patience: float) -> str | None:
        """None once a model, and what it is made of, is loaded; else what Triton says. OSError: no answer in time."""
        status, answer = self._ask(f"models/{model}/load", patience)
        if status == http.HTTPStatus.OK:
            return None
        try:
            return str(json.loads(answer)["error"])
        except (ValueError, KeyError, TypeError):
            return f"status {status}"

    def let_go(self, models: Iterable[str]) -> None:
        """Ask that models are unloaded; returns before they are."""
        for model in models:
            self._post(f"models/{model}/unload")

    def _present(self) -> set[str]:
        """Names of the models that are loaded, or still on their way out."""
        states = json.loads(self._post("index"))
        return {model["name"] for model in states if model.get("state") in ("READY", "UNLOADING")}

    def _post(self, call: str) -> bytes:
        return self._ask(call, _CALL_SECONDS)[1]

    def _ask(self, call: str, patience: float) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)) as connection:
            connection.request("POST", f"/v2/repository/{call}", "{}", {ADMIN_HEADER: self.key})
            answer = connection.getresponse()
            return answer.status, answer.read()
