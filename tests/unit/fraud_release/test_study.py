"""A study on a small simulation: what it measures, and that labels without meaning give chance."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_release.evaluation import calibration_error
from fraud_release.protocol import Protocol
from fraud_release.study import Study, kept_columns, run
from fraud_scoring.errors import InvalidInput
from support.rows import DEFAULT_SCHEMA

PROTOCOL = Protocol(first_day=date(2018, 4, 22), folds=1)


@pytest.fixture(scope="module")
def data() -> Transactions:
    """42 days of 400 cards."""
    return simulate(SimulatorSettings(customers=400, terminals=700, days=42, radius=12.0, seed=5))


def study(data: Transactions, model: str, seeds: range = range(1, 2)) -> Study:
    return run(data, DEFAULT_SCHEMA, PROTOCOL, model, seeds, progress=lambda share, text: None)


@pytest.mark.parametrize("model", ["trees", "blend"])
def test_a_model_finds_frauds_and_says_how_many_seeds_agree(data: Transactions, model: str) -> None:
    found = study(data, model, range(1, 3))
    assert found.mean["auc"] > 0.75
    assert {one.seed for one in found.measured} == {1, 2}
    assert found.spread["auc"] > 0


def test_labels_that_are_shuffled_give_chance(data: Transactions) -> None:
    """Nothing of a test reaches its model: AUC is 0.5 within four standard errors (Hanley and McNeil, 1982)."""
    assert data.is_fraud is not None
    shuffled = replace(data, is_fraud=np.random.default_rng(3).permutation(data.is_fraud))
    one = study(shuffled, "trees").measured[0]
    error = np.sqrt((one.transactions + 1) / (12 * one.frauds * (one.transactions - one.frauds)))
    assert abs(one.auc - 0.5) < 4 * error
    assert study(data, "trees").measured[0].auc > 0.5 + 4 * error


def test_the_same_seed_measures_the_same(data: Transactions) -> None:
    assert study(data, "mlp") == study(data, "mlp")


def test_calibration_error_is_the_mean_gap_between_score_and_share_over_bins_of_equal_size() -> None:
    score = np.array([0.1, 0.2, 0.8, 0.9], np.float32)
    assert calibration_error(score, np.array([0, 0, 1, 1], np.int8), bins=2) == pytest.approx(0.15)
    assert calibration_error(score, np.array([0, 1, 0, 1], np.int8), bins=1) == pytest.approx(0.0, abs=1e-7)


def test_a_study_keeps_what_is_drawn_of_it(data: Transactions) -> None:
    found = study(data, "trees")
    assert [len(one.score) for one in found.scored] == [found.measured[0].transactions]
    assert all(0 < one.review_at <= one.decline_at for one in found.scored)
    assert sum(found.gain.values()) == pytest.approx(1.0)
    assert set(found.gain) == set(DEFAULT_SCHEMA.feature_names)


def test_features_can_be_left_out(data: Transactions) -> None:
    names = ("terminal_fraud_rate_30d", "amount")
    found = run(data, DEFAULT_SCHEMA, PROTOCOL, "trees", range(1, 2), progress=lambda share, text: None, without=names)
    assert set(found.gain) == set(DEFAULT_SCHEMA.feature_names) - set(names)
    assert found.without == names
    with pytest.raises(InvalidInput, match="--without colour"):
        kept_columns(DEFAULT_SCHEMA, ["colour"])
    with pytest.raises(InvalidInput, match="no feature is left"):
        kept_columns(DEFAULT_SCHEMA, DEFAULT_SCHEMA.feature_names)
