"""A release's graph in plain tensor operations, for TensorRT: no operator of ai.onnx.ml, nothing in binary64.

`plain_form` takes the graph that ONNX Runtime serves, whatever it is made of (trees, a network, a blend of both), and
replaces its tree ensembles by matrices (`plain_trees`); other nodes stay. So there is one source for both forms.
Where the trees are counted in FP16 (`half_paths`), their answer keeps every bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fraud_release.errors import ReleaseRefused
from fraud_release.plain_trees import DIGITS, TreeMatrices, tree_matrices
from fraud_scoring.trees import OPERATOR, attributes_of

OPSET: Final = 17


def plain_form(model: onnx.ModelProto, *, half: bool = False) -> onnx.ModelProto:
    """The same graph, features FP32 [N, F] → margin FP32 [N, 1]; ReleaseRefused for an operator it cannot replace.

    `half`: what the trees count, and the weights and activations of a network, in FP16, by explicit casts as a strongly
    typed network wants them; comparisons with thresholds and sums of leaves stay in FP32.
    """
    graph = onnx.GraphProto()
    graph.name = f"{model.graph.name}_plain"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.initializer.extend(_narrow(tensor) for tensor in model.graph.initializer)
    for number, node in enumerate(model.graph.node):
        if (node.domain, node.op_type) == OPERATOR:
            _add_trees(graph, node, f"trees{number}", half)
        elif node.domain not in ("", "ai.onnx"):
            raise ReleaseRefused(
                f"plain form: the graph holds {node.domain}.{node.op_type}, which is no plain operator"
            )
        elif half and node.op_type in ("MatMul", "Gemm"):
            _add_half_product(graph, _narrow_node(node), f"product{number}")
        else:
            graph.node.append(_narrow_node(node))
    opsets = [
        helper.make_opsetid("", max(OPSET, *(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))))
    ]
    out = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="fraudserve")
    onnx.checker.check_model(out, full_check=True)
    return out


def operators(model: onnx.ModelProto) -> set[str]:
    """The graph's operators, with their domain where that is not ONNX's own."""
    return {f"{node.domain}.{node.op_type}".lstrip(".") for node in model.graph.node}


def products(model: onnx.ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(operator, shape of its constant operand) of each matrix product: what a row costs follows from them."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            names = (casts.get(name, name) for name in node.input[:2])
            yield from ((node.op_type, shapes[name]) for name in names if name in shapes)


def _add_trees(graph: onnx.GraphProto, node: onnx.NodeProto, name: str, half: bool) -> None:
    """Append `node`'s trees as plain nodes: rows lie last, so that neighbouring threads read neighbouring values."""
    matrices = tree_matrices(attributes_of(node))
    trees, splits = matrices.feature.shape
    counting = np.float16 if half else np.float32
    constants: dict[str, Any] = {
        "feature": matrices.feature.reshape(-1).astype(np.int32),
        "above": matrices.above[:, :, None],
        "path": matrices.path.astype(counting),
        "reached": matrices.reached[:, :, None].astype(counting),
        "digits": matrices.digits,
        "split_shape": np.array([trees, splits, -1], np.int64),
        "leaf_shape": np.array([matrices.digits.shape[1], -1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}.{key}") for key, value in constants.items())
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        full = [f"{name}.{one}" if one in constants else one for one in inputs]
        graph.node.append(helper.make_node(operator, full, [f"{name}.{output}"], f"{name}.{output}", **attributes))
        return f"{name}.{output}"

    columns = add("Transpose", [node.input[0]], "columns", perm=[1, 0])
    picked = add("Reshape", [add("Gather", [columns, "feature"], "picked", axis=0), "split_shape"], "by_split")
    left = add("Cast", [add("Less", [picked, "above"], "goes_left")], "left", to=number)
    turns = add("MatMul", ["path", left], "turns")
    leaf = add("Cast", [add("Greater", [turns, "reached"], "is_leaf")], "leaf", to=TensorProto.FLOAT)
    sums = add("MatMul", ["digits", add("Reshape", [leaf, "leaf_shape"], "by_leaf")], "sums")
    total = _add_digits(graph, matrices, name, sums)
    graph.node.append(helper.make_node("Transpose", [total], [node.output[0]], f"{name}.margin", perm=[1, 0]))


def _add_digits(graph: onnx.GraphProto, matrices: TreeMatrices, name: str, sums: str) -> str:
    """Append what puts the digits' sums [D, N] together, lowest first; the name of the total [1, N].

    What each addition loses is kept (two-sum: Knuth, "The Art of Computer Programming" 2, 4.2.2) and added at the end,
    so that the total is the sum of all digits, rounded once.
    """

    def add(operator: str, one: str, other: str, output: str) -> str:
        graph.node.append(helper.make_node(operator, [one, other], [f"{name}.{output}"], f"{name}.{output}"))
        return f"{name}.{output}"

    rows = [f"{name}.digit{place}" for place in range(DIGITS)]
    graph.node.append(helper.make_node("Split", [sums], rows, f"{name}.by_digit", axis=0))
    worth = []
    for place, row in enumerate(rows):
        scale = f"{name}.scale{place}"
        graph.initializer.append(numpy_helper.from_array(matrices.scales[place], scale))
        worth.append(add("Mul", row, scale, f"worth{place}"))
    total, lost = worth[-1], ""
    for place in reversed(range(DIGITS - 1)):
        more = worth[place]
        new = add("Add", more, total, f"total{place}")
        of_total = add("Sub", new, more, f"of_total{place}")
        of_more = add("Sub", new, of_total, f"of_more{place}")
        lost_of_total = add("Sub", total, of_total, f"lost_of_total{place}")
        lost_of_more = add("Sub", more, of_more, f"lost_of_more{place}")
        lost_here = add("Add", lost_of_total, lost_of_more, f"lost{place}")
        lost = add("Add", lost, lost_here, f"all_lost{place}") if lost else lost_here
        total = new
    return add("Add", total, lost, "total")


def _add_half_product(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> None:
    """Append a matrix product in FP16 between casts; what it adds to and what follows stays in FP32."""
    inputs = []
    for place, one in enumerate(node.input):
        cast = f"{name}.half{place}"
        graph.node.append(helper.make_node("Cast", [one], [cast], cast, to=TensorProto.FLOAT16))
        inputs.append(cast)
    product = helper.make_node(node.op_type, inputs, [f"{name}.product"], name)
    product.attribute.extend(node.attribute)
    graph.node.append(product)
    graph.node.append(
        helper.make_node("Cast", [f"{name}.product"], [node.output[0]], f"{name}.full", to=TensorProto.FLOAT)
    )


def _narrow(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A constant, in binary32 where it was in binary64."""
    if tensor.data_type != TensorProto.DOUBLE:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _narrow_node(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node that makes binary32 where it made binary64."""
    out = onnx.NodeProto()
    out.CopyFrom(node)
    for attribute in out.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.DOUBLE:
            attribute.i = TensorProto.FLOAT
        elif attribute.type == onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(_narrow(attribute.t))
        elif attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise ReleaseRefused(f"plain form: {node.op_type} holds a graph of its own, which cannot be exported")
    return out
