"""LitServe: its own batching and queues; one worker does the job, the API server runs beside it."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import numpy as np

from fraud_bench.same_job import job_from_environment
from fraud_scoring.errors import FraudError
from fraud_scoring.requests import Reply

MAX_BATCH = 64
BATCH_TIMEOUT_S = 0.005


class Score(litserve.LitAPI):
    """Rows in, score and verdict out, as JSON."""

    def setup(self, device: str) -> None:
        self._job = job_from_environment()

    def decode_request(self, request) -> np.ndarray:  # an annotation would be taken for the endpoint's
        return np.array(request["transaction"], np.int64)

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return inputs

    def predict(self, requests: list[np.ndarray]) -> list[Reply]:
        return self._job.answer_all(requests)

    def unbatch(self, replies: list[Reply]) -> list[Reply]:
        return replies

    def encode_response(self, reply: Reply) -> dict[str, Any]:
        if isinstance(reply, FraudError):
            raise litserve.server.HTTPException(400, str(reply))
        return {"score": reply.score.tolist(), "verdict": reply.verdict.tolist()}


if __name__ == "__main__":
    api = Score(max_batch_size=MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, fast_queue=True, disable_openapi_url=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
