"""What a graph must cost on a GPU at the least: its floating-point operations and its bytes against what the GPU can.

Two floors: `fused`, as if one kernel read the features and constants and wrote the margins; and `by_operator`, where
each operator reads its inputs and writes its outputs. A measured time below the first is a mistake of the measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

_MOVES_NOTHING: Final = frozenset({"Reshape", "Constant", "Identity", "Squeeze", "Unsqueeze"})
_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})


@dataclass(frozen=True)
class Peak:
    """A GPU's published limits: TFLOP/s in FP32 and in FP16 with tensor cores (dense), memory in GB/s."""

    fp32: float
    fp16: float
    memory: float


PEAKS: Final = {
    "H200": Peak(67.0, 989.0, 4_800.0),
    "H100 PCIe": Peak(51.0, 756.0, 2_000.0),
    "H100": Peak(67.0, 989.0, 3_350.0),
    "A100": Peak(19.5, 312.0, 1_555.0),
    "L40S": Peak(91.6, 362.0, 864.0),
    "L4": Peak(30.3, 121.0, 300.0),
    "A10": Peak(31.2, 125.0, 600.0),
    "T4": Peak(8.1, 65.0, 320.0),
}
"""NVIDIA's data sheets, by a part of the name that the driver gives; the longest that fits counts."""


@dataclass(frozen=True)
class Cost:
    """Of one batch: operations of products in FP32 and FP16, of everything else; bytes fused and by operator."""

    rows: int
    flop_fp32: int
    flop_fp16: int
    elementwise: int
    bytes_fused: int
    bytes_by_operator: int

    def floor_us(self, peak: Peak) -> dict[str, float]:
        """Microseconds below which the batch cannot be, by what limits it."""
        compute = (self.flop_fp32 + self.elementwise) / peak.fp32 + self.flop_fp16 / peak.fp16
        return {
            "compute": compute * 1e-6,
            "memory_fused": self.bytes_fused / peak.memory * 1e-3,
            "memory_by_operator": self.bytes_by_operator / peak.memory * 1e-3,
        }


def peak_of(gpu: str) -> Peak | None:
    """The limits of a GPU by its name; None for one that the table does not have."""
    fitting = [name for name in PEAKS if name in gpu]
    return PEAKS[max(fitting, key=len)] if fitting else None


def cost_of(model: onnx.ModelProto, rows: int) -> Cost:
    """What a batch of `rows` costs in a plain graph with one input [N, F]."""
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    shaped.graph.input[0].type.tensor_type.shape.dim[0].dim_value = rows
    for value in shaped.graph.output:
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    inferred = onnx.shape_inference.infer_shapes(shaped, strict_mode=True, data_prop=True).graph
    sizes, types = {}, {}
    for tensor in inferred.initializer:
        sizes[tensor.name], types[tensor.name] = tuple(tensor.dims), tensor.data_type
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        found = value.type.tensor_type
        sizes[value.name] = tuple(dim.dim_value for dim in found.shape.dim)
        types[value.name] = found.elem_type

    def count(name: str) -> int:
        return int(np.prod(sizes[name], dtype=np.int64))

    def volume(name: str) -> int:
        return count(name) * helper.tensor_dtype_to_np_dtype(types[name]).itemsize

    products = {TensorProto.FLOAT: 0, TensorProto.FLOAT16: 0}
    elementwise = by_operator = 0
    for node in inferred.node:
        if node.op_type in _MOVES_NOTHING:
            continue
        by_operator += sum(volume(name) for name in (*node.input, *node.output) if name)
        if node.op_type in _PRODUCTS:
            products[types[node.output[0]]] += 2 * count(node.output[0]) * sizes[node.input[0]][-1]
        else:
            elementwise += sum(count(name) for name in node.output)
    constants = sum(volume(tensor.name) for tensor in inferred.initializer)
    ends = sum(volume(value.name) for value in (inferred.input[0], *inferred.output))
    return Cost(
        rows,
        products[TensorProto.FLOAT],
        products[TensorProto.FLOAT16],
        elementwise,
        constants + ends,
        by_operator,
    )
