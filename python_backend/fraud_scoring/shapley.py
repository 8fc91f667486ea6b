"""Exact Shapley values of groups of features: how much each group moved a row's margin away from the usual one.

The game of one row x: v(S) is the mean, over a pinned background of genuine payments b, of the model's margin for the
row that has the features of the groups in S from x and all others from b. A group's value is its mean contribution
v(S + g) − v(S) over all orders in which the groups can join (Shapley, "A value for n-person games", 1953). That the
others come from the background whatever x is, and not from what is likely beside x, is the interventional game: it asks
the model, and not the data, what matters (Janzing, Minorics, Blöbaum, "Feature relevance quantification in explainable
AI: a causal problem", 2020).

Guarantee: the values add up to margin − base exactly, a group that changes nothing has 0 exactly, and a row has the
same values alone and in any batch, whatever the model's batch: margins become whole numbers of 2⁻²⁴ (exact from ±0.5
on, within 2⁻²⁵ below), and weights are whole numbers of 1/G!, so that every sum is of integers.

Cost: at most B·(2^G − 2) rows of the model for each explained row; the empty and the full coalition are known, and a
group that is the same in the row and the background row is left out of that pair. Calls hold up to MOST_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.features import Float32, Float64
from fraud_scoring.windows import Int64

Model = Callable[[Float32], Float32]
"""A release's model: margins FP32 [M, 1] for features FP32 [M, F], M up to MOST_ROWS; raises ReleaseUnavailable."""

MOST_GROUPS: Final = 6
MOST_BACKGROUND: Final = 64
MOST_ROWS: Final = 4096
"""Rows of one call: a release's model takes no more (`max_batch_size`)."""
_UNITS: Final = 2**24
_LARGEST_MARGIN: Final = 2.0**16
"""Margins up to here cannot overflow 64 bits: 2¹⁶ · 2²⁴ · 64 background rows · 6! · 2 is below 2⁵⁷."""


@dataclass(frozen=True)
class FeatureGroup:
    """What counts as one player: a name for people, and the positions of its features."""

    name: str
    features: tuple[int, ...]


