"""The three models of a release: what is served has the trained model's bits, alone and in any batch, in both forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest

from fraud_release.errors import ReleaseRefused
from fraud_release.models import MODELS, TREES_SHARE
from fraud_release.network import EXACT, LARGEST, LEVELS, Layer, Network, codes
from fraud_release.plain_onnx import operators, plain_form
from fraud_release.trained import NETWORK_FILE, TREES_FILE, TrainedModel, fit_model
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Margin, in_this_process
from support.boosters import FEATURES, random_features


@cache
def model_of(kind: str) -> TrainedModel:
    features = random_features(1, 4_000)
    is_fraud = (features[:, 0] + features[:, 1] > np.quantile(features[:, 0] + features[:, 1], 0.8)).astype(np.int8)
    return fit_model(kind, features, is_fraud, seed=2, trees=20, progress=lambda share, text: None)


def served(kind: str, change: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda graph: graph) -> Margin:
    return in_this_process(change(model_of(kind).graph(FEATURES)).SerializeToString())


def at_the_network_thresholds(network: Network) -> Float32:
    """Rows that lie on thresholds, and right beside them."""
    on = np.random.default_rng(3).permuted(network.thresholds, axis=1).T
    beside = [np.nextafter(on, np.float32(edge)) for edge in (-np.inf, np.inf)]
    return np.ascontiguousarray(np.concatenate([on, *beside]))


@pytest.mark.parametrize("kind", MODELS)
def test_the_served_graph_gives_the_trained_margin_to_the_bit(kind: str) -> None:
    features, network = random_features(4, 3_000), model_of("mlp").network
    assert network is not None
    for rows in (features, at_the_network_thresholds(network), features * np.float32(1e6)):
        assert served(kind)(rows)[:, 0].tobytes() == model_of(kind).margin(rows).tobytes()


@pytest.mark.parametrize("plain", [False, True], ids=["served", "plain"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_row_gets_the_same_bits_alone_and_in_any_batch(kind: str, plain: bool) -> None:
    margin = served(kind, plain_form) if plain else served(kind)
    features, random = random_features(5, 1_100), np.random.default_rng(6)
    whole = margin(features)
    assert np.concatenate([margin(features[row : row + 1]) for row in range(300)]).tobytes() == whole[:300].tobytes()
    for size in random.integers(2, 1_024, 40):
        chosen = random.integers(0, len(features), size)
        assert margin(features[chosen]).tobytes() == whole[chosen].tobytes()


@pytest.mark.parametrize("kind", MODELS)
def test_the_plain_form_agrees_on_a_hundred_thousand_rows(kind: str) -> None:
    plain = plain_form(model_of(kind).graph(FEATURES))
    assert not {name for name in operators(plain) if "." in name}
    features = random_features(7, 100_000)
    wanted, found = served(kind), served(kind, plain_form)
    for part in np.array_split(features, 50):
        assert wanted(part).tobytes() == found(part).tobytes()


@pytest.mark.parametrize("kind", MODELS)
def test_the_network_has_learned_and_margins_tell_rows_apart(kind: str) -> None:
    features = random_features(8, 2_000)
    margin, total = model_of(kind).margin(features), features[:, 0] + features[:, 1]
    high = total > np.quantile(total, 0.8)
    assert (margin[high] > np.median(margin)).mean() > 0.95
    assert len(np.unique(margin)) > 300


def test_a_blend_is_the_weighted_sum_of_its_parts() -> None:
    features = random_features(9, 500)
    blend = model_of("blend")
    trees, network = (replace(blend, **{part: None}).margin(features) for part in ("network", "trees"))
    wanted = TREES_SHARE * trees.astype(np.float64) + (1 - TREES_SHARE) * network
    assert blend.margin(features) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_written_is_read_again_with_the_same_bits(kind: str) -> None:
    model, features = model_of(kind), random_features(10, 500)
    files = model.files()
    assert set(files) == {"trees": {TREES_FILE}, "mlp": {NETWORK_FILE}, "blend": {TREES_FILE, NETWORK_FILE}}[kind]
    again = TrainedModel.of_files(files)
    assert again is not None
    assert again.margin(features).tobytes() == model.margin(features).tobytes()
    assert TrainedModel.of_files({}) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_feature_that_is_no_finite_number_gets_a_finite_margin_the_same_in_both_forms(value: float) -> None:
    features = random_features(11, 200)
    features[np.arange(200), np.arange(200) % FEATURES] = value
    wanted = served("mlp")(features)
    assert np.isfinite(wanted).all()
    assert served("mlp", plain_form)(features).tobytes() == wanted.tobytes()
    assert model_of("mlp").margin(features).tobytes() == wanted[:, 0].tobytes()


def test_a_code_counts_the_thresholds_above_a_value() -> None:
    limits = np.array([[1, 2, 2, 5]], np.float32)
    values = np.array([[0], [1], [1.5], [2], [5], [np.nan]], np.float32)
    assert codes(values, limits)[:, 0].tolist() == [4, 3, 3, 1, 0, 0]


def test_all_sums_stay_where_binary32_is_exact() -> None:
    network = model_of("mlp").network
    assert network is not None
    largest = LEVELS
    for layer in (*network.hidden, network.output):
        assert layer.bound(largest) < EXACT
        assert np.abs(layer.weights).max() <= LARGEST, "TF32 and FP16 hold it"
        largest = LARGEST
    with pytest.raises(ReleaseRefused, match="a sum may leave the whole numbers"):
        replace(network, output=Layer(network.output.weights * 1_000_000, network.output.bias, network.output.shift))


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="model: 'forest' is none of trees, mlp, blend"):
        fit_model(
            "forest",
            np.zeros((1, 1), np.float32),
            np.zeros(1, np.int8),
            seed=1,
            trees=1,
            progress=lambda share, text: None,
        )
