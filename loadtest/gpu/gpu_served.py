"""The plain form served by the real tritonserver of the wheel: its repository, its process, calls and their times."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton

from fraud_server.ports import free_ports
from fraud_server.process import TritonProcess
from fraud_server.settings import Ports, ServeSettings

Float32 = npt.NDArray[np.float32]
MODEL: Final = "fraud_model_plain"
START_SECONDS: Final = 180.0
HERE: Final = Path(__file__).parent


def write_repository(folder: Path, graph: bytes, features: int, executor: str, device: str) -> None:
    """A model repository that holds the graph, to be run by `executor` on `device`."""
    version = folder / MODEL / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(graph)
    shutil.copyfile(HERE / "served_model.py", version / "model.py")
    shutil.copyfile(HERE / "gpu_executors.py", version / "gpu_executors.py")
    kind = "KIND_GPU" if device == "cuda" else "KIND_CPU"
    (folder / MODEL / "config.pbtxt").write_text(
        f"""name: "{MODEL}"
backend: "python"
max_batch_size: 4096
input {{ name: "features" data_type: TYPE_FP32 dims: [ {features} ] }}
output {{ name: "margin" data_type: TYPE_FP32 dims: [ 1 ] }}
dynamic_batching {{ }}
instance_group {{ count: 1 kind: {kind} }}
parameters {{ key: "executor" value: {{ string_value: "{executor}" }} }}
parameters {{ key: "device" value: {{ string_value: "{device}" }} }}
"""
    )


@contextmanager
def served(repository: Path, home: Path) -> Iterator[str]:
    """The address of a tritonserver that serves the repository; it is gone afterwards."""
    settings = ServeSettings(repository, home, Ports(*free_ports(3)), "memory:")
    process = TritonProcess(settings, [MODEL])
    try:
        client = triton.InferenceServerClient(settings.url)
        until = time.monotonic() + START_SECONDS
        while not _is_ready(client):
            if (dead := process.what_died()) or time.monotonic() > until:
                raise SystemExit(f"the server does not start: {dead or 'no answer'}; {process.last_error()}")
            time.sleep(0.1)
        client.close()
        yield settings.url
    finally:
        process.kill()


def _is_ready(client: Any) -> bool:
    try:
        return bool(client.is_model_ready(MODEL))
    except triton.InferenceServerException:
        return False


class Caller:
    """One connection that asks for margins."""

    def __init__(self, url: str) -> None:
        self._client = triton.InferenceServerClient(url)

    def margin(self, features: Float32) -> Float32:
        """Margins FP32 [N, 1]."""
        tensor = triton.InferInput("features", list(features.shape), "FP32")
        tensor.set_data_from_numpy(features)
        found: Float32 = self._client.infer(MODEL, [tensor]).as_numpy("margin")
        return found

    def close(self) -> None:
        self._client.close()


def latencies_us(url: str, features: Float32, calls: int) -> npt.NDArray[np.float64]:
    """Of `calls` calls of the same batch, one after the other, after a tenth as many that do not count."""
    caller = Caller(url)
    out = np.empty(calls)
    for _ in range(max(3, calls // 10)):
        caller.margin(features)
    for place in range(calls):
        began = time.perf_counter()
        caller.margin(features)
        out[place] = (time.perf_counter() - began) * 1e6
    caller.close()
    return out


def rows_per_second(url: str, features: Float32, callers: int, seconds: float) -> float:
    """Rows answered a second while `callers` threads send the same batch again and again."""
    done = [0] * callers
    ends = time.perf_counter() + seconds

    def call(place: int) -> None:
        caller = Caller(url)
        while time.perf_counter() < ends:
            caller.margin(features)
            done[place] += len(features)
        caller.close()

    threads = [threading.Thread(target=call, args=(place,)) for place in range(callers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)
