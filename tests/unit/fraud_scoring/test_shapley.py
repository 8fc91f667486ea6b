"""Exact Shapley values of groups: the axioms to the bit, brute force over all orders, and what it costs the model."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.shapley import MOST_ROWS, Explanation, FeatureGroup, Model, members
from support.rows import SEEDED

SEEDS = st.integers(0, 2**32 - 1)


class Counted:
    """A model that remembers how many rows each call asked for."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls: list[int] = []

    def __call__(self, rows: Float32) -> Float32:
        self.calls.append(len(rows))
        return self.model(rows)


def thresholds(rng: np.random.Generator, features: int) -> Model:
    """A model with steps and interactions, as trees have them: leaves are whole numbers of 2⁻¹⁰."""
    pairs = rng.integers(0, features, (12, 2))
    cuts = rng.normal(size=(12, 2))
    leaves = rng.integers(-1024, 1024, (12, 4)) / 1024

    def model(rows: Float32) -> Float32:
        out = np.zeros(len(rows))
        for pair, cut, leaf in zip(pairs, cuts, leaves, strict=True):
            above = (rows[:, pair] > cut).astype(int)
            out += leaf[2 * above[:, 0] + above[:, 1]]
        return out[:, None].astype(np.float32)

    return model


def explanation(rng: np.random.Generator, model: Model, players: int, features: int, rows: int) -> Explanation:
    owner = rng.permutation(np.concatenate([np.arange(players), rng.integers(0, players, features - players)]))
    groups = tuple(FeatureGroup(f"g{g}", tuple(np.flatnonzero(owner == g).tolist())) for g in range(players))
    background = np.round(rng.normal(size=(rows, features))).astype(np.float32)
    return Explanation(groups, background, model(background)[:, 0])


def drawn(seed: int, players: int | None = None) -> tuple[Explanation, Model, Float32]:
    rng = np.random.default_rng(seed)
    players = players or int(rng.integers(1, 7))
    features = players + int(rng.integers(0, 5))
    model = thresholds(rng, features)
    explained = explanation(rng, model, players, features, int(rng.integers(1, 9)))
    return explained, model, np.round(rng.normal(size=(5, features))).astype(np.float32)


def brute_force(explained: Explanation, model: Model, row: Float32) -> list[Fraction]:
    """The definition: the mean contribution of each group over all orders, each coalition asked alone, in fractions."""
    inside = members(explained.groups, len(row))
    players = len(explained.groups)

    def worth(coalition: int) -> Fraction:
        margins = [model(np.where(inside[coalition], row, other)[None])[0, 0] for other in explained.background]
        return sum((Fraction(float(margin)) for margin in margins), Fraction(0)) / len(margins)

    worths = [worth(coalition) for coalition in range(2**players)]
    total = [Fraction(0)] * players
    for order in permutations(range(players)):
        coalition = 0
        for g in order:
            total[g] += worths[coalition | 1 << g] - worths[coalition]
            coalition |= 1 << g
    return [value / factorial(players) for value in total]


@given(SEEDS, st.integers(1, 5))
@settings(SEEDED, max_examples=25)
def test_the_values_are_the_mean_over_all_orders(seed: int, players: int) -> None:
    explained, model, rows = drawn(seed, players)
    values = explained.values(rows, model(rows), model)
    unit = Fraction(1, 2**24 * len(explained.background) * factorial(players))
    for row, found in zip(rows, values.tolist(), strict=True):
        assert [value * unit for value in found] == brute_force(explained, model, row)


@given(SEEDS)
@settings(SEEDED, max_examples=60)
def test_the_values_add_up_to_the_margin_less_the_base_to_the_last_unit(seed: int) -> None:
    explained, model, rows = drawn(seed)
    margin = model(rows)
    scale = factorial(len(explained.groups))
    own = np.rint(margin[:, 0].astype(np.float64) * 2**24).astype(np.int64) * len(explained.background)
    base = np.rint(explained.margins.astype(np.float64) * 2**24).astype(np.int64).sum()
    assert explained.values(rows, margin, model).sum(axis=1).tolist() == (scale * (own - base)).tolist()


