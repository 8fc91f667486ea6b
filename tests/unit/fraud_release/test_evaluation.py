"""Measures of quality against their definitions, written out a row at a time."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_release.evaluation import card_precision, not_known_as_compromised, quality
from fraud_release.splits import Split
from fraud_scoring.windows import NEVER
from support.rows import DAY_US, SEEDED


class Row(NamedTuple):
    score: float
    is_fraud: int
    card: int
    day: int


def arrays(rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([row.score for row in rows], np.float32),
        np.array([row.is_fraud for row in rows], np.int8),
        np.array([row.card for row in rows], np.int64),
        np.array([row.day * DAY_US + i for i, row in enumerate(rows)], np.int64),
    )


def card_precision_by_hand(rows: list[Row], top: int) -> float:
    found: set[int] = set()
    shares = []
    for day in sorted({row.day for row in rows}):
        cards: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            if row.day == day and row.card not in found:
                cards[row.card].append(row)
        ranked = sorted(cards, key=lambda card: (-max(np.float32(row.score) for row in cards[card]), card))
        caught = [card for card in ranked[:top] if any(row.is_fraud for row in cards[card])]
        shares.append(len(caught) / top)
        found.update(caught)
    return sum(shares) / len(shares)


ROWS = st.lists(
    st.builds(Row, st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8]), st.integers(0, 1), st.integers(1, 8), st.integers(0, 4)),
    min_size=1,
    max_size=40,
)


@given(ROWS, st.integers(1, 5))
@settings(SEEDED, max_examples=400)
def test_card_precision_is_what_counting_cards_day_by_day_gives(rows: list[Row], top: int) -> None:
    assert card_precision(*arrays(rows), top=top) == pytest.approx(card_precision_by_hand(rows, top))


def test_a_card_that_was_found_makes_room_for_another_on_later_days() -> None:
    rows = [Row(0.9, 1, 1, 0), Row(0.1, 0, 2, 0), Row(0.9, 1, 1, 1), Row(0.1, 1, 2, 1)]
    assert card_precision(*arrays(rows), top=1) == 1.0


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    random = np.random.default_rng(1)
    rows = [Row(round(random.random(), 1), int(random.random() < 0.3), i, i % 3) for i in range(120)]
    frauds = [row.score for row in rows if row.is_fraud]
    others = [row.score for row in rows if not row.is_fraud]
    pairs = [(f > o) + (f == o) / 2 for f in frauds for o in others]
    found = quality(*arrays(rows))
    assert found.auc == pytest.approx(sum(pairs) / len(pairs))
    assert (found.transactions, found.frauds) == (120, len(frauds))


def test_average_precision_is_the_mean_precision_at_each_fraud() -> None:
    random = np.random.default_rng(2)
    scores = random.permutation(100) / 100  # no ties: the definition needs none then
    rows = [Row(score, int(random.random() < 0.2), i, 0) for i, score in enumerate(scores)]
    ranked = sorted(rows, key=lambda row: -row.score)
    precisions = [
        sum(above.is_fraud for above in ranked[: i + 1]) / (i + 1) for i, row in enumerate(ranked) if row.is_fraud
    ]
    found = quality(*arrays(rows))
    assert found.average_precision == pytest.approx(sum(precisions) / len(precisions))
    assert found.as_dict()["card_precision_100"] == pytest.approx(sum(row.is_fraud for row in rows) / 100)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 30), st.none() | st.integers(0, 10)), min_size=1, max_size=40)
)
@settings(SEEDED, max_examples=300)
def test_cards_with_a_fraud_that_was_known_before_the_test_are_left_out_of_it(
    events: list[tuple[int, int, int | None]],
) -> None:
    events = sorted(events, key=lambda event: event[1])
    card = np.array([event[0] for event in events], np.int64)
    times = np.array([event[1] for event in events], np.int64)
    known_at = np.array([NEVER if late is None else day + late for _, day, late in events], np.int64)
    split = Split(
        train=(times >= 5) & (times < 15), validation=(times >= 16) & (times < 20), test=times >= 22, test_from_us=22
    )
    if not split.train.any():
        return
    from_then_on = min(day for day in times.tolist() if 5 <= day < 15)
    compromised = {
        one for one, day, late in events if late is not None and day >= from_then_on and day + late < split.test_from_us
    }
    wanted = [day >= 22 and one not in compromised for one, day, _ in events]
    assert not_known_as_compromised(card, times, known_at, split).tolist() == wanted
