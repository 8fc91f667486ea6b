"""From transactions to a release, on a small simulated history; and every way in which it must not come to one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fraud_data import Transactions
from fraud_data.labels import fraud_known_at
from fraud_release.assembly import next_release, verify_release
from fraud_release.errors import ReleaseRefused
from fraud_release.learning import PARAMETERS, fit_trees
from fraud_release.splits import SplitDays, split_by_time
from fraud_release.train import LEAST_AUC, _check_parity
from fraud_release.trained import TrainedModel
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.wire import Decision, Source
from support.release import IN_GIT
from support.rows import DEFAULT_SCHEMA

TIME = DEFAULT_SCHEMA.time_index


def left_in(repository: Path) -> set[str]:
    """What is there beside what was there from the start, and the lock."""
    return {path.name for path in repository.iterdir()} - {*IN_GIT, ".release.lock"}


def test_the_manifest_says_what_it_was_made_of_and_how_good_it_is(trained, history: Transactions, plan) -> None:
    manifest = trained.manifest
    assert manifest == json.loads((trained.repository / "fraud_r0001" / "manifest.json").read_text())
    assert manifest == verify_release(trained.repository, 1)
    assert manifest["created_at"] == "2026-03-02T08:00:00+00:00"
    assert manifest["data"] == {"file": "tiny", "transactions": len(history), "frauds": int(history.is_fraud.sum())}
    assert manifest["plan"] == asdict(plan)
    assert manifest["parameters"] == PARAMETERS
    assert {"python", "numpy", "lightgbm", "onnx", "onnxruntime", "fraudserve"} <= manifest["versions"].keys()
    assert manifest["test_from_us"] == split_by_time(history.rows[:, TIME], plan.days).test_from_us
    assert 0 < manifest["thresholds"]["review_at"] <= manifest["thresholds"]["decline_at"]


def test_the_evaluation_is_that_of_the_written_release_on_the_test_part(trained, history: Transactions, plan) -> None:
    test = split_by_time(history.rows[:, TIME], plan.days).test
    features = replay(DEFAULT_SCHEMA, history.rows, fraud_known_at(history, DEFAULT_SCHEMA, plan.label_days))[test]
    verdict = Pipeline.load(trained.repository, 1).decide(np.ascontiguousarray(features)).verdict
    fraud = history.is_fraud[test] == 1
    evaluation = trained.manifest["evaluation"]
    assert evaluation["all"]["transactions"] == test.sum()
    assert evaluation["all"]["frauds"] == fraud.sum()
    assert evaluation["all"]["auc"] > LEAST_AUC
    assert 0 < evaluation["new_cards"]["transactions"] < test.sum()
    for decision in Decision:
        chosen = verdict[:, 0] == decision
        found = evaluation["decisions"][decision.name.lower()]
        assert found == {"transactions": chosen.sum(), "frauds": (chosen & fraud).sum()}
    assert (verdict[:, 4] == 1).all()
    assert (verdict[:, 5] == Source.PRIMARY).all()


def test_the_same_data_and_plan_give_the_same_release_to_the_byte(
    trained, history: Transactions, repository: Path, train_into
) -> None:
    assert train_into(history, repository)["files"] == trained.manifest["files"]


def test_another_run_makes_another_release_and_leaves_the_first_as_it_was(
    history: Transactions, repository: Path, train_into, plan
) -> None:
    first = train_into(history, repository)
    second = train_into(history, repository, plan=replace(plan, seed=8))
    assert [first["release"], second["release"]] == ["r0001", "r0002"]
    assert verify_release(repository, 1) == first
    assert (Pipeline.load(repository, 1).rule.release, Pipeline.load(repository, 2).rule.release) == (1, 2)


def test_progress_rises_to_the_end(history: Transactions, repository: Path, train_into) -> None:
    shares: list[float] = []
    train_into(history, repository, progress=lambda share, text: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_data_without_labels_is_refused(history: Transactions, repository: Path, train_into) -> None:
    with pytest.raises(InvalidInput, match="is_fraud: the data has no labels; map the column"):
        train_into(replace(history, is_fraud=None), repository)
    assert left_in(repository) == set()


@pytest.mark.parametrize(("label", "held"), [(0, "no fraud"), (1, "nothing but fraud")])
@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_of_one_class_only_is_named(
    history: Transactions, repository: Path, train_into, plan, part: str, label: int, held: str
) -> None:
    mask = getattr(split_by_time(history.rows[:, TIME], plan.days), part)
    labels = np.where(mask, np.int8(label), history.is_fraud)
    with pytest.raises(InvalidInput, match=rf"is_fraud: the {part} part \([\d,]+ rows\) holds {held}"):
        train_into(replace(history, is_fraud=labels), repository)
    assert left_in(repository) == set()


def test_a_gap_in_the_data_where_a_part_should_be_is_refused(
    history: Transactions, repository: Path, train_into, plan
) -> None:
    validation = split_by_time(history.rows[:, TIME], plan.days).validation
    with pytest.raises(InvalidInput, match=r"the validation part \(0 rows\) holds no fraud"):
        train_into(history.select(~validation), repository)
    assert left_in(repository) == set()


def test_data_that_is_too_short_is_refused(history: Transactions, repository: Path, train_into) -> None:
    with pytest.raises(InvalidInput, match=r"event time: the data spans \d+ days; 27 are needed"):
        train_into(history.slice(0, len(history) // 2), repository)
    assert left_in(repository) == set()


def test_labels_that_mean_nothing_do_not_pass_the_gate(history: Transactions, repository: Path, train_into) -> None:
    shuffled = np.random.default_rng(1).permutation(history.is_fraud)
    with pytest.raises(ReleaseRefused, match=r"gate: AUC on the test part is 0\.\d+, below 0.6"):
        train_into(replace(history, is_fraud=shuffled), repository)
    assert left_in(repository) == set()


def test_too_little_data_to_learn_from_does_not_pass_the_gate(repository: Path, train_into, history, plan) -> None:
    few = history.select(np.arange(0, len(history), 60))
    with pytest.raises(ReleaseRefused, match="gate: AUC"):
        train_into(few, repository)
    assert left_in(repository) == set()


def test_a_graph_that_is_not_the_trained_model_does_not_pass(trained, history: Transactions) -> None:
    features = np.ascontiguousarray(replay(DEFAULT_SCHEMA, history.rows[:3_000]))
    other = fit_trees(features, history.is_fraud[:3_000], seed=1, trees=3, progress=lambda share, text: None)
    with pytest.raises(ReleaseRefused, match=r"parity: \d+ of 3000 margins of the exported model differ"):
        _check_parity(TrainedModel(other, None), Pipeline.load(trained.repository, 1), features)


@pytest.mark.parametrize("stage", [0.0, 0.3, 0.81, 0.85, 0.9, 0.95])
def test_a_run_that_is_interrupted_leaves_nothing_and_lets_the_next_one_in(
    history: Transactions, repository: Path, train_into, stage: float
) -> None:
    def interrupt(share: float, text: str) -> None:
        if share > stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_into(history, repository, progress=interrupt)
    assert left_in(repository) == set()
    with next_release(repository) as number:
        assert number == 1


def test_a_plan_takes_the_days_that_there_are_for_training_up_to_its_limit(
    history: Transactions, repository: Path, train_into, plan
) -> None:
    longest = replace(plan, days=SplitDays(train=365, validation=6, test=6, delay=4))
    assert train_into(history, repository, plan=longest)["plan"]["days"]["train"] == 365