@dataclass(frozen=True)
class Explanation:
    """What a release carries to explain a margin: groups, background FP32 [B, F], the model's margins FP32 [B] of it.

    InvalidDefinition unless every feature is in exactly one of at most MOST_GROUPS groups.
    """

    groups: tuple[FeatureGroup, ...]
    background: Float32
    margins: Float32

    def __post_init__(self) -> None:
        if not 1 <= len(self.groups) <= MOST_GROUPS:
            raise InvalidDefinition(
                f"explanation: {len(self.groups)} groups of features; exact Shapley values take 1 to {MOST_GROUPS}"
            )
        if self.background.ndim != 2 or not 1 <= len(self.background) <= MOST_BACKGROUND:
            raise InvalidDefinition(f"explanation: the background must be 1 to {MOST_BACKGROUND} rows of features")
        if sorted(i for group in self.groups for i in group.features) != list(range(self.background.shape[1])):
            raise InvalidDefinition("explanation: every feature must be in exactly one group")
        if self.margins.shape != (len(self.background),) or not _usable(self.margins):
            raise InvalidDefinition("explanation: each background row needs a finite margin")

    @property
    def base(self) -> float:
        """The background's mean margin: what a margin is before anything is known of the payment."""
        return float(_whole(self.margins).sum()) / (_UNITS * len(self.margins))

    @property
    def unit(self) -> float:
        """What one whole number of `values` is worth, in units of the margin."""
        return 1.0 / (_UNITS * len(self.background) * factorial(len(self.groups)))

    def contributions(self, features: Float32, margin: Float32, model: Model) -> Float64:
        """Shapley values [N, G] in units of the margin; they add up to margin − base."""
        return self.values(features, margin, model) * self.unit

    def values(self, features: Float32, margin: Float32, model: Model) -> Int64:
        """Shapley values int64 [N, G] in whole `unit`s, for features FP32 [N, F] and their margin FP32 [N, 1].

        ReleaseUnavailable where the model does not answer, or answers what is no number.
        """
        out = np.empty((len(features), len(self.groups)), np.int64)
        for part in self.parts(len(features)):
            out[part] = self._worth(features[part], _checked(margin[part]), model) @ self._weights.T
        return out

    def parts(self, rows: int) -> list[slice]:
        """So many rows as parts that one call of the model explains."""
        together = max(1, MOST_ROWS // max(1, len(self.background) * (2 ** len(self.groups) - 2)))
        return [slice(start, start + together) for start in range(0, rows, together)]

    def _worth(self, features: Float32, margin: Int64, model: Model) -> Int64:
        """v(S) int64 [N, 2^G], summed over the background, with ONE call of the model; bit g of S says that g is in."""
        coalitions = np.arange(2 ** len(self.groups))
        differ = self._differing(features)[:, :, None]
        inside = coalitions & differ  # the coalition that gives the same row with the fewest groups
        asked = (inside == coalitions) & (coalitions != 0) & (coalitions != differ)
        row, other, coalition = np.nonzero(asked)
        worth = np.zeros(asked.shape, np.int64)
        worth[:, :, 0] = _whole(self.margins)
        np.put_along_axis(worth, differ, margin[:, :, None], axis=2)
        if len(row):
            mixed = np.where(self._members[coalition], features[row], self.background[other])
            worth[row, other, coalition] = _checked(model(mixed), len(mixed))[:, 0]
        found: Int64 = np.take_along_axis(worth, inside, axis=2).sum(axis=1)
        return found

    def _differing(self, features: Float32) -> Int64:
        """For each row and background row, the coalition [N, B] of the groups in which they are not the same."""
        other = features[:, None, :] != self.background
        return sum(
            (
                other[:, :, list(group.features)].any(axis=2).astype(np.int64) << g
                for g, group in enumerate(self.groups)
            ),
            start=np.zeros(other.shape[:2], np.int64),
        )

    @cached_property
    def _members(self) -> npt.NDArray[np.bool_]:
        return members(self.groups, self.background.shape[1])

    @cached_property
    def _weights(self) -> Int64:
        return coalition_weights(len(self.groups))

    def document(self) -> dict[str, Any]:
        """As JSON can write it; floats keep every bit."""
        return {
            "groups": [{"name": group.name, "features": list(group.features)} for group in self.groups],
            "background": self.background.astype(np.float64).tolist(),
            "margins": self.margins.astype(np.float64).tolist(),
        }

    @classmethod
    def read(cls, document: dict[str, Any]) -> Explanation:
        """What `document` wrote."""
        return cls(
            groups=tuple(FeatureGroup(group["name"], tuple(group["features"])) for group in document["groups"]),
            background=np.array(document["background"], np.float32),
            margins=np.array(document["margins"], np.float32),
        )


def members(groups: tuple[FeatureGroup, ...], features: int) -> npt.NDArray[np.bool_]:
    """bool [2^G, F]: whether a coalition holds the feature's group; bit g of a coalition says that group g is in."""
    group_of = np.empty(features, np.int64)
    for g, group in enumerate(groups):
        group_of[list(group.features)] = g
    return (np.arange(2 ** len(groups))[:, None] >> group_of & 1).astype(np.bool_)


def coalition_weights(players: int) -> Int64:
    """int64 [G, 2^G]: what v(S) counts in a player's value, in 1/G!."""
    weights = np.empty((players, 2**players), np.int64)
    for coalition in range(2**players):
        size = coalition.bit_count()
        joined = factorial(size - 1) * factorial(players - size) if size else 0
        missing = factorial(size) * factorial(players - size - 1) if size < players else 0
        for g in range(players):
            weights[g, coalition] = joined if coalition >> g & 1 else -missing
    return weights


def _usable(margin: Float32) -> bool:
    return bool((np.abs(margin) <= _LARGEST_MARGIN).all())  # a NaN is not


def _whole(margin: Float32) -> Int64:
    """Margins as whole numbers of 2⁻²⁴."""
    whole: Int64 = np.rint(margin.astype(np.float64) * _UNITS).astype(np.int64)
    return whole


def _checked(margin: Float32, rows: int | None = None) -> Int64:
    """The same, for what a model answered to `rows` rows."""
    if margin.shape != (len(margin) if rows is None else rows, 1):
        raise ReleaseUnavailable("the release's model did not give one margin for each row; nothing was decided")
    if not _usable(margin):
        raise ReleaseUnavailable(
            "the release's model gave a margin that is no number, or beyond ±2^16, to explain; nothing was decided"
        )
    return _whole(margin)
