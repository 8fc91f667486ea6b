"""FastAPI: orjson in and out, the body read without a model class, the job called in the endpoint's own worker.

With FRAUD_PEER_BATCH=1 requests that wait at the same time share a batch: what a careful author adds by hand, because
the framework does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

from fraud_bench.same_job import Job, job_from_environment
from fraud_scoring.errors import FraudError
from fraud_scoring.requests import Reply


class Batcher:
    """Answers together what was read from the sockets in one turn of the event loop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._waiting: list[tuple[np.ndarray, asyncio.Future[Reply]]] = []

    async def answer(self, rows: np.ndarray) -> Reply:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        reply: asyncio.Future[Reply] = loop.create_future()
        self._waiting.append((rows, reply))
        return await reply

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        for (_, waiting), reply in zip(batch, self._job.answer_all([rows for rows, _ in batch]), strict=True):
            waiting.set_result(reply)


class Single:
    """Answers each request by itself."""

    def __init__(self, job: Job) -> None:
        self._job = job

    async def answer(self, rows: np.ndarray) -> Reply:
        return self._job.answer_all([rows])[0]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    job = job_from_environment()
    app.state.jobs = (Batcher if os.environ.get("FRAUD_PEER_BATCH") == "1" else Single)(job)
    yield
    job.close()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.get("/ready")
async def ready() -> Response:
    return Response()


@app.post("/score")
async def score(request: Request) -> Response:
    rows = np.array(orjson.loads(await request.body())["transaction"], np.int64)
    reply = await app.state.jobs.answer(rows)
    if isinstance(reply, FraudError):
        return Response(str(reply), status_code=400)
    content = {"score": reply.score, "verdict": reply.verdict}
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
