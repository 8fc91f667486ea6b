"""Single transactions over HTTP/1.1 from many connections that are kept open: no library, bodies encoded beforehand.

{"host", "port", "path", "shape": "rows" | "kserve", "rows": FILE.npy, "callers", "warm_s", "seconds"}
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np

from fraud_bench.generators.outcome import CallFailed, Tally, closed_loop, finish, settle, specification
from fraud_scoring import wire

_LIMIT_S = 10.0


class Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        try:
            whole = len(body) >= content_length(head)
        except CallFailed as failure:
            self._answer.set_exception(failure)
            return
        if whole:
            answer, self._received = self._received, b""
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(CallFailed(f"the server closed the connection: {error or 'no reason given'}"))

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for its whole answer; CallFailed unless that is 200."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            raise CallFailed("the connection is closed")
        self._transport.write(request)
        answer = await asyncio.wait_for(self._answer, _LIMIT_S)
        if answer[9:12] != b"200":
            raise CallFailed(answer.partition(b"\r\n\r\n")[2][:200].decode(errors="replace") or answer[:40].decode())

    def close(self) -> None:
        self._transport.close()


def content_length(head: bytes) -> int:
    """The length that an answer's head tells; CallFailed where it tells none."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise CallFailed("an answer without Content-Length; this generator reads no chunks")


def encoded(asked: dict[str, Any], row: list[int]) -> bytes:
    """A request for one transaction: as KServe v2 says it, or as plain rows."""
    if asked["shape"] == "kserve":
        tensor = {"name": wire.TRANSACTION, "shape": [1, len(row)], "datatype": "INT64", "data": row}
        wanted = [{"name": name} for name in (wire.SCORE, wire.VERDICT)]
        body = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
    else:
        body = json.dumps({wire.TRANSACTION: [row]}).encode()
    head = (
        f"POST {asked['path']} HTTP/1.1\r\nHost: {asked['host']}:{asked['port']}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def main() -> None:
    asked = specification()
    requests = [encoded(asked, row) for row in np.load(asked["rows"]).tolist()]
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, asked["host"], asked["port"]))[1] for _ in range(asked["callers"])
    ]
    settle()
    tally = Tally(1, asked["warm_s"], asked["seconds"])
    free = list(connections)

    async def send(number: int) -> None:
        connection = free.pop()
        try:
            await connection.ask(requests[number])
        finally:
            free.append(connection)

    await closed_loop(send, len(requests), asked["callers"], tally, (CallFailed, TimeoutError, asyncio.TimeoutError))
    for connection in connections:
        connection.close()
    finish(tally.outcome())


if __name__ == "__main__":
    asyncio.run(main())
