"""What a window store gives back of a transaction: its row, and the answer that was given to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.features import Float32
from fraud_scoring.windows import Int64

RETENTION_DAYS: Final = 60
"""How long a transaction's record is kept after it came: labels and repeats are understood for that long.

Longer where a window is: an entity goes with the record of its newest event, which must be out of every window then.
"""
_VERDICT_BYTES: Final = 4 * (1 + wire.VERDICT_WIDTH)


class Answers(NamedTuple):
    """A batch of answers: score FP32 [N], verdict INT32 [N, 6], features FP32 [N, F]."""

    score: Float32
    verdict: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    features: Float32


def each(answers: Answers) -> list[Answers]:
    """The rows of a batch of answers, each as answers of one row: score FP32 [1], verdict [1, 6], features [1, F]."""
    return [
        Answers(answers.score[i : i + 1].reshape(1), answers.verdict[i : i + 1], answers.features[i : i + 1])
        for i in range(len(answers.verdict))
    ]


def together(parts: Sequence[Answers]) -> Answers:
    """Answers with features of one schema, and scores of one shape, as one batch."""
    return Answers(
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.verdict for part in parts]),
        np.concatenate([part.features for part in parts]),
    )


@dataclass(frozen=True)
class Recorded:
    """One transaction as it was recorded; `answer` is None for history that was never answered here."""

    row: Int64
    answer: Answers | None


def answer_bytes(answers: Answers) -> list[npt.NDArray[np.uint8]]:
    """Score, verdict and features of each row as bytes [N, …]: what stands in a record, one after the other."""
    parts = (answers.score.reshape(len(answers.score), 1), answers.verdict, answers.features)
    return [np.ascontiguousarray(part).view(np.uint8) for part in parts]


def as_recorded(row: Int64, answer: bytes) -> Recorded:
    """A record's row and the `answer_bytes` behind it; b"" for history that was never answered here."""
    if not answer:
        return Recorded(row, None)
    return Recorded(
        row,
        Answers(
            score=np.frombuffer(answer, np.float32, 1),
            verdict=np.frombuffer(answer, np.int32, wire.VERDICT_WIDTH, 4)[None, :],
            features=np.frombuffer(answer, np.float32, -1, _VERDICT_BYTES)[None, :],
        ),
    )
