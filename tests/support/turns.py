"""A TCP relay that counts round trips: how often the client spoke after the server had."""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType


class Turns:
    """Relays one connection at a time from `port` to a server on this machine."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.turns = 0
        self._give_up = threading.Event()
        self._relay = threading.Thread(target=self._run, name="turns", daemon=True)

    def __enter__(self) -> Turns:
        self._relay.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._give_up.set()
        self._relay.join()

    def _run(self) -> None:
        """Until the client closes its connection."""
        with self._listening:
            client, _ = self._listening.accept()
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            ready = selectors.DefaultSelector()
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            spoke: object = server
            while True:
                if self._give_up.is_set():
                    return
                for key, _ in ready.select(0.1):
                    data = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]
                    if not data:
                        ready.close()
                        return
                    if key.fileobj is client and spoke is server:
                        self.turns += 1
                    spoke = key.fileobj
                    key.data.sendall(data)
