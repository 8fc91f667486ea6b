"""A store that goes away and comes back, behind its guard: nobody waits, nothing is lost, nothing is read too early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fraud_scoring import wire
from fraud_scoring.errors import InvalidInput, StoreUnavailable
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.requests import Request
from fraud_scoring.stores import Answers, Recorded
from fraud_scoring.stores.guarded import GuardedStore
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import History
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, Int64, label, matrix, row
from support.server import until
from support.stores import WindowRelease, answers_for, same_bits

SOURCE = wire.VERDICT_COLUMNS.index("source")
AGES = time.monotonic() + 1e6


class AwayStore(MemoryStore):
    """A store that fails in the methods named in `fails` and where it has not the time that it needs."""

    def __init__(self) -> None:
        super().__init__(DEFAULT_SCHEMA, now_us=Clock())
        self.fails: set[str] = set()
        self.calls = 0
        self.until = AGES
        self.late_s = 0.0
        self.needs_s = 0.0
        self.record_s = 0.0

    def read(self, rows: Int64) -> list[History]:
        self._called("read")
        return super().read(rows)

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        self._called("recall")
        return super().recall(transaction_ids)

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        self._called("record")
        time.sleep(self.record_s)
        return super().record(rows, answers)

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        self._called("record")
        time.sleep(self.record_s)
        return super().record_new(rows, answers)

    def label(self, labels: Int64) -> Int64:
        self._called("label")
        return super().label(labels)

    def bound(self, until: float) -> None:
        self.until = until

    def _called(self, method: str) -> None:
        self.calls += 1
        if method in self.fails or (self.needs_s and self.until < time.monotonic() + self.needs_s):
            raise StoreUnavailable(f"the window store cannot {method}")
        if self.late_s:
            time.sleep(max(0.0, self.until - time.monotonic()) + self.late_s)


EVERYTHING = {"read", "recall", "record", "label"}


class Attempts:
    """Lets a guard try again only when a test says so."""

    def __init__(self) -> None:
        self._allowed = threading.Semaphore(0)
        self._waits = threading.Semaphore(0)
        self._over = False

    def __call__(self, attempts: int) -> float:
        self._waits.release()
        self._allowed.acquire()
        return 0.0

    def allow(self, guard: GuardedStore) -> None:
        """One attempt, until it is over."""
        assert self._waits.acquire(timeout=10)
        thread = guard._thread
        assert thread is not None
        self._allowed.release()
        while thread.is_alive() and not self._waits.acquire(timeout=0.01):
            pass
        if thread.is_alive():
            self._waits.release()

    def until_back(self, guard: GuardedStore) -> None:
        """Attempts until one brings the store back: on a busy machine one may be too late."""
        while guard.is_away:
            self.allow(guard)

    def end(self) -> None:
        self._allowed.release(1000)


@pytest.fixture
def store() -> AwayStore:
    return AwayStore()


@pytest.fixture
def attempts() -> Iterator[Attempts]:
    found = Attempts()
    yield found
    found.end()


@pytest.fixture
def guard(store: AwayStore, attempts: Attempts) -> Iterator[GuardedStore]:
    opened = GuardedStore(lambda: store, DEFAULT_SCHEMA.id_index, pause_s=attempts, backlog_rows=5)
    yield opened
    attempts.end()
    opened.close()


def ids(*numbers: int) -> Int64:
    return np.array(numbers, np.int64)


def last_resort(rows: Int64) -> Answers:
    answers = answers_for(rows, release=0, features=0)
    answers.verdict[:, SOURCE] = wire.Source.SCORECARD
    return answers


def ask(*rows: list[int]) -> Request:
    return Request(matrix(*rows))


def fail(call: Callable[[], object]) -> str:
    with pytest.raises(StoreUnavailable) as why:
        call()
    return str(why.value)


def test_a_store_that_is_well_is_only_passed_through(guard: GuardedStore, store: AwayStore) -> None:
    rows = matrix(row(1), row(2))
    assert guard.record(rows, answers_for(rows)) == [None, None]
    assert all(guard.recall(ids(1, 2)))
    assert len(guard.read(rows)[0].events) == 2
    assert guard.label(np.array([[1, 1, MONDAY_US]])).tolist() == [wire.Accepted.APPLIED]
    assert not guard.is_away
    assert store.calls == 4


def test_new_rows_wait_while_the_store_is_away_and_known_ones_are_told(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    rows = matrix(row(1), row(2), row(3))
    assert guard.record_new(rows[:1], answers_for(rows[:1]))
    store.fails = {"record"}
    assert guard.record_new(rows[1:2], answers_for(rows[1:2]))  # it fails, and is kept
    assert not guard.record_new(rows[1:], answers_for(rows[1:]))
    assert guard.record_new(rows[2:], answers_for(rows[2:]))
    assert guard.waiting == 2
    store.fails = set()
    attempts.allow(guard)
    attempts.until_back(guard)
    assert all(guard.recall(ids(1, 2, 3)))
    assert not guard.record_new(rows, answers_for(rows, release=8))


@pytest.mark.parametrize("method", ["read", "recall", "label"])
def test_after_one_failure_nobody_waits_for_the_store(guard: GuardedStore, store: AwayStore, method: str) -> None:
    store.fails = {method}
    rows = matrix(row(1))
    calls = {
        "read": lambda: guard.read(rows),
        "recall": lambda: guard.recall(ids(1)),
        "label": lambda: guard.label(rows[:, :3]),
    }
    assert fail(calls[method]) == f"the window store cannot {method}"
    store.fails, store.calls = set(), 0
    fail(calls["read"])
    fail(calls["label"])
    assert guard.recall(ids(1)) == [None]
    assert guard.record(rows, answers_for(rows)) == [None]
    assert store.calls == 0


def test_what_is_answered_meanwhile_is_in_the_windows_before_they_are_read_again(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    store.fails = {"record"}
    rows = matrix(row(1), row(2), row(3))
    assert guard.record(rows[:1], answers_for(rows[:1])) == [None]  # it fails, and is kept
    assert guard.record(rows[1:], answers_for(rows[1:], features=0)) == [None, None]
    assert guard.waiting == 3
    attempts.allow(guard)
    fail(lambda: guard.read(rows))
    store.fails = set()
    attempts.until_back(guard)
    assert (guard.is_away, guard.waiting) == (False, 0)
    assert len(guard.read(rows[:1])[0].events) == 3
    found = guard.recall(rows[:, 0])
    for one, expected in zip(found, [answers_for(rows[:1]), answers_for(rows[1:2], features=0)], strict=False):
        assert one is not None
        assert one.answer is not None
        assert one.answer.features.tobytes() == expected.features.tobytes()


def test_the_first_answer_stays_whoever_knows_it(guard: GuardedStore, store: AwayStore, attempts: Attempts) -> None:
    rows = matrix(row(1), row(2))
    guard.record(rows[:1], answers_for(rows[:1], release=7))
    store.fails = EVERYTHING
    guard.record(rows, answers_for(rows, release=8))
    again = guard.record(rows, answers_for(rows, release=9))
    assert [one is not None and one.answer is not None and one.answer.verdict[0, 4] for one in again] == [8, 8]
    store.fails = set()
    attempts.until_back(guard)
    found = guard.recall(ids(1, 2))
    assert [one is not None and one.answer is not None and one.answer.verdict[0, 4] for one in found] == [7, 8]


def test_a_store_that_can_be_read_and_takes_nothing_stays_away(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    store.fails = {"record"}
    rows = matrix(row(1))
    guard.record(rows, answers_for(rows))
    attempts.allow(guard)
    assert fail(lambda: guard.read(rows)) == "the window store cannot record"


def test_a_store_that_takes_everything_and_answers_late_stays_away(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    rows = matrix(row(1))
    guard.read(rows)
    store.fails = {"read"}
    fail(lambda: guard.read(rows))
    guard.record(rows, answers_for(rows))
    store.fails, store.needs_s = set(), 0.5
    attempts.allow(guard)
    assert (guard.is_away, guard.waiting) == (True, 0)
    store.needs_s = 0.0
    assert all(store.recall(ids(1)))
    attempts.until_back(guard)


def test_calls_end_before_those_who_wait_are_too_late(guard: GuardedStore, store: AwayStore) -> None:
    began = time.monotonic()
    guard.bound(began + 0.05)
    guard.recall(ids(1))
    assert began < store.until < began + 0.05
    guard.bound(AGES)
    guard.recall(ids(1))
    assert store.until < time.monotonic() + 1  # a generous deadline is no reason to wait for a store that hangs


def test_a_label_has_the_time_to_take_up_what_came_since_the_last_one(guard: GuardedStore, store: AwayStore) -> None:
    store.needs_s = 0.5
    assert guard.label(label(1, is_fraud=True)).tolist() == [wire.Accepted.UNKNOWN_TRANSACTION]
    assert "cannot recall" in fail(lambda: guard.recall(ids(1)))


def test_a_store_that_is_late_again_and_again_is_away(guard: GuardedStore, store: AwayStore) -> None:
    store.late_s = 0.001
    for _ in range(3):
        assert not guard.is_away
        guard.bound(time.monotonic() + 0.001)
        guard.recall(ids(1))
    assert "answers too late" in fail(lambda: guard.read(matrix(row(1))))


def test_what_finds_no_room_is_refused_and_what_waits_is_kept(guard: GuardedStore, store: AwayStore) -> None:
    store.fails = EVERYTHING
    rows = matrix(*(row(i) for i in range(1, 8)))
    guard.record(rows[:4], answers_for(rows[:4]))
    assert "4 transactions that were answered meanwhile wait" in fail(lambda: guard.record(rows[3:], answers_for(rows)))
    assert guard.record(rows[3:5], answers_for(rows[3:5]))[1] is None
    assert guard.waiting == 5


def test_a_store_that_cannot_be_opened_is_away_until_it_can(attempts: Attempts, store: AwayStore) -> None:
    there: list[AwayStore] = []

    def opener() -> AwayStore:
        if not there:
            raise StoreUnavailable("the window store is not there")
        return there[0]

    guard = GuardedStore(opener, DEFAULT_SCHEMA.id_index, pause_s=attempts)
    rows = matrix(row(1))
    assert fail(lambda: guard.read(rows)) == "the window store is not there"
    guard.record(rows, answers_for(rows))
    there.append(store)
    attempts.until_back(guard)
    assert len(guard.read(rows)[0].events) == 1
    guard.close()


def test_another_store_is_followed_with_what_waits(guard: GuardedStore, store: AwayStore, attempts: Attempts) -> None:
    rows = matrix(row(1), row(2))
    second, third = AwayStore(), AwayStore()
    guard.follow(lambda: second)
    guard.record(rows[:1], answers_for(rows[:1]))
    second.fails = EVERYTHING
    guard.record(rows[1:], answers_for(rows[1:]))
    guard.follow(lambda: third)
    attempts.until_back(guard)
    assert [bool(one) for one in guard.recall(ids(1, 2))] == [False, True]
    assert store.calls == 0


class Followed(AwayStore):
    """Tells who caught up with others."""

    def __init__(self) -> None:
        super().__init__()
        self.caught_up = threading.Semaphore(0)

    def catch_up(self) -> None:
        self.caught_up.release()
        self._called("catch_up")


@pytest.fixture
def followed(attempts: Attempts) -> Iterator[tuple[GuardedStore, Followed]]:
    store = Followed()
    guard = GuardedStore(lambda: store, DEFAULT_SCHEMA.id_index, pause_s=attempts, follow_every_s=0.01)
    yield guard, store
    attempts.end()
    guard.close()


def test_while_nobody_asks_others_are_followed_and_not_once_it_is_closed(
    followed: tuple[GuardedStore, Followed],
) -> None:
    guard, store = followed
    for _ in range(3):
        assert store.caught_up.acquire(timeout=10)
    guard.close()
    assert not any(thread.name == "store-follower" for thread in threading.enumerate())


def test_a_store_that_goes_while_nobody_asks_is_away_before_anybody_does(
    followed: tuple[GuardedStore, Followed], attempts: Attempts
) -> None:
    guard, store = followed
    rows = matrix(row(1))
    store.fails = {"catch_up", *EVERYTHING}
    until(lambda: guard.is_away, 10)
    before = store.calls
    assert fail(lambda: guard.read(rows)) == "the window store cannot catch_up"
    guard.catch_up()  # nothing: its thread sees to it that it is back
    assert store.calls == before
    store.fails = set()
    attempts.until_back(guard)
    assert store.caught_up.acquire(timeout=10)
    assert len(guard.read(rows)[0].events) == 0


def test_closing_records_what_waits_and_says_what_is_lost(
    store: AwayStore, attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    loss = "1 transactions were answered while it was away and are not in the windows"
    for fails, lost in (set[str](), False), (EVERYTHING, True):
        caplog.clear()
        guard = GuardedStore(lambda: store, DEFAULT_SCHEMA.id_index, pause_s=attempts)
        store.fails = EVERYTHING
        rows = matrix(row(1 + int(lost)))
        guard.record(rows, answers_for(rows))
        store.fails = fails
        attempts.end()
        guard.close()
        store.fails = set()
        assert bool(store.recall(rows[:, 0])[0]) == (not lost)
        assert (loss in caplog.text) == lost


def test_callers_are_answered_by_the_last_resort_and_their_rows_count_afterwards(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    release = WindowRelease(guard)
    door = FrontDoor(DEFAULT_SCHEMA, guard, release, now_us=Clock(), last_resort=last_resort)
    store.fails = EVERYTHING
    (first,) = door.answer([ask(row(1, MONDAY_US - 10), row(2, MONDAY_US - 9))])
    assert isinstance(first, Answers)
    assert first.verdict[:, SOURCE].tolist() == [wire.Source.SCORECARD] * 2
    again, clash, new, dry = door.answer(
        [
            ask(row(1, MONDAY_US - 10)),
            ask(row(2, MONDAY_US - 9, amount=7)),
            ask(row(3, MONDAY_US - 8)),
            Request(matrix(row(4, MONDAY_US - 7)), '{"purpose": "dry_run"}'),
        ]
    )
    assert isinstance(again, Answers)
    assert same_bits(again, Answers(first.score[:1], first.verdict[:1], first.features[:1]))
    assert isinstance(clash, InvalidInput)
    assert isinstance(new, Answers)
    assert new.verdict[0, SOURCE] == wire.Source.SCORECARD
    assert isinstance(dry, StoreUnavailable)  # who asks what the release would say is told that it cannot be asked
    store.fails = set()
    attempts.until_back(guard)
    (well, repeated) = door.answer([ask(row(5, MONDAY_US - 5)), ask(row(1, MONDAY_US - 10))])
    assert isinstance(well, Answers)
    count = DEFAULT_SCHEMA.feature_names.index("customer_count_1d")
    assert well.features[0, count] == 4  # 1, 2, 3 and itself
    assert isinstance(repeated, Answers)
    assert repeated.verdict[0, SOURCE] == wire.Source.SCORECARD


def test_an_answer_whose_recording_fails_is_the_releases_and_stands(
    guard: GuardedStore, store: AwayStore, attempts: Attempts
) -> None:
    door = FrontDoor(DEFAULT_SCHEMA, guard, WindowRelease(guard), now_us=Clock(), last_resort=last_resort)
    store.fails = {"record"}
    (first,) = door.answer([ask(row(1))])
    (again,) = door.answer([ask(row(1))])
    store.fails = set()
    attempts.until_back(guard)
    (later,) = door.answer([ask(row(1))])
    assert isinstance(first, Answers)
    assert first.verdict[0, SOURCE] == wire.Source.PRIMARY
    assert isinstance(again, Answers)
    assert isinstance(later, Answers)
    assert same_bits(first, again)
    assert same_bits(first, later)


def test_a_store_comes_back_under_callers_who_never_pause(store: AwayStore, attempts: Attempts) -> None:
    """Answers that need no windows are quicker than a store: what waits must shrink all the same."""
    guard = GuardedStore(lambda: store, DEFAULT_SCHEMA.id_index, pause_s=attempts)
    try:
        store.fails = EVERYTHING
        fail(lambda: guard.recall(ids(1)))
        store.fails, store.record_s = set(), 0.002
        first, calls = 1, 0
        attempts.end()
        while guard.is_away and calls < 1_000:
            guard.bound(time.monotonic() + 60.0)
            rows = matrix(*(row(first + i) for i in range(64)))
            guard.record(rows, answers_for(rows))
            first, calls = first + 64, calls + 1
        assert not guard.is_away
        assert all(guard.recall(np.arange(1, first)))
    finally:
        guard.close()
