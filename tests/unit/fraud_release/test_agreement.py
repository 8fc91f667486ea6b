"""Two forms of a model compared: what is the same, what reduced precision may cost, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_release.agreement import (
    MARGIN_TOLERANCE,
    Agreement,
    ReducedPrecision,
    check_plain_form,
    compare,
    in_batches,
    require_same,
)
from fraud_release.check_rows import CheckRows, check_rows_file
from fraud_release.errors import ReleaseRefused
from fraud_scoring.decision import DecisionRule
from fraud_scoring.pipeline import Pipeline

RULE = DecisionRule(1, np.array([-10.0, 10.0]), np.array([0.0, 1.0]), 0.6, 0.8, ())
"""Review from margin 2, decline from margin 6."""


def labelled(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """(margins FP32 [N, 1], labels): frauds score higher, and not all of them."""
    random = np.random.default_rng(1)
    is_fraud = (random.random(rows) < 0.02).astype(np.int8)
    margin = (random.normal(-4, 2, rows) + 5 * is_fraud).astype(np.float32)
    return margin[:, None], is_fraud


def test_the_same_margins_agree_in_everything() -> None:
    margin, is_fraud = labelled()
    found = compare(RULE, margin, margin.copy(), is_fraud)
    assert found.average_precision is not None
    assert found == Agreement(len(margin), 0, 0.0, 0.0, 0, found.average_precision, found.average_precision)
    require_same(found, "it")
    assert ReducedPrecision().objection(found) is None


def test_a_margin_beyond_the_tolerance_is_refused_and_so_is_a_decision_that_differs() -> None:
    margin = np.array([[2.0], [1.0]], np.float32)
    with pytest.raises(ReleaseRefused, match=r"a margin of the engine differs by 0\.01"):
        require_same(compare(RULE, margin, margin + np.float32(0.01)), "the engine")
    found = compare(RULE, margin, margin - np.float32(4e-6))
    assert found.largest_margin_difference < MARGIN_TOLERANCE
    with pytest.raises(ReleaseRefused, match="decides 1 of 2 rows otherwise"):
        require_same(found, "the engine")


@pytest.mark.parametrize("wrong", [np.nan, np.inf], ids=str)
def test_a_margin_that_is_no_number_passes_no_gate(wrong: float) -> None:
    margin, is_fraud = labelled(100)
    broken = margin.copy()
    broken[7] = wrong
    found = compare(RULE, margin, broken, is_fraud)
    assert "no numbers" in str(ReducedPrecision().objection(found))
    with pytest.raises(ReleaseRefused, match="differs by inf"):
        require_same(found, "the engine")


def test_half_precisions_rounding_passes_the_gate() -> None:
    margin, is_fraud = labelled()
    found = compare(RULE, margin, margin.astype(np.float16).astype(np.float32), is_fraud)
    assert found.largest_margin_difference > MARGIN_TOLERANCE
    assert ReducedPrecision(flipped_share=1e-3).objection(found) is None


def test_too_many_flipped_decisions_fail_the_gate() -> None:
    margin, is_fraud = labelled()
    found = compare(RULE, margin, np.round(margin), is_fraud)
    assert found.decisions_differ > 2
    assert "rows otherwise" in str(ReducedPrecision().objection(found))
    # the share is a limit and no rule of thumb: at it, it passes; one row above, it fails
    exact = ReducedPrecision(1.0, found.decisions_differ / found.rows)
    assert exact.objection(found) is None
    assert ReducedPrecision(1.0, (found.decisions_differ - 1) / found.rows).objection(found) is not None


def test_lost_average_precision_fails_the_gate_though_no_decision_differs() -> None:
    margin, is_fraud = labelled()
    muddled = np.where(margin < 1.9, np.float32(-4), margin)
    found = compare(RULE, margin, muddled, is_fraud)
    assert found.decisions_differ == 0
    assert "average precision" in str(ReducedPrecision().objection(found))


def test_without_labels_of_both_classes_reduced_precision_is_not_taken_on_trust() -> None:
    margin, _ = labelled(50)
    assert "no labelled rows" in str(ReducedPrecision().objection(compare(RULE, margin, margin)))
    only_genuine = np.zeros(50, np.int8)
    assert "no labelled rows" in str(ReducedPrecision().objection(compare(RULE, margin, margin, only_genuine)))


def test_another_shape_is_refused() -> None:
    with pytest.raises(ReleaseRefused, match="shape"):
        compare(RULE, np.zeros((3, 1), np.float32), np.zeros((3, 2), np.float32))


def test_the_rows_that_a_release_carries_keep_their_order_and_their_share_of_frauds(tmp_path) -> None:
    random = np.random.default_rng(2)
    features = np.arange(250_000, dtype=np.float32)[:, None]
    is_fraud = (random.random(250_000) < 0.01).astype(np.int8)
    folder = tmp_path / "fraud_r0001"
    folder.mkdir()
    (folder / "check_rows.npz").write_bytes(check_rows_file(features, is_fraud, seed=3))
    rows = CheckRows.load(tmp_path, 1)
    assert len(rows.features) == 100_000
    assert (np.diff(rows.features[:, 0]) > 0).all()
    assert (is_fraud[rows.features[:, 0].astype(np.int64)] == rows.is_fraud).all()
    assert rows.is_fraud.mean() == pytest.approx(is_fraud.mean(), rel=0.05)


def test_a_release_without_such_rows_says_so(tmp_path) -> None:
    with pytest.raises(ReleaseRefused, match=r"r0001 has no readable check_rows\.npz"):
        CheckRows.load(tmp_path, 1)


def test_a_trained_release_says_that_its_plain_form_agrees_and_carries_rows_to_check_engines_by(
    trained, history
) -> None:
    plain = trained.manifest["plain_form"]
    assert plain["rows"] == min(100_000, len(history))
    assert plain["largest_margin_difference"] <= MARGIN_TOLERANCE
    assert plain["margins_differ"] == 0, "trees keep every bit"
    assert plain["decisions_differ"] == 0
    rows = CheckRows.load(trained.repository, 1)
    assert len(rows.features) == trained.manifest["evaluation"]["all"]["transactions"]
    assert rows.is_fraud.sum() == trained.manifest["evaluation"]["all"]["frauds"]


def test_a_plain_form_that_differs_stops_the_training(trained) -> None:
    pipeline = Pipeline.load(trained.repository, 1)
    rows = CheckRows.load(trained.repository, 1)
    graph = (trained.repository / "fraud_model_r0001" / "1" / "model.onnx").read_bytes()
    assert check_plain_form(pipeline, graph, rows.features)["decisions_differ"] == 0
    exact = pipeline.margin

    def a_little_off(features: np.ndarray) -> np.ndarray:
        return exact(features) + np.float32(1e-3)

    pipeline.margin = a_little_off  # type: ignore[method-assign]
    with pytest.raises(ReleaseRefused, match="parity: a margin of the form for TensorRT"):
        check_plain_form(pipeline, graph, rows.features)


def test_batches_put_together_are_the_whole() -> None:
    rows = np.arange(10, dtype=np.float32)[:, None]
    sizes: list[int] = []

    def margin(features: np.ndarray) -> np.ndarray:
        sizes.append(len(features))
        return features * 2

    assert (in_batches(margin, rows, rows=4) == rows * 2).all()
    assert sizes == [4, 4, 2]
