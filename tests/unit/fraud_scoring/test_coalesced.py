"""Several requests as one, and their answers as one: what is joined comes apart as it was."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_scoring.coalesced import joined, taken_apart
from fraud_scoring.errors import FraudError, InvalidInput
from fraud_scoring.requests import Parts, Reply, Request
from fraud_scoring.stores import Answers


def matrix(count: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + 5 * count, dtype=np.int64).reshape(count, 5)


def answers(count: int, width: int, start: float = 0.0) -> Answers:
    features = np.arange(count * width, dtype=np.float32).reshape(count, width) + start
    verdict = np.arange(count * 6, dtype=np.int32).reshape(count, 6)
    return Answers(np.full((count, 1), start, np.float32), verdict, features)


def code_of(error: FraudError) -> int:
    return 3 if isinstance(error, InvalidInput) else 1


def test_each_request_has_its_rows_and_its_line() -> None:
    rows = matrix(6)
    lines = b'\n{"deadline_us":5}\n\n'
    requests = taken_apart(rows, np.array([1, 3, 2], np.int32), lines)
    assert [request.rows.tolist() for request in requests] == [rows[:1].tolist(), rows[1:4].tolist(), rows[4:].tolist()]
    assert [request.parameters for request in requests] == ["", '{"deadline_us":5}', ""]


@pytest.mark.parametrize(
    ("members", "lines"), [([1, 1], b"\n\n"), ([4, -1], b"\n\n"), ([3], b"\n\n"), ([3], b""), ([], b"\n")]
)
def test_parts_that_do_not_fit_are_refused_with_the_model_to_ask(members: list[int], lines: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"members: .* ask that"):
        taken_apart(matrix(3), np.array(members, np.int32), lines)


def test_replies_lie_one_after_the_other() -> None:
    replies: list[Reply] = [answers(2, 4), answers(1, 4, 9.0)]
    tensors = joined(replies, [Request(matrix(2)), Request(matrix(1))], code_of)
    assert tensors.keys() == {"score", "verdict", "features"}
    assert tensors["score"].tolist() == [[0.0], [0.0], [9.0]]
    assert (tensors["score"].dtype, tensors["verdict"].dtype) == (np.float32, np.int32)
    assert tensors["features"][2].tolist() == [9.0, 10.0, 11.0, 12.0]


def test_parts_of_one_answer_are_that_answer_again_and_each_is_its_own_rows() -> None:
    whole = answers(6, 2)
    parts = Parts(whole, [1, 3, 2])
    assert [part.features.tolist() for part in parts if isinstance(part, Answers)] == [
        whole.features[:1].tolist(), whole.features[1:4].tolist(), whole.features[4:].tolist(),
    ]  # fmt: skip
    assert parts[-1].verdict.tolist() == whole.verdict[4:].tolist()
    assert len(parts[1:]) == 2
    with pytest.raises(IndexError):
        parts[3]
    requests = [Request(matrix(count)) for count in (1, 3, 2)]
    one_by_one, at_once = joined(list(parts), requests, code_of), joined(parts, requests, code_of)
    assert {name: value.tobytes() for name, value in at_once.items()} == {
        name: value.tobytes() for name, value in one_by_one.items()
    }


def test_a_refusal_has_a_line_and_keeps_the_others_at_their_places() -> None:
    replies: list[Reply] = [answers(1, 2), InvalidInput("row 0: no\n  good"), answers(1, 2, 5.0)]
    requests = [Request(matrix(1)), Request(matrix(3)), Request(matrix(1))]
    tensors = joined(replies, requests, code_of)
    assert tensors["refusals"].tobytes().decode().split("\n") == ["", "3 row 0: no good", "", ""]
    assert len(tensors["score"]) == 5
    assert tensors["features"][4].tolist() == [5.0, 6.0]


def test_features_of_several_widths_are_as_wide_as_the_widest_and_say_how_wide_each_is() -> None:
    tensors = joined([answers(1, 2), answers(2, 3)], [Request(matrix(1)), Request(matrix(2))], code_of)
    assert tensors["widths"].tolist() == [2, 3]
    assert tensors["features"].tolist() == [[0.0, 1.0, 0.0], [0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_nothing_but_refusals_is_an_answer_too() -> None:
    tensors = joined([InvalidInput("no"), FraudError("fault")], [Request(matrix(1)), Request(matrix(2))], code_of)
    assert tensors["refusals"].tobytes() == b"3 no\n1 fault\n"
    assert tensors["verdict"].shape == (3, 6)
