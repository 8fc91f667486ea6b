"""The window kernel against counting by hand, over small numbers where ties, edges and duplicates are the rule."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring.windows import EVENT_WIDTH, NEVER, Aggregates, History, aggregate
from support.rows import SEEDED, Int64


class Event(NamedTuple):
    time: int
    identifier: int
    amount: int = 1
    fraud_known_at: int = NEVER


class Row(NamedTuple):
    event: Event
    entity: int = 0
    group: int = 0


class Window(NamedTuple):
    delay: int
    length: int


def aggregated(rows: list[Row], windows: list[Window], stored: list[list[Event]] | None = None) -> Aggregates:
    """What the kernel says; `stored` holds each entity's events."""
    entities = stored or [[] for _ in range(1 + max((row.entity for row in rows), default=0))]
    return aggregate(
        events_of([row.event for row in rows]),
        np.array([row.group for row in rows], np.int64),
        History(
            segment=np.array([row.entity for row in rows], np.int64),
            offsets=np.cumsum([0, *map(len, entities)]).astype(np.int64),
            events=events_of([event for events in entities for event in sorted(events)]),
        ),
        np.array([window.delay for window in windows], np.int64),
        np.array([window.length for window in windows], np.int64),
    )


def events_of(events: list[Event]) -> Int64:
    return np.array(events, np.int64).reshape(-1, EVENT_WIDTH)


def by_hand(rows: list[Row], windows: list[Window], stored: list[list[Event]]) -> list[list[tuple[int, int, int]]]:
    """The definition, a row and an event at a time."""
    found = []
    for me in rows:
        seen = {(event.time, event.identifier): event for event in stored[me.entity]}
        for other in rows:
            if (other.entity, other.group) == (me.entity, me.group):
                seen.setdefault((other.event.time, other.event.identifier), other.event)
        now = me.event.time
        before = [event for order, event in seen.items() if order <= (now, me.event.identifier)]
        mine = []
        for delay, length in windows:
            inside = [event for event in before if now - delay - length < event.time <= now - delay]
            known = [event for event in inside if event.fraud_known_at <= now]
            mine.append((len(inside), sum(event.amount for event in inside), len(known)))
        found.append(mine)
    return found


