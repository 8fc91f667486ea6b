"""The HTTP generator against a real server that answers as it is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from fraud_bench.generators.http_calls import Connection, content_length, encoded
from fraud_bench.generators.outcome import CallFailed

ASKED = {"host": "127.0.0.1", "port": 80, "path": "/score", "shape": "rows"}
ROW = [2**62, 2, -3, 4, 5]


def ask(answer: bytes, parts: int = 1) -> list[bytes]:
    """What a server was sent by one connection that asked it twice; it answers in `parts`."""
    seen: list[bytes] = []
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            lines = [head]
            while (line := await reader.readline()) != b"\r\n":
                lines.append(line)
            seen.append(await reader.readexactly(content_length(b"".join(lines).rstrip())))
            size = -(-len(answer) // parts)
            for start in range(0, len(answer), size):
                writer.write(answer[start : start + size])
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        gone.set()

    async def both() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            _, connection = await asyncio.get_running_loop().create_connection(Connection, host, port)
            try:
                for _ in range(2):
                    await connection.ask(encoded(ASKED, ROW))
            finally:
                connection.close()
                await gone.wait()

    asyncio.run(both())
    return seen


@pytest.mark.parametrize("parts", [1, 3, 20])
def test_a_connection_is_used_again_once_the_whole_answer_is_there(parts: int) -> None:
    bodies = ask(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world", parts)
    assert [json.loads(body) for body in bodies] == [{"transaction": [ROW]}] * 2


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 7\r\n\r\nbad row", "bad row"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "reads no chunks"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(answer: bytes, why: str) -> None:
    with pytest.raises(CallFailed, match=why):
        ask(answer)


def test_a_request_is_written_as_kserve_says_it() -> None:
    head, _, body = encoded({**ASKED, "shape": "kserve"}, ROW).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /score HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert content_length(head) == len(body)
    (tensor,) = json.loads(body)["inputs"]
    assert tensor == {"name": "transaction", "shape": [1, 5], "datatype": "INT64", "data": ROW}
