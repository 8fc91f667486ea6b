"""Decisions meet their labels once, whatever came first, however the log was read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift_sidecar.outcomes import OUTCOME_SHAPE, OUTCOMES, Outcomes
from drift_sidecar.traffic import Minutes
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions
from fraud_scoring.decision_log.batches import Batch
from support.rows import SEEDED, Int64

DELAY = 100
MINUTE_US = 60_000_000
LEGITIMATE, FRAUD, NONE = range(3)


def batch(minute: int, *decided: tuple[int, float, int], source: int = 0, release: int = 7) -> tuple[Batch, Minutes]:
    """Decisions (id, score, decision) of one frame."""
    n = len(decided)
    verdict = np.zeros((n, wire.VERDICT_WIDTH), np.int32)
    verdict[:, 0], verdict[:, 4], verdict[:, 5] = [decision for _, _, decision in decided], release, source
    made = Batch(
        Decisions(
            transaction=np.array([[identifier, 0] for identifier, _, _ in decided], np.int64).reshape(n, 2),
            features=np.zeros((n, 0), np.float32),
            score=np.array([score for _, score, _ in decided], np.float32),
            verdict=verdict,
            repeat=np.zeros(n, np.bool_),
            deadline_left_us=np.zeros(n, np.int64),
            stage_us=np.zeros(4, np.int64),
        ),
        id_column=0,
        written_at_us=np.array([minute * MINUTE_US], np.int64),
        rows=np.array([n], np.int64),
        stage_us=np.zeros((1, 4), np.int64),
        refused=np.zeros(1, np.int64),
        failed=np.zeros(1, np.int64),
    )
    return made, Minutes.of(made)


def label(identifier: int, minute: int, *, fraud: bool) -> Int64:
    return np.array([[identifier, int(fraud), 0, minute * MINUTE_US]], np.int64)


class Disk:
    """What checkpoints have kept so far."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def restart(self, outcomes: Outcomes) -> Outcomes:
        """Save, and take up what was saved."""
        changed, removed = outcomes.changes()
        self.kept.update(changed)
        for name in removed:
            self.kept.pop(name, None)
        again = Outcomes(outcomes.delay_minutes, outcomes.capacity)
        again.restore(self.kept)
        return again


def judged(outcomes: Outcomes, watermark: int) -> Int64:
    """Counts by decision and outcome of all that matures."""
    total = np.zeros(OUTCOME_SHAPE[1:], np.int64)
    for _, _, vectors in outcomes.mature(watermark):
        total += vectors.sum(axis=0).reshape(OUTCOME_SHAPE).sum(axis=0)
    return total


def test_a_decision_is_judged_by_its_label_once_it_is_old_enough() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, (1, 0.9, 2), (2, 0.1, 0), (3, 0.3, 1)))
    outcomes.add_labels(label(1, 1050, fraud=True))
    outcomes.add_labels(label(2, 1060, fraud=False))
    assert not judged(outcomes, 1000 + DELAY).any(), "its last minute is not over"
    found = judged(outcomes, 1010 + DELAY)
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert not judged(outcomes, 5000).any()
    assert outcomes.rows == 0


def test_the_minute_of_an_outcome_is_when_it_matured_and_its_score_is_kept() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, (1, 0.95, 2)))
    (matured,) = outcomes.mature(2000)
    assert (matured.release, matured.minutes.tolist()) == (7, [1000 + DELAY])
    place = np.unravel_index(int(np.flatnonzero(matured.vectors[0])[0]), OUTCOME_SHAPE)
    assert place == (9, 2, OUTCOMES.index("unlabelled")), "above 0.9, at most 0.97"


def test_a_label_that_comes_after_the_delay_counts_for_nothing() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, (1, 0.9, 2), (2, 0.9, 2)))
    outcomes.add_labels(label(1, 1000 + DELAY, fraud=True))
    outcomes.add_labels(label(2, 1001 + DELAY, fraud=True))
    assert judged(outcomes, 3000)[2].tolist() == [0, 1, 1]


