"""Boosted trees as matrices of small integers, so that plain tensor operations give the trees' own answer exactly.

The GEMM strategy of Hummingbird (Nakandala et al., "A Tensor Compiler for Unified Machine Learning Prediction Serving",
OSDI 2020), one tree to a slice. With T trees of at most S splits and L leaves, a row x goes

    gather       x[feature]            [T, S]   no product: the values stay what they are
    compare      x[feature] < above    [T, S]   1 where the row goes left
    path matrix  path @ compared       [T, L]   (left turns taken − right turns not taken) on the way to each leaf
    compare      … > reached − ½       [T, L]   1 for the one leaf whose way agrees at every split
    leaves       digits @ that         [D]      a sum of integers for each digit of the leaves' values

Exact in binary32, whatever the order of addition, and also where a device multiplies in TF32 or FP16:
- a split x ≤ t with t in binary64 and x in binary32 is x < above, where above is the least binary32 greater than t;
- the path matrix holds −1, 0, 1 and a sum counts turns: no more than the depth;
- a leaf's value is five digits of base 2048, each a whole number in −1024..1024, and sums stay below 2^24.
The digits' sums are then put together with what each addition loses (`plain_onnx`), and rounded to binary32 once: the
trees that are served add in binary64 and round once, so that both have the same bits, but for one row in millions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fraud_release.errors import ReleaseRefused
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import Float32, Float64
from fraud_scoring.trees import Tree, above, read_trees
from fraud_scoring.windows import Int64

DIGITS: Final = 5
BASE: Final = 2048
MOST_TREES: Final = (1 << 24) // (BASE // 2)
"""So many leaves' digits add up exactly in binary32."""
MOST_DEPTH: Final = 1024
"""A path matrix's sums stay exact in FP16."""
LEAST_EXPONENT: Final = -40
"""Keeps what one of the lowest digit is worth far above the least binary32."""
_NEVER: Final = 4096.0
"""More turns than any path has: what fills up a tree with fewer leaves than others is never reached."""


@dataclass(frozen=True)
class TreeMatrices:
    """T trees, filled up to S splits and L leaves each."""

    feature: Int64
    """[T, S]: the column that a split looks at."""
    above: Float32
    """[T, S]: a row goes left if its value is below this."""
    path: Float32
    """[T, L, S]: 1 where the leaf lies left of the split, −1 where right, else 0."""
    reached: Float32
    """[T, L]: left turns on the way to the leaf, less a half."""
    digits: Float32
    """[D, T·L]: digits of the leaves' values, highest first."""
    scales: Float32
    """[D]: what one of each digit is worth, powers of two."""


def tree_matrices(attributes: Mapping[str, Any]) -> TreeMatrices:
    """The matrices of a TreeEnsembleRegressor's attributes; ReleaseRefused for what they cannot hold."""
    try:
        trees = read_trees(attributes)
    except InvalidDefinition as wrong:
        raise ReleaseRefused(f"plain form: {wrong}") from None
    if len(trees) > MOST_TREES:
        raise ReleaseRefused(f"plain form: {len(trees)} trees; sums stay exact up to {MOST_TREES}: train fewer")
    splits = max(1, *(int((~tree.is_leaf).sum()) for tree in trees))
    leaves = max(int(tree.is_leaf.sum()) for tree in trees)
    feature = np.zeros((len(trees), splits), np.int64)
    limit = np.full((len(trees), splits), -np.inf, np.float32)
    path = np.zeros((len(trees), leaves, splits), np.float32)
    reached = np.full((len(trees), leaves), _NEVER, np.float32)
    values = np.zeros((len(trees), leaves), np.float64)
    for number, tree in enumerate(trees):
        inner = np.flatnonzero(~tree.is_leaf)
        feature[number, : len(inner)] = tree.feature[inner]
        limit[number, : len(inner)] = above(tree.value[inner])
        for place, (leaf, turns) in enumerate(_ways(tree)):
            for split, turn in turns:
                path[number, place, np.searchsorted(inner, split)] = turn
            reached[number, place] = sum(turn for _, turn in turns if turn > 0) - 0.5
            values[number, place] = tree.value[leaf]
    digits, scales = leaf_digits(values.reshape(-1))
    return TreeMatrices(feature, limit, path, reached, digits, scales)


def leaf_digits(values: Float64) -> tuple[Float32, Float32]:
    """(digits FP32 [D, n], scales FP32 [D]): Σ scales·digits is each value.

    To within 2^−54 of the largest, or 2^−94 where all are tiny.
    """
    if not np.isfinite(values).all():
        raise ReleaseRefused("plain form: a leaf's value is no number; train again")
    largest = float(np.abs(values).max(initial=0.0))
    exponent = max(int(np.frexp(largest)[1]), LEAST_EXPONENT)  # largest < 2^exponent
    bits = 11 * DIGITS - 1
    rest = np.rint(np.ldexp(values, bits - exponent)).astype(np.int64)
    digits = np.empty((DIGITS, len(values)), np.float32)
    for place in reversed(range(1, DIGITS)):
        digit = (rest + BASE // 2) % BASE - BASE // 2
        digits[place] = digit
        rest = (rest - digit) // BASE
    digits[0] = rest
    powers = exponent - bits + 11 * np.arange(DIGITS - 1, -1, -1)
    return digits, np.ldexp(np.float32(1), powers).astype(np.float32)


def _ways(tree: Tree) -> list[tuple[int, list[tuple[int, int]]]]:
    """Each leaf's place and its way: (split's place, 1 for left or −1 for right) from the root."""
    out = []
    waiting: list[tuple[int, list[tuple[int, int]]]] = [(0, [])]
    while waiting:
        node, turns = waiting.pop()
        if len(turns) > MOST_DEPTH:
            raise ReleaseRefused(f"plain form: a tree is deeper than {MOST_DEPTH}; train with fewer leaves")
        if tree.is_leaf[node]:
            out.append((node, turns))
        else:
            waiting.append((int(tree.right[node]), [*turns, (node, -1)]))
            waiting.append((int(tree.left[node]), [*turns, (node, 1)]))
    return out
