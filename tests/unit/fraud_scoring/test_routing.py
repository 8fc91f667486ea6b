"""Who answers a row, who instead, and what the verdict says of it; with releases whose models are written by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from fraud_scoring import wire
from fraud_scoring.breaker import Breaker, Patience
from fraud_scoring.decision import DecisionRule, ScorecardFeature
from fraud_scoring.errors import ReleaseLate, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.routes import ByAmount, Canary, Fallback, Routes, bucket_of
from fraud_scoring.routing import Golden, InlineModel, Router, ServedRelease
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import Int64
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, row

SOON = 60.0
WIDTH = len(DEFAULT_SCHEMA.features)
RELEASE, SOURCE = wire.VERDICT_COLUMNS.index("release"), wire.VERDICT_COLUMNS.index("source")


class HandModel:
    """Margins made of the release's number and the amount; fails, hangs or lies where it is told to."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: list[int] = []
        self.fails = self.closed = False
        self.lies = False
        self.hangs: threading.Event | None = None

    def __call__(self, features: Float32, until: float) -> Float32:
        self.calls.append(len(features))
        if self.hangs is not None:
            self.hangs.wait(max(0.0, until - time.monotonic()))
            raise ReleaseLate("it did not answer in time")
        if self.fails:
            raise ReleaseUnavailable("it is away")
        margin = features[:, :1] / np.float32(1_000) + np.float32(self.number / 100 + self.lies)
        return np.ascontiguousarray(margin, np.float32)

    def close(self) -> None:
        self.closed = True


def rule(number: int) -> DecisionRule:
    nothing = np.empty(0)
    card = tuple(ScorecardFeature(feature.name, 0, nothing, np.zeros(1)) for feature in DEFAULT_SCHEMA.features)
    return DecisionRule(number, np.array([0.0, 2.0]), np.array([0.0, 1.0]), 0.5, 0.9, card, base_log_odds=-3.0)


class House:
    """A router over a store in memory, and the models of its releases."""

    def __init__(self, routes: Routes, schemas: dict[int, Schema] | None = None) -> None:
        self.models: dict[int, HandModel] = {}
        self.schemas = schemas or {}
        self.store = MemoryStore(DEFAULT_SCHEMA, now_us=Clock())
        self.reads = 0
        self.router = Router(routes, self._read, self.open)

    def open(self, number: int) -> ServedRelease:
        model = self.models[number] = HandModel(number)
        pipeline = Pipeline(
            self.schemas.get(number, DEFAULT_SCHEMA), rule(number), lambda features: model(features, SOON)
        )
        features = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
        golden = pipeline.decide(features)
        model.calls.clear()
        breaker = Breaker(Patience(failures=2, pause_s=0.01))
        return ServedRelease(pipeline, model, Golden(features, golden.score, golden.verdict), breaker)

    def ask(self, rows: Int64) -> Answers:
        found = self.router.answer(rows, time.monotonic() + SOON)
        assert isinstance(found, Answers)
        return found

    def _read(self, rows: Int64) -> Sequence[object]:
        self.reads += 1
        return self.store.read(rows)


def customers(count: int) -> Int64:
    """One transaction of each of `count` customers."""
    return np.array([row(i, customer=i, amount=1_000 + i) for i in range(1, count + 1)], np.int64)


def told(answers: Answers) -> set[tuple[int, int]]:
    """(release, source) of the answers."""
    return {(int(one[RELEASE]), int(one[SOURCE])) for one in answers.verdict}


