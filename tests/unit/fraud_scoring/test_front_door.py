"""The front door with a handwritten release and a store in memory: who is answered, with what, at the price of what."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from fraud_scoring.errors import FraudError, InvalidInput, ReleaseUnavailable, StoreUnavailable
from fraud_scoring.front_door import ASK_AFTER_A_REPEAT, FrontDoor
from fraud_scoring.requests import Joined, Reply, Request
from fraud_scoring.stores import Answers, Recorded
from fraud_scoring.stores.memory import MemoryStore
from support.rows import DAY_US, DEFAULT_SCHEMA, MONDAY_US, Clock, Int64, matrix, row
from support.stores import WindowRelease, answers_for, same_bits

DRY_RUN = json.dumps({"purpose": "dry_run"})


class FakeRelease:
    """Answers by the row's values alone, under its number, and remembers what it was asked."""

    def __init__(self, number: int = 7, features: int = 3) -> None:
        self.number = number
        self.features = features
        self.calls: list[Int64] = []
        self.failure: FraudError | None = None

    def __call__(self, rows: Int64, until: float) -> Answers:
        self.calls.append(rows)
        if self.failure is not None:
            raise self.failure
        return answers_for(rows, self.number, self.features)


class FailingStore(MemoryStore):
    """A store whose methods can be made to fail."""

    fails: str = ""

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        self._fail_in("recall")
        return super().recall(transaction_ids)

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        self._fail_in("record")
        return super().record(rows, answers)

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        self._fail_in("record")
        return super().record_new(rows, answers)

    def _fail_in(self, method: str) -> None:
        if self.fails == method:
            raise StoreUnavailable("the window store is away")


@pytest.fixture
def store() -> FailingStore:
    return FailingStore(DEFAULT_SCHEMA, now_us=Clock())


@pytest.fixture
def release() -> FakeRelease:
    return FakeRelease()


@pytest.fixture
def front_door(store: MemoryStore, release: FakeRelease) -> FrontDoor:
    return FrontDoor(DEFAULT_SCHEMA, store, release, now_us=Clock())


def ask(*rows: list[int], parameters: str = "") -> Request:
    return Request(matrix(*rows), parameters)


def answered(reply: Reply) -> Answers:
    assert isinstance(reply, Answers), reply
    return reply


def refused(reply: Reply, message: str) -> None:
    assert isinstance(reply, InvalidInput), reply
    assert message in str(reply)


def recorded_ids(store: MemoryStore, *ids: int) -> set[int]:
    found = store.recall(np.array(ids, np.int64))
    return {identifier for identifier, known in zip(ids, found, strict=True) if known is not None}


def events_of_customer(store: MemoryStore, customer: int = 1) -> int:
    return len(store.read(matrix(row(0, customer=customer)))[0].events)


def test_a_dynamic_batch_is_one_call_of_the_release(front_door: FrontDoor, release: FakeRelease) -> None:
    requests = [ask(row(3), row(1)), ask(row(2)), ask(row(9), row(8), row(7))]
    replies = front_door.answer(requests)
    assert [call.tolist() for call in release.calls] == [np.concatenate([r.rows for r in requests]).tolist()]
    for request, reply in zip(requests, replies, strict=True):
        assert same_bits(answered(reply), answers_for(request.rows))


