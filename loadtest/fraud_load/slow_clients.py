"""Connections that dribble: each begins HTTP/2 and then sends a byte now and then of a frame that never ends.

What a stuck proxy or an unfriendly caller looks like to the server: open, not idle, and of no use.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = bytes(9)[:3] + b"\x04" + bytes(5)
"""An empty SETTINGS frame: length 0, type 4, stream 0 (RFC 9113, 6.5)."""
_HEADERS: Final = b"\x00\x10\x00\x01\x00\x00\x00\x00\x01"
"""The head of a HEADERS frame of 4,096 bytes on stream 1, of which the dribble is the content."""
_BYTE: Final = b"\x00"


_EVERY_S: Final = 0.5


class SlowClients:
    """Holds such connections in a thread, from `with` to its end; one that the server closes is opened anew."""

    def __init__(self, host: str, port: int, connections: int, tls: ssl.SSLContext | None = None) -> None:
        self._address, self._count = (host, port), connections
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-clients", daemon=True)

    def __enter__(self) -> SlowClients:
        self._thread.start()
        for _ in range(self._count):
            asyncio.run_coroutine_threadsafe(self._hold(), self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hold(self) -> None:
        while True:
            with suppress(OSError):
                await self._dribble()
            await asyncio.sleep(_EVERY_S)

    async def _dribble(self) -> None:
        _, writer = await asyncio.open_connection(*self._address, ssl=self._tls)
        try:
            writer.write(_PREFACE + _SETTINGS + _HEADERS)
            while True:
                writer.write(_BYTE)
                await writer.drain()
                await asyncio.sleep(_EVERY_S)
        finally:
            writer.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
