"""Calibration, thresholds and reasons: the same bits in any batch, and from any copy of the parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring.decision import LEAST_POINTS, LEAST_SHARE, DecisionRule, ScorecardFeature
from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.reasons import NOT_WORKED_OUT, reason_text
from fraud_scoring.shapley import MOST_ROWS, Explanation, FeatureGroup
from fraud_scoring.wire import Decision, Source
from support.rows import SEEDED


def rule(**changes: Any) -> DecisionRule:
    """Margin −1 … 1 becomes probability 0 … 1; review from a quarter on, decline from three quarters on."""
    plain = DecisionRule(
        release=7,
        margins=np.array([-1.0, 1.0]),
        probabilities=np.array([0.0, 1.0]),
        review_at=0.25,
        decline_at=0.75,
        scorecard=(),
    )
    return dataclasses.replace(plain, **changes)


def scorecard(*features: tuple[int, list[float], list[float]]) -> tuple[ScorecardFeature, ...]:
    return tuple(
        ScorecardFeature(f"f{i}", reason, np.array(edges), np.array(points))
        for i, (reason, edges, points) in enumerate(features)
    )


def fp32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


KNOTS = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-30, 30), min_size=n, max_size=n, unique=True).map(sorted),
        st.lists(st.floats(0, 1), min_size=n, max_size=n).map(sorted),
    )
)
MARGINS = st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=30)


@given(KNOTS, MARGINS)
@settings(SEEDED, max_examples=300)
def test_a_higher_margin_never_gives_a_lower_score(knots, margins) -> None:
    # knots closer than any two scores differ: what is left of monotony is the float's last bit
    if np.diff(knots[0]).min() < 1e-6:
        return
    found = rule(margins=np.array(knots[0]), probabilities=np.array(knots[1])).calibrate(fp32(*sorted(margins)))
    assert (np.diff(found) >= 0).all()
    assert found.min() >= np.float32(knots[1][0])
    assert found.max() <= np.float32(knots[1][-1])


@given(KNOTS, MARGINS)
@settings(SEEDED, max_examples=300)
def test_a_score_has_the_same_bits_alone_and_in_a_batch(knots, margins) -> None:
    calibrated = rule(margins=np.array(knots[0]), probabilities=np.array(knots[1]))
    together = calibrated.calibrate(fp32(*margins))
    alone = np.concatenate([calibrated.calibrate(fp32(margin)) for margin in margins])
    assert together.tobytes() == alone.tobytes()


def test_a_margin_outside_the_table_gets_the_nearest_probability() -> None:
    outside = rule(probabilities=np.array([0.1, 0.9])).calibrate(fp32(-50, -1, 0, 1, 50))
    assert outside.tolist() == fp32(0.1, 0.1, 0.5, 0.9, 0.9).tolist()


def test_a_score_at_a_threshold_is_over_it() -> None:
    below = np.nextafter(np.float32(0.25), np.float32(0))
    exactly = rule(margins=np.array([0.0, 1.0]))
    score, verdict = exactly.decide(fp32(below, 0.25, 0.5, 0.75, 1)[:, None], np.zeros((5, 0), np.float32))
    assert score[:, 0].tolist() == [below, 0.25, 0.5, 0.75, 1]
    assert verdict[:, 0].tolist() == [
        Decision.APPROVE,
        Decision.REVIEW,
        Decision.REVIEW,
        Decision.DECLINE,
        Decision.DECLINE,
    ]


@given(st.floats(0, 1, width=32))
@settings(SEEDED, max_examples=100)
def test_a_score_that_prints_as_the_threshold_is_at_the_threshold(score: float) -> None:
    """Thresholds are binary64 and scores binary32: the comparison is made in binary32."""
    at = rule(margins=np.array([0.0, 1.0]), review_at=float(str(np.float32(score))), decline_at=2.0)
    _, verdict = at.decide(fp32(score)[:, None], np.zeros((1, 0), np.float32))
    assert verdict[0, 0] == Decision.REVIEW


def test_thresholds_at_one_point_leave_nothing_to_review() -> None:
    _, verdict = rule(review_at=0.5, decline_at=0.5).decide(fp32(-0.1, 0)[:, None], np.zeros((2, 0), np.float32))
    assert verdict[:, 0].tolist() == [Decision.APPROVE, Decision.DECLINE]


def test_a_decline_threshold_above_one_declines_nothing() -> None:
    _, verdict = rule(decline_at=1.5).decide(fp32(9)[:, None], np.zeros((1, 0), np.float32))
    assert verdict[0, 0] == Decision.REVIEW


def test_a_verdict_names_release_and_source_and_has_the_wires_shape() -> None:
    score, verdict = rule(release=12).decide(fp32(-1, 1)[:, None], np.zeros((2, 0), np.float32))
    assert (score.dtype, score.shape) == (np.float32, (2, 1))
    assert (verdict.dtype, verdict.shape) == (np.int32, (2, 6))
    assert verdict[:, 4].tolist() == [12, 12]
    assert verdict[:, 5].tolist() == [Source.PRIMARY, Source.PRIMARY]


def test_reasons_come_in_the_order_of_their_points() -> None:
    card = scorecard((1, [0.0], [0, 0.5]), (2, [0.0], [0, 2.0]), (3, [0.0], [0, 1.0]), (4, [0.0], [0, 0.45]))
    assert rule(scorecard=card).reasons(fp32(1, 1, 1, 1)[None]).tolist() == [[2, 3, 1]]


def test_points_of_one_reason_add_up() -> None:
    card = scorecard((1, [0.0], [0, 1.0]), (2, [0.0], [0, 0.6]), (2, [0.0], [0, 0.6]))
    assert rule(scorecard=card).reasons(fp32(1, 1, 1)[None]).tolist() == [[2, 1, 0]]


def test_what_speaks_against_fraud_or_for_nothing_is_no_reason() -> None:
    card = scorecard((1, [0.0], [0, -1.0]), (2, [0.0], [0, 0.0]), (3, [0.0], [0, 1.0]))
    assert rule(scorecard=card).reasons(fp32(1, 1, 1)[None]).tolist() == [[3, 0, 0]]


def test_what_hardly_speaks_for_fraud_is_no_reason() -> None:
    card = scorecard((1, [0.0], [0, np.nextafter(LEAST_POINTS, 0)]), (2, [0.0], [0, LEAST_POINTS]))
    assert rule(scorecard=card).reasons(fp32(1, 1)[None]).tolist() == [[2, 0, 0]]


def test_equal_points_give_the_smaller_code_first() -> None:
    card = scorecard((9, [0.0], [0, 1.0]), (3, [0.0], [0, 1.0]), (5, [0.0], [0, 1.0]), (1, [0.0], [0, 1.0]))
    assert rule(scorecard=card).reasons(fp32(1, 1, 1, 1)[None]).tolist() == [[1, 3, 5]]


def test_equal_points_of_many_reasons_are_in_order_too() -> None:
    card = scorecard(*((code, [0.0], [0, 1.0]) for code in reversed(range(1, 100))))
    assert rule(scorecard=card).reasons(np.ones((1, 99), np.float32)).tolist() == [[1, 2, 3]]


def test_a_feature_without_a_reason_is_never_named() -> None:
    card = scorecard((0, [0.0], [0, 9.0]), (2, [0.0], [0, 1.0]))
    assert rule(scorecard=card).reasons(fp32(1, 1)[None]).tolist() == [[2, 0, 0]]


@pytest.mark.parametrize("card", [(), scorecard((0, [0.0], [0, 9.0]))], ids=["no scorecard", "no reason in it"])
def test_without_reasons_the_slots_stay_empty(card: tuple[ScorecardFeature, ...]) -> None:
    assert rule(scorecard=card).reasons(np.ones((2, 1), np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_bin_holds_its_lower_edge() -> None:
    card = scorecard((1, [1.0, 2.0], [0, 1.0, 0]))
    found = rule(scorecard=card).reasons(fp32(0.5, 1, np.nextafter(np.float32(2), np.float32(0)), 2)[:, None])
    assert found[:, 0].tolist() == [0, 1, 1, 0]


def test_an_approved_payment_carries_no_reasons() -> None:
    card = scorecard((1, [0.0], [0, 1.0]))
    _, verdict = rule(scorecard=card).decide(fp32(-1, 1, -1, 0)[:, None], np.ones((4, 1), np.float32))
    assert verdict[:, 1].tolist() == [0, 1, 0, 1]


@given(st.integers(0, 2**32 - 1))
@settings(SEEDED, max_examples=30)
def test_a_batch_of_decisions_is_each_decision_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    card = scorecard(*((int(rng.integers(0, 6)), np.sort(rng.random(4)), rng.normal(size=5)) for _ in range(8)))
    whole = rule(scorecard=card)
    margin = rng.normal(size=(20, 1)).astype(np.float32)
    features = rng.random((20, 8)).astype(np.float32)
    score, verdict = whole.decide(margin, features)
    for i in range(20):
        one_score, one_verdict = whole.decide(margin[i : i + 1], features[i : i + 1])
        assert one_score.tobytes() == score[i : i + 1].tobytes()
        assert one_verdict.tolist() == verdict[i : i + 1].tolist()


@given(KNOTS, st.lists(st.floats(0, 2), min_size=2, max_size=2).map(sorted), st.integers(0, 2**31 - 1))
@settings(SEEDED, max_examples=100)
def test_a_rule_as_text_keeps_every_bit(knots, thresholds, seed) -> None:
    rng = np.random.default_rng(seed)
    card = scorecard(*((int(rng.integers(0, 9)), np.sort(rng.normal(size=3)), rng.normal(size=4)) for _ in range(3)))
    written = DecisionRule(seed, np.array(knots[0]), np.array(knots[1]), *thresholds, card, rng.normal())
    read = DecisionRule.from_json(written.to_json())
    assert read.to_json() == written.to_json()
    assert (read.release, read.review_at, read.decline_at) == (seed, *thresholds)
    assert read.base_log_odds == written.base_log_odds
    assert read.margins.tobytes() == written.margins.tobytes()
    assert read.probabilities.tobytes() == written.probabilities.tobytes()
    for one, other in zip(read.scorecard, written.scorecard, strict=True):
        assert (one.name, one.reason) == (other.name, other.reason)
        assert one.edges.tobytes() == other.edges.tobytes()
        assert one.points.tobytes() == other.points.tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margins": np.array([0.0]), "probabilities": np.array([0.0])}, "the calibration needs two knots or more"),
        ({"margins": np.array([0.0, 1, 2])}, "a probability for each margin"),
        ({"margins": np.array([0.0, 0.0])}, "margins must be finite and rise"),
        ({"margins": np.array([1.0, 0.0])}, "margins must be finite and rise"),
        ({"margins": np.array([0.0, np.nan])}, "margins must be finite and rise"),
        ({"margins": np.array([-np.inf, 0.0])}, "margins must be finite and rise"),
        ({"probabilities": np.array([0.5, 0.4])}, "probabilities must lie within 0 to 1 and not fall"),
        ({"probabilities": np.array([0.0, 1.1])}, "probabilities must lie within 0 to 1 and not fall"),
        ({"probabilities": np.array([np.nan, 1.0])}, "probabilities must lie within 0 to 1 and not fall"),
        ({"review_at": -0.1}, "thresholds must be 0 ≤ review_at ≤ decline_at"),
        ({"review_at": 0.8}, "thresholds must be 0 ≤ review_at ≤ decline_at"),
        ({"decline_at": float("nan")}, "thresholds must be 0 ≤ review_at ≤ decline_at"),
        ({"scorecard": scorecard((1, [0.0], [1.0]))}, "scorecard of f0: the edges must rise, and points are one more"),
        ({"scorecard": scorecard((1, [1.0, 0.0], [1, 2, 3]))}, "scorecard of f0: the edges must rise"),
    ],
)
def test_parameters_that_cannot_decide_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"^decision: .*{message}"):
        rule(**changes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"release": 1, "calibration": {}}', "not json"])
def test_a_broken_decision_file_is_refused(text: str) -> None:
    with pytest.raises(InvalidDefinition, match=r"decision: the parameters' file is broken; restore the release"):
        DecisionRule.from_json(text)


class Sum:
    """A model whose margin is the sum of its features: each group's value is then the sum of its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rows: Float32) -> Float32:
        self.calls += 1
        return rows.sum(axis=1, keepdims=True, dtype=np.float32)


