"""MLServer: a custom runtime behind its adaptive batching; KServe v2 over HTTP."""

from __future__ import annotations

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop

from fraud_bench.same_job import job_from_environment

MAX_BATCH = 64
BATCH_TIMEOUT_S = 0.005


class Score(MLModel):
    """Rows in, score and verdict out; what comes at the same time is one request."""

    async def load(self) -> bool:
        self._job = job_from_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self._job.answer(NumpyCodec.decode_input(payload.inputs[0]))
        outputs = {"score": answers.score, "verdict": answers.verdict}
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, values) for name, values in outputs.items()],
        )

    async def unload(self) -> bool:
        self._job.close()
        return True


async def main(port: int, grpc: int, metrics: int) -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=grpc,
        metrics_port=metrics,
        parallel_workers=0,
        logging_settings=None,
        use_structured_logging=False,
        debug=False,
    )
    model = ModelSettings(
        name="fraud",
        implementation="fraud_bench.peers.mlserver.app.Score",
        max_batch_size=MAX_BATCH,
        max_batch_time=BATCH_TIMEOUT_S,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    install_uvloop_event_loop()  # as its own command does
    asyncio.run(main(*map(int, sys.argv[1:])))
