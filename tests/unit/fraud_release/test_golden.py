"""Golden vectors: worth sending, allowed by the schema, and always the same."""

from __future__ import annotations

import io

import numpy as np
import pytest

from fraud_release.golden import ROWS, golden_file, golden_transactions
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import Schema
from fraud_scoring.validation import RowRules
from support.rows import DEFAULT_SCHEMA, MONDAY_US, default_document, schema_with

BOUNDED = schema_with(
    columns=[
        {"name": "transaction_id", "role": "id", "minimum": 0, "maximum": 2**40},
        {"name": "event_time_us", "role": "time"},
        {"name": "customer_key", "role": "entity", "minimum": 1, "maximum": 999},
        {"name": "terminal_key", "role": "entity", "minimum": -5, "maximum": 5},
        {"name": "amount_minor", "role": "amount", "minimum": 100, "maximum": 5_000, "minor_units": 100},
        {"name": "merchant_code", "role": "category", "minimum": 1_000, "maximum": 9_999},
        {"name": "entry_mode", "role": "category", "minimum": -9, "maximum": -3},
        {"name": "anything", "role": "category"},
    ],
    features=default_document()["features"],
)


@pytest.mark.parametrize("schema", [DEFAULT_SCHEMA, BOUNDED], ids=["default", "bounded"])
def test_the_front_door_would_take_them(schema: Schema) -> None:
    for seed in range(20):
        rows = golden_transactions(schema, seed)
        rules = RowRules(schema)
        rules.check_shape(rows)
        rules.check_repeats(rows)
        assert not rules.broken(rows, MONDAY_US).any()
        times = rows[:, schema.time_index]
        assert (np.diff(times) >= 0).all()


def test_a_seed_gives_the_same_transactions_and_another_seed_others() -> None:
    assert golden_transactions(DEFAULT_SCHEMA, 7).tobytes() == golden_transactions(DEFAULT_SCHEMA, 7).tobytes()
    assert golden_transactions(DEFAULT_SCHEMA, 7).tobytes() != golden_transactions(DEFAULT_SCHEMA, 8).tobytes()


@pytest.fixture(scope="module")
def pipeline(trained) -> Pipeline:
    return Pipeline.load(trained.repository, 1)


def test_the_file_is_the_same_to_the_byte_for_the_same_seed(pipeline: Pipeline) -> None:
    assert golden_file(pipeline, 7) == golden_file(pipeline, 7)
    assert golden_file(pipeline, 7) != golden_file(pipeline, 8)


def test_the_file_holds_what_the_release_answers(pipeline: Pipeline, trained) -> None:
    golden = np.load(trained.repository / "fraud_r0001" / "golden.npz")
    answers = pipeline.answer_alone(golden["transaction"])
    assert golden["transaction"].shape == (ROWS, DEFAULT_SCHEMA.width)
    assert golden["features"].tobytes() == answers.features.tobytes()
    assert golden["score"].tobytes() == answers.score.tobytes()
    assert golden["verdict"].tobytes() == answers.verdict.tobytes()


@pytest.mark.parametrize("seed", [1, 7, 19])
def test_they_exercise_windows_model_and_decision(pipeline: Pipeline, seed: int) -> None:
    golden = np.load(io.BytesIO(golden_file(pipeline, seed)))
    names = DEFAULT_SCHEMA.feature_names
    for window in ("customer_count_7d", "customer_count_30d", "terminal_count_7d", "terminal_count_30d"):
        assert golden["features"][:, names.index(window)].max() > 1
    for column in ("customer_mean_amount_30d", "customer_amount_ratio_7d", "is_night", "is_weekend"):
        assert len(np.unique(golden["features"][:, names.index(column)])) > 1
    assert len(np.unique(golden["verdict"][:, 0])) > 1, "more than one kind of decision"
    assert len(np.unique(golden["score"])) > ROWS / 8
    assert golden["verdict"][golden["verdict"][:, 0] > 0, 1].all(), "what is flagged names a reason"
