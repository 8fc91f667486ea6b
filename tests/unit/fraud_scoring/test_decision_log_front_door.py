"""The front door with a log: an answer is given once it is recorded and logged; without the log, by the scorecard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring import wire
from fraud_scoring.decision_log import (
    Context,
    Decisions,
    Gap,
    LogUnavailable,
    LogWriter,
    Signer,
    read,
    verify_log,
)
from fraud_scoring.errors import InvalidInput, ReleaseUnavailable, StoreFenced
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.requests import Reply, Request
from fraud_scoring.stores import Answers, Recorded, each
from fraud_scoring.stores.memory import MemoryStore
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, Int64, matrix, row
from support.stores import answers_for, same_bits

DRY_RUN = json.dumps({"purpose": "dry_run"})


class FakeLog:
    """Keeps what is appended; fails where it is told to."""

    def __init__(self, steps: list[str]) -> None:
        self.frames: list[Decisions] = []
        self.missed = 0
        self.fails = ""
        self._steps = steps
        self.contexts: list[Context] = []

    def set_context(self, context: Context) -> None:
        self.contexts.append(context)

    def check(self) -> None:
        if self.fails == "check":
            raise LogUnavailable("the decision log cannot be written: no space; free some disk")

    def append(self, content: Decisions) -> None:
        self._steps.append("log")
        if self.fails == "append":
            raise LogUnavailable("the decision log cannot be written: no space; free some disk")
        self.frames.append(content)

    def miss(self, answers: int) -> None:
        self.missed += answers


class Store(MemoryStore):
    """Tells when it records."""

    steps: list[str]

    is_fenced = False

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        if self.is_fenced:
            raise StoreFenced
        return super().recall(transaction_ids)

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        self.steps.append("record")
        return super().record(rows, answers)

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        if self.is_fenced:
            raise StoreFenced
        self.steps.append("record")
        return super().record_new(rows, answers)


def scorecard(rows: Int64) -> Answers:
    verdict = answers_for(rows).verdict
    verdict[:, 5] = wire.Source.SCORECARD
    return Answers(np.full((len(rows), 1), 0.25, np.float32), verdict, np.empty((len(rows), 0), np.float32))


class House:
    """A front door and all that is behind it."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.log = FakeLog(self.steps)
        self.store = Store(DEFAULT_SCHEMA, now_us=Clock())
        self.store.steps = self.steps
        self.features = 3
        self.one_by_one = False
        self.failure: Exception | None = None
        self.clock = Clock()
        self.decided: list[list[int]] = []
        self.door = FrontDoor(
            DEFAULT_SCHEMA,
            self.store,
            self._release,
            now_us=self.clock,
            log=self.log,
            last_resort=scorecard,
            decided=self._tell,
        )

    def _release(self, rows: Int64, until: float) -> Answers | list[Answers]:
        self.steps.append("score")
        if self.failure is not None:
            raise self.failure
        answers = answers_for(rows, features=self.features)
        return each(answers) if self.one_by_one else answers

    def _tell(self, rows: Int64, answers: Answers | list[Answers]) -> None:
        self.steps.append("tell")
        assert len(answers if isinstance(answers, list) else answers.verdict) == len(rows)
        self.decided.append(rows[:, 0].tolist())

    def answer(self, *requests: Request) -> list[Reply]:
        return self.door.answer(requests)

    def recorded(self, *ids: int) -> list[int]:
        found = self.store.recall(np.array(ids, np.int64))
        return [one for one, known in zip(ids, found, strict=True) if known is not None]

    def logged(self) -> list[tuple[int, bool]]:
        """(id, whether it is a repeat) of every row in the log."""
        return [
            pair
            for frame in self.log.frames
            for pair in zip(frame.transaction[:, 0].tolist(), frame.repeat.tolist(), strict=True)
        ]


@pytest.fixture
def house() -> House:
    return House()


def ask(*rows: list[int], parameters: str = "") -> Request:
    return Request(matrix(*rows), parameters)


def answered(reply: Reply) -> Answers:
    assert isinstance(reply, Answers), reply
    return reply


def source(reply: Reply) -> list[int]:
    found: list[int] = answered(reply).verdict[:, 5].tolist()
    return found


def test_the_order_is_score_record_log_tell_answer(house: House) -> None:
    house.answer(ask(row(1)), ask(row(2), row(3)))
    assert house.steps == ["score", "record", "log", "tell"]


