"""The proof that the job was done: what the decision log of a measured server holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_scoring.decision_log import Decisions, read, writers
from fraud_scoring.wire import VERDICT_SOURCE, Source

LAST_RESORT_SHARE: Final = 0.001
"""Of all answers, at most: what a batch gets that the machine kept waiting; with more it is another job."""


@dataclass(frozen=True)
class Logged:
    """Answers in a log: all, those that were given from what was recorded before, those of the last resort."""

    answers: int
    repeats: int
    scorecard: int

    @property
    def sound(self) -> bool:
        """Whether each was answered anew, and by the release but for a few."""
        return self.answers > 0 and self.repeats == 0 and self.scorecard <= LAST_RESORT_SHARE * self.answers


def logged(log: Path) -> Logged:
    """Count every frame of every writer; LogDamaged where the chain breaks."""
    answers = repeats = scorecard = 0
    for writer in writers(log):
        for frame, _ in read(log / writer):
            content = frame.content()
            if isinstance(content, Decisions):
                answers += len(content)
                repeats += int(content.repeat.sum())
                scorecard += int((content.verdict[:, VERDICT_SOURCE] >= Source.SCORECARD).sum())
    return Logged(answers, repeats, scorecard)
