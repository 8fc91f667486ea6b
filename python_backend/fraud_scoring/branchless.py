"""Boosted trees without branches: ONNX Runtime's answer, bit for bit, in a tenth of its time.

A walk down a tree branches at every split, and a processor that foretells a branch wrongly throws away what it began:
of 300 trees with 15 leaves that is most of the price. Here no split is left out, and nothing is foretold. As in
V-QuickScorer (Lucchese et al., "Exploiting CPU SIMD Extensions to Speed-up Document Scoring with Tree Ensembles", SIGIR
2016) a tree is a bit for each leaf, from left to right. Where a row goes right, the leaves to the left of that split
fall away; the first leaf that no split takes away is the row's. LANES rows go through the splits together, which the
compiler makes vector instructions of.

The bits are the same: splits are those of `trees.above`, and leaves are added in binary64, in the trees' order, and
rounded once. `of_graph` does not take that on trust.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.features import Float32, Float64
from fraud_scoring.trees import OPERATOR, Tree, above, attributes_of, read_trees
from fraud_scoring.windows import Int64, jit

LANES: Final = 32
MOST_LEAVES: Final = 32
"""A tree's bits."""
PROBES: Final = 2048
_ALL: Final = np.uint32(2**32 - 1)
_DE_BRUIJN: Final = np.uint32(0x077CB531)
_REST: Final = np.uint32(27)
_PLACES: Final = np.argsort([(int(_DE_BRUIJN) << place) % 2**32 >> 27 for place in range(32)])
"""Where a word has its only bit, by the first five bits of its product with a de Bruijn sequence (Leiserson, Prokop,
Randall, "Using de Bruijn Sequences to Index a 1 in a Computer Word", 1998)."""
_LOG = logging.getLogger(__name__)

Uint32 = npt.NDArray[np.uint32]


class BranchlessTrees:
    """Margins FP32 [N, 1] for features FP32 [N, F]: the sum of `trees`, for any number of threads.

    InvalidDefinition where a tree has more than MOST_LEAVES leaves.
    """

    def __init__(self, trees: Sequence[Tree], columns: int) -> None:
        spread = [_Spread(tree) for tree in trees]
        self._columns = columns
        self.column = np.array([column for tree in spread for column in tree.column], np.uint16)
        self.limit = above(np.array([limit for tree in spread for limit in tree.threshold], np.float64))
        self._kept = np.array([kept for tree in spread for kept in tree.kept], np.uint32)
        self._leaf = np.array([leaf for tree in spread for leaf in tree.leaf], np.float64)
        self._splits = np.cumsum([0, *(len(tree.column) for tree in spread)])
        self._leaves = np.cumsum([0, *(len(tree.leaf) for tree in spread)])

    def __call__(self, features: Float32) -> Float32:
        if features.dtype != np.float32 or features.shape[1:] != (self._columns,):
            given = f"{features.dtype} {list(features.shape)}"
            raise InvalidDefinition(f"the trees take features FP32 [N, {self._columns}], not {given}")
        rows = features if features.flags.carray else np.array(features, order="C")
        margin = np.empty((len(rows), 1), np.float32)
        _add_leaves(rows, self.column, self.limit, self._kept, self._leaf, self._splits, self._leaves, LANES, margin)
        return margin

    def probes(self, seed: int) -> Float32:
        """Rows FP32 [PROBES, F] at the thresholds of the trees, right beside them, and without a value."""
        random = np.random.default_rng(seed)
        rows = np.empty((PROBES, self._columns), np.float32)
        for column in range(self._columns):
            right = np.unique(self.limit[self.column == column])
            left = np.nextafter(right, np.float32(-np.inf))
            rows[:, column] = random.choice(np.concatenate([left, right, np.array([0, np.nan], np.float32)]), PROBES)
        return rows


