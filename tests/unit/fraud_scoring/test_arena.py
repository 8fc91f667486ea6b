"""An arena does to a slot what `Past` does to an entity, or says that it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_scoring import events
from fraud_scoring.past import Past
from fraud_scoring.stores.arena import Arena
from fraud_scoring.windows import Folding

FOLDING = Folding(exact=1_000, recent=4, seal_at=10)
KEEP_US = 100
TIME_ID_AMOUNT = np.array([1, 0, 3], np.int64)
ENTITY = 2


def no_ledger(_part: int) -> bytes:
    return b""


def rows_of(rng: np.random.Generator, n: int, entities: int, now: int) -> np.ndarray:
    """id, time, entity, amount; times around `now`, so that some come late and some twice."""
    return np.stack(
        [rng.integers(0, 8, n), now + rng.integers(-30, 10, n), rng.integers(0, entities, n), rng.integers(1, 99, n)], 1
    )


@pytest.mark.parametrize("seed", range(20))
def test_it_adds_as_a_past_adds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arena, truth = Arena(b"x", FOLDING), dict.fromkeys(range(5), b"")
    for key, value in truth.items():
        assert arena.load(key, value)
    for batch in range(60):
        rows = rows_of(rng, 4, len(truth), 20 * batch)
        left = set(arena.append(arena.slots(rows, ENTITY), rows, TIME_ID_AMOUNT, KEEP_US, batch, block=True).tolist())
        blocked = {int(rows[i, ENTITY]) for i in left}
        for i, (identifier, time, key, amount) in enumerate(rows.tolist()):
            past = Past(truth[key], no_ledger, KEEP_US, FOLDING)
            past.add(events.pack(time, identifier, amount))
            if i in left:
                assert past.ledgers or key in blocked
                truth[key] = past.value
                continue
            assert not past.ledgers
            truth[key] = past.value
        for key in blocked:
            arena.drop(key)
            assert arena.load(key, truth[key])
        assert {key: arena.value(arena.slot(key)) for key in truth} == truth


def test_it_finds_each_of_many_keys_and_no_other() -> None:
    rng = np.random.default_rng(1)
    keys = np.unique(rng.integers(-(2**63), 2**63 - 1, 5_000))
    arena = Arena(b"x")
    for there in np.array_split(keys, 7):
        arena.reserve(len(there), 0)
        for key in there.tolist():
            assert arena.load(key, events.pack(key, 1, 1))
    gone = set(rng.permutation(keys)[:2_000].tolist())
    for key in gone:
        arena.drop(key)
    for key in keys.tolist():
        slot = arena.slot(key)
        assert (slot < 0) == (key in gone)
        assert slot < 0 or arena.value(slot) == events.pack(key, 1, 1)
    assert arena.slot(int(keys[0]) - 1) == -1


def test_a_value_of_too_many_events_has_no_slot() -> None:
    arena = Arena(b"x", FOLDING)
    assert not arena.load(1, b"".join(events.pack(time, 1, 1) for time in range(11)))
    assert arena.slot(1) == -1


def test_it_lets_go_what_was_not_used_for_longest_and_never_what_the_base_lacks() -> None:
    arena = Arena(b"x", FOLDING, most_slots=1_024)
    keys = np.arange(1_024)
    rows = np.stack([keys, keys, keys, keys], axis=1)
    for key in keys.tolist():
        arena.load(key, b"")
    in_batch_7, looked_at = rows[:10], rows[500:]
    arena.append(arena.slots(in_batch_7, ENTITY), in_batch_7, TIME_ID_AMOUNT, KEEP_US, 7, block=True)
    arena.slots(looked_at, ENTITY)
    arena.reserve(100, drained=7)
    assert all(arena.slot(key) >= 0 for key in (*range(10), *range(500, 1_024)))
    assert sum(arena.slot(key) < 0 for key in keys.tolist()) == 256
    arena.reserve(1_024, drained=8)
    assert arena.slot(3) < 0


def test_what_a_batch_changed_is_what_the_base_lacks_until_it_is_told() -> None:
    arena = Arena(b"x", FOLDING)
    rows = np.array([[1, 10, 5, 1], [2, 11, 5, 1], [3, 12, 6, 1]])
    for key in (5, 6, 7):
        arena.load(key, b"")
    slots = arena.slots(rows, ENTITY)
    arena.append(slots, rows, TIME_ID_AMOUNT, KEEP_US, 3, block=True)
    assert arena.keys(arena.changed(slots, 0, 4)) == arena.keys(arena.changed(slots, 3, 4)) == [5, 6]
    assert arena.keys(arena.changed(slots, 0, 3)) == arena.keys(arena.changed(slots, 4, 9)) == []
    arena.is_in_base(slots[:1])
    assert arena.keys(arena.changed(slots, 0, 4)) == [6]
    rows[:, 0] += 9
    again = arena.slots(rows, ENTITY)
    arena.append(again, rows, TIME_ID_AMOUNT, KEEP_US, 9, block=True)
    assert arena.keys(arena.changed(again, 0, 4)) == [6]
    assert arena.keys(arena.changed(again, 4, 10)) == [5, 6]
