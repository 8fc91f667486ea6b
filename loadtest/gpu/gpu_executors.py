"""A plain graph on a device through what is installed there: onnxruntime(-gpu), torch, or tensorrt.

Inside Triton's python process (served_model.py) and outside it (kernel times) the same. Only the standard library,
NumPy and onnx beside the library that is asked for: on a borrowed machine nothing else may be there.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
KINDS: Final = ("onnxruntime", "torch")
DEVICES: Final = ("cuda", "cpu")


class OnnxRuntime:
    """ONNX Runtime's CUDA provider without TF32, or its CPU provider."""

    def __init__(self, graph: Path, device: str) -> None:
        self._library: Any = importlib.import_module("onnxruntime")
        wanted = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        if wanted not in self._library.get_available_providers():
            raise SystemExit(f"this onnxruntime has no {wanted}; run: pip install onnxruntime-gpu")
        provider = (wanted, {"use_tf32": "0"}) if device == "cuda" else wanted
        self._session = self._library.InferenceSession(str(graph), providers=[provider])
        self._device = device

    def __call__(self, features: Float32) -> Float32:
        """Margins FP32 [N, 1]."""
        found: Float32 = self._session.run(None, {"features": features})[0]
        return found

    def queued_us(self, features: Float32, times: int) -> float:
        """Microseconds a batch, of `times` batches with features and margins on the device."""
        binding = self._session.io_binding()
        value = self._library.OrtValue.ortvalue_from_numpy(features, self._device)
        binding.bind_ortvalue_input("features", value)
        binding.bind_output(self._session.get_outputs()[0].name, self._device)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        began = time.perf_counter()
        for _ in range(times):
            self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return (time.perf_counter() - began) / times * 1e6


class Torch:
    """The graph's operators one by one in torch; on a GPU captured as a CUDA graph for each batch size."""

    def __init__(self, graph: Path, device: str) -> None:
        self._torch: Any = importlib.import_module("torch")
        onnx: Any = importlib.import_module("onnx")
        self._torch.backends.cuda.matmul.allow_tf32 = False
        self._device = device
        model = onnx.load(str(graph))
        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        # int64 constants are shapes: they stay where Python reads them
        self._constants = {
            name: self._torch.from_numpy(np.array(values)) if values.dtype == np.int64 else self._tensor(values)
            for name, values in arrays.items()
        }
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        operators = _operators(self._torch)
        self._steps: list[tuple[Callable[..., Any], list[str], list[str], dict[str, Any]]] = []
        for node in model.graph.node:
            if node.op_type not in operators:
                raise SystemExit(f"torch: the graph holds {node.op_type}, which gpu_executors.py does not know yet")
            attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            if node.op_type == "Split":
                attributes["parts"] = len(node.output)
            self._steps.append((operators[node.op_type], list(node.input), list(node.output), attributes))
        self._captured: dict[int, tuple[Any, Any, Any]] = {}

    def __call__(self, features: Float32) -> Float32:
        """Margins FP32 [N, 1]."""
        with self._torch.inference_mode():
            if self._device != "cuda":
                found: Float32 = self._run(self._tensor(features)).numpy()
                return found
            graph, source, target = self._capture(features)
            source.copy_(self._torch.from_numpy(features))
            graph.replay()
            margins: Float32 = target.cpu().numpy()
            return margins

    def queued_us(self, features: Float32, times: int) -> float:
        """Microseconds a batch, of `times` batches with features and margins on the device."""
        with self._torch.inference_mode():
            if self._device != "cuda":
                source = self._tensor(features)
                began = time.perf_counter()
                for _ in range(times):
                    self._run(source)
                return (time.perf_counter() - began) / times * 1e6
            graph, _, _ = self._capture(features)
            before, after = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
            graph.replay()
            before.record()
            for _ in range(times):
                graph.replay()
            after.record()
            after.synchronize()
            return float(before.elapsed_time(after)) / times * 1e3

    def _capture(self, features: Float32) -> tuple[Any, Any, Any]:
        """(CUDA graph, where its features lie, where its margins come) for this batch size."""
        if len(features) not in self._captured:
            source = self._tensor(features)
            side = self._torch.cuda.Stream()
            side.wait_stream(self._torch.cuda.current_stream())
            with self._torch.cuda.stream(side):
                for _ in range(3):
                    self._run(source)
            self._torch.cuda.current_stream().wait_stream(side)
            graph = self._torch.cuda.CUDAGraph()
            with self._torch.cuda.graph(graph):
                target = self._run(source)
            self._captured[len(features)] = (graph, source, target)
        return self._captured[len(features)]

    def _run(self, features: Any) -> Any:
        values = {**self._constants, self._input: features}
        for operator, inputs, outputs, attributes in self._steps:
            found = operator(*(values[name] for name in inputs), **attributes)
            made = found if isinstance(found, list | tuple) else [found]
            values.update(zip(outputs, made, strict=True))
        return values[self._output]

    def _tensor(self, values: npt.NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.array(values)).to(self._device)


def _operators(torch: Any) -> dict[str, Callable[..., Any]]:
    """ONNX's operators that plain graphs are made of, as torch has them."""
    types = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16}

    def gemm(a: Any, b: Any, c: Any = 0, alpha: float = 1, beta: float = 1, **turned: int) -> Any:
        left = a.T if turned.get("transA") else a
        right = b.T if turned.get("transB") else b
        return alpha * (left @ right) + beta * c

    return {
        "Abs": torch.abs,
        "Add": lambda a, b: a + b,
        "Cast": lambda a, to: a.to(types[to]),
        "Concat": lambda *parts, axis: torch.cat(parts, axis),
        "Div": lambda a, b: a / b,
        "Gather": lambda a, index, axis=0: torch.index_select(a, axis, index.long().reshape(-1)),
        "Gemm": gemm,
        "Greater": lambda a, b: a > b,
        "Identity": lambda a: a,
        "Less": lambda a, b: a < b,
        "Log": torch.log,
        "MatMul": lambda a, b: a @ b,
        "Max": torch.maximum,
        "Min": torch.minimum,
        "Mul": lambda a, b: a * b,
        "Relu": torch.relu,
        "Reshape": lambda a, shape: a.reshape(tuple(shape.tolist())),
        "Sigmoid": torch.sigmoid,
        "Sign": torch.sign,
        "Split": lambda a, axis, parts: torch.chunk(a, parts, axis),
        "Sub": lambda a, b: a - b,
        "Tanh": torch.tanh,
        "Transpose": lambda a, perm: a.permute(tuple(perm)),
    }


def open_executor(kind: str, graph: Path, device: str) -> OnnxRuntime | Torch:
    """The graph by one of KINDS on one of DEVICES."""
    return {"onnxruntime": OnnxRuntime, "torch": Torch}[kind](graph, device)
