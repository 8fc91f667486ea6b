"""What a shadow scores, of what, what it drops first, and what its log says; with models that are written by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule, ScorecardFeature
from fraud_scoring.decision_log import Context, LogUnavailable, Shadowed, read, verify_log
from fraud_scoring.decision_log.export import export, last_rows
from fraud_scoring.decision_log.tail import Tail
from fraud_scoring.errors import ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.routing import BatchFeatures
from fraud_scoring.schema import Schema
from fraud_scoring.shadow import LATE_S, MOST_ROWS, Challenger, Shadow, ShadowLog
from fraud_scoring.stores import Answers, each
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import Int64
from support.decision_logs import DecisionLog, decision_log, recount
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, row

WRITER = "shadow-0"
NEVER_S = 3_600.0
"""The thread never looks: the test does."""
RELEASE, SOURCE = wire.VERDICT_COLUMNS.index("release"), wire.VERDICT_COLUMNS.index("source")


class HandModel:
    """Margins made of the release's number and the amount; remembers what it was asked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[Float32] = []
        self.fails = self.closed = False

    def __call__(self, features: Float32, until: float) -> Float32:
        self.asked.append(features)
        if self.fails:
            raise ReleaseUnavailable("it is away")
        return np.ascontiguousarray(features[:, :1] / np.float32(100) + np.float32(self.number / 100))

    def close(self) -> None:
        self.closed = True


def pipeline(number: int, model: HandModel, schema: Schema = DEFAULT_SCHEMA) -> Pipeline:
    nothing = np.empty(0)
    card = tuple(ScorecardFeature(feature.name, 0, nothing, np.zeros(1)) for feature in schema.features)
    rule = DecisionRule(number, np.array([0.0, 2.0]), np.array([0.0, 1.0]), 0.3, 0.6, card)
    return Pipeline(schema, rule, lambda features: model(features, 0.0))


class Stage:
    """Champion 3 over a store in memory, a shadow behind it, a log that both could write; time is the test's."""

    def __init__(self, log: DecisionLog, *challengers: int, schema: Schema = DEFAULT_SCHEMA) -> None:
        self.log = log
        self.now = 100.0
        self.log_fails = False
        self.begun: list[Challenger] = []
        self.store = MemoryStore(DEFAULT_SCHEMA, now_us=Clock())
        self.champion = pipeline(3, HandModel(3))
        self.models = {number: HandModel(number) for number in challengers}
        self.challengers = [
            Challenger(pipeline(n, model, schema), model, lambda: self.now) for n, model in self.models.items()
        ]
        self.shadow = Shadow(self._open, NEVER_S, lambda: self.now)
        self.follow(*self.challengers)

    def follow(self, *challengers: Challenger) -> None:
        wanted = {one.number: partial(self._begin, one) for one in challengers}
        self.shadow.follow(wanted, Context(3, DEFAULT_SCHEMA.document))

    def answer(self, rows: Int64, release: int = 3) -> Answers:
        """As the front door does: read, answer, record, hand over; the rows are the request's memory."""
        features = BatchFeatures(rows, self.store.read(rows))
        answers = self.champion.decide(features.by(self.champion))
        answers.verdict[:, RELEASE] = release
        self.store.record(rows, answers)
        self.shadow.take(rows, answers, features)
        return answers

    def look(self, after: float = 0.25) -> None:
        self.now += after
        self.shadow.look()

    def frames(self) -> list[Shadowed]:
        found = [frame.content() for frame, _ in read(self.log.folder / WRITER)]
        return [content for content in found if isinstance(content, Shadowed)]

    def _begin(self, challenger: Challenger) -> Challenger:
        self.begun.append(challenger)
        return challenger

    def _open(self, context: Context) -> ShadowLog:
        if self.log_fails:
            raise LogUnavailable("the disk is full")
        return self.log.writer(WRITER, context)


Begin = Callable[..., Stage]


def customers(count: int, first: int = 1) -> Int64:
    """One transaction of each of `count` customers."""
    return np.array([row(first + i, customer=first + i, amount=1_000 + 400 * i) for i in range(count)], np.int64)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log") as made:
        yield made


@pytest.fixture
def begin(log: DecisionLog) -> Iterator[Callable[..., Stage]]:
    """Stages; their threads end with the test."""
    begun: list[Stage] = []

    def begin(*challengers: int, schema: Schema = DEFAULT_SCHEMA) -> Stage:
        begun.append(Stage(log, *challengers, schema=schema))
        return begun[-1]

    yield begin
    for stage in begun:
        stage.shadow.close()


def test_a_challenger_scores_what_was_answered_and_the_log_has_both(begin: Begin) -> None:
    stage = begin(4)
    rows = customers(40)
    answers = stage.answer(rows.copy())
    assert stage.models[4].asked == []
    stage.look()
    (frame,) = stage.frames()
    expected = stage.challengers[0].pipeline.decide(answers.features)
    assert frame.release == 4
    assert frame.transaction.tobytes() == rows.tobytes()
    assert frame.champion.tolist() == [[3, wire.Source.PRIMARY, d] for d in answers.verdict[:, 0].tolist()]
    assert frame.champion_score.tobytes() == answers.score.tobytes()
    assert frame.score.tobytes() == expected.score.tobytes()
    assert frame.decision.tolist() == expected.verdict[:, 0].tolist()
    assert frame.dropped.tolist() == [0, 0, 0]
    assert len(set(frame.decision.tolist())) == 3