def test_of_a_batch_in_which_something_came_again_only_that_is_a_repeat_in_the_log(house: House) -> None:
    house.answer(ask(row(1)))
    house.answer(ask(row(2)), ask(row(1)), ask(row(3)))
    assert house.logged() == [(1, False), (2, False), (1, True), (3, False)]
    assert house.recorded(1, 2, 3) == [1, 2, 3]


class TestWhoIsToldWhatWasDecided:
    def test_hears_of_new_rows_once_and_of_no_others(self, house: House) -> None:
        house.answer(ask(row(1)), ask(row(2), row(3)), ask(row(8), parameters=DRY_RUN), ask(row(9, amount=0)))
        house.answer(ask(row(1)))
        house.answer(ask(row(4), row(2)), ask(row(4)), ask(row(5)), ask(row(3, amount=5)))
        assert house.decided == [[1, 2, 3], [4, 5]]

    def test_hears_of_rows_that_were_answered_one_by_one(self, house: House) -> None:
        house.one_by_one = True
        house.answer(ask(row(1)), ask(row(2), row(3)))
        assert house.decided == [[1, 2, 3]]

    @pytest.mark.parametrize("fails", ["check", "append"])
    def test_hears_of_nothing_that_is_not_logged(self, house: House, fails: str) -> None:
        house.answer(ask(row(1)))
        house.log.fails = fails
        house.answer(ask(row(1)), ask(row(2)))
        house.answer(ask(row(3)))
        house.log.fails = ""
        house.answer(ask(row(1)))
        assert house.decided == [[1]]


def test_a_dynamic_batch_is_one_frame_that_holds_what_was_answered(house: House) -> None:
    requests = [ask(row(3), row(1)), ask(row(2))]
    replies = house.answer(*requests)
    (frame,) = house.log.frames
    rows = np.concatenate([request.rows for request in requests])
    assert frame.transaction.tolist() == rows.tolist()
    logged = Answers(frame.score[:, None], frame.verdict, frame.features)
    assert same_bits(logged, answers_for(rows))
    assert frame.score.tobytes() == b"".join(answered(reply).score.tobytes() for reply in replies)
    assert frame.verdict.tobytes() == b"".join(answered(reply).verdict.tobytes() for reply in replies)
    assert not frame.repeat.any()


def test_dry_runs_and_refused_rows_are_not_logged_and_the_refused_are_counted(house: House) -> None:
    house.answer(ask(row(9, amount=0)), ask(row(8), parameters=DRY_RUN), ask(row(7, amount=0), parameters=DRY_RUN))
    assert house.log.frames == []
    house.answer(ask(row(6, amount=0)), ask(row(1)))
    house.answer(ask(row(2)))
    house.answer(ask(row(1, amount=77)), ask(row(3)))
    house.answer(ask(row(4)))
    assert house.logged() == [(1, False), (2, False), (3, False), (4, False)]
    assert sum(frame.refused for frame in house.log.frames) == 4
    assert [frame.refused for frame in house.log.frames][:2] == [2, 1]


def test_an_error_of_the_release_is_logged_by_nobody_and_counted_by_the_next_frame(house: House) -> None:
    house.failure = ReleaseUnavailable("no answer")
    replies = house.answer(ask(row(1)), ask(row(2), row(3)), ask(row(4), parameters=DRY_RUN), ask(row(5, amount=0)))
    assert [type(reply) for reply in replies] == [ReleaseUnavailable] * 3 + [InvalidInput]
    assert house.log.frames == []
    assert house.log.missed == 0
    house.failure = None
    house.answer(ask(row(6)))
    house.answer(ask(row(7)))
    assert [(frame.failed, frame.refused) for frame in house.log.frames] == [(3, 1), (0, 0)]


