"""The promise: what a replay computes over the past is what serving computed as it came, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fraud_scoring import wire
from fraud_scoring.features import Float32, replay
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.requests import Request
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import FOLDING, NEVER, Folding
from support.rows import DEFAULT_SCHEMA, HOUR_US, SLOT_US, Clock, History, Int64, label, schema_with, seeded_history
from support.stores import WindowRelease, same_bits

UNDELAYED = schema_with(
    name="undelayed",
    late_by_days=1,
    features=[
        {"name": "t_fraud_{days}d", "of": "fraud_rate", "entity": "terminal_key", "days": [1, 4]},
        {"name": "t_count_{days}d", "of": "count", "entity": "terminal_key", "days": [4], "delay_days": 1},
        {"name": "c_sum_{days}d", "of": "sum", "entity": "customer_key", "days": [0.25, 2]},
        {"name": "c_ratio_{days}d", "of": "ratio", "entity": "customer_key", "days": [0.25, 2]},
        {"name": "t_streak", "of": "fraud_streak", "entity": "terminal_key", "days": [4], "newest": 3},
        {
            "name": "t_genuine",
            "of": "genuine_days",
            "entity": "terminal_key",
            "days": [4],
            "delay_days": 1,
            "newest": 3,
        },
        {"name": "c_unusual", "of": "unusual_days", "entity": "customer_key", "days": [2], "newest": 4, "times": 1.2}
        | {"usual_days": 3, "usual_delay_days": 1},
        {"name": "c_peak", "of": "peak_ratio", "entity": "customer_key", "days": [2], "newest": 4, "usual_days": 4},
    ],
)
"""Fraud counts as soon as it is known, so that a label that comes a moment late is seen."""


def batches(history: History, rng: np.random.Generator) -> Iterator[slice]:
    """Batches of random sizes; none holds a row that already knows of a fraud within the same batch."""
    times, start = history.rows[:, 1], 0
    while start < len(times):
        stop = min(start + int(rng.integers(1, 25)), len(times))
        first_news = history.fraud_known_at[start:stop].min()
        stop = max(start + 1, min(stop, int(np.searchsorted(times, first_news, side="left"))))
        yield slice(start, stop)
        start = stop


def labels_known_by(history: History, told: set[int], stop: int) -> list[Int64]:
    """The labels that are known when row `stop` − 1 comes and were not told before."""
    now = history.rows[stop - 1, 1]
    due = [i for i in range(stop) if i not in told and history.fraud_known_at[i] <= now]
    told.update(due)
    return [label(history.rows[i, 0], known_at_us=history.fraud_known_at[i]) for i in due]


def requests_of(rows: Int64, rng: np.random.Generator) -> list[Request]:
    """The rows in any order, as one dynamic batch of several requests."""
    shuffled = rng.permutation(rows)
    cuts = np.unique(rng.integers(0, len(rows) + 1, 3))
    return [Request(part) for part in np.split(shuffled, cuts) if len(part)]


def served(schema: Schema, history: History, rng: np.random.Generator, folding: Folding = FOLDING) -> Float32:
    """Each row's features as a front door gives them that is sent the history as a live stream."""
    clock = Clock()
    store = MemoryStore(schema, now_us=clock, folding=folding)
    front_door = FrontDoor(schema, store, WindowRelease(store, schema, folding), now_us=clock)
    features: dict[int, Float32] = {}
    told: set[int] = set()
    for part in batches(history, rng):
        clock.now_us = int(history.rows[part.stop - 1, 1])
        for one in labels_known_by(history, told, part.stop):
            assert store.label(one).tolist() == [wire.Accepted.APPLIED]
        requests = requests_of(history.rows[part], rng)
        replies = front_door.answer(requests)
        for request, reply in zip(requests, replies, strict=True):
            assert isinstance(reply, Answers)
            features.update(zip(request.rows[:, 0].tolist(), reply.features, strict=True))
        if rng.random() < 0.2:
            again = front_door.answer(requests)
            assert all(same_bits(one, other) for one, other in zip(replies, again, strict=True))
    return np.stack([features[i] for i in history.rows[:, 0].tolist()])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("schema", [DEFAULT_SCHEMA, UNDELAYED], ids=lambda schema: schema.name)
def test_what_is_served_as_a_stream_is_what_a_replay_computes(schema: Schema, seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = seeded_history(rng, 300, days=40 + 30 * seed, customers=1 + seed, terminals=6 - seed)
    offline = replay(schema, history.rows, history.fraud_known_at)
    online = served(schema, history, rng)
    assert online.tobytes() == offline.tobytes()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("schema", [DEFAULT_SCHEMA, UNDELAYED], ids=lambda schema: schema.name)
@pytest.mark.parametrize(
    "folding",
    [Folding(exact=1_000, recent=2, seal_at=5), Folding(10, 11 * HOUR_US, 2, 5), Folding(1, 3 * SLOT_US, 1, 2)],
    ids=["ledgers", "folded", "all but the newest folded"],
)
def test_a_replay_folds_what_serving_folds(schema: Schema, folding: Folding, seed: int) -> None:
    rng = np.random.default_rng(seed)
    history = seeded_history(rng, 300, days=20 + 20 * seed, customers=1 + seed, terminals=6 - seed)
    online = served(schema, history, rng, folding)
    assert online.tobytes() == replay(schema, history.rows, history.fraud_known_at, folding).tobytes()
    exact = replay(schema, history.rows, history.fraud_known_at)
    assert (online.tobytes() == exact.tobytes()) is (folding.exact > 300)


def test_a_replay_in_one_piece_is_a_replay_of_its_past_and_the_rest_over_it() -> None:
    history = seeded_history(np.random.default_rng(9), 200)
    whole = replay(DEFAULT_SCHEMA, history.rows, history.fraud_known_at)
    for cut in (1, 50, 199):
        part = replay(DEFAULT_SCHEMA, history.rows[:cut], history.fraud_known_at[:cut])
        assert part.tobytes() == whole[:cut].tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_an_event_that_comes_late_sees_the_windows_of_its_own_time(seed: int) -> None:
    """Served in the order of arrival, a row sees what a replay of the rows that had arrived by then shows it."""
    rng = np.random.default_rng(seed)
    history = seeded_history(rng, 150, days=70, customers=2, terminals=2)
    lateness = rng.integers(0, DEFAULT_SCHEMA.late_by_us, len(history.rows))
    arrival = np.argsort(history.rows[:, 1] + lateness, kind="stable")
    rows = history.rows[arrival]
    store = MemoryStore(DEFAULT_SCHEMA, now_us=Clock(int(rows[:, 1].max())))
    release = WindowRelease(store)
    for i in range(len(rows)):
        one = rows[i : i + 1]
        answers = release(one)
        store.record(one, answers)
        assert answers.features.tobytes() == replay(DEFAULT_SCHEMA, rows[: i + 1])[i : i + 1].tobytes()


def test_the_stream_holds_repeats_labels_and_trimmed_windows() -> None:
    """Else the equality above would be cheap."""
    history = seeded_history(np.random.default_rng(5), 300, days=190)
    assert (history.fraud_known_at != NEVER).sum() > 50
    assert len(np.unique(history.rows[:, 1])) < len(history.rows)
    assert np.ptp(history.rows[:, 1]) > 2 * max(DEFAULT_SCHEMA.keep_us.values())