NO_ROWS = Request(np.empty((0, DEFAULT_SCHEMA.width), np.int64))
SOON, LATER = (json.dumps({"deadline_us": us}) for us in (40_000, 90_000))


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([ask(row(3), row(1)), ask(row(2))], id="without parameters"),
        pytest.param([ask(row(1), parameters=SOON), ask(row(2), parameters=SOON)], id="alike"),
        pytest.param([ask(row(1), parameters=SOON), ask(row(2), row(3), parameters=LATER)], id="with two deadlines"),
        pytest.param([ask(row(1)), ask(row(2), parameters=DRY_RUN)], id="one to be tried out"),
        pytest.param([ask(row(1), parameters=DRY_RUN), ask(row(1), parameters=DRY_RUN)], id="all to be tried out"),
        pytest.param([ask(row(1)), ask(row(2, amount=0), row(3))], id="one that breaks a rule"),
        pytest.param([ask(row(1), row(2)), ask(row(2))], id="a transaction in two of them"),
        pytest.param([ask(row(1)), ask(row(1, amount=2))], id="an id for two transactions"),
        pytest.param([ask(row(1), parameters='{"purpose": "x"}')] * 2, id="a parameter that is not known"),
        pytest.param([NO_ROWS, ask(row(1))], id="one without rows"),
        pytest.param([NO_ROWS], id="nothing but one without rows"),
        pytest.param([Request(matrix(row(1))[:, :4]), Request(matrix(row(2))[:, :4])], id="too few columns"),
    ],
)
def test_requests_that_lie_in_one_matrix_get_what_they_get_one_by_one(requests: list[Request]) -> None:
    apart, together = (
        FrontDoor(DEFAULT_SCHEMA, FailingStore(DEFAULT_SCHEMA, now_us=Clock()), FakeRelease(), now_us=Clock()).answer(
            way
        )
        for way in (requests, Joined.of(requests))
    )
    assert len(apart) == len(together) == len(requests)
    for one, other in zip(apart, together, strict=True):
        if isinstance(one, Answers):
            assert same_bits(one, answered(other))
        else:
            assert (type(other), str(other)) == (type(one), str(one))


def test_a_reply_has_the_shapes_of_the_wire(front_door: FrontDoor) -> None:
    front_door.answer([ask(row(1))])
    for reply in front_door.answer([ask(row(1)), ask(row(1), row(2)), ask(row(3))]):
        found = answered(reply)
        n = len(found.score)
        assert (found.score.shape, found.verdict.shape, found.features.shape) == ((n, 1), (n, 6), (n, 3))
        assert (found.score.dtype, found.verdict.dtype, found.features.dtype) == (np.float32, np.int32, np.float32)


def test_a_batch_without_a_good_request_calls_nothing(front_door: FrontDoor, release: FakeRelease) -> None:
    refused(front_door.answer([ask(row(1, amount=0))])[0], "row 0: amount_minor is 0")
    assert release.calls == []


def test_what_is_answered_was_recorded_first(front_door: FrontDoor, store: MemoryStore) -> None:
    front_door.answer([ask(row(1), row(2)), ask(row(3))])
    assert recorded_ids(store, 1, 2, 3, 4) == {1, 2, 3}
    assert events_of_customer(store) == 3


def test_the_clock_says_which_times_are_ahead(store: MemoryStore, release: FakeRelease) -> None:
    clock = Clock(MONDAY_US)
    front_door = FrontDoor(DEFAULT_SCHEMA, store, release, now_us=clock)
    tomorrow = ask(row(1, MONDAY_US + DAY_US + 1))
    refused(front_door.answer([tomorrow])[0], "it lies more than a day ahead of the server's clock")
    clock.now_us += 1
    answered(front_door.answer([tomorrow])[0])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (ask(row(1), row(2, amount=0)), "row 1: amount_minor is 0"),
        (ask(row(1, 5)), "row 0: event_time_us is 5: it lies before 2000"),
        (ask(row(1), row(1)), "row 1: transaction_id 1 stands twice in this request"),
        (ask(row(1), row(1, amount=5)), "row 1: transaction_id 1 stands twice in this request"),
        (Request(matrix(row(1))[:, :4]), "transaction: 4 columns"),
        (Request(matrix(row(1)).astype(np.float32)), "transaction: the type is float32"),
        (Request(matrix(row(1))[:0]), "transaction: 0 rows"),
        (Request(np.repeat(matrix(row(1)), 1_025, axis=0)), "transaction: 1025 rows"),
        (ask(row(1), parameters='{"purpose": "test"}'), "parameter purpose is 'test'"),
        (ask(row(1), parameters='{"dealine_us": 9}'), "parameter 'dealine_us' is not known"),
        (ask(row(1, amount=0), parameters=DRY_RUN), "row 0: amount_minor is 0"),
    ],
)
def test_a_bad_request_is_refused_alone(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease, bad: Request, message: str
) -> None:
    before, after = ask(row(11)), ask(row(12), row(13))
    replies = front_door.answer([before, bad, after])
    assert same_bits(answered(replies[0]), answers_for(before.rows))
    refused(replies[1], message)
    assert same_bits(answered(replies[2]), answers_for(after.rows))
    assert len(release.calls) == 1
    assert recorded_ids(store, 1, 2, 11, 12, 13) == {11, 12, 13}