class _Spread:
    """A tree's splits (column, threshold, which leaves stay where a row goes right); its leaves from left to right."""

    def __init__(self, tree: Tree) -> None:
        if tree.is_leaf.sum() > MOST_LEAVES:
            raise InvalidDefinition(f"a tree has {tree.is_leaf.sum()} leaves; up to {MOST_LEAVES} are bits of a word")
        self.column: list[int] = []
        self.threshold: list[float] = []
        self.kept: list[int] = []
        self.leaf: list[float] = []
        self._add(tree, 0)

    def _add(self, tree: Tree, node: int) -> None:
        if tree.is_leaf[node]:
            self.leaf.append(tree.value[node])
            return
        first = len(self.leaf)
        self._add(tree, tree.left[node])
        self.column.append(tree.feature[node])
        self.threshold.append(tree.value[node])
        self.kept.append(int(_ALL) - (1 << len(self.leaf)) + (1 << first))
        self._add(tree, tree.right[node])


def of_graph(graph: bytes, margin: Callable[[Float32], Float32]) -> BranchlessTrees | None:
    """The trees of a serialised ONNX graph; None where it is no sum of small trees.

    `margin` is the graph in ONNX Runtime: where the trees differ from it in any bit of the probes it is to be used, and
    an error is logged.
    """
    model = onnx.load_model_from_string(graph)
    trees = _only_trees(model)
    if trees is None:
        return None
    try:
        found = BranchlessTrees(read_trees(attributes_of(trees)), _columns(model))
    except InvalidDefinition:
        return None
    probes = found.probes(seed=1)
    if found(probes).tobytes() == margin(probes).tobytes():
        return found
    _LOG.error("the trees answer otherwise without branches than in ONNX Runtime, which is slower and is used")
    return None


def load() -> None:
    """Compile what `BranchlessTrees` runs, or load it, so that no caller waits for it."""
    nowhere = np.zeros(1, np.int64)
    leaf = Tree(nowhere, np.zeros(1), nowhere, nowhere, np.ones(1, np.bool_))
    BranchlessTrees([leaf], 1)(np.zeros((1, 1), np.float32))


def _only_trees(model: onnx.ModelProto) -> onnx.NodeProto | None:
    """The trees of a graph that widens its features, and adds up trees in binary64; None for any other."""
    nodes = list(model.graph.node)
    if len(nodes) != 2 or nodes[0].op_type != "Cast" or (nodes[1].domain, nodes[1].op_type) != OPERATOR:
        return None
    return nodes[1] if attributes_of(nodes[0])["to"] == TensorProto.DOUBLE else None


def _columns(model: onnx.ModelProto) -> int:
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)


@jit
def _add_leaves(
    features: Float32,
    column: npt.NDArray[np.uint16],
    limit: Float32,
    kept: Uint32,
    leaf: Float64,
    splits: Int64,
    leaves: Int64,
    lanes: int,
    margin: Float32,
) -> Any:
    """Margins of `features`: tree t has the splits from splits[t] on, and the leaves from leaves[t] on.

    `lanes` is LANES: of a loop whose length it knows, the compiler writes out each turn and makes no vectors.
    """
    rows, columns = features.shape
    value = np.zeros((columns, lanes), np.float32)
    left_over, total = np.empty(lanes, np.uint32), np.empty(lanes)
    for start in range(0, rows, lanes):
        here = min(lanes, rows - start)
        for c in range(columns):
            for lane in range(here):
                value[c, lane] = features[start + lane, c]
        total[:] = 0.0
        for tree in range(len(splits) - 1):
            left_over[:] = _ALL
            for split in range(splits[tree], splits[tree + 1]):
                c, its_limit, its_kept = column[split], limit[split], kept[split]
                for lane in range(lanes):
                    left_over[lane] &= _ALL if value[c, lane] < its_limit else its_kept
            for lane in range(lanes):
                bits = left_over[lane]
                first = (bits & (~bits + np.uint32(1))) * _DE_BRUIJN
                total[lane] += leaf[leaves[tree] + _PLACES[np.uint32(first) >> _REST]]
        for lane in range(here):
            margin[start + lane, 0] = total[lane]