TIMES = st.integers(0, 12)
EVENTS = st.builds(Event, TIMES, st.integers(0, 6), st.integers(1, 9), st.just(NEVER) | st.integers(0, 14))
HISTORIES = st.lists(EVENTS, max_size=8, unique_by=lambda event: (event.time, event.identifier))
ROWS = st.lists(st.builds(Row, EVENTS, st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12)
WINDOWS = st.lists(st.builds(Window, st.integers(0, 5), st.integers(1, 13)), min_size=1, max_size=4)


@given(ROWS, WINDOWS, st.lists(HISTORIES, min_size=3, max_size=3))
@settings(SEEDED, max_examples=500)
def test_the_kernel_counts_what_counting_by_hand_counts(
    rows: list[Row], windows: list[Window], stored: list[list[Event]]
) -> None:
    found = np.stack(aggregated(rows, windows, stored)[:3], axis=2)
    assert found.tolist() == [[list(window) for window in row] for row in by_hand(rows, windows, stored)]


@given(ROWS, WINDOWS, st.lists(HISTORIES, min_size=3, max_size=3), st.randoms(use_true_random=False))
@settings(SEEDED, max_examples=200)
def test_the_order_in_which_rows_are_sent_changes_nothing(rows, windows, stored, random) -> None:
    unique = list({(row.entity, row.group, row.event.time, row.event.identifier): row for row in rows}.values())
    order = list(range(len(unique)))
    random.shuffle(order)
    in_order = aggregated(unique, windows, stored)
    shuffled = aggregated([unique[i] for i in order], windows, stored)
    for one, other in zip(in_order, shuffled, strict=True):
        assert one[order].tolist() == other.tolist()


@given(ROWS, WINDOWS, st.lists(HISTORIES, min_size=3, max_size=3))
@settings(SEEDED, max_examples=200)
def test_a_row_sees_nothing_of_other_groups_or_other_entities(rows, windows, stored) -> None:
    together = aggregated(rows, windows, stored)
    for group, entity in {(row.group, row.entity) for row in rows}:
        mine = [i for i, row in enumerate(rows) if (row.group, row.entity) == (group, entity)]
        alone = aggregated([rows[i] for i in mine], windows, stored)
        for one, other in zip(together, alone, strict=True):
            assert one[mine].tolist() == other.tolist()


NOW = 1_000


def counted(time: int, delay: int, length: int, *, stored: bool) -> bool:
    """Whether a window of a row at NOW counts an event at `time`."""
    row, event = Row(Event(NOW, 50)), Event(time, 1)
    found = (
        aggregated([row], [Window(delay, length)], [[event]])
        if stored
        else aggregated([row, Row(event)], [Window(delay, length)])
    )
    own = 1 if delay == 0 else 0
    return bool(found.events[0, 0] - own)


@pytest.mark.parametrize("stored", [True, False], ids=["in the store", "in the batch"])
@pytest.mark.parametrize(
    ("time", "delay", "inside"),
    [
        (NOW - 100, 0, False),
        (NOW - 99, 0, True),
        (NOW, 0, True),
        (NOW - 107, 7, False),
        (NOW - 106, 7, True),
        (NOW - 7, 7, True),
        (NOW - 6, 7, False),
        (NOW, 7, False),
    ],
)
def test_a_window_is_open_at_its_start_and_closed_at_its_end(time, delay, inside, stored) -> None:
    assert counted(time, delay, 100, stored=stored) is inside


@pytest.mark.parametrize("stored", [True, False], ids=["in the store", "in the batch"])
def test_events_of_one_instant_are_ordered_by_their_ids(stored: bool) -> None:
    before, after = Event(NOW, 49), Event(NOW, 51)
    row = Row(Event(NOW, 50))
    if stored:
        found = aggregated([row], [Window(0, 100)], [[before, after]])
    else:
        found = aggregated([row, Row(before), Row(after)], [Window(0, 100)])
    assert found.events[0, 0] == 2


@pytest.mark.parametrize("stored", [True, False], ids=["in the store", "in the batch"])
def test_a_delayed_window_that_ends_at_an_instant_counts_all_of_it(stored: bool) -> None:
    events = [Event(NOW - 7, 49), Event(NOW - 7, 51)]
    row = Row(Event(NOW, 50))
    if stored:
        found = aggregated([row], [Window(7, 100)], [events])
    else:
        found = aggregated([row, *map(Row, events)], [Window(7, 100)])
    assert found.events[0, 0] == 2


def test_a_fraud_counts_from_the_moment_it_is_known() -> None:
    rows = [Row(Event(NOW + late, 50 + late), group=late) for late in (0, 1, 2)]
    found = aggregated(rows, [Window(0, 100)], [[Event(NOW - 1, 1, fraud_known_at=NOW + 1)]])
    assert found.fraud[:, 0].tolist() == [0, 1, 1]
    assert found.events[:, 0].tolist() == [2, 2, 2]


def test_a_row_that_the_store_holds_already_counts_once() -> None:
    found = aggregated([Row(Event(NOW, 1, 30))], [Window(0, 100)], [[Event(NOW - 1, 2, 5), Event(NOW, 1, 30)]])
    assert (found.events[0, 0], found.amount[0, 0]) == (2, 35)


def test_a_row_that_is_sent_twice_counts_once_for_both_and_for_later_rows() -> None:
    twice = Row(Event(NOW, 1, 30))
    found = aggregated([twice, Row(Event(NOW + 1, 2, 5)), twice], [Window(0, 100)])
    assert found.events[:, 0].tolist() == [1, 2, 1]
    assert found.amount[:, 0].tolist() == [30, 35, 30]


def test_amounts_add_up_exactly_where_binary_floats_would_not() -> None:
    large = 100_000_000_000
    rows = [Row(Event(NOW, i, large + i)) for i in range(1_000)]
    found = aggregated(rows, [Window(0, 1)])
    assert found.amount[999, 0] == 1_000 * large + sum(range(1_000))
