"""Several callers' requests as one, and the answers to all of them as one: the other end of the backend `coalesce`.

in   transaction  INT64 [N, C]   the rows of all requests, in their order
     members      INT32 [M]      rows of each request
     parameters   UINT8 [P]      a line for each request: its parameters as a JSON object, or nothing
     and the request's id        who asks so brings to the disk what is `unsynced`
out  score, verdict, features    [N, …]: rows of a refused request mean nothing
     widths       INT32 [M]      columns of each request's features, where they differ
     refusals     UINT8 [R]      where a request is refused: a line for each, its error's code and text, or nothing
     unsynced     UINT8 [U]      what must be on the disk before the answer is told (decision_log/handover.py)
     line         UINT8 [L]      over which to call from now on (line.py)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.errors import FraudError, InvalidInput
from fraud_scoring.requests import Joined, Parts, Reply, Request
from fraud_scoring.stores import Answers, together
from fraud_scoring.windows import Int64

Array = npt.NDArray[Any]

REQUEST_ID: Final = "coalesce"
MEMBERS: Final = "members"
PARAMETERS: Final = "parameters"
WIDTHS: Final = "widths"
REFUSALS: Final = "refusals"
UNSYNCED: Final = "unsynced"
LINE: Final = "line"


def taken_apart(rows: Int64, members: Array, parameters: bytes) -> Joined:
    """The requests that were joined to `rows` int64 [N, C]; InvalidInput where the parts do not fit each other."""
    counts = members.tolist()
    lines = parameters.decode(errors="replace").split("\n")
    if min(counts, default=0) < 0 or sum(counts) != len(rows) or len(lines) != len(counts) + 1:
        raise InvalidInput(
            f"{MEMBERS}: {len(counts)} requests of {sum(counts)} rows, with {len(lines) - 1} lines of parameters and "
            f"{len(rows)} rows; this model is asked by {wire.SCORE_MODEL}: ask that"
        )
    return Joined(rows, counts, lines[:-1])


def joined(
    replies: Sequence[Reply], requests: Sequence[Request], code_of: Callable[[FraudError], int]
) -> dict[str, Array]:
    """The replies to `requests` as tensors by name; `code_of` gives an error's number in Triton's C API."""
    if isinstance(replies, Parts):
        return _tensors(replies.whole)
    tensors: dict[str, Array] = {}
    answers = [reply for reply in replies if not isinstance(reply, FraudError)]
    if len(answers) < len(replies):
        tensors[REFUSALS] = _lines(replies, code_of)
        answers = [
            _nothing(len(request.rows)) if isinstance(reply, FraudError) else reply
            for reply, request in zip(replies, requests, strict=True)
        ]
    widths = [one.features.shape[1] for one in answers]
    if min(widths) < max(widths):
        tensors[WIDTHS] = np.array(widths, np.int32)
        answers = [one._replace(features=_widened(one.features, max(widths))) for one in answers]
    return tensors | _tensors(together([one._replace(score=one.score.reshape(-1, 1)) for one in answers]))


def _tensors(answers: Answers) -> dict[str, Array]:
    return {
        wire.SCORE: np.ascontiguousarray(answers.score.reshape(-1, 1)),
        wire.VERDICT: np.ascontiguousarray(answers.verdict),
        wire.FEATURES: np.ascontiguousarray(answers.features),
    }


def _lines(replies: Sequence[Reply], code_of: Callable[[FraudError], int]) -> Array:
    lines = [
        f"{code_of(reply)} {' '.join(str(reply).split())}" if isinstance(reply, FraudError) else "" for reply in replies
    ]
    return np.frombuffer("".join(f"{line}\n" for line in lines).encode(), np.uint8)


def _nothing(rows: int) -> Answers:
    score, features = np.zeros((rows, 1), np.float32), np.zeros((rows, 0), np.float32)
    return Answers(score, np.zeros((rows, wire.VERDICT_WIDTH), np.int32), features)


def _widened(features: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    wide = np.zeros((len(features), width), np.float32)
    wide[:, : features.shape[1]] = features
    return wide