def test_a_repeat_is_answered_as_before_without_the_release(front_door: FrontDoor, release: FakeRelease) -> None:
    first = front_door.answer([ask(row(1), row(2))])
    release.number = 8
    again = front_door.answer([ask(row(2)), ask(row(1)), ask(row(2), row(1))])
    assert len(release.calls) == 1
    joined = answered(again[2])
    assert joined.verdict[:, 4].tolist() == [7, 7]
    assert same_bits(answered(again[0]), answers_for(matrix(row(2))))
    assert joined.score[::-1].tobytes() == answered(first[0]).score.tobytes()


def test_a_repeat_beside_new_rows_leaves_only_these_to_the_release(front_door: FrontDoor, release: FakeRelease) -> None:
    front_door.answer([ask(row(1))])
    release.number = 8
    replies = front_door.answer([ask(row(3), row(1)), ask(row(2))])
    assert release.calls[1].tolist() == [row(3), row(1), row(2)], "in vain: it did not know"
    assert release.calls[2].tolist() == [row(3), row(2)]
    assert answered(replies[0]).verdict[:, 4].tolist() == [8, 7]
    assert answered(replies[1]).verdict[:, 4].tolist() == [8]


def test_a_transaction_that_is_sent_twice_at_once_is_scored_once(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease
) -> None:
    replies = front_door.answer([ask(row(1)), ask(row(2), row(1)), ask(row(1))])
    assert release.calls[0].tolist() == [row(1), row(2)]
    assert same_bits(answered(replies[0]), answered(replies[2]))
    assert same_bits(answered(replies[1]), answers_for(matrix(row(2), row(1))))
    assert events_of_customer(store) == 2


@pytest.mark.parametrize("other", [row(1, amount=2_000), row(1, customer=2), row(1, terminal=2), row(1, MONDAY_US + 1)])
def test_an_id_that_was_used_is_refused_with_any_other_value(
    front_door: FrontDoor, release: FakeRelease, other: list[int]
) -> None:
    front_door.answer([ask(row(1))])
    replies = front_door.answer([ask(row(5)), ask(row(6), other), ask(row(1))])
    answered(replies[0])
    refused(replies[1], "row 1: transaction_id 1 was used before, with other values; give a new transaction a new id")
    assert same_bits(answered(replies[2]), answers_for(matrix(row(1))))
    assert release.calls[1].tolist() == [row(5)]


def test_of_two_transactions_with_one_id_in_one_batch_the_first_stays(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease
) -> None:
    replies = front_door.answer([ask(row(1)), ask(row(1, amount=5), row(2)), ask(row(1))])
    assert same_bits(answered(replies[0]), answers_for(matrix(row(1))))
    refused(replies[1], "row 0: transaction_id 1 was used before")
    assert same_bits(answered(replies[2]), answers_for(matrix(row(1))))
    assert [call.tolist() for call in release.calls] == [[row(1)]]
    assert recorded_ids(store, 1, 2) == {1}


def test_a_refused_request_keeps_no_id_from_those_behind_it(front_door: FrontDoor) -> None:
    front_door.answer([ask(row(1))])
    replies = front_door.answer([ask(row(1, amount=5), row(2)), ask(row(2, amount=9)), ask(row(2))])
    refused(replies[0], "row 0: transaction_id 1 was used before")
    assert same_bits(answered(replies[1]), answers_for(matrix(row(2, amount=9))))
    refused(replies[2], "row 0: transaction_id 2 was used before")


class Oracle:
    """What a front door must answer, one request at a time."""

    def __init__(self) -> None:
        self.recorded: dict[int, list[int]] = {}

    def expect(self, request: Request, refusal: str) -> str:
        """The words of its refusal, "" for an answer; good rows are recorded."""
        if refusal or request.parameters:
            return refusal
        rows = {one[0]: one for one in request.rows.tolist()}
        for identifier, one in rows.items():
            if self.recorded.get(identifier, one) != one:
                return f"transaction_id {identifier} was used before"
        self.recorded.update(rows)
        return ""


