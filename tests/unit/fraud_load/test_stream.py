"""A history as a stream: who is told what, and when, against the promise written out row by row."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_data import Transactions
from fraud_load.stream import label_rows, requests, steps
from fraud_scoring.wire import MAX_ROWS
from support.rows import DEFAULT_SCHEMA, MONDAY_US, SEEDED, row


class Event(NamedTuple):
    time: int
    is_fraud: bool
    known_after: int


EVENTS = st.lists(st.builds(Event, st.integers(0, 12), st.booleans(), st.integers(1, 9)), min_size=1, max_size=30).map(
    lambda events: sorted(events, key=lambda event: event.time)
)


def history(events: list[Event]) -> Transactions:
    """Transaction i is event i; times count from a Monday."""
    return Transactions(
        np.array([row(i, MONDAY_US + event.time) for i, event in enumerate(events)], np.int64),
        np.array([event.is_fraud for event in events], np.int8),
        None,
        np.array([MONDAY_US + event.time + event.known_after for event in events], np.int64),
    )


def stream(events: list[Event], batch: int) -> list[tuple[list[list[int]], range]]:
    """(labels told, rows sent) of each step."""
    data = history(events)
    labels = label_rows(data, DEFAULT_SCHEMA, 6.0)
    return [
        (step.labels.tolist(), range(step.start, step.stop))
        for step in steps(data.rows[:, DEFAULT_SCHEMA.time_index], labels, batch)
    ]


@given(EVENTS, st.integers(1, 8))
@settings(SEEDED, max_examples=500)
def test_every_row_is_sent_once_and_in_order_in_batches_that_are_not_too_large(events: list[Event], batch: int) -> None:
    parts = [rows for _, rows in stream(events, batch)]
    assert [i for rows in parts for i in rows] == list(range(len(events)))
    assert all(1 <= len(rows) <= batch for rows in parts)


@given(EVENTS, st.integers(1, 8))
@settings(SEEDED, max_examples=500)
def test_every_row_comes_after_the_frauds_known_at_its_time_and_before_all_others(
    events: list[Event], batch: int
) -> None:
    told: set[int] = set()
    for labels, rows in stream(events, batch):
        told |= {identifier for identifier, is_fraud, _ in labels if is_fraud}
        for i in rows:
            now = events[i].time
            assert told == {
                j for j, event in enumerate(events) if event.is_fraud and event.time + event.known_after <= now
            }


@given(EVENTS, st.integers(1, 8))
@settings(SEEDED, max_examples=500)
def test_every_label_is_told_once_after_its_transaction_and_not_before_it_is_known(
    events: list[Event], batch: int
) -> None:
    sent: set[int] = set()
    told: list[int] = []
    for labels, rows in stream(events, batch):
        for identifier, is_fraud, known_at in labels:
            event = events[identifier]
            assert identifier in sent
            assert is_fraud == event.is_fraud
            assert known_at - MONDAY_US == event.time + event.known_after <= events[rows.start].time
            told.append(identifier)
        sent |= set(rows)
    last_step = stream(events, batch)[-1][1].start
    due = {j for j, event in enumerate(events) if event.time + event.known_after <= events[last_step].time}
    assert len(told) == len(set(told))
    assert set(told) == due


@given(EVENTS, st.integers(1, 8))
@settings(SEEDED, max_examples=500)
def test_a_batch_is_cut_short_only_where_a_fraud_becomes_known(events: list[Event], batch: int) -> None:
    for (_, rows), (labels, _) in pairwise(stream(events, batch)):
        assert len(rows) == batch or any(is_fraud for _, is_fraud, _ in labels)


def test_labels_come_in_the_order_in_which_they_became_known() -> None:
    data = history([Event(0, True, 9), Event(1, False, 1), Event(2, True, 2), Event(3, False, 1)])
    labels = label_rows(data, DEFAULT_SCHEMA, 6.0)
    assert labels[:, 0].tolist() == [1, 2, 3, 0]
    assert labels[:, 1].tolist() == [0, 1, 0, 1]
    assert (labels[:, 2] - MONDAY_US).tolist() == [2, 4, 4, 9]


def test_a_history_without_labels_tells_none() -> None:
    data = Transactions(history([Event(0, True, 1), Event(5, True, 1)]).rows)
    labels = label_rows(data, DEFAULT_SCHEMA, 6.0)
    assert labels.shape == (0, 3)
    assert [len(step.labels) for step in steps(data.rows[:, 1], labels, 1)] == [0, 0]


def test_requests_are_as_large_as_a_request_may_be() -> None:
    rows = np.arange(2 * MAX_ROWS + 1).reshape(-1, 1)
    parts = list(requests(rows))
    assert [len(part) for part in parts] == [MAX_ROWS, MAX_ROWS, 1]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert list(requests(rows[:0])) == []
