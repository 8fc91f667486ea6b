"""Requests of many rows over gRPC, encoded before the clock starts, so that next to nothing is the generator's own.

{"url", "model", "rows": FILE.npy, "rows_each", "callers", "warm_s", "seconds"}
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2

from fraud_bench.generators.outcome import Tally, closed_loop, finish, settle, specification
from fraud_scoring import wire

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_LIMIT_S = 10.0


async def main() -> None:
    asked = specification()
    each = asked["rows_each"]
    rows = np.load(asked["rows"])
    requests = [encoded(asked["model"], rows[start : start + each]) for start in range(0, len(rows) - each + 1, each)]
    async with grpc.aio.insecure_channel(asked["url"]) as channel:
        call = channel.unary_unary(_METHOD)  # bytes in, bytes out
        await channel.channel_ready()
        settle()
        tally = Tally(each, asked["warm_s"], asked["seconds"])

        async def send(number: int) -> None:
            await call(requests[number], timeout=_LIMIT_S)

        await closed_loop(send, len(requests), asked["callers"], tally, grpc.aio.AioRpcError)
    finish(tally.outcome())


def encoded(model: str, rows: np.ndarray[Any, np.dtype[np.int64]]) -> bytes:
    """A KServe v2 request for score and verdict of `rows` [N, C]."""
    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name=wire.TRANSACTION, datatype="INT64", shape=rows.shape)
    assert tensor.name == wire.TRANSACTION
    for name in (wire.SCORE, wire.VERDICT):
        request.outputs.add(name=name)
    request.raw_input_contents.append(np.ascontiguousarray(rows).tobytes())
    content: bytes = request.SerializeToString()
    return content


if __name__ == "__main__":
    asyncio.run(main())
