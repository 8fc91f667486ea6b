"""A network in whole numbers (`network`) as plain ONNX operators: no operator of it rounds.

Weights are stored over 2^10, so that sums stay within FP16's range; powers of two change no bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fraud_release.network import LARGEST, Layer, Network

OPSET: Final = 17
_NAME: Final = "network"
_BITS: Final = 10


def to_onnx(network: Network) -> onnx.ModelProto:
    """A graph features FP32 [N, F] → margin FP32 [N, 1]: `Network.margin` to the bit."""
    graph = onnx.GraphProto(name=_NAME)
    graph.input.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(network.thresholds)]))
    graph.output.append(helper.make_tensor_value_info("margin", TensorProto.FLOAT, [None, 1]))
    add_network(graph, network, "margin")
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="fraudserve"
    )
    onnx.checker.check_model(model)
    return model


def add_network(graph: onnx.GraphProto, network: Network, margin: str) -> None:
    """Append the network's nodes: from `features` to the value named `margin`."""

    def constant(name: str, value: np.ndarray[Any, Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{_NAME}.{name}"))
        return f"{_NAME}.{name}"

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = f"{_NAME}.{output}"
        graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def sums(values: str, layer: Layer, name: str) -> str:
        weights = constant(f"weights{name}", np.ldexp(layer.weights.astype(np.float32), -_BITS))
        bias = constant(f"bias{name}", np.ldexp(layer.bias.astype(np.float32), -_BITS))
        return add("Add", [add("MatMul", [values, weights], f"product{name}"), bias], f"sum{name}")

    last = constant("last_axis", np.array([2], np.int64))
    least, largest = constant("least", np.array(0, np.float32)), constant("largest", np.array(LARGEST, np.float32))
    value = add("Unsqueeze", ["features", last], "value")
    below = add("Less", [value, constant("thresholds", network.thresholds)], "below")
    values = add("ReduceSum", [add("Cast", [below], "one", to=TensorProto.FLOAT), last], "codes", keepdims=0)
    for number, layer in enumerate(network.hidden):
        worth = constant(f"worth{number}", np.ldexp(np.float32(1), _BITS - layer.shift).astype(np.float32))
        scaled = add("Mul", [sums(values, layer, str(number)), worth], f"scaled{number}")
        values = add("Floor", [add("Clip", [scaled, least, largest], f"rectified{number}")], f"hidden{number}")
    worth = constant("worth", np.ldexp(np.float32(1), _BITS - network.output.shift).astype(np.float32))
    graph.node.append(helper.make_node("Mul", [sums(values, network.output, ""), worth], [margin], margin))