def explained_rule(*groups: tuple[tuple[int, ...], ...], **changes: Any) -> DecisionRule:
    """Features with the scorecard's reasons, two in turn for each code of a group: one that has points from 0 on, and
    one from 1 on. The background is one payment of zeros."""
    cards, positions = [], []
    for codes in groups:
        positions.append(tuple(range(len(cards), len(cards) + 2 * len(codes))))
        for code in codes:
            cards += [(code, [0.5], [0, 1.0]), (code, [0.75], [0, 1.0])]
    explanation = Explanation(
        tuple(FeatureGroup(f"g{i}", mine) for i, mine in enumerate(positions)),
        np.zeros((1, len(cards)), np.float32),
        np.zeros(1, np.float32),
    )
    return rule(scorecard=scorecard(*cards), explanation=explanation, **changes)


def decided(of: DecisionRule, *features: float) -> list[int]:
    """The reasons of one declined payment."""
    row, model = fp32(*features)[None], Sum()
    return of.decide(np.maximum(model(row), 1), row, model)[1][0, 1:4].tolist()


class TestExplainedReasons:
    FOUR = ((1,), (2,), (3,), (4,))

    def test_groups_come_in_the_order_of_what_they_gave(self) -> None:
        assert decided(explained_rule(*self.FOUR), 1, 0, 3, 0, 2, 0, 0.9, 0) == [2, 3, 1]

    def test_a_group_that_pushed_down_is_no_reason(self) -> None:
        assert decided(explained_rule(*self.FOUR), 1, 0, -3, 0, 2, 0, 0, 0) == [3, 1, 0]

    def test_a_group_that_gave_hardly_anything_is_no_reason(self) -> None:
        least = 8.0  # of a rise of 80
        of = explained_rule((1,), (2,))
        assert decided(of, 80 - least, 0, least, 0) == [1, 2, 0]
        assert decided(of, 80 - least, 0, np.nextafter(np.float32(least), np.float32(0)), 0) == [1, 0, 0]
        assert least * LEAST_SHARE == 80

    def test_groups_that_gave_the_same_stand_in_their_own_order(self) -> None:
        assert decided(explained_rule((9,), (3,), (5,), (1,)), 1, 0, 1, 0, 1, 0, 1, 0) == [9, 3, 5]

    def test_a_group_is_named_by_the_code_with_the_most_points(self) -> None:
        of = explained_rule((2, 3, 4), (1,))
        assert decided(of, 0, 0, 1, 1, 0.6, 0, 0, 0) == [3, 0, 0]
        assert decided(of, 0, 0, 1, 0, 1, 0, 0, 0) == [3, 0, 0], "equal points: the smaller code"

    def test_a_code_of_two_groups_is_named_once(self) -> None:
        assert decided(explained_rule((1,), (1,), (2,)), 3, 0, 2, 0, 1, 0) == [1, 2, 0]

    def test_a_group_without_a_code_is_never_named(self) -> None:
        assert decided(explained_rule((0,), (2,)), 9, 0, 3, 0) == [2, 0, 0]

    def test_an_approved_payment_does_not_call_the_model(self) -> None:
        model = Sum()
        explained_rule((1,), (2,)).decide(fp32(-1, -0.6)[:, None], np.ones((2, 4), np.float32), model)
        assert model.calls == 0

    def test_all_flagged_payments_of_a_batch_share_one_call(self) -> None:
        model = Sum()
        margin, features = fp32(-1, 0.5, -1, 0.5, 0.5)[:, None], np.full((5, 4), 0.125, np.float32)
        _, verdict = explained_rule((1,), (2,)).decide(margin, features, model)
        assert model.calls == 1
        assert verdict[:, 1].tolist() == [0, 1, 0, 1, 1]

    def test_a_batch_of_decisions_is_each_decision_alone(self) -> None:
        rng = np.random.default_rng(8)
        of, model = explained_rule((1,), (2, 3), (4,), (5,)), Sum()
        margin, features = rng.normal(size=(40, 1)).astype(np.float32), rng.normal(size=(40, 10)).astype(np.float32)
        _, together = of.decide(margin, features, model)
        alone = [of.decide(margin[i : i + 1], features[i : i + 1], model)[1][0].tolist() for i in range(40)]
        assert together.tolist() == alone
        assert len(np.unique(together[:, 1:4], axis=0)) > 5

    @pytest.mark.parametrize("calls", [0, 1, 2])
    def test_where_the_model_does_not_answer_the_decision_stands_and_says_so(self, calls: int) -> None:
        """A batch that takes three calls, of which the first `calls` are answered in time."""
        of, answers = explained_rule((1,), (2,)), Sum()
        a_call = MOST_ROWS // 2
        margin, features = np.ones((2 * a_call + 7, 1), np.float32), np.ones((2 * a_call + 7, 4), np.float32)

        def model(rows: Float32) -> Float32:
            if answers.calls == calls:
                raise ReleaseUnavailable("model fraud_model_r0007 did not answer in time")
            return answers(rows)

        _, late = of.decide(margin, features, model)
        _, whole = of.decide(margin, features, Sum())
        assert late[:, [0, 4, 5]].tolist() == whole[:, [0, 4, 5]].tolist()
        assert late[: calls * a_call].tolist() == whole[: calls * a_call].tolist()
        assert (late[calls * a_call :, 1:4] == [NOT_WORKED_OUT, 0, 0]).all()
        assert reason_text(NOT_WORKED_OUT) == "the reasons were not worked out in time"

    def test_a_rule_that_needs_the_model_says_so(self) -> None:
        with pytest.raises(ReleaseUnavailable, match="need its model, which was not given"):
            explained_rule((1,), (2,)).decide(fp32(1)[:, None], np.ones((1, 4), np.float32))

    def test_as_text_it_keeps_every_bit(self) -> None:
        written = explained_rule((1,), (2, 3))
        read = DecisionRule.from_json(written.to_json())
        assert read.to_json() == written.to_json()
        assert '"version": 2' in written.to_json()
        assert read.explanation is not None

    def test_a_background_of_other_features_is_refused(self) -> None:
        with pytest.raises(InvalidDefinition, match="must have the same features"):
            dataclasses.replace(explained_rule((1,)), scorecard=())


def test_a_rule_from_before_there_were_versions_is_read_and_reasons_by_points() -> None:
    card = scorecard((1, [0.0], [0, 1.0]))
    text = rule(scorecard=card).to_json().replace(' "version": 1,\n', "")
    assert "version" not in text
    old = DecisionRule.from_json(text)
    assert old.decide(fp32(1)[:, None], np.ones((1, 1), np.float32))[1][0, 1:4].tolist() == [1, 0, 0]


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_rule_of_another_form_is_refused(version: int) -> None:
    text = explained_rule((1,)).to_json().replace('"version": 2', f'"version": {version}')
    with pytest.raises(InvalidDefinition, match=f"has form {version}; this code reads forms 1 and 2"):
        DecisionRule.from_json(text)