@given(SEEDS)
@settings(SEEDED, max_examples=30)
def test_in_units_of_the_margin_they_add_up_as_floats_do(seed: int) -> None:
    explained, model, rows = drawn(seed)
    margin = model(rows)
    found = explained.contributions(rows, margin, model)
    assert found.sum(axis=1) == pytest.approx(margin[:, 0].astype(np.float64) - explained.base, abs=1e-12)


@given(SEEDS, st.integers(1, 6))
@settings(SEEDED, max_examples=40)
def test_a_group_that_the_model_does_not_look_at_has_exactly_nothing(seed: int, players: int) -> None:
    rng = np.random.default_rng(seed)
    plain = thresholds(rng, players)

    def model(rows: Float32) -> Float32:
        seen = rows.copy()
        seen[:, 0] = 0
        return plain(seen)

    explained = explanation(rng, model, players, players, 4)
    dummy = next(g for g, group in enumerate(explained.groups) if 0 in group.features)
    rows = rng.normal(size=(6, players)).astype(np.float32)
    assert not explained.values(rows, model(rows), model)[:, dummy].any()


@given(SEEDS, st.integers(2, 6))
@settings(SEEDED, max_examples=40)
def test_groups_that_do_the_same_have_the_same(seed: int, players: int) -> None:
    rng = np.random.default_rng(seed)
    plain = thresholds(rng, players)

    def model(rows: Float32) -> Float32:
        """The first two features count by their product alone."""
        seen = rows.copy()
        seen[:, 0] = seen[:, 1] = rows[:, 0] * rows[:, 1]
        return plain(seen)

    background = rng.normal(size=(4, players)).astype(np.float32)
    background[:, 1] = background[:, 0]
    groups = tuple(FeatureGroup(f"g{g}", (g,)) for g in range(players))
    explained = Explanation(groups, background, model(background)[:, 0])
    rows = rng.normal(size=(6, players)).astype(np.float32)
    rows[:, 1] = rows[:, 0]
    values = explained.values(rows, model(rows), model)
    assert values[:, 0].tolist() == values[:, 1].tolist()


@given(SEEDS)
@settings(SEEDED, max_examples=40)
def test_a_row_has_the_same_values_alone_and_in_a_batch(seed: int) -> None:
    explained, model, rows = drawn(seed)
    together = explained.values(rows, model(rows), model)
    alone = [explained.values(row[None], model(row[None]), model)[0].tolist() for row in rows]
    assert together.tolist() == alone


def test_one_call_of_the_model_explains_a_whole_batch() -> None:
    rng = np.random.default_rng(3)
    model = thresholds(rng, 17)
    explained = explanation(rng, model, 4, 17, 8)
    rows = rng.normal(size=(36, 17)).astype(np.float32)
    counted = Counted(model)
    explained.values(rows, model(rows), counted)
    assert counted.calls == [36 * 8 * (2**4 - 2)]


@pytest.mark.parametrize(("players", "background"), [(4, 8), (4, 16), (6, 8), (6, 64), (1, 8), (2, 64)])
def test_no_call_is_larger_than_a_model_takes(players: int, background: int) -> None:
    rng = np.random.default_rng(4)
    model = thresholds(rng, 7)
    explained = explanation(rng, model, players, 7, background)
    rows = rng.normal(size=(100, 7)).astype(np.float32)
    counted = Counted(model)
    values = explained.values(rows, model(rows), counted)
    assert sum(counted.calls) == 100 * background * (2**players - 2)
    assert max(counted.calls, default=0) <= MOST_ROWS
    assert values[99].tolist() == explained.values(rows[99:], model(rows[99:]), model)[0].tolist()


