"""What is counted: each customer once for each event, by arm, from a window's start on, however the rows come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_judge.evidence import CANARY, CHAMPION, StepEvidence, first_shown
from fraud_judge.settings import JudgeSettings
from fraud_judge.signs import DECLINED, FALLBACK, SEEN, SLOW, Baseline
from fraud_scoring import wire
from support.rollouts import CANARY as CANARY_RELEASE
from support.rollouts import QUICK, rows
from support.rows import SEEDED

SECOND = 1_000_000
BASELINE_ROWS = rows(5_000, seed=9)
BASELINE = Baseline.of(BASELINE_ROWS)


def evidence(share: int = 500, settings: JudgeSettings = QUICK) -> StepEvidence:
    return StepEvidence(settings, settings.step_of(share), share, 0, BASELINE)


def test_a_customer_counts_once_for_each_event() -> None:
    found = evidence()
    found.take(rows(50, at_us=2 * SECOND, bucket=0, customer=77, decision=wire.Decision.DECLINE), CANARY_RELEASE)
    found.take(rows(3, at_us=3 * SECOND, bucket=0, customer=77, source=wire.Source.SCORECARD), CANARY_RELEASE)
    assert found.events[0, CANARY, [DECLINED, SEEN, FALLBACK]].tolist() == [1, 1, 1]
    assert found.shown[0, CANARY, [DECLINED, SEEN, FALLBACK]].tolist() == [50, 53, 3]
    assert found.events[0, CHAMPION].sum() == 0


def test_rows_before_the_front_doors_follow_do_not_count() -> None:
    found = evidence()
    found.take(rows(40, at_us=SECOND // 2), CANARY_RELEASE)
    assert found.rows.sum() == 0


def test_a_later_window_counts_everybody_anew() -> None:
    found = evidence()
    found.take(rows(10, at_us=10 * SECOND, bucket=0, customer=5), CANARY_RELEASE)
    found.take(rows(10, at_us=70 * SECOND, bucket=0, customer=5), CANARY_RELEASE)
    assert found.windows == 2
    assert found.events[:2, CANARY, SEEN].tolist() == [1, 1]


@SEEDED
@given(st.lists(st.integers(0, 400), max_size=4), st.integers(0, 5))
def test_counts_do_not_depend_on_how_rows_are_cut(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 200, 400)) * SECOND
    drawn = rows(400, seed=seed, customer=rng.integers(0, 60, 400), at_us=times)
    whole, parts = evidence(), evidence()
    whole.take(drawn, CANARY_RELEASE)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 400], strict=True):
        parts.take(drawn.pick(slice(start, end)), CANARY_RELEASE)
    assert (whole.rows == parts.rows).all()
    assert (whole.events == parts.events).all()
    assert (whole.wealth() == parts.wealth()).all()


@SEEDED
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=30))
def test_bits_are_new_once_per_slot_as_a_row_by_row_count_says(drawn: list[tuple[int, int]]) -> None:
    slots = np.array([slot for slot, _ in drawn], np.int64)
    bits = np.array([one for _, one in drawn], np.uint16)
    seen = np.zeros(8, np.uint16)
    found = first_shown(seen, slots, bits)
    known = [0] * 8
    for place, (slot, one) in enumerate(drawn):
        assert found[place] == one & ~known[slot]
        known[slot] |= one
    assert seen.tolist() == known


def test_an_outage_of_everybody_is_not_the_canarys() -> None:
    found = evidence()
    down = rows(4_000, at_us=2 * SECOND, source=wire.Source.SCORECARD, latency_us=500_000)
    found.take(down, CANARY_RELEASE)
    assert not any(one.crossed for one in found.findings())


def test_a_canary_worse_than_a_perfect_champion_but_within_the_share_is_let_be() -> None:
    """0.2% of fallback answers, where the champion has none: beyond the ratio, within what is tolerated."""
    source = np.where(np.arange(20_000) % 500 == 0, int(wire.Source.SCORECARD), 0)
    good = rows(20_000, at_us=2 * SECOND)
    found = evidence(5_000)
    found.take(good._replace(source=np.where(good.bucket < 5_000, source, 0)), CANARY_RELEASE)
    assert not any(one.crossed for one in found.findings())


def test_each_way_to_be_bad_is_found_by_its_own_test() -> None:
    bad = {
        "fallback": {"source": int(wire.Source.SCORECARD)},
        "latency": {"latency_us": 90_000},
        "declines": {"decision": int(wire.Decision.DECLINE)},
        "scores": {"score": np.float32(0.9)},
    }
    for test, change in bad.items():
        found = evidence()
        found.take(rows(3_000, at_us=2 * SECOND, seed=1), CANARY_RELEASE)
        found.take(rows(200, at_us=3 * SECOND, seed=2, bucket=7, **change), CANARY_RELEASE)
        crossed = {one.test for one in found.findings() if one.crossed}
        assert test in crossed, test


def test_scores_that_lie_elsewhere_by_less_than_the_tolerance_are_no_shift_however_many_they_are() -> None:
    """Another calibration has another lowest step: the harmless many get another lowest value."""
    lowest = float(np.quantile(BASELINE_ROWS.score, 0.4))
    champion = Baseline.of(BASELINE_ROWS._replace(score=np.maximum(BASELINE_ROWS.score, np.float32(lowest))))
    drawn = rows(20_000, at_us=2 * SECOND, seed=4)
    plateau = np.maximum(drawn.score, np.float32(lowest))
    for moved, crossed in ((1.15, set()), (1 / 1.15, set()), (1 / 1.6, {"scores"})):
        found = StepEvidence(QUICK, 0, 500, 0, champion)
        canary = np.where(plateau == np.float32(lowest), np.float32(lowest * moved), plateau)
        found.take(drawn._replace(score=np.where(drawn.bucket < 500, canary, plateau)), CANARY_RELEASE)
        assert {one.test for one in found.findings() if one.crossed} == crossed, moved


@pytest.mark.parametrize("moved", [4.0, 0.25])
def test_scores_shifted_either_way_are_found_and_the_reason_says_where(moved: float) -> None:
    drawn = rows(20_000, at_us=2 * SECOND, seed=5)
    odds = drawn.score / (1 - drawn.score) * moved
    shifted = np.where(drawn.bucket < 500, odds / (1 + odds), drawn.score).astype(np.float32)
    found = evidence()
    found.take(drawn._replace(score=shifted), CANARY_RELEASE)
    (scores,) = (one for one in found.findings() if one.crossed)
    assert scores.test == "scores"
    assert scores.reason.startswith("score from the" if moved > 1 else ("score below", "score from about"))


def test_missing_scores_are_found() -> None:
    drawn = rows(12_000, at_us=2 * SECOND)
    found = evidence()
    found.take(drawn._replace(score=np.where(drawn.bucket < 500, np.float32("nan"), drawn.score)), CANARY_RELEASE)
    assert {one.test for one in found.findings() if one.crossed} == {"scores"}


def test_the_parts_of_the_error_budget_add_up_to_no_more_than_it() -> None:
    settings = JudgeSettings()
    shares = settings.shares.__dict__
    assert abs(sum(shares.values()) - 1) < 1e-9
    spent = sum(
        np.exp(-settings.threshold(step, test, window))
        for step in range(len(settings.steps))
        for test in shares
        for window in range(200)
    )
    assert 0.9 * settings.budget < spent <= settings.budget


def test_a_reason_names_the_event_and_both_arms() -> None:
    found = evidence()
    found.take(rows(2_000, at_us=2 * SECOND, seed=1, latency_us=1_000), CANARY_RELEASE)
    found.take(rows(100, at_us=3 * SECOND, seed=2, bucket=7, latency_us=90_000), CANARY_RELEASE)
    reason = next(one.reason for one in found.findings() if one.test == "latency")
    assert "slower than" in reason
    assert "0.00% of the champion's" in reason
    assert found.shown[0, CANARY, SLOW] >= 100