class TestWhereNoAnswerFollows:
    """Requests that got none are told all the same, at most once a second."""

    def test_a_frame_without_rows_tells_of_them(self, house: House) -> None:
        house.failure = ReleaseUnavailable("no answer")
        for number in range(50):
            house.clock.now_us += 100_000
            house.answer(ask(row(number)), ask(row(1000 + number, amount=0)))
        assert house.logged() == []
        assert [frame.failed for frame in house.log.frames] == [10] * 5
        assert [frame.refused for frame in house.log.frames] == [10] * 5

    def test_a_frame_of_answers_makes_it_wait_again(self, house: House) -> None:
        for number in range(50):
            house.clock.now_us += 100_000
            house.answer(ask(row(number, amount=0)))
            house.answer(ask(row(number)))
        assert [(len(frame), frame.refused) for frame in house.log.frames] == [(1, 1)] * 50

    def test_a_clock_that_is_set_back_does_not_silence_them(self, house: House) -> None:
        house.clock.now_us -= 3_600_000_000
        house.answer(ask(row(1, amount=0)))
        assert [frame.refused for frame in house.log.frames] == [1]

    def test_what_nobody_foresaw_counts_as_a_failure_of_the_whole_batch(self, house: House) -> None:
        house.failure = ZeroDivisionError("nobody foresaw this")
        with pytest.raises(ZeroDivisionError):
            house.answer(ask(row(1)), ask(row(2)))
        house.failure = None
        house.answer(ask(row(3)))
        assert [frame.failed for frame in house.log.frames] == [2]

    def test_a_log_that_cannot_be_written_delays_it_and_loses_nothing(self, house: House) -> None:
        house.log.fails = "append"
        house.clock.now_us += 2_000_000
        (reply,) = house.answer(ask(row(1, amount=0)))
        assert isinstance(reply, InvalidInput)
        house.log.fails = ""
        house.answer(ask(row(2, amount=0)))
        assert [frame.refused for frame in house.log.frames] == [2]


class TestRepeats:
    def test_a_repeat_is_logged_as_one_with_the_answer_that_was_given(self, house: House) -> None:
        (first,) = house.answer(ask(row(1)))
        (again,) = house.answer(ask(row(1)))
        assert house.logged() == [(1, False), (1, True)]
        assert house.log.frames[1].score.tobytes() == answered(first).score.tobytes() == answered(again).score.tobytes()
        in_vain = ["score", "record"]
        assert house.steps == ["score", "record", "log", "tell", *in_vain, "log"]
        house.answer(ask(row(1)))
        assert house.steps[7:] == ["log"], "it asks from then on"

    def test_beside_new_rows_each_is_marked_for_itself(self, house: House) -> None:
        house.answer(ask(row(1)))
        replies = house.answer(ask(row(3), row(1)), ask(row(2)))
        assert house.logged()[1:] == [(3, False), (1, True), (2, False)]
        logged = house.log.frames[1]
        assert logged.score.tobytes() == b"".join(answered(reply).score.tobytes() for reply in replies)

    def test_sent_twice_at_once_is_new_once(self, house: House) -> None:
        house.answer(ask(row(1)), ask(row(1)), ask(row(2), row(1)))
        assert house.logged() == [(1, False), (1, True), (2, False), (1, True)]

    def test_answers_of_releases_with_other_features_go_into_a_frame_of_their_own(self, house: House) -> None:
        house.answer(ask(row(1), row(5)))
        house.features = 4
        house.answer(ask(row(1), row(2)), ask(row(5), parameters='{"deadline_us": 500000}'))
        old, new = sorted(house.log.frames[1:], key=lambda frame: frame.features.shape[1])
        assert old.transaction[:, 0].tolist() == [1, 5]
        assert old.features.shape == (2, 3)
        assert (new.transaction[:, 0].tolist(), new.features.shape) == ([2], (1, 4))
        assert (old.repeat.tolist(), new.repeat.tolist()) == ([True, True], [False])
        assert old.deadline_left_us[1] - old.deadline_left_us[0] == 420_000


def test_deadline_left_is_each_request_s_own_less_the_time_it_took(house: House) -> None:
    house.answer(ask(row(1)), ask(row(2), row(3), parameters='{"deadline_us": 250000}'))
    (frame,) = house.log.frames
    first, second, third = frame.deadline_left_us.tolist()
    assert second == third == first + 170_000
    assert wire.DEFAULT_DEADLINE_US - 60_000_000 < first < wire.DEFAULT_DEADLINE_US


def test_stage_times_are_of_this_batch_and_never_negative(house: House) -> None:
    house.answer(ask(row(1)))
    house.answer(ask(row(1)))
    house.answer(ask(row(1)), ask(row(2)))
    house.answer(ask(row(5), parameters=DRY_RUN), ask(row(3, amount=5)), ask(row(3)))
    for frame in house.log.frames:
        assert frame.stage_us.shape == (4,)
        assert (frame.stage_us >= 0).all()
        assert frame.stage_us.sum() < 60_000_000


