"""A small neural network in whole numbers: every order of summation, batch and device gives the same bits.

A sum of binary32 depends on its order, and a product of matrices chooses that by the batch. So nothing is rounded here:
- a feature becomes a whole number 0..127: how many of its thresholds lie above it. Thresholds are evenly spaced in
  log-scaled values, and a comparison is exact everywhere;
- weights are whole numbers within ±1023, and what a unit adds up stays below 2^24 whatever its inputs are: exact in
  binary32 in any order, and also where a device multiplies in TF32;
- a hidden value is its sum over a power of two, rounded down, from 0 to 1023 (rectified, and never beyond what the
  training rows reached).
The network is trained in floating point on those numbers, and rounded after (Jacob et al., "Quantization and Training
of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, without its training).
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from fraud_release.errors import ReleaseRefused
from fraud_release.learning import Labels
from fraud_scoring.features import Float32, Float64
from fraud_scoring.windows import Int64

LEVELS: Final = 127
"""Thresholds of a feature."""
LARGEST: Final = 1023
"""Of a weight and of a hidden value: eleven bits hold it, as TF32 and FP16 have."""
EXACT: Final = 1 << 24
"""Whole numbers up to this are exact in binary32."""
_HIDDEN: Final = (32, 16)
_EPOCHS: Final = 12
_TINY: Final = np.float32(1e-35)
"""No threshold is nearer to 0: a device that reads tiny numbers as 0 compares alike."""
_ROWS_A_TIME: Final = 65_536


@dataclass(frozen=True)
class Layer:
    """weights [I, O] and bias [O] in whole numbers; what is added up goes on over 2^shift [O], rounded down."""

    weights: Int64
    bias: Int64
    shift: Int64

    def sums(self, inputs: Int64) -> Int64:
        out: Int64 = inputs @ self.weights + self.bias
        return out

    def outputs(self, inputs: Int64) -> Int64:
        """A hidden layer's values, 0..LARGEST."""
        return np.clip(self.sums(inputs) >> self.shift, 0, LARGEST)

    def bound(self, largest_input: int) -> int:
        """No sum is larger in size, nor a part of one, for inputs 0..largest_input."""
        return int((np.abs(self.weights).sum(axis=0) * largest_input + np.abs(self.bias)).max())


