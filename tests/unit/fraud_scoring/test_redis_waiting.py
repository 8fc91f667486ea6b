"""What waits in a client's memory: by partition, and by entity, in order and once."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_scoring import events
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.redis import waiting
from fraud_scoring.stores.redis.feed import Head
from fraud_scoring.stores.redis.partitions import PARTITIONS, partition_of
from fraud_scoring.stores.redis.waiting import Waiting, merged
from fraud_scoring.windows import NEVER, Int64

LAYOUT = Layout(0, 1, 4, ((2, "customer", 10), (3, "terminal", 20)))
OTHER = Layout(0, 1, 4, ((3, "customer", 10), (2, "device", 20)))


def batch(rng: np.random.Generator, n: int, first: int) -> Int64:
    rows = rng.integers(-(2**63), 2**63 - 1, (n, 5))
    rows[:, 0], rows[:, 1] = first + np.arange(n), rng.integers(0, 50, n)
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 40)
    rows[:, 2:4] = keys[rng.integers(0, 40, (n, 2))]
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_what_waits_is_what_came_after_what_is_written(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, drained = Waiting(room=4), np.zeros(PARTITIONS, np.int64)
    mine.begin(drained)
    came: list[tuple[str, int, int, tuple[int, ...]]] = []
    for number in range(1, 40):
        layout = OTHER if rng.random() < 0.2 else LAYOUT
        rows = batch(rng, int(rng.integers(0, 30)), 1_000 * number)
        waits = rng.random((len(rows), 2)) < 0.8
        mine.add(rows, waits, layout, Head(number, b"12345678"))
        for i, position in zip(*np.nonzero(waits), strict=True):
            column, name, _ = layout.entities[position]
            event = tuple(rows[i, [1, 0, 4]].tolist())
            came.append((name, int(rows[i, column]), number, event))
        further = rng.integers(0, number + 1, PARTITIONS) * (rng.random(PARTITIONS) < 0.2)
        drained = np.maximum(drained, further)
        mine.is_drained(further)
        left = [(name, key, event) for name, key, at, event in came if at > drained[partition_of(np.array([key]))[0]]]
        found = []
        for partition in range(PARTITIONS):
            share = mine.share(partition)
            assert share.drained == drained[partition]
            assert bool(share.kinds) == mine.waits_in(partition)
            for kind, keys, counts, many in share.kinds:
                assert (partition_of(keys) == partition).all()
                assert counts.sum() == len(many)
                assert (many[:, 3] == NEVER).all()
                of_each = np.split(many[:, :3], np.cumsum(counts)[:-1])
                for key, events_of in zip(keys.tolist(), of_each, strict=True):
                    found += [(kind.name, key, tuple(event)) for event in events_of.tolist()]
        assert sorted(found) == sorted(set(left))
        keys = np.unique([key for _, key, _ in left][:20] or [5])
        later = drained + rng.integers(0, 3, PARTITIONS)
        offsets, events_of = mine.of(mine.kind(LAYOUT, 0), keys, partition_of(keys), later)
        for k, key in enumerate(keys.tolist()):
            expected = [
                event
                for name, other, at, event in came
                if (name, other) == ("customer", key) and at > later[partition_of(np.array([key]))[0]]
            ]
            assert [tuple(one) for one in events_of[offsets[k] : offsets[k + 1], :3].tolist()] == sorted(expected)


def test_what_is_due_is_what_was_written_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST", 100)
    monkeypatch.setattr(waiting, "MOST_BATCHES", 5)
    mine, rng = Waiting(), np.random.default_rng(1)
    mine.add(batch(rng, 20, 0), np.ones((20, 2), np.bool_), LAYOUT, Head(1, b"12345678"))
    assert mine.is_due() == []
    mine.is_drained(np.where(np.arange(PARTITIONS) < 40, 1, 0))
    for number in (2, 3):
        mine.add(batch(rng, 50, 1_000 * number), np.ones((50, 2), np.bool_), LAYOUT, Head(number, b"12345678"))
    due = mine.is_due()
    assert len(due) == waiting.MOST_AT_ONCE
    assert min(due) >= 40
    mine.is_drained(np.full(PARTITIONS, 3))
    assert mine.is_due() == []
    mine.hasten(7)
    assert mine.is_due() == [7]
    mine.is_drained(np.where(np.arange(PARTITIONS) == 7, 4, 0))
    assert mine.is_due() == []
    mine.add(batch(rng, 1, 0), np.zeros((1, 2), np.bool_), LAYOUT, Head(9, b"12345678"))
    assert len(mine.is_due()) == waiting.MOST_AT_ONCE, "so many batches since"


def packed(*of: tuple[int, int]) -> bytes:
    return b"".join(events.pack(time, identifier, 5) for time, identifier in of)


def entries(*of: tuple[int, int]) -> Int64:
    return np.array([(time, identifier, 7, NEVER) for time, identifier in of], np.int64)


def test_an_entity_is_its_string_and_what_waits_for_it() -> None:
    assert merged(b"", entries((1, 1))) == entries((1, 1)).tobytes()
    assert merged(packed((1, 1)), entries((1, 2), (3, 1))) == packed((1, 1)) + entries((1, 2), (3, 1)).tobytes()
    among = merged(packed((1, 1), (5, 1)), entries((3, 9), (3, 9), (5, 1), (6, 1)))
    assert among == packed((1, 1)) + entries((3, 9)).tobytes() + packed((5, 1)) + entries((6, 1)).tobytes()


def test_what_is_older_than_the_newest_part_of_a_busy_entity_must_be_written_first() -> None:
    stamp = bytes(16)
    assert merged(stamp + packed((5, 1), (9, 1)), entries((7, 1))) == stamp + packed((5, 1)) + entries(
        (7, 1)
    ).tobytes() + packed((9, 1))
    assert merged(stamp + packed((5, 1), (9, 1)), entries((4, 1))) is None