def test_what_is_the_same_in_row_and_background_is_not_asked_for() -> None:
    rng = np.random.default_rng(5)
    model = thresholds(rng, 4)
    explained = explanation(rng, model, 4, 4, 1)
    rows = explained.background + np.float32(1)
    shared = list(explained.groups[2].features)
    rows[:, shared] = explained.background[:, shared]
    counted = Counted(model)
    values = explained.values(rows, model(rows), counted)
    assert counted.calls == [2**3 - 2]
    assert values[0, 2] == 0


def test_a_row_of_the_background_is_explained_without_the_model() -> None:
    rng = np.random.default_rng(6)
    model = thresholds(rng, 4)
    explained = explanation(rng, model, 4, 4, 1)
    counted = Counted(model)
    assert not explained.values(explained.background, explained.margins[:, None], counted).any()
    assert counted.calls == []


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e6])
def test_a_margin_that_cannot_be_explained_is_refused_wherever_it_comes_from(wrong: float) -> None:
    explained, model, rows = drawn(1, 4)
    with pytest.raises(ReleaseUnavailable, match=r"gave a margin that is no number, or beyond"):
        explained.values(rows, np.full((len(rows), 1), wrong, np.float32), model)
    with pytest.raises(ReleaseUnavailable, match=r"gave a margin that is no number, or beyond"):
        explained.values(rows, model(rows), lambda mixed: np.full((len(mixed), 1), wrong, np.float32))


def test_a_model_that_answers_other_rows_is_refused() -> None:
    explained, model, rows = drawn(1, 4)
    with pytest.raises(ReleaseUnavailable, match="did not give one margin for each row"):
        explained.values(rows, model(rows), lambda mixed: np.zeros((len(mixed) - 1, 1), np.float32))


def test_the_largest_margins_do_not_overflow() -> None:
    groups = tuple(FeatureGroup(f"g{g}", (g,)) for g in range(6))
    background = np.zeros((64, 6), np.float32)
    explained = Explanation(groups, background, np.full(64, -(2.0**16), np.float32))
    rows = np.ones((1, 6), np.float32)

    def model(mixed: Float32) -> Float32:
        return np.where(mixed[:, :1] > 0, np.float32(2.0**16), np.float32(-(2.0**16)))

    assert explained.contributions(rows, model(rows), model).tolist() == [[2.0**17, 0, 0, 0, 0, 0]]


@given(SEEDS)
@settings(SEEDED, max_examples=30)
def test_as_text_it_keeps_every_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    written = Explanation(
        (FeatureGroup("a", (2, 0)), FeatureGroup("b", (1,))),
        rng.normal(size=(3, 3)).astype(np.float32),
        rng.normal(size=3).astype(np.float32),
    )
    read = Explanation.read(json.loads(json.dumps(written.document())))
    assert read.groups == written.groups
    assert read.background.tobytes() == written.background.tobytes()
    assert read.margins.tobytes() == written.margins.tobytes()


ONE = (FeatureGroup("all", (0, 1)),)
TWO_ROWS = np.zeros((2, 2), np.float32)


@pytest.mark.parametrize(
    ("groups", "background", "margins", "message"),
    [
        ((), TWO_ROWS, [0, 0], "0 groups of features; exact Shapley values take 1 to 6"),
        (tuple(FeatureGroup(str(g), (g,)) for g in range(7)), np.zeros((1, 7), np.float32), [0], "7 groups"),
        (ONE, TWO_ROWS[:0], [], "the background must be 1 to 64 rows"),
        (ONE, np.zeros((65, 2), np.float32), [0] * 65, "the background must be 1 to 64 rows"),
        ((FeatureGroup("a", (0,)),), TWO_ROWS, [0, 0], "every feature must be in exactly one group"),
        ((*ONE, FeatureGroup("b", (1,))), TWO_ROWS, [0, 0], "every feature must be in exactly one group"),
        (ONE, TWO_ROWS, [0], "each background row needs a finite margin"),
        (ONE, TWO_ROWS, [0, np.nan], "each background row needs a finite margin"),
    ],
)
def test_what_cannot_explain_is_refused(groups, background, margins, message: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"^explanation: .*{message}"):
        Explanation(groups, background, np.array(margins, np.float32))