class TestWithoutTheLog:
    def test_the_scorecard_answers_with_its_source_and_nothing_is_scored_or_recorded(self, house: House) -> None:
        house.log.fails = "check"
        replies = house.answer(ask(row(1)), ask(row(2), row(3)), ask(row(4, amount=0)))
        assert [source(reply) for reply in replies[:2]] == [[wire.Source.SCORECARD], [wire.Source.SCORECARD] * 2]
        assert isinstance(replies[2], InvalidInput)
        assert house.steps == []
        assert house.recorded(1, 2, 3) == []
        assert house.log.missed == 3

    def test_a_dry_run_needs_no_log(self, house: House) -> None:
        house.log.fails = "check"
        (reply,) = house.answer(ask(row(1), parameters=DRY_RUN))
        assert source(reply) == [wire.Source.PRIMARY]
        assert house.log.missed == 0

    def test_when_it_is_back_the_release_answers_again(self, house: House) -> None:
        house.log.fails = "check"
        house.answer(ask(row(1)))
        house.log.fails = ""
        (reply,) = house.answer(ask(row(1)))
        assert source(reply) == [wire.Source.PRIMARY]
        assert house.logged() == [(1, False)]

    @pytest.mark.parametrize("known", [False, True])
    def test_a_log_that_fails_after_the_scoring_acknowledges_nothing_either(self, house: House, known: bool) -> None:
        if known:
            house.answer(ask(row(1)))
        house.log.fails = "append"
        replies = house.answer(ask(row(1)), ask(row(2)))
        assert [source(reply) for reply in replies] == [[wire.Source.SCORECARD]] * 2
        assert house.log.missed == 2
        assert len(house.log.frames) == known

    def test_without_a_last_resort_the_caller_is_told(self, house: House) -> None:
        door = FrontDoor(DEFAULT_SCHEMA, house.store, house._release, now_us=Clock(), log=house.log)
        house.log.fails = "check"
        replies = door.answer([ask(row(1)), ask(row(2, amount=0))])
        assert isinstance(replies[0], LogUnavailable)
        assert isinstance(replies[1], InvalidInput)
        assert house.steps == []

    @pytest.mark.parametrize("fails", ["", "check", "append"])
    def test_where_another_region_answers_nobody_does_not_even_the_last_resort(self, house: House, fails: str) -> None:
        house.answer(ask(row(1)))
        house.store.is_fenced = True
        house.log.fails = fails
        assert [type(reply) for reply in house.answer(ask(row(1)), ask(row(2)))] == [StoreFenced] * 2
        assert house.log.missed == 0

    def test_a_clash_of_ids_is_refused_while_the_log_is_there_and_the_rest_is_logged(self, house: House) -> None:
        house.answer(ask(row(1)))
        replies = house.answer(ask(row(1, amount=5)), ask(row(2)))
        assert isinstance(replies[0], InvalidInput)
        assert house.logged() == [(1, False), (2, False)]


def test_with_a_real_log_on_a_full_disk_a_gap_tells_how_many_answers_are_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    signer, clock = Signer(Ed25519PrivateKey.generate()), Clock(MONDAY_US)
    log = LogWriter(tmp_path / "log" / "front-door-0", Context(7, DEFAULT_SCHEMA.document), signer, now_us=clock)
    store = MemoryStore(DEFAULT_SCHEMA, now_us=clock)
    door = FrontDoor(
        DEFAULT_SCHEMA, store, lambda rows, until: answers_for(rows), now_us=clock, log=log, last_resort=scorecard
    )
    real, full = os.write, [False]

    def write(descriptor: int, data: bytes) -> int:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    acknowledged: dict[int, bytes] = {}
    expected_gap = 0
    for number in range(60):
        clock.now_us += 400_000
        full[0] = 20 <= number < 40
        (reply,) = door.answer([ask(row(2 * number + 1, clock.now_us), row(2 * number + 2, clock.now_us))])
        if source(reply)[0] == wire.Source.SCORECARD:
            expected_gap += 2
        else:
            for i in range(2):
                acknowledged[2 * number + 1 + i] = answered(reply).score[i].tobytes()
    log.close()
    there: dict[int, bytes] = {}
    gaps = []
    for frame, _ in read(tmp_path / "log" / "front-door-0"):
        content = frame.content()
        if isinstance(content, Decisions):
            there |= dict(zip(content.transaction[:, 0].tolist(), [s.tobytes() for s in content.score], strict=True))
        elif isinstance(content, Gap):
            gaps.append(content)
    assert there == acknowledged
    assert [(gap.answers, gap.reason) for gap in gaps] == [(expected_gap, "No space left on device")]
    assert 40 <= expected_gap <= 46
    assert verify_log(tmp_path / "log", signer.public_key).findings == []
