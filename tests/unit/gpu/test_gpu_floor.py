"""Operations and bytes of a graph, against counting by hand; the floor that follows for a GPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from gpu_floor import PEAKS, Peak, cost_of, peak_of
from onnx import TensorProto, helper, numpy_helper

from fraud_release.plain_onnx import plain_form, products
from fraud_release.tree_onnx import to_onnx
from support.boosters import FEATURES, random_booster


def small_network() -> onnx.ModelProto:
    """[N, 3] times [3, 5], the positive part of it, times [5, 1]."""
    tensors = [
        numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in (("a", (3, 5)), ("b", (5, 1)))
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "a"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("MatMul", ["positive", "b"], ["margin"]),
    ]
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])]
        for name, width in (("features", 3), ("margin", 1))
    ]
    graph = helper.make_graph(nodes, "network", *ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_small_network_costs_what_counting_by_hand_gives() -> None:
    cost = cost_of(small_network(), 7)
    assert cost.flop_fp32 == 2 * 7 * (3 * 5 + 5 * 1)
    assert cost.flop_fp16 == 0
    assert cost.elementwise == 7 * 5
    assert cost.bytes_fused == 4 * (15 + 5 + 7 * 3 + 7 * 1)
    first, relu, second = (7 * 3 + 15 + 7 * 5), (7 * 5 + 7 * 5), (7 * 5 + 5 + 7 * 1)
    assert cost.bytes_by_operator == 4 * (first + relu + second)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_trees_cost_two_operations_for_each_entry_of_their_matrices_and_row(half: bool) -> None:
    plain = plain_form(to_onnx(random_booster(1, num_leaves=15, trees=20), FEATURES), half=half)
    (_, path), (_, digits) = products(plain)
    cost = cost_of(plain, 64)
    counted = {"path": 2 * 64 * int(np.prod(path)), "digits": 2 * 64 * int(np.prod(digits))}
    assert cost.flop_fp32 + cost.flop_fp16 == sum(counted.values())
    assert cost.flop_fp16 == (counted["path"] if half else 0)
    assert cost_of(plain, 128).flop_fp32 == 2 * cost.flop_fp32
    assert cost.bytes_fused < cost.bytes_by_operator


def test_the_floor_is_the_time_at_the_gpus_limits() -> None:
    cost = cost_of(small_network(), 1_000_000)
    floor = cost.floor_us(Peak(fp32=1.0, fp16=2.0, memory=100.0))
    assert floor["compute"] == pytest.approx((40 + 5) * 1e6 / 1e12 * 1e6)
    assert floor["memory_fused"] == pytest.approx(cost.bytes_fused / 100e9 * 1e6)
    assert floor["memory_by_operator"] == pytest.approx(cost.bytes_by_operator / 100e9 * 1e6)


def test_a_gpu_is_found_by_the_longest_part_of_its_name() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3") is PEAKS["H100"]
    assert peak_of("NVIDIA H100 PCIe") is PEAKS["H100 PCIe"]
    assert peak_of("NVIDIA L40S") is PEAKS["L40S"]
    assert peak_of("NVIDIA L4") is PEAKS["L4"]
    assert peak_of("Main Memory 1") is None
