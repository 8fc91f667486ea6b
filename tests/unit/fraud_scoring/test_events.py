"""Packed events against a plain sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import events
from fraud_scoring.windows import NEVER
from support.rows import SEEDED

ARRIVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(-5, 5)), max_size=40)


def packed_in_order(arrivals: list[tuple[int, int]], keep_us: int) -> bytes:
    packed = b""
    for time, identifier in arrivals:
        packed = events.insert(packed, events.pack(time, identifier, 10 * time), keep_us)
    return packed


@given(ARRIVALS, st.integers(1, 50))
@settings(SEEDED, max_examples=500)
def test_events_stay_sorted_and_unique_and_within_what_is_kept(arrivals, keep_us) -> None:
    kept: set[tuple[int, int]] = set()
    for time, identifier in arrivals:
        if not kept or time > max(kept)[0] - keep_us:
            kept.add((time, identifier))
        # only an event that comes last moves the horizon
        if (time, identifier) == max(kept):
            kept = {order for order in kept if order[0] > time - keep_us}
    found = events.unpack(packed_in_order(arrivals, keep_us))
    assert [tuple(event) for event in found.tolist()] == [(t, i, 10 * t, NEVER) for t, i in sorted(kept)]


@given(ARRIVALS, st.randoms(use_true_random=False))
@settings(SEEDED, max_examples=200)
def test_the_order_of_arrival_leaves_no_trace(arrivals, random) -> None:
    shuffled = random.sample(arrivals, len(arrivals))
    assert packed_in_order(arrivals, keep_us=1_000) == packed_in_order(shuffled, keep_us=1_000)


@given(ARRIVALS, st.tuples(st.integers(0, 40), st.integers(-5, 5)), st.integers(0, 99))
@settings(SEEDED, max_examples=200)
def test_a_label_changes_its_own_event_and_no_other(arrivals, chosen, known_at) -> None:
    packed = packed_in_order(arrivals, keep_us=1_000)
    labelled = events.unpack(events.set_fraud_known_at(packed, *chosen, known_at)).tolist()
    expected = events.unpack(packed).tolist()
    for event in expected:
        if (event[0], event[1]) == chosen:
            event[3] = known_at
    assert labelled == expected


def test_a_label_can_be_taken_back() -> None:
    packed = packed_in_order([(1, 1), (2, 2)], keep_us=100)
    assert events.set_fraud_known_at(events.set_fraud_known_at(packed, 1, 1, 50), 1, 1, NEVER) == packed


def test_a_label_survives_that_its_event_is_sent_again() -> None:
    packed = events.set_fraud_known_at(packed_in_order([(1, 1), (2, 2)], keep_us=100), 1, 1, 50)
    assert events.insert(packed, events.pack(1, 1, 10), keep_us=100) == packed
