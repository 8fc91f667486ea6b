"""The one place that converts between Triton's python backend and arrays. Importable only inside Triton.

`model.py` files call this and the core, and hold no logic of their own.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from fraud_scoring import wire
from fraud_scoring.decision_log import LogUnavailable
from fraud_scoring.errors import FraudError, InvalidInput, ReleaseLate, ReleaseUnavailable, StoreUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.front_door import Reply, Request
from fraud_scoring.releases import engine_name, model_name
from fraud_scoring.routing import Model
from fraud_scoring.serving import inline_model
from fraud_scoring.settings import SERVED, Settings

Array = npt.NDArray[Any]
Execute = Callable[[Any, Sequence[Any]], list[Any]]

_UNAVAILABLE = (LogUnavailable, StoreUnavailable, ReleaseUnavailable)


def _number_types_by_table() -> None:
    """Let the backend look up the number of a tensor's type, where it asked a chain of comparisons for each tensor.

    That was a third of what a tensor costs. A Triton without that function is left as it is.
    """
    chain: Callable[[Any], int] | None = getattr(pb_utils, "numpy_to_triton_type", None)
    if chain is not None:
        table = {kind: chain(kind) for kind in map(np.dtype, (np.float32, np.int32, np.int64))}
        pb_utils.numpy_to_triton_type = lambda kind: table.get(kind) or chain(kind)


_number_types_by_table()


def repository_of(arguments: dict[str, str]) -> Path:
    """The model repository that holds the model which Triton initialises with `arguments`."""
    return Path(arguments["model_repository"]).parent


def version_folder(arguments: dict[str, str]) -> Path:
    """The folder of the version that Triton initialises with `arguments`."""
    return Path(arguments["model_repository"]) / arguments["model_version"]


def array(request: Any, name: str) -> Array:
    """One input tensor of a request."""
    found: Array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
    return found


def joined(requests: Sequence[Any], name: str) -> tuple[Array, list[int]]:
    """(the requests' tensors as one matrix, rows of each)."""
    parts = [array(request, name) for request in requests]
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)), [len(part) for part in parts]


def responses(rows: Sequence[int], **outputs: Array) -> list[Any]:
    """The joined outputs as one response per request; `rows` says how many rows each gets."""
    out, start = [], 0
    for count in rows:
        part = slice(start, start + count)
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value[part])) for name, value in outputs.items()]
        out.append(pb_utils.InferenceResponse(tensors))
        start += count
    return out


def error_response(error: FraudError) -> Any:
    """A response that refuses, with the gRPC status of the error's kind."""
    # the stub adds its names to the module after it has imported the model: they cannot be used at import
    codes = pb_utils.TritonError
    if isinstance(error, InvalidInput):
        code = codes.INVALID_ARG
    else:
        code = codes.UNAVAILABLE if isinstance(error, _UNAVAILABLE) else codes.INTERNAL
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def answering_all(execute: Execute) -> Execute:
    """Around a model's `execute`: a failure that nobody foresaw goes to the server's log, and not to the caller."""

    @wraps(execute)
    def guarded(model: Any, requests: Sequence[Any]) -> list[Any]:
        try:
            return execute(model, requests)
        except Exception:  # noqa: BLE001 - the last edge before the caller
            pb_utils.Logger.log_error(traceback.format_exc())
            failure = FraudError("the request could not be answered by a fault here; the server's log says more")
            return [error_response(failure) for _ in requests]

    return guarded


def front_door_request(request: Any) -> Request:
    """A caller's request as the front door takes it."""
    wants_features = wire.FEATURES in request.requested_output_names()
    return Request(array(request, wire.TRANSACTION), request.parameters(), wants_features)


def front_door_response(reply: Reply, wants_features: bool) -> Any:
    """The front door's reply as Triton's."""
    if isinstance(reply, FraudError):
        return error_response(reply)
    tensors = [pb_utils.Tensor(wire.SCORE, reply.score), pb_utils.Tensor(wire.VERDICT, reply.verdict)]
    if wants_features:
        tensors.append(pb_utils.Tensor(wire.FEATURES, reply.features))
    return pb_utils.InferenceResponse(tensors)


def call_model(number: int, features: Float32) -> Float32:
    """Margins FP32 [M, 1] for features FP32 [M, F] by a release's model; ReleaseUnavailable: no answer."""
    name = model_name(number)
    request = pb_utils.InferenceRequest(
        model_name=name,
        requested_output_names=["margin"],
        inputs=[pb_utils.Tensor(wire.FEATURES, np.ascontiguousarray(features))],
    )
    response = request.exec()
    if response.has_error():
        raise ReleaseUnavailable(f"model {name} did not answer: {response.error().message()}")
    margin: Float32 = pb_utils.get_output_tensor_by_name(response, "margin").as_numpy()
    return margin


def opener(settings: Settings, repository: Path) -> Callable[[int], Model]:
    """How the front door comes to the model of a release, by its number: in its own process, or through Triton."""

    def open_model(release: int) -> Model:
        if settings.models == SERVED or engine_name(release) is not None:
            return TritonModel(release)
        return inline_model(repository, release)

    return open_model


class TritonModel:
    """A release's model, asked from a thread: one that hangs costs its callers their limit, ReleaseLate, and no more.

    The thread lives from call to call. One that a call is stuck in is left to itself, and ends when the call does.
    """

    def __init__(self, release: int) -> None:
        self._release = release
        self._name = model_name(release)
        self._calls: SimpleQueue[Array | None] | None = None
        self._answers: SimpleQueue[Array | ReleaseUnavailable] = SimpleQueue()
        self._lock = threading.Lock()

    def __call__(self, features: Float32, until: float) -> Float32:
        """Margins FP32 [N, 1] for features FP32 [N, F]; ReleaseUnavailable by `until` (time.monotonic)."""
        with self._lock:
            if self._calls is None:
                self._calls, self._answers = SimpleQueue(), SimpleQueue()
                threading.Thread(target=self._serve, args=(self._calls, self._answers), daemon=True).start()
            self._calls.put(features)
            try:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                self._calls.put(None)
                self._calls = None
                raise ReleaseLate(f"{self._name} did not answer in time") from None
        if isinstance(answer, ReleaseUnavailable):
            raise answer
        return answer

    def close(self) -> None:
        """End the thread once it has answered. Waits for nothing: another thread may be in a call."""
        if (calls := self._calls) is not None:
            calls.put(None)

    def _serve(self, calls: SimpleQueue[Array | None], answers: SimpleQueue[Array | ReleaseUnavailable]) -> None:
        while (features := calls.get()) is not None:
            try:
                answers.put(call_model(self._release, features))
            except ReleaseUnavailable as failure:
                answers.put(failure)
            except Exception as error:  # noqa: BLE001 - the thread must answer
                answers.put(ReleaseUnavailable(f"{self._name} could not be asked: {error}"))
