"""The one place that converts between Triton's python backend and arrays. Importable only inside Triton.

`model.py` files call this and the core, and hold no logic of their own.
"""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from fraud_scoring import coalesced, wire
from fraud_scoring.decision_log import LogUnavailable
from fraud_scoring.errors import FraudError, InvalidInput, ReleaseLate, ReleaseUnavailable, StoreUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.line import Call, Line
from fraud_scoring.releases import engine_name, model_name
from fraud_scoring.routing import Model
from fraud_scoring.serving import Serving, inline_model
from fraud_scoring.settings import SERVED, Settings

Array = npt.NDArray[Any]
Execute = Callable[[Any, Sequence[Any]], list[Any]]

HANDS_OVER: Final = 128
"""Rows of a batch whose way to the disk the next batch does not wait for; after a small one that gains more by waiting:
more rows share its price."""
_NOT_NOW = (LogUnavailable, StoreUnavailable, ReleaseUnavailable)
_INTERNAL, _INVALID_ARG, _UNAVAILABLE = 1, 3, 4


def repository_of(arguments: dict[str, str]) -> Path:
    """The model repository that holds the model which Triton initialises with `arguments`."""
    return Path(arguments["model_repository"]).parent


def version_folder(arguments: dict[str, str]) -> Path:
    """The folder of the version that Triton initialises with `arguments`."""
    return Path(arguments["model_repository"]) / arguments["model_version"]


def freeze() -> None:
    """What this process has now stays: the garbage collector, which would keep a batch waiting, looks at it no more."""
    gc.collect()
    gc.freeze()


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


def error_code(error: FraudError) -> int:
    """The number of an error's kind in Triton's C API."""
    if isinstance(error, InvalidInput):
        return _INVALID_ARG
    return _UNAVAILABLE if isinstance(error, _NOT_NOW) else _INTERNAL


def error_response(error: FraudError) -> Any:
    """A response that refuses, with the gRPC status of the error's kind."""
    # the stub adds its names to the module after it has imported the model: they cannot be used at import
    codes = pb_utils.TritonError
    code = {_INVALID_ARG: codes.INVALID_ARG, _UNAVAILABLE: codes.UNAVAILABLE}.get(error_code(error), codes.INTERNAL)
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), code))


def answering_all(execute: Execute) -> Execute:
    """Around a model's `execute`: a failure that nobody foresaw goes to the server's log, and not to the caller."""

    @wraps(execute)
    def guarded(model: Any, requests: Sequence[Any]) -> list[Any]:
        try:
            return execute(model, requests)
        except Exception:  # noqa: BLE001 - the last edge before the caller
            return [error_response(_fault()) for _ in requests]

    return guarded


def _fault() -> FraudError:
    """Tell the server's log of the exception that is being handled, and the caller that there was one."""
    pb_utils.Logger.log_error(traceback.format_exc())
    return FraudError("the request could not be answered by a fault here; the server's log says more")


class FrontDoorModel:
    """`fraud_front_door`: answers requests of Triton, and calls over the line that its answers to `coalesce` name.

    Both say what the backend made of several callers' requests; they are answered one after the other.
    """

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._lock = threading.Lock()
        self._line = Line(self._called)

    def response(self, request: Any) -> Any:
        """Triton's response to a request."""
        names = request.requested_output_names()
        call = Call(
            array(request, wire.TRANSACTION),
            array(request, coalesced.MEMBERS),
            array(request, coalesced.PARAMETERS).tobytes(),
            wire.FEATURES in names,
        )
        by_coalesce = request.request_id() == coalesced.REQUEST_ID
        try:
            outputs = self._answered(call, hands_over=by_coalesce)
        except FraudError as refusal:
            return error_response(refusal)
        if by_coalesce:
            outputs[coalesced.LINE] = np.frombuffer(self._line.name.encode(), np.uint8)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])

    def close(self) -> None:
        """Answer what was asked over the line, and let go of what is served."""
        self._line.close()
        self._serving.close()

    def _called(self, call: Call) -> dict[str, Array] | tuple[int, str]:
        try:
            return self._answered(call, hands_over=True)
        except FraudError as refusal:
            return error_code(refusal), str(refusal)
        except Exception:  # noqa: BLE001 - the last edge before the caller
            return _INTERNAL, str(_fault())

    def _answered(self, call: Call, *, hands_over: bool) -> dict[str, Array]:
        requests = coalesced.taken_apart(call.rows, call.members, call.parameters)
        with self._lock:
            try:
                replies = self._serving.answer(requests)
            except Exception:  # noqa: BLE001 - the last edge before the caller
                replies = [_fault()] * len(requests)
            outputs = coalesced.joined(replies, requests, error_code)
            if not call.with_features:
                del outputs[wire.FEATURES]
            if not hands_over:
                self._serving.sync()
            elif (unsynced := self._serving.unsynced()) is not None:
                outputs[coalesced.UNSYNCED] = np.frombuffer(unsynced, np.uint8)
        return outputs


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