def wait_for(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < give_up
        threading.Event().wait(0.005)


@pytest.fixture
def canary() -> House:
    """Production 3, canary 4 for a quarter, 2 before."""
    return House(replace(Routes(3, salt="s", previous=(2,)), canary=Canary(4, 2_500)))


def test_production_answers_everybody_where_nothing_else_is_said() -> None:
    house = House(Routes(3))
    assert told(house.ask(customers(50))) == {(3, wire.Source.PRIMARY)}
    assert house.models[3].calls == [50]


def test_a_canary_answers_its_customers_and_no_others(canary: House) -> None:
    rows = customers(400)
    verdict = canary.ask(rows).verdict
    chosen = bucket_of("s", np.ascontiguousarray(rows[:, 2])) < 2_500
    assert (verdict[chosen][:, [RELEASE, SOURCE]] == [4, wire.Source.CANARY]).all()
    assert (verdict[~chosen][:, [RELEASE, SOURCE]] == [3, wire.Source.PRIMARY]).all()
    assert 50 < chosen.sum() < 150


def test_rows_keep_their_order_and_their_values_when_releases_share_a_batch(canary: House) -> None:
    rows = customers(200)
    together = canary.ask(rows)
    alone = [canary.ask(one[None]) for one in rows]
    assert together.score.tobytes() == np.concatenate([one.score for one in alone]).tobytes()
    assert together.verdict.tobytes() == np.concatenate([one.verdict for one in alone]).tobytes()
    assert together.features.tobytes() == np.concatenate([one.features for one in alone]).tobytes()


def test_the_store_is_read_once_however_many_releases_answer(canary: House) -> None:
    canary.ask(customers(100))
    assert canary.reads == 1


def test_rows_of_one_batch_see_each_other_whichever_release_answers_them(canary: House) -> None:
    """The terminal of all rows is one; its customers are on both sides."""
    rows = customers(60)
    rows[:, 3] = 9
    rows[:, 1] = MONDAY_US + np.arange(60)
    shared, split = House(Routes(3)).ask(rows), canary.ask(rows)
    assert shared.features.tobytes() == split.features.tobytes()


def test_a_dry_run_is_answered_by_production_whoever_the_customer_is(canary: House) -> None:
    found = canary.router.answer_by_production(customers(100), time.monotonic() + SOON)
    assert isinstance(found, Answers)
    assert told(found) == {(3, wire.Source.PRIMARY)}


@pytest.mark.parametrize(
    ("away", "answers"),
    [
        ((4,), {(3, wire.Source.FALLBACK_RELEASE), (3, wire.Source.PRIMARY)}),
        ((3,), {(4, wire.Source.CANARY), (2, wire.Source.FALLBACK_RELEASE)}),
        ((2, 3, 4), {(3, wire.Source.SCORECARD)}),
    ],
)
def test_the_chain_answers_for_who_does_not(
    canary: House, away: tuple[int, ...], answers: set[tuple[int, int]]
) -> None:
    for number in away:
        canary.models[number].fails = True
    assert told(canary.ask(customers(100))) == answers


def test_without_a_scorecard_the_amount_decides() -> None:
    limits = ByAmount(review_from=1_010, decline_from=1_020)
    house = House(Routes(3, fallback=Fallback(scorecard=False, by_amount=limits)))
    house.models[3].fails = True
    answers = house.ask(customers(30))
    assert told(answers) == {(3, wire.Source.BY_AMOUNT)}
    assert answers.verdict[:, 0].tolist() == [0] * 9 + [1] * 10 + [2] * 11
    assert answers.features.shape == (30, 0)
    assert np.allclose(answers.score, 1 / (1 + np.exp(3.0)))


def test_a_release_that_hangs_costs_its_share_of_the_deadline_and_then_nothing(canary: House) -> None:
    hung = canary.models[3].hangs = threading.Event()
    for _ in range(2):
        found = canary.router.answer_by_production(customers(5), time.monotonic() + 1.0)
        assert isinstance(found, Answers)
        assert told(found) == {(2, wire.Source.FALLBACK_RELEASE)}
    asked = len(canary.models[3].calls)
    canary.router.close()
    canary.ask(customers(5))
    assert len(canary.models[3].calls) == asked, "its breaker is open"
    hung.set()


def test_no_time_left_is_no_failure_of_the_release(canary: House) -> None:
    for _ in range(5):
        found = canary.router.answer(customers(5), time.monotonic())
        assert isinstance(found, Answers)
        assert told(found) == {(3, wire.Source.SCORECARD)}
    assert told(canary.ask(customers(100))) == {(3, wire.Source.PRIMARY), (4, wire.Source.CANARY)}


def test_a_release_comes_back_when_its_golden_vectors_are_right() -> None:
    house = House(Routes(3))
    house.models[3].fails = True
    for _ in range(3):
        assert told(house.ask(customers(5))) == {(3, wire.Source.SCORECARD)}
    house.models[3].fails = False
    wait_for(lambda: told(house.ask(customers(5))) == {(3, wire.Source.PRIMARY)})


def test_a_release_that_answers_wrongly_stays_out() -> None:
    house = House(Routes(3))
    model = house.models[3]
    model.fails = True
    for _ in range(2):
        house.ask(customers(5))
    model.fails, model.lies = False, True
    tried = len(model.calls)
    wait_for(lambda: len(model.calls) > tried + 3)
    assert told(house.ask(customers(5))) == {(3, wire.Source.SCORECARD)}
    model.lies = False
    wait_for(lambda: told(house.ask(customers(5))) == {(3, wire.Source.PRIMARY)})


def test_releases_with_other_features_share_a_table_row_by_row() -> None:
    narrow = replace(DEFAULT_SCHEMA, features=DEFAULT_SCHEMA.features[:4], document="narrow")
    house = House(replace(Routes(3, salt="s"), canary=Canary(4, 5_000)), {4: narrow})
    rows = customers(40)
    found = house.router.answer(rows, time.monotonic() + SOON)
    assert isinstance(found, list)
    chosen = bucket_of("s", np.ascontiguousarray(rows[:, 2])) < 5_000
    assert [one.features.shape[1] for one in found] == [4 if canary else WIDTH for canary in chosen]
    assert [int(one.verdict[0, RELEASE]) for one in found] == [4 if canary else 3 for canary in chosen]
    assert len({house.router.context_of(number) for number in (3, 4)}) == 2
    assert house.router.context_of(9) is None


def test_a_release_that_takes_other_columns_is_refused_and_the_table_stays(canary: House) -> None:
    columns = (*DEFAULT_SCHEMA.columns, replace(DEFAULT_SCHEMA.columns[-1], name="tip_minor", role="category"))
    canary.schemas[5] = replace(DEFAULT_SCHEMA, columns=columns, document="wider")
    with pytest.raises(ReleaseUnavailable, match="r0005 takes other columns than r0003, which is in production"):
        canary.router.follow(replace(canary.router.routes, warm=(5,)))
    assert canary.router.routes.warm == ()
    assert (3, wire.Source.PRIMARY) in told(canary.ask(customers(100)))


def test_a_new_table_answers_the_next_batch_and_opens_only_what_is_new(canary: House) -> None:
    before = dict(canary.models)
    canary.router.follow(canary.router.routes.promoted())
    assert told(canary.ask(customers(50))) == {(4, wire.Source.PRIMARY)}
    assert canary.models == before


def test_a_release_that_left_the_table_lets_its_model_go_and_those_that_stay_keep_theirs(canary: House) -> None:
    canary.router.follow(replace(canary.router.routes, canary=None))
    assert {number: model.closed for number, model in canary.models.items()} == {2: False, 3: False, 4: True}


def test_a_graph_in_this_process_is_not_begun_when_time_is_over() -> None:
    asked: list[int] = []

    def margin(features: Float32) -> Float32:
        asked.append(len(features))
        return features[:, :1]

    model, features = InlineModel(3, margin), np.ones((2, WIDTH), np.float32)
    assert model(features, time.monotonic() + SOON).tolist() == [[1.0], [1.0]]
    with pytest.raises(ReleaseUnavailable, match="no time left to ask release r0003"):
        model(features, time.monotonic())
    assert asked == [2]