def test_a_challenger_of_the_same_schema_gets_the_champions_features_to_the_bit(begin: Begin) -> None:
    stage = begin(4, 5)
    answers = [stage.answer(customers(7, first)) for first in (1, 101, 201)]
    stage.look()
    for model in stage.models.values():
        (asked,) = model.asked  # one call for all that had gathered
        assert asked.tobytes() == np.concatenate([one.features for one in answers]).tobytes()


def test_another_schema_is_computed_from_what_the_champion_saw_and_not_from_what_came_since(begin: Begin) -> None:
    features = tuple(reversed(DEFAULT_SCHEMA.features[:9]))
    other = replace(DEFAULT_SCHEMA, features=features, document="another one")
    stage = begin(4, schema=other)
    expected = []
    for i in range(1, 6):
        rows = np.array([row(i, customer=1, terminal=1, time_us=MONDAY_US + i)], np.int64)
        expected.append(stage.challengers[0].pipeline.features(rows, stage.store.read(rows)))
        stage.answer(rows)
    stage.look()
    (asked,) = stage.models[4].asked
    assert asked.tobytes() == np.concatenate(expected).tobytes()
    assert len({one.tobytes() for one in expected}) == 5, "each saw those before it"


def test_rows_are_kept_when_the_requests_memory_is_used_again(begin: Begin) -> None:
    other = replace(DEFAULT_SCHEMA, document="another one")
    stage = begin(4, schema=other)
    rows = customers(5)
    features = stage.answer(rows).features
    before, rows[:] = rows.copy(), 7
    stage.look()
    assert stage.frames()[0].transaction.tobytes() == before.tobytes()
    assert stage.models[4].asked[0].tobytes() == features.tobytes()


def test_what_it_answered_itself_and_what_no_release_answered_is_left_out(begin: Begin) -> None:
    stage = begin(4, 5)
    stage.answer(customers(10), release=4)
    rows = customers(2, 50)
    nothing = np.empty((2, 0), np.float32)
    scorecard = Answers(np.zeros(2, np.float32), np.zeros((2, wire.VERDICT_WIDTH), np.int32), nothing)
    stage.shadow.take(rows, scorecard, BatchFeatures(rows, stage.store.read(rows)))
    stage.look()
    assert stage.models[4].asked == []
    assert [(frame.release, len(frame)) for frame in stage.frames()] == [(5, 10)]


def test_answers_that_were_given_one_by_one_are_scored_like_others(begin: Begin) -> None:
    stage = begin(4)
    rows = customers(6)
    features = BatchFeatures(rows, stage.store.read(rows))
    answers = stage.champion.decide(features.by(stage.champion))
    stage.shadow.take(rows, each(answers), features)
    stage.look()
    (frame,) = stage.frames()
    assert frame.champion_score.tobytes() == answers.score.tobytes()
    assert frame.score.tobytes() == stage.challengers[0].pipeline.decide(answers.features).score.tobytes()


def test_a_shadow_leaves_the_window_store_as_it_was(begin: Begin) -> None:
    stage, alone = begin(4), begin()
    for first in (1, 1, 21):
        for one in (stage, alone):
            one.answer(customers(20, first))
            one.look()
    rows = customers(50)
    assert [h.events.tobytes() for h in stage.store.read(rows)] == [h.events.tobytes() for h in alone.store.read(rows)]