def test_the_last_label_in_time_stands() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, (1, 0.9, 2)))
    for minute, fraud in ((1001, True), (1050, False), (1000 + DELAY + 1, True)):
        outcomes.add_labels(label(1, minute, fraud=fraud))
    assert judged(outcomes, 3000)[2].tolist() == [1, 0, 0]


def test_answers_of_the_scorecard_wait_for_no_label() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, (1, 0.9, 2), source=wire.Source.SCORECARD))
    assert outcomes.rows == 0


@SEEDED
@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_the_result_is_a_function_of_the_log_however_it_was_read(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    decided = [(k, float(rng.random()), int(rng.integers(3)), int(rng.integers(1000, 1300))) for k in range(n)]
    labels = [
        (k, minute + int(rng.integers(0, 2 * DELAY)), bool(rng.random() < 0.5))
        for k, _, _, minute in decided
        for _ in range(int(rng.integers(0, 3)))
    ]
    expected = np.zeros(OUTCOME_SHAPE[1:], np.int64)
    for k, _, decision, minute in decided:
        mine = [(at, turn, fraud) for turn, (i, at, fraud) in enumerate(labels) if i == k and at <= minute + DELAY]
        expected[decision, int(max(mine)[2]) if mine else NONE] += 1

    events = [("d", *one) for one in decided] + [("l", *one) for one in labels]
    # labels of one id keep their order, as they come from one writer; decisions come whenever
    order = sorted(events, key=lambda event: event[2] if event[0] == "l" else rng.integers(1000, 1600))
    outcomes, disk = Outcomes(DELAY), Disk()
    for event in order:
        if event[0] == "d":
            outcomes.add_decisions(*batch(int(event[4]), (int(event[1]), float(event[2]), int(event[3]))))
        else:
            outcomes.add_labels(label(int(event[1]), int(event[2]), fraud=bool(event[3])))
        if rng.random() < 0.02:
            outcomes = disk.restart(outcomes)
    assert judged(outcomes, 9999).tolist() == expected.tolist()


def test_pieces_that_were_judged_leave_the_checkpoint() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_decisions(*batch(1000, *((k, 0.5, 1) for k in range(5000))))
    outcomes.add_decisions(*batch(1001, *((k, 0.5, 1) for k in range(5000, 5010))))
    outcomes.add_labels(label(1, 1001, fraud=True))
    names = set(outcomes.changes().changed)
    assert names == {"decision 100 0", "decision 100 1", "label 100 0"}
    outcomes.saved()
    outcomes.add_decisions(*batch(1002, (6000, 0.5, 1)))
    assert set(outcomes.changes().changed) == {"decision 100 1"}, "a full piece is not written again"
    judged(outcomes, 9999)
    assert set(outcomes.changes().removed) == names


@pytest.mark.parametrize("restart", [False, True])
def test_beyond_the_bound_ids_are_sampled_and_count_more(restart: bool) -> None:
    outcomes, disk, rng = Outcomes(DELAY, capacity=2_000), Disk(), np.random.default_rng(4)
    frauds = 0
    for k in range(100):
        ids = range(200 * k, 200 * (k + 1))
        fraud = rng.random(200) < 0.2
        frauds += int(fraud.sum())
        outcomes.add_decisions(*batch(1000, *((i, 0.5, 1) for i in ids)))
        outcomes.add_labels(np.concatenate([label(i, 1001, fraud=bool(f)) for i, f in zip(ids, fraud, strict=True)]))
        assert outcomes.rows <= 2_000
        if restart:
            outcomes = disk.restart(outcomes)
    assert outcomes.sampled_one_of == 32
    found = judged(outcomes, 9999)
    assert found[1, NONE] == 0, "a decision and its label are kept or dropped together"
    assert found.sum() == pytest.approx(20_000, rel=0.15)
    assert found[1, FRAUD] == pytest.approx(frauds, rel=0.25)


def test_labels_are_dropped_when_no_decision_can_need_them() -> None:
    outcomes = Outcomes(DELAY)
    outcomes.add_labels(label(1, 1000, fraud=True))
    judged(outcomes, 1000 + DELAY)
    assert outcomes.rows == 1
    judged(outcomes, 1020 + DELAY)
    assert outcomes.rows == 0
