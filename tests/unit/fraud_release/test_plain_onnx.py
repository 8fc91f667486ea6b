"""The plain form against the served one: the same decisions, whatever the trees and the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

import onnxruntime
from fraud_release.errors import ReleaseRefused
from fraud_release.plain_onnx import operators, plain_form, products
from fraud_release.plain_trees import BASE, above, leaf_digits, tree_matrices
from fraud_release.tree_onnx import to_onnx
from fraud_scoring.features import Float32
from fraud_scoring.trees import attributes_of
from support.boosters import FEATURES, MODELS, at_the_thresholds, random_booster, random_features
from support.engines import blend
from support.rows import SEEDED

TOLERANCE = 1e-5
DOUBLES = st.floats(allow_nan=False, allow_infinity=False, width=64)
SINGLES = st.floats(width=32)


def margins(model: onnx.ModelProto, features: Float32) -> Float32:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(None, {"features": part})[0] for part in np.array_split(features, 1 + len(features) // 2_048)]
    )


@given(DOUBLES, SINGLES)
@SEEDED
def test_a_value_is_below_the_exported_limit_exactly_if_it_is_at_most_the_threshold(
    threshold: float, value: float
) -> None:
    limit = above(np.array([threshold]))[0]
    with np.errstate(over="ignore"):
        right_below = np.nextafter(limit, np.float32(-np.inf))
    for x in (np.float32(value), limit, right_below):
        assert (x < limit) == (np.float64(x) <= threshold)


@given(st.lists(st.floats(-1e6, 1e6, width=64), min_size=1, max_size=50))
@SEEDED
def test_the_digits_are_small_whole_numbers_and_make_up_the_value(values: list[float]) -> None:
    exact = np.array(values)
    digits, scales = leaf_digits(exact)
    assert (np.abs(digits) <= BASE // 2).all()
    assert (digits == np.rint(digits)).all()
    made_up = digits.astype(np.float64).T @ scales.astype(np.float64)
    assert np.abs(made_up - exact).max() <= max(np.abs(exact).max(), 2.0**-40) * 2.0**-53


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_plain_form_gives_the_served_margin_to_the_bit_also_at_the_thresholds(kind: str, half: bool) -> None:
    booster = random_booster(11, **MODELS[kind])
    served = to_onnx(booster, FEATURES)
    features = np.concatenate([random_features(12, 3_000), at_the_thresholds(booster, seed=13)])
    wanted, found = margins(served, features), margins(plain_form(served, half=half), features)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("kind", MODELS)
def test_counting_in_half_precision_and_another_batch_change_no_bit(kind: str) -> None:
    booster = random_booster(14, **MODELS[kind])
    served, features = to_onnx(booster, FEATURES), random_features(15, 700)
    full, half = plain_form(served), plain_form(served, half=True)
    whole = margins(full, features)
    assert margins(half, features).tobytes() == whole.tobytes()
    assert (
        np.concatenate([margins(full, features[row : row + 1]) for row in range(100)]).tobytes()
        == whole[:100].tobytes()
    )


def test_a_hundred_thousand_rows_keep_every_bit() -> None:
    served = to_onnx(random_booster(16, num_leaves=15, trees=400), FEATURES)
    features = random_features(17, 100_000)
    assert margins(plain_form(served), features).tobytes() == margins(served, features).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_feature_that_is_no_finite_number_takes_the_branch_that_it_takes_where_it_is_served(value: float) -> None:
    served, features = to_onnx(random_booster(18, num_leaves=15, trees=30), FEATURES), random_features(19, 300)
    random = np.random.default_rng(20)
    features[np.arange(300), random.integers(0, FEATURES, 300)] = value
    assert margins(plain_form(served), features).tobytes() == margins(served, features).tobytes()


def test_trees_without_a_split_are_exported_too() -> None:
    served = to_onnx(random_booster(21, num_leaves=15, trees=5, min_child_samples=100_000), FEATURES)
    features = random_features(22, 10)
    assert margins(plain_form(served), features).tobytes() == margins(served, features).tobytes()


def test_only_plain_operators_in_single_precision_are_left() -> None:
    plain = plain_form(to_onnx(random_booster(23, num_leaves=15, trees=10), FEATURES))
    assert {entry.domain for entry in plain.opset_import} == {""}
    assert not {name for name in operators(plain) if "." in name}
    types = {tensor.data_type for tensor in plain.graph.initializer}
    assert types == {TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64}
    assert [shape for _, shape in products(plain)] == [(10, 15, 14), (5, 150)]


def test_a_blend_of_trees_and_a_network_is_exported_as_one() -> None:
    served, features = (
        blend(to_onnx(random_booster(24, num_leaves=15, trees=50), FEATURES), FEATURES, seed=25),
        random_features(26, 2_000),
    )
    wanted = margins(served, features)
    assert np.abs(margins(plain_form(served), features) - wanted).max() <= TOLERANCE
    reduced = np.abs(margins(plain_form(served, half=True), features) - wanted).max()
    assert 0 < reduced < 0.02  # a network does lose by half precision, and that is what the accuracy gate is for


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"n_targets": 2}, "n_targets"),
        ({"aggregate_function": b"AVERAGE"}, "AVERAGE"),
        ({"post_transform": b"LOGISTIC"}, "LOGISTIC"),
        ({"nodes_missing_value_tracks_true": [1]}, "missing"),
        ({"base_values": [0.5]}, "base value"),
        ({"nodes_modes": [b"BRANCH_EQ"]}, "BRANCH_EQ"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_matrices_cannot_hold_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    attributes = attributes_of(to_onnx(random_booster(27, num_leaves=3, trees=1), FEATURES).graph.node[1])
    with pytest.raises(ReleaseRefused, match=named):
        tree_matrices({**attributes, **change})


def test_an_operator_that_is_no_plain_one_is_refused_by_name() -> None:
    model = to_onnx(random_booster(28, num_leaves=3, trees=1), FEATURES)
    model.graph.node[1].op_type = "Normalizer"
    with pytest.raises(ReleaseRefused, match="Normalizer"):
        plain_form(model)