def random_request(rng: np.random.Generator, ids: int) -> tuple[Request, str]:
    """A request over few ids, some with other values than before, and why it is refused whatever came before."""
    chosen = rng.choice(np.arange(1, ids), rng.integers(1, 5), replace=False)
    rows = matrix(*(row(int(i), amount=1_000 + int(i) + int(rng.random() < 0.05)) for i in chosen))
    last = len(rows) - 1
    kind = rng.integers(0, 16)
    if kind == 0:
        rows[last, 4] = 0
        return Request(rows), f"row {last}: amount_minor is 0"
    if kind == 1:
        rows[last, 1] = 7
        return Request(rows), f"row {last}: event_time_us is 7"
    if kind == 2:
        return Request(rows[:, 1:]), "4 columns"
    if kind == 3:
        return Request(rows.astype(np.int32)), "the type is int32"
    if kind == 4:
        return Request(np.concatenate([rows, rows[:1]])), f"row {last + 1}: transaction_id {rows[0, 0]} stands twice"
    if kind == 5:
        return Request(rows, '{"deadline_us": -1}'), "parameter deadline_us is -1"
    if kind == 6:
        return Request(rows, DRY_RUN), ""
    return Request(rows), ""


@pytest.mark.parametrize("seed", range(4))
def test_in_any_mixture_each_request_gets_what_it_would_get_alone(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    oracle = Oracle()
    for _ in range(60):
        requests, refusals = zip(
            *(random_request(rng, ids=20 + len(oracle.recorded)) for _ in range(rng.integers(1, 12))), strict=True
        )
        known, calls = set(oracle.recorded), len(release.calls)
        expected = [oracle.expect(request, why) for request, why in zip(requests, refusals, strict=True)]
        replies = front_door.answer(requests)
        for request, reply, words in zip(requests, replies, expected, strict=True):
            if words:
                refused(reply, words)
            else:
                assert same_bits(answered(reply), answers_for(request.rows))
        dry = sum(request.parameters == DRY_RUN for request in requests)
        fresh = set(oracle.recorded) - known
        assert len(release.calls) - calls == dry + bool(fresh)
        assert recorded_ids(store, *range(1, 200)) == set(oracle.recorded)
    assert events_of_customer(store) == len(oracle.recorded)


def test_a_dry_run_leaves_no_trace(front_door: FrontDoor, store: MemoryStore) -> None:
    reply = front_door.answer([ask(row(1), row(2), parameters=DRY_RUN)])[0]
    assert same_bits(answered(reply), answers_for(matrix(row(1), row(2))))
    assert recorded_ids(store, 1, 2) == set()
    assert events_of_customer(store) == 0


def test_a_dry_run_may_ask_what_if_of_a_known_transaction(front_door: FrontDoor, release: FakeRelease) -> None:
    front_door.answer([ask(row(1))])
    release.number = 8
    replies = front_door.answer([ask(row(1), parameters=DRY_RUN), ask(row(1, amount=7), parameters=DRY_RUN)])
    assert [answered(reply).verdict[0, 4] for reply in replies] == [8, 8]
    assert same_bits(answered(front_door.answer([ask(row(1))])[0]), answers_for(matrix(row(1))))


CUSTOMER_COUNT = DEFAULT_SCHEMA.feature_names.index("customer_count_1d")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_a_dry_run_neither_sees_nor_is_seen_in_its_batch(order: tuple[int, ...]) -> None:
    store = MemoryStore(DEFAULT_SCHEMA, now_us=Clock())
    front_door = FrontDoor(DEFAULT_SCHEMA, store, WindowRelease(store), now_us=Clock())
    front_door.answer([ask(row(1, MONDAY_US - 10))])
    requests = [
        ask(row(2, MONDAY_US - 5)),
        ask(row(3, MONDAY_US - 4), parameters=DRY_RUN),
        ask(row(4, MONDAY_US - 3), row(5, MONDAY_US - 2), parameters=DRY_RUN),
    ]
    replies = dict(zip(order, front_door.answer([requests[i] for i in order]), strict=True))
    counts = {i: answered(reply).features[:, CUSTOMER_COUNT].tolist() for i, reply in replies.items()}
    assert counts == {0: [2], 1: [2], 2: [2, 3]}
    assert events_of_customer(store) == 2


def test_rows_of_one_batch_see_the_rows_before_them() -> None:
    store = MemoryStore(DEFAULT_SCHEMA, now_us=Clock())
    front_door = FrontDoor(DEFAULT_SCHEMA, store, WindowRelease(store), now_us=Clock())
    replies = front_door.answer([ask(row(3, MONDAY_US - 1), row(1, MONDAY_US - 3)), ask(row(2, MONDAY_US - 2))])
    counts = [answered(reply).features[:, CUSTOMER_COUNT].tolist() for reply in replies]
    assert counts == [[3, 1], [2]]


def test_without_its_release_the_whole_batch_is_unanswered_and_unrecorded(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease
) -> None:
    release.failure = ReleaseUnavailable("release fraud_r0007 did not answer")
    replies = front_door.answer([ask(row(1)), ask(row(2, amount=0)), ask(row(3)), ask(row(4), parameters=DRY_RUN)])
    assert [type(reply) for reply in replies] == [
        ReleaseUnavailable,
        InvalidInput,
        ReleaseUnavailable,
        ReleaseUnavailable,
    ]
    assert recorded_ids(store, 1, 2, 3, 4) == set()
    assert events_of_customer(store) == 0
    release.failure = None
    answered(front_door.answer([ask(row(1))])[0])


@pytest.mark.parametrize("method", ["recall", "record"])
def test_without_its_store_the_whole_batch_is_unanswered_and_unrecorded(
    front_door: FrontDoor, store: FailingStore, method: str
) -> None:
    front_door.answer([ask(row(9))])
    front_door.answer([ask(row(9))])  # something came again: the store is asked
    store.fails = method
    replies = front_door.answer([ask(row(1)), ask(row(2, amount=0)), ask(row(3)), ask(row(4), parameters=DRY_RUN)])
    assert [type(reply) for reply in replies] == [StoreUnavailable, InvalidInput, StoreUnavailable, Answers]
    store.fails = ""
    assert recorded_ids(store, 1, 2, 3, 4) == set()
    assert same_bits(answered(front_door.answer([ask(row(3))])[0]), answers_for(matrix(row(3))))


class CountingStore(MemoryStore):
    """Counts how often it is asked what is known."""

    asked = 0

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        self.asked += 1
        return super().recall(transaction_ids)


def test_a_store_is_asked_what_is_known_only_for_a_while_after_something_came_again() -> None:
    store, release = CountingStore(DEFAULT_SCHEMA, now_us=Clock()), FakeRelease()
    front_door = FrontDoor(DEFAULT_SCHEMA, store, release, now_us=Clock())
    first = [answered(front_door.answer([ask(row(i))])[0]) for i in range(10)]
    assert store.asked == 0
    release.number = 8
    for i in range(10):
        assert same_bits(answered(front_door.answer([ask(row(i))])[0]), first[i])
    assert len(release.calls) == 11, "once in vain"
    asked = store.asked
    for i in range(100, 100 + 2 * ASK_AFTER_A_REPEAT):
        front_door.answer([ask(row(i))])
    assert store.asked == asked + ASK_AFTER_A_REPEAT
    assert events_of_customer(store) == 10 + 2 * ASK_AFTER_A_REPEAT


def test_what_is_known_has_its_answer_while_the_release_is_away(
    front_door: FrontDoor, store: FailingStore, release: FakeRelease
) -> None:
    before = answered(front_door.answer([ask(row(1), row(2))])[0])
    release.failure = ReleaseUnavailable("release fraud_r0007 did not answer")
    for _ in range(3):
        assert same_bits(answered(front_door.answer([ask(row(1), row(2))])[0]), before)
        assert isinstance(front_door.answer([ask(row(3))])[0], ReleaseUnavailable)


def test_a_failing_dry_run_takes_nobody_with_it(store: MemoryStore) -> None:
    def only_mondays_customer(rows: Int64, until: float) -> Answers:
        if (rows[:, 2] != 1).any():
            raise ReleaseUnavailable("no answer")
        return answers_for(rows)

    front_door = FrontDoor(DEFAULT_SCHEMA, store, only_mondays_customer, now_us=Clock())
    replies = front_door.answer([ask(row(1)), ask(row(2, customer=2), parameters=DRY_RUN), ask(row(3))])
    assert [type(reply) for reply in replies] == [Answers, ReleaseUnavailable, Answers]


def front_door_that_is_overtaken(store: MemoryStore, meanwhile: Callable[[], object]) -> FrontDoor:
    """A front door during whose first release call something else happens in the store."""
    pending = [meanwhile]
    release = FakeRelease()

    def slow_release(rows: Int64, until: float) -> Answers:
        while pending:
            pending.pop()()
        return release(rows, until)

    return FrontDoor(DEFAULT_SCHEMA, store, slow_release, now_us=Clock())


def test_of_two_front_doors_that_answer_the_same_transaction_the_first_one_is_right(
    store: MemoryStore,
) -> None:
    rival = FrontDoor(DEFAULT_SCHEMA, store, FakeRelease(number=8), now_us=Clock())
    front_door = front_door_that_is_overtaken(store, lambda: rival.answer([ask(row(1))]))
    replies = front_door.answer([ask(row(2)), ask(row(1))])
    assert [answered(reply).verdict[0, 4] for reply in replies] == [7, 8]
    for reply, again in zip(replies, rival.answer([ask(row(2)), ask(row(1))]), strict=True):
        assert same_bits(answered(reply), answered(again))


def test_an_id_that_another_front_door_gave_away_meanwhile_is_refused(store: MemoryStore) -> None:
    rival = FrontDoor(DEFAULT_SCHEMA, store, FakeRelease(number=8), now_us=Clock())
    front_door = front_door_that_is_overtaken(store, lambda: rival.answer([ask(row(1, amount=5))]))
    replies = front_door.answer([ask(row(2)), ask(row(1))])
    assert answered(replies[0]).verdict[0, 4] == 7
    refused(replies[1], "row 0: transaction_id 1 was used before")
    assert same_bits(answered(rival.answer([ask(row(2))])[0]), answered(replies[0]))


def test_history_that_arrives_meanwhile_is_answered_by_who_asked(store: MemoryStore) -> None:
    front_door = front_door_that_is_overtaken(store, lambda: store.record(matrix(row(1))))
    reply = front_door.answer([ask(row(1))])[0]
    assert same_bits(answered(reply), answers_for(matrix(row(1))))
    assert same_bits(answered(front_door.answer([ask(row(1))])[0]), answered(reply))


def test_history_without_an_answer_is_answered_when_it_is_asked_for(
    front_door: FrontDoor, store: MemoryStore, release: FakeRelease
) -> None:
    store.record(matrix(row(1), row(2)))
    reply = front_door.answer([ask(row(1))])[0]
    assert len(release.calls) == 2, "once in vain: it did not know of the history"
    release.number = 8
    assert same_bits(answered(front_door.answer([ask(row(1))])[0]), answered(reply))
    assert len(release.calls) == 2
    assert events_of_customer(store) == 2


def test_history_with_other_values_is_refused(front_door: FrontDoor, store: MemoryStore) -> None:
    store.record(matrix(row(1)))
    refused(front_door.answer([ask(row(1, amount=9))])[0], "transaction_id 1 was used before")


def test_answers_of_releases_with_different_features_are_joined_and_the_narrower_end_in_nan(
    front_door: FrontDoor, release: FakeRelease
) -> None:
    front_door.answer([ask(row(1))])
    release.number, release.features = 8, 5
    replies = front_door.answer([ask(row(1), row(2)), ask(row(1)), ask(row(2))])
    joined, first, second = map(answered, replies)
    assert joined.verdict[:, 4].tolist() == [7, 8]
    assert (first.features.shape, second.features.shape) == ((1, 3), (1, 5))
    assert joined.features[0, :3].tobytes() == first.features.tobytes()
    assert np.isnan(joined.features[0, 3:]).all()
    assert joined.features[1].tobytes() == second.features.tobytes()