@dataclass(frozen=True)
class Network:
    """thresholds FP32 [F, LEVELS], rising; hidden layers; and one output, whose sum over 2^shift is the margin."""

    thresholds: Float32
    hidden: tuple[Layer, ...]
    output: Layer

    def __post_init__(self) -> None:
        largest = LEVELS
        for layer in (*self.hidden, self.output):
            if layer.bound(largest) >= EXACT:
                raise ReleaseRefused("network: a sum may leave the whole numbers that binary32 holds; train it again")
            largest = LARGEST

    def margin(self, features: Float32) -> Float32:
        """Log odds FP32 [N] of features FP32 [N, F], by integers of 64 bits."""
        starts = range(0, max(len(features), 1), _ROWS_A_TIME)
        return np.concatenate([self._margin(features[start : start + _ROWS_A_TIME]) for start in starts])

    def _margin(self, features: Float32) -> Float32:
        values = codes(features, self.thresholds)
        for layer in self.hidden:
            values = layer.outputs(values)
        whole = self.output.sums(values)[:, 0].astype(np.float64)
        return np.ldexp(whole, -int(self.output.shift[0])).astype(np.float32)

    def to_json(self) -> str:
        layers = [
            {"weights": layer.weights.tolist(), "bias": layer.bias.tolist(), "shift": layer.shift.tolist()}
            for layer in (*self.hidden, self.output)
        ]
        return json.dumps({"thresholds": self.thresholds.astype(np.float64).tolist(), "layers": layers}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Network:
        """The network that `to_json` wrote; ValueError, KeyError or TypeError for anything else."""
        found = json.loads(text)
        layers = [
            Layer(*(np.array(layer[name], np.int64) for name in ("weights", "bias", "shift")))
            for layer in found["layers"]
        ]
        return cls(np.array(found["thresholds"], np.float32), tuple(layers[:-1]), layers[-1])


def codes(features: Float32, thresholds: Float32) -> Int64:
    """[N, F]: how many thresholds lie above each value; 0 for what is no number, as a comparison says."""
    out = np.empty(features.shape, np.int64)
    for place, limits in enumerate(thresholds):
        out[:, place] = len(limits) - np.searchsorted(limits, features[:, place], side="right")
    return out


def fit_network(features: Float32, is_fraud: Labels, seed: int) -> Network:
    """Two hidden layers; the same data, seed and libraries give the same network."""
    thresholds = _thresholds(features)
    coded = codes(features, thresholds)
    mean, spread = coded.mean(axis=0), np.maximum(coded.std(axis=0), 1e-6)
    network = MLPClassifier(_HIDDEN, alpha=1e-3, batch_size=512, max_iter=_EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after _EPOCHS on purpose
        network.fit(((coded - mean) / spread).astype(np.float32), is_fraud)
    weights = [np.asarray(one, np.float64) for one in network.coefs_]
    bias = [np.asarray(one, np.float64) for one in network.intercepts_]
    bias[0] = bias[0] - (mean / spread) @ weights[0]
    weights[0] = weights[0] / spread[:, None]
    hidden: list[Layer] = []
    values, largest = coded, LEVELS
    for number in range(len(_HIDDEN)):
        layer, worth = _hidden_layer(weights[number], bias[number], values, largest)
        weights[number + 1] = weights[number + 1] / worth[:, None]
        hidden.append(layer)
        values, largest = layer.outputs(values), LARGEST
    return Network(thresholds, tuple(hidden), _output_layer(weights[-1], bias[-1], largest))


def _thresholds(features: Float32) -> Float32:
    """[F, LEVELS]: evenly spaced between the least and the largest log-scaled value, ends left out."""
    scaled = np.sign(features) * np.log1p(np.abs(features.astype(np.float64)))
    places = np.linspace(scaled.min(axis=0), scaled.max(axis=0), LEVELS + 2, axis=1)[:, 1:-1]
    found = (np.sign(places) * np.expm1(np.abs(places))).astype(np.float32)
    rising: Float32 = np.sort(np.where(np.abs(found) < _TINY, _TINY, found), axis=1)
    return rising


def _hidden_layer(weights: Float64, bias: Float64, inputs: Int64, largest_input: int) -> tuple[Layer, Float64]:
    """(the layer in whole numbers, what one of each unit's outputs is worth for one of its float value)."""
    scale = _scale(weights, bias, largest_input)
    whole, added = _rounded(weights, bias, scale)
    reached = (inputs @ whole + added).max(axis=0, initial=1)
    shift = np.maximum(np.ceil(np.log2(np.maximum(reached, 1) / LARGEST)), 0).astype(np.int64)
    to_nearest = np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)
    return Layer(whole, added + to_nearest, shift), np.ldexp(scale, -shift)


def _output_layer(weights: Float64, bias: Float64, largest_input: int) -> Layer:
    """The one output: its scale is a power of two, so that the margin is exact."""
    shift = np.floor(np.log2(_scale(weights, bias, largest_input))).astype(np.int64)
    return Layer(*_rounded(weights, bias, np.ldexp(1.0, shift)), shift)


def _rounded(weights: Float64, bias: Float64, scale: Float64) -> tuple[Int64, Int64]:
    return np.rint(weights * scale).astype(np.int64), np.rint(bias * scale).astype(np.int64)


def _scale(weights: Float64, bias: Float64, largest_input: int) -> Float64:
    """[O]: the largest scale that keeps a unit's weights within ±LARGEST and its sums within half of EXACT."""
    size = np.abs(weights)
    by_weight = LARGEST / np.maximum(size.max(axis=0), 1e-12)
    by_sum = (EXACT / 2) / np.maximum(size.sum(axis=0) * largest_input + np.abs(bias), 1e-12)
    found: Float64 = np.clip(np.minimum(by_weight, by_sum), 2.0**-20, 2.0**20)
    return found
