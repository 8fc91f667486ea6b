"""Offline = online, with the server's inside in this process; and faults that the comparison must find."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_client import Call, FraudClient, Policy, ServerFailed, Unavailable
from fraud_data import Transactions
from fraud_load.verify import Stream, Verification, verify
from fraud_scoring import wire
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.wire import Accepted


def run(data: Transactions, pipeline: Pipeline, transport, **options) -> Verification:
    options = {"batch": 64, "now_ns": lambda: 17, **options}
    with FraudClient(transport=transport, policy=Policy.plain()) as client:
        return verify(data, pipeline, client, **options)


def score_calls(transport) -> list[Call]:
    return [call for call in transport.calls if call.model == wire.SCORE_MODEL]


def test_a_server_that_does_as_the_release_does_has_no_mismatch(history, pipeline, inside, transport) -> None:
    server = transport(inside)
    found = run(history, pipeline, server)
    assert found.mismatches == 0
    assert (found.rows, found.retries, found.repeats) == (len(history), 0, 0)
    assert sum(len(call.rows) for call in score_calls(server)) == len(history)
    assert 0 < found.labels < len(history)
    assert found.labels_unknown == 0
    assert found.rows_per_second > 0


@pytest.mark.parametrize("label_days", [0.0, 1 / 24, 10.0])
def test_it_holds_however_late_or_early_labels_come(history, pipeline, inside, transport, label_days: float) -> None:
    found = run(history, pipeline, transport(inside), label_days=label_days)
    assert (found.mismatches, found.labels_unknown) == (0, 0)


@pytest.mark.parametrize("batch", [1, 7, 5_000])
def test_it_holds_for_any_size_of_batch(history, pipeline, inside, transport, batch: int) -> None:
    server = transport(inside)
    assert run(history.slice(0, 1_500), pipeline, server, batch=batch).mismatches == 0
    assert max(len(call.rows) for call in score_calls(server)) <= min(batch, wire.MAX_ROWS)


def test_it_can_be_repeated_on_a_store_with_other_content(history, pipeline, inside, transport) -> None:
    part = history.slice(0, 800)
    for salt in (1, 2):
        assert run(part, pipeline, transport(inside), now_ns=lambda salt=salt: salt).mismatches == 0


def test_requests_that_are_sent_twice_get_the_same_answer_twice(history, pipeline, inside, transport) -> None:
    server = transport(inside)
    found = run(history, pipeline, server, repeat_share=0.2)
    assert found.mismatches == 0
    assert 0.1 < found.repeats / found.rows < 0.3
    assert sum(len(call.rows) for call in score_calls(server)) == found.rows + found.repeats


@pytest.mark.parametrize(
    ("tensor", "counted"),
    [("features", "feature_mismatches"), ("score", "decision_mismatches"), ("verdict", "decision_mismatches")],
)
def test_one_flipped_bit_in_a_row_is_one_mismatch(
    history, pipeline, inside, transport, tensor: str, counted: str
) -> None:
    flipped = 0

    def flip_in_every_third_request(call: Call):
        nonlocal flipped
        answer = dict(inside(call))
        if call.model == wire.SCORE_MODEL and len(server.calls) % 3 == 0:
            bits = np.array(answer[tensor]).copy()
            bits.view(np.uint32)[-1, -1] ^= 1
            answer[tensor] = bits
            flipped += 1
        return answer

    server = transport(flip_in_every_third_request)
    found = run(history, pipeline, server)
    assert flipped > 3
    assert found.mismatches == getattr(found, counted) == flipped


def test_answers_that_were_given_in_the_place_of_the_release_are_mismatches_and_are_named(
    history, pipeline, inside, transport
) -> None:
    def without_windows(call: Call):
        answer = dict(inside(call))
        if call.model == wire.SCORE_MODEL and len(server.calls) < 3:
            answer["verdict"] = answer["verdict"].copy()
            answer["verdict"][:, wire.VERDICT_SOURCE] = wire.Source.SCORECARD
            answer["features"] = np.empty((len(call.rows), 0), np.float32)
        return answer

    server = transport(without_windows)
    found = run(history, pipeline, server, repeat_share=0.0)
    assert found.degraded == found.feature_mismatches == found.decision_mismatches > 0
    assert found.degraded < found.rows


def test_an_answer_that_changes_when_it_is_asked_for_again_is_a_mismatch(history, pipeline, inside, transport) -> None:
    seen: set[int] = set()
    changed = 0

    def forget_the_first_row(call: Call):
        nonlocal changed
        answer = dict(inside(call))
        if call.model == wire.SCORE_MODEL and int(call.rows[0, 0]) in seen:
            answer["score"] = answer["score"].copy()
            answer["score"][0] += 1
            changed += 1
        seen.add(int(call.rows[0, 0]))
        return answer

    found = run(history, pipeline, transport(forget_the_first_row), repeat_share=0.2)
    assert (found.feature_mismatches, found.decision_mismatches) == (0, 0)
    assert found.mismatches == found.repeat_mismatches == changed > 3


def test_a_server_that_loses_labels_is_found_out(history, pipeline, inside, transport) -> None:
    def deaf(call: Call):
        if call.model == wire.FEEDBACK_MODEL:
            return {wire.ACCEPTED: np.full((len(call.rows), 1), Accepted.APPLIED, np.int32)}
        return inside(call)

    assert run(history, pipeline, transport(deaf)).feature_mismatches > 0


def test_a_server_that_answers_with_another_number_of_features_differs_in_every_row(
    history, pipeline, inside, transport
) -> None:
    def narrow(call: Call):
        answer = dict(inside(call))
        if call.model == wire.SCORE_MODEL:
            answer["features"] = answer["features"][:, :-1]
        return answer

    part = history.slice(0, 300)
    assert run(part, pipeline, transport(narrow)).feature_mismatches == 300


def test_labels_that_the_server_does_not_know_are_counted(history, pipeline, inside, transport) -> None:
    def forgetful(call: Call):
        answer = inside(call)
        if call.model == wire.FEEDBACK_MODEL:
            return {wire.ACCEPTED: np.full((len(call.rows), 1), Accepted.UNKNOWN_TRANSACTION, np.int32)}
        return answer

    found = run(history, pipeline, transport(forgetful))
    assert found.labels_unknown == found.labels > 0


@pytest.mark.parametrize("recorded", [False, True], ids=["before it was recorded", "after it was recorded"])
def test_a_request_that_gets_no_answer_is_sent_again(history, pipeline, inside, transport, recorded: bool) -> None:
    lost = {5: Unavailable("gone"), 6: ServerFailed("broken"), 11: Unavailable("gone")}

    def loses_answers(call: Call):
        failure = lost.pop(len(server.calls), None)
        if failure is not None and not recorded:
            raise failure
        answer = inside(call)
        if failure is not None:
            raise failure
        return answer

    server = transport(loses_answers)
    found = run(history.slice(0, 1_000), pipeline, server)
    assert (found.mismatches, found.retries) == (0, 3)


def test_a_server_that_stays_away_is_given_up(history, transport) -> None:
    def away(call: Call):
        raise Unavailable("gone")

    stream = Stream(FraudClient(transport=transport(away), policy=Policy.plain()), patience=0.0)
    with pytest.raises(Unavailable, match="gone"):
        stream.score(history.rows[:1])


@pytest.mark.parametrize("batch", [1, 64, 300, 1_024])
def test_halfway_is_called_once_right_before_the_middle_row_is_sent(
    history, pipeline, inside, transport, batch: int
) -> None:
    server = transport(inside)
    sent_before: list[int] = []
    part = history.slice(0, 700)
    run(
        part,
        pipeline,
        server,
        batch=batch,
        halfway=lambda: sent_before.append(sum(len(c.rows) for c in score_calls(server))),
    )
    assert len(sent_before) == 1
    assert sent_before[0] <= 350 < sent_before[0] + batch


def test_progress_rises_to_the_end(history, pipeline, inside, transport) -> None:
    shares: list[float] = []
    run(history.slice(0, 700), pipeline, transport(inside), progress=lambda share, text: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