def test_what_finds_no_room_is_dropped_at_once_and_counted(begin: Begin) -> None:
    stage = begin(4)
    rows = np.repeat(customers(1), 1_000, axis=0)
    features = BatchFeatures(rows, stage.store.read(rows))
    answers = stage.champion.decide(features.by(stage.champion))
    for _ in range(MOST_ROWS // 1_000 + 2):
        stage.shadow.take(rows, answers, features)
    stage.look()
    frames = stage.frames()
    assert sum(map(len, frames)) == MOST_ROWS
    assert sum(frame.dropped for frame in frames).tolist() == [2_000, 0, 0]
    stage.shadow.take(rows, answers, features)
    stage.look()
    assert stage.frames()[-1].dropped.tolist() == [0, 0, 0], "told once"
    assert sum(map(len, stage.frames())) == MOST_ROWS + 1_000, "there is room again"


def test_a_busy_front_door_is_not_disturbed_and_what_waits_too_long_is_dropped(begin: Begin) -> None:
    stage = begin(4)
    stage.answer(customers(10))
    for _ in range(3):
        stage.shadow.worked(0.24)
        stage.look()
    assert stage.models[4].asked == []
    stage.answer(customers(5, 100))
    for _ in range(8):
        stage.shadow.worked(0.24)
        stage.look(LATE_S / 8)
    stage.answer(customers(3, 200))
    stage.look()
    assert [len(one) for one in stage.models[4].asked] == [3], "the idle time came too late for the others"
    assert sum(frame.dropped for frame in stage.frames()).tolist() == [0, 15, 0]
    assert sum(map(len, stage.frames())) == 3


def test_a_short_burst_delays_the_shadow_and_drops_nothing(begin: Begin) -> None:
    stage = begin(4)
    stage.answer(customers(10))
    stage.shadow.worked(0.25)
    stage.look()
    stage.look()
    assert [(len(frame), frame.dropped.tolist()) for frame in stage.frames()] == [(10, [0, 0, 0])]


def test_a_challenger_that_does_not_answer_is_left_alone_for_a_while(begin: Begin) -> None:
    stage = begin(4, 5)
    stage.models[4].fails = True
    for first in (1, 11, 21):
        stage.answer(customers(10, first))
        stage.look()
    assert len(stage.models[4].asked) == 1
    assert len(stage.models[5].asked) == 3, "the other one goes on"
    stage.models[4].fails = False
    stage.now += 6.0
    stage.answer(customers(10, 31))
    stage.look()
    mine = [frame for frame in stage.frames() if frame.release == 4]
    assert sum(map(len, mine)) == 10
    assert sum(frame.dropped for frame in mine).tolist() == [0, 0, 30]


def test_what_was_dropped_is_told_where_nothing_is_scored(begin: Begin) -> None:
    stage = begin(4)
    stage.models[4].fails = True
    stage.answer(customers(10))
    stage.look()
    (frame,) = stage.frames()
    assert (len(frame), frame.dropped.tolist()) == (0, [0, 0, 10])


def test_scores_that_cannot_be_logged_are_counted_until_they_can(begin: Begin) -> None:
    stage = begin(4)
    stage.log_fails = True
    stage.answer(customers(10))
    stage.look()
    stage.log_fails = False
    stage.answer(customers(4, 50))
    stage.look()
    assert [(len(frame), frame.dropped.tolist()) for frame in stage.frames()] == [(4, [0, 0, 10])]


def test_a_new_table_counts_from_the_next_batch_on(log: DecisionLog, begin: Begin) -> None:
    stage = begin(4)
    stage.answer(customers(10))
    late = HandModel(6)
    stage.follow(Challenger(pipeline(4, HandModel(4)), HandModel(4)), Challenger(pipeline(6, late), late))
    stage.answer(customers(5, 50))
    stage.look()
    assert [one.number for one in stage.begun] == [4, 6], "who is known is not begun again"
    assert [len(one) for one in stage.models[4].asked] == [15], "it stays who it was"
    assert [len(one) for one in late.asked] == [5]
    stage.follow()
    assert not stage.shadow.is_on
    stage.look()
    (head,) = stage.log.folder.glob(f"{WRITER}/*.root.json")
    assert head.name == "00000001.root.json", "its log was closed"


def test_a_challenger_that_left_the_table_lets_its_model_go(log: DecisionLog, begin: Begin) -> None:
    stage = begin(4, 5)
    stage.follow()
    assert all(model.closed for model in stage.models.values())


def test_a_shadows_frames_are_passed_over_by_who_counts_decisions(
    log: DecisionLog, begin: Begin, tmp_path: Path
) -> None:
    log.write(200)
    counted = recount(log.folder)
    stage = begin(4)
    stage.answer(customers(30))
    stage.look()
    assert recount(log.folder) == counted
    log.close()
    found = verify_log(log.folder, log.public_key)
    assert (found.findings, found.writers, found.decisions) == ([], 2, 200)
    taken = Tail(log.folder, {}, lambda: log.clock.now_us + 10_000_000, lambda text: None).take(10_000)
    assert (taken.rows, sum(map(len, taken.batches)), taken.gaps) == (200, 200, [])
    assert export(log.folder, tmp_path / "out")["decisions"] == 200
    assert len(last_rows(log.folder, 1_000)) == 200


def test_the_thread_scores_what_is_taken_and_ends_with_its_log(tmp_path: Path) -> None:
    with decision_log(tmp_path / "log") as log:
        stage = Stage(log)
        scored = threading.Event()

        class Telling(HandModel):
            def __call__(self, features: Float32, until: float) -> Float32:
                scored.set()
                return super().__call__(features, until)

        model = Telling(4)

        stage.shadow = Shadow(lambda context: log.writer(WRITER, context), every_s=0.01)
        stage.follow(Challenger(pipeline(4, model), model))
        stage.answer(customers(10))
        assert scored.wait(20)
        stage.shadow.close()
        assert [len(frame) for frame in stage.frames()] == [10]
        assert (log.folder / WRITER / "00000001.root.json").exists()


def test_a_log_of_a_shadow_holds_the_champions_columns(log: DecisionLog, begin: Begin) -> None:
    stage = begin(4)
    stage.answer(customers(3))
    stage.look()
    first = next(read(log.folder / WRITER))[0].content()
    assert first == Context(3, DEFAULT_SCHEMA.document)
