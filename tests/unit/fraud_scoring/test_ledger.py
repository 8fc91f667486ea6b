"""An entity's past against a plain dictionary of its events, and what is folded against the exact windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_scoring import events, ledger
from fraud_scoring.ledger_words import laid_out, lay_out_newer
from fraud_scoring.past import NEWER, OLDER, PARTS, Past, split
from fraud_scoring.summary import summarise, summarise_lying
from fraud_scoring.windows import EVENT_WIDTH, NEVER, Aggregates, Folding, History, aggregate
from support.rows import SEEDED, Int64

SLOT = 10
WHOLE = Folding(exact=1_000, slot_us=SLOT, recent=2, seal_at=5, join_at=10)
FOLDED = Folding(exact=6, slot_us=SLOT, recent=2, seal_at=5, join_at=10)
FOLDINGS = {
    "ledger": WHOLE,
    "folded": FOLDED,
    "folded far back": FOLDED._replace(exact=12),
    "one part": FOLDED._replace(join_at=0),
    "never joined": WHOLE._replace(join_at=1_000),
}
LOOKS = np.array([[0, 35, 3, 1, 150], [7, 38, 2, -1, 0]], np.int64)
"""At the newest 3 amounts of 35 µs, unusual above 1.5 times the second window's mean; at the frauds of 2 events."""
REACH = np.array([[0, 3], [7, 2], [20, 0], [35, 0], [45, 0], [90, 0]], np.int64)
DELAY, LENGTH = np.array([0, 0, 7, 7, 20], np.int64), np.array([20, 90, 13, 83, 25], np.int64)
"""Every edge of these windows, and of what is looked at, is in REACH."""
KEEP = 120
NOTHING = ledger.pack(ledger.EMPTY)


class Arrival(NamedTuple):
    time: int
    identifier: int
    amount: int


@dataclass
class Entity:
    """A stored past: the values that a store would keep, and its ledger as it is held in memory."""

    folding: Folding
    keep: int = KEEP
    value: bytes = b""
    ledgers: dict[int, bytes] = field(default_factory=dict)
    held: Int64 | None = None
    arrived: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def _store(self, past: Past) -> None:
        self.value = past.value
        self.ledgers = {part: packed for part, packed in (self.ledgers | past.ledgers).items() if packed}
        newer = self._part(NEWER)
        if not (past.unchanged & OLDER and self.held is not None and lay_out_newer(self.held, newer)):
            self.held = laid_out(self._part(OLDER), newer, self.folding.join_at)
        assert split(self.value)[1] == sum(self.ledgers)
        assert len(split(self.value)[0]) <= self.folding.seal_at * events.EVENT.size

    def add(self, *arrivals: Arrival) -> None:
        past = Past(self.value, self._part, self.keep, self.folding)
        for arrival in arrivals:
            past.add(events.pack(*arrival))
            self.arrived.setdefault((arrival.time, arrival.identifier), [*arrival, NEVER])
        self._store(past)

    def label(self, time: int, identifier: int, known_at: int) -> None:
        before = self.arrived[time, identifier][3]
        past = Past(self.value, self._part, self.keep, self.folding)
        past.set_fraud_known_at(time, identifier, known_at, before)
        self.arrived[time, identifier][3] = known_at
        self._store(past)

    def _part(self, part: int) -> bytes:
        return self.ledgers.get(part, NOTHING)

    def history(self, rows: Int64, way: str) -> History:
        """What a store hands to the kernel for `rows` [N, 4]: from a ledger that is held, that is packed, or all."""
        recent, parts = split(self.value)
        newer = events.unpack(recent).copy()
        segment, offsets = np.zeros(len(rows), np.int64), np.array([0, len(newer)], np.int64)
        if not parts:
            return History(segment, offsets, newer)
        if way == "whole":
            spans = np.concatenate([ledger.spans(ledger.unpack(self._part(part))) for part in PARTS])
            return History(segment, offsets, newer, np.array([0, len(spans)], np.int64), spans)
        batch = segment, np.ascontiguousarray(rows[:, :2]), offsets, newer, REACH, self.folding
        if way == "packed":
            return History(segment, offsets, newer, *summarise(self._packed(), *batch))
        assert self.held is not None
        lying = np.array([[0, self.held.ctypes.data, len(self.held)]], np.int64)
        return History(segment, offsets, newer, *summarise_lying(lying, *batch))

    def _packed(self) -> list[tuple[int, bytes]]:
        return [(0, self.ledgers[part]) for part in sorted(self.ledgers)]

    def windows(self, rows: Int64) -> Aggregates:
        """The windows of `rows`, which are the same whatever way their history comes."""
        together = np.zeros(len(rows), np.int64)
        whole, packed, held = (
            aggregate(rows, together, self.history(rows, way), DELAY, LENGTH, self.folding, LOOKS)
            for way in ("whole", "packed", "held")
        )
        assert same(packed, held)
        assert same(packed, whole)
        return packed

    def replayed(self, rows: Int64, folding: Folding) -> Aggregates:
        """The windows of `rows` over all that arrived, as a replay computes them."""
        past = np.array(sorted(self.arrived.values()), np.int64).reshape(-1, EVENT_WIDTH)
        both = np.concatenate([past, rows])
        nothing = History(np.zeros(len(both), np.int64), np.zeros(2, np.int64), np.empty((0, EVENT_WIDTH), np.int64))
        found = aggregate(both, np.zeros(len(both), np.int64), nothing, DELAY, LENGTH, folding, LOOKS)
        return Aggregates(*(part[len(past) :] for part in found))


def rows_at(*orders: tuple[int, int]) -> Int64:
    return np.array([[time, identifier, 5, NEVER] for time, identifier in orders], np.int64)


def same(one: Aggregates, other: Aggregates) -> bool:
    return all((a == b).all() for a, b in zip(one, other, strict=True))


STREAMS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 50)), min_size=1, max_size=60)
"""Time since the one before, and amount."""
LABELS = st.lists(st.tuples(st.integers(0, 59), st.integers(0, 40), st.booleans()), max_size=20)
"""Which event, known how long after it, and whether it is taken back."""


def in_order(stream: list[tuple[int, int]]) -> list[Arrival]:
    times = np.cumsum([step for step, _ in stream]).tolist()
    return [Arrival(time, i, amount) for i, (time, (_, amount)) in enumerate(zip(times, stream, strict=True))]


@given(STREAMS, LABELS, st.lists(st.integers(1, 7), min_size=1, max_size=9))
@settings(SEEDED, max_examples=300)
@pytest.mark.parametrize("folding", FOLDINGS.values(), ids=FOLDINGS.keys())
def test_a_live_stream_finds_what_a_replay_finds(folding: Folding, stream, labels, cuts) -> None:
    """Any mix of batches; each label is told once it is known, and some are taken back."""
    serve_and_compare(folding, stream, labels, cuts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("folding", FOLDINGS.values(), ids=FOLDINGS.keys())
def test_so_does_a_long_one(folding: Folding, seed: int) -> None:
    """Long enough for ledgers of two parts with what is folded in the older, which few short streams come to."""
    rng = np.random.default_rng(seed)
    stream = np.stack([rng.integers(0, 10 - 2 * seed, 150), rng.integers(1, 50, 150)], axis=1).tolist()
    labels = np.stack([rng.integers(0, 150, 40), rng.integers(0, 40, 40), rng.random(40) < 0.3], axis=1).tolist()
    serve_and_compare(folding, stream, labels, rng.integers(1, 6, 9).tolist())


def serve_and_compare(folding: Folding, stream, labels, cuts) -> None:
    arrivals, entity = in_order(stream), Entity(folding)
    due = sorted({(arrivals[i].time + late, i, back) for i, late, back in labels if i < len(arrivals)})
    at = 0
    while at < len(arrivals):
        batch = arrivals[at : at + cuts[at % len(cuts)]]
        while due and due[0][0] <= batch[0].time and due[0][1] < at:
            known_at, i, back = due.pop(0)
            order = arrivals[i].time, arrivals[i].identifier
            if entity.arrived[order][3] == NEVER:
                entity.label(*order, known_at)
            elif back:
                entity.label(*order, NEVER)
        rows = rows_at(*((a.time, a.identifier) for a in batch))
        rows[:, 2] = [a.amount for a in batch]
        found = entity.windows(rows)
        assert same(found, entity.replayed(rows, folding))
        entity.add(*batch)
        at += len(batch)


@given(STREAMS, st.randoms(use_true_random=False), LABELS)
@settings(SEEDED, max_examples=200)
@pytest.mark.parametrize("join_at", [0, 10, 1_000])
def test_a_ledger_is_exact_whatever_comes_late_twice_or_with_a_label(join_at, stream, random, labels) -> None:
    arrivals, entity = in_order(stream), Entity(WHOLE._replace(join_at=join_at), keep=10_000)
    late = random.sample(arrivals, len(arrivals)) + random.choices(arrivals, k=5)
    entity.add(*late[:10])
    for one in late[10:]:
        entity.add(one)
    for i, known, back in labels:
        if i < len(arrivals):
            order = arrivals[i].time, arrivals[i].identifier
            entity.label(*order, NEVER if back else order[0] + known)
    now = arrivals[-1].time
    rows = rows_at(*((time, 1_000) for time in range(0, now + 20, 7)), *((a.time, a.identifier) for a in arrivals[:3]))
    for row in rows:
        found = entity.windows(row[None, :])
        assert same(found, entity.replayed(row[None, :], WHOLE))
    entity.windows(rows)


def exact_windows(entity: Entity, now: int, since: int, until: int, until_id: int) -> tuple[int, int, int]:
    inside = [
        event
        for event in entity.arrived.values()
        if since < event[0] <= until and (event[0], event[1]) <= (now, until_id)
    ]
    return len(inside), sum(event[2] for event in inside), sum(event[3] <= now for event in inside)


@given(STREAMS, st.randoms(use_true_random=False), LABELS, st.booleans())
@settings(SEEDED, max_examples=300)
def test_an_edge_among_folded_events_lies_less_than_a_slot_too_late_and_all_else_is_exact(
    stream, random, labels, in_time
) -> None:
    """In order or not: each window is the exact one with edges moved by 0 to SLOT − 1; labels known by then."""
    # among events of one moment, an edge may lie between two ids, which no moved time would say
    arrivals, entity = in_order([(max(step, 1), amount) for step, amount in stream]), Entity(FOLDED, keep=10_000)
    for one in arrivals if in_time else random.sample(arrivals, len(arrivals)):
        entity.add(one)
    now = arrivals[-1].time + 1
    for i, known in {i: known for i, known, _ in labels}.items():  # a store tells a past what changes, once
        if i < len(arrivals) and arrivals[i].time + known <= now:
            entity.label(arrivals[i].time, arrivals[i].identifier, arrivals[i].time + known)
    found = np.stack(entity.windows(rows_at((now, 1_000)))[:3], axis=2)[0]
    own = np.array([1, 5, 0])
    for k, window in enumerate(found):
        until = now - int(DELAY[k])
        since = until - int(LENGTH[k])
        moved = range(SLOT) if DELAY[k] else range(1)
        possible = [exact_windows(entity, now, since + a, until + b, 1_000) for a in range(SLOT) for b in moved]
        mine = window - own if DELAY[k] == 0 else window
        assert tuple(mine.tolist()) in possible


@given(STREAMS, st.randoms(use_true_random=False))
@settings(SEEDED, max_examples=200)
def test_what_is_folded_does_not_depend_on_the_order_of_arrival(stream, random) -> None:
    arrivals = in_order(stream)
    one, other = Entity(FOLDED, keep=10_000), Entity(FOLDED, keep=10_000)
    one.add(*arrivals)
    for late in random.sample(arrivals, len(arrivals)):
        other.add(late)
    rows = rows_at((arrivals[-1].time, 1_000), (arrivals[-1].time + 3, 1_001))
    assert same(one.windows(rows), other.windows(rows))


def test_a_hot_entity_stays_small_and_its_counts_whole() -> None:
    folding, entity = Folding(exact=500, slot_us=1_000), Entity(Folding(exact=500, slot_us=1_000), keep=50_000)
    for start in range(0, 60_000, 1_000):
        entity.add(*(Arrival(time, time, 3) for time in range(start, start + 1_000)))
    slots = entity.keep // folding.slot_us + 2
    size = len(entity.value) + sum(map(len, entity.ledgers.values()))
    assert size < 32 * (folding.exact + folding.seal_at + folding.join_at + 512 + slots)
    spans = np.concatenate([ledger.spans(ledger.unpack(entity.ledgers[part])) for part in PARTS])
    recent = events.unpack(split(entity.value)[0])
    assert (spans[:, 2].sum() + len(recent), spans[:, 3].sum() + 3 * len(recent)) == pytest.approx(
        (50_000, 150_000), abs=3 * (folding.join_at + folding.seal_at)
    )
    assert spans[-folding.exact :, 2].tolist() == [1] * folding.exact


def test_labels_told_long_before_they_are_known_wait_in_their_slots() -> None:
    entity = Entity(FOLDED, keep=10_000)
    entity.add(*(Arrival(time, time, 3) for time in range(60)))
    for time in (1, 2, 3):
        entity.label(time, time, 60 + 5 * time)
    for now, known in ((64, 0), (65, 1), (69, 1), (70, 2), (75, 3)):
        assert entity.windows(rows_at((now, 1_000))).fraud[0, 1] == known
    entity.label(2, 2, NEVER)
    for now, known in ((65, 1), (70, 1), (75, 2)):
        assert entity.windows(rows_at((now, 1_000))).fraud[0, 1] == known


def test_a_ledger_goes_when_all_of_it_is_too_old() -> None:
    entity = Entity(WHOLE)
    entity.add(*(Arrival(time, time, 3) for time in range(20)))
    assert set(entity.ledgers) == {OLDER, NEWER}
    entity.add(Arrival(20 + KEEP, 99, 3))
    assert entity.ledgers == {}
    assert events.unpack(entity.value)[:, 1].tolist() == [99]
