"""Transactions that were answered and are not in the window store yet: in order, bounded, each id once.

They are in this process's memory, and die with it; the decision log has them then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.stores.records import Answers, Recorded, together
from fraud_scoring.windows import Int64


@dataclass(frozen=True)
class Part:
    """Rows int64 [N, C] that came together, and their answers; None for history that was never answered here."""

    rows: Int64
    answers: Answers | None

    def take(self, chosen: list[int]) -> Part:
        """Some of the rows."""
        if len(chosen) == len(self.rows):
            return self
        answers = self.answers
        if answers is not None:
            answers = Answers(answers.score[chosen], answers.verdict[chosen], answers.features[chosen])
        return Part(self.rows[chosen], answers)

    def one(self, i: int) -> Recorded:
        """Row `i` as a store would give it back."""
        if (all_of := self.answers) is None:
            return Recorded(self.rows[i], None)
        mine = slice(i, i + 1)
        return Recorded(
            self.rows[i], Answers(all_of.score[mine].reshape(1), all_of.verdict[mine], all_of.features[mine])
        )

    def is_like(self, other: Part) -> bool:
        """Whether both can be recorded by one call."""
        if self.answers is None or other.answers is None:
            return self.answers is other.answers
        return self.answers.features.shape[1] == other.answers.features.shape[1]


class Backlog:
    """At most `limit` rows; `id_index` is the column of a transaction's id."""

    def __init__(self, id_index: int, limit: int) -> None:
        self._id_index = id_index
        self._limit = limit
        self._parts: deque[Part] = deque()
        self._place: dict[int, tuple[Part, int]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def recall(self, ids: Int64) -> list[Recorded | None]:
        """What waits under each id int64 [N]; None for one that does not wait."""
        places = [self._place.get(i) for i in ids.tolist()]
        return [None if place is None else place[0].one(place[1]) for place in places]

    def add(self, rows: Int64, answers: Answers | None) -> list[Recorded | None]:
        """None for each row that waits from now on, else what waited before; the first answer stays.

        StoreUnavailable, and nothing was added, where there is no room.
        """
        stood = self.recall(rows[:, self._id_index])
        new: dict[int, int] = {}
        for i, identifier in enumerate(rows[:, self._id_index].tolist()):
            before = stood[i]
            if before is None or (before.answer is None and answers is not None):
                new.setdefault(identifier, i)
        if self._rows + len(new) > self._limit:
            raise StoreUnavailable(
                f"the window store is away, and {self._rows} transactions that were answered meanwhile wait for it, "
                "which is the most that are kept; bring it back"
            )
        if new:
            part = Part(rows, answers).take(list(new.values()))
            self._parts.append(part)
            self._rows += len(part.rows)
            self._place.update({identifier: (part, at) for at, identifier in enumerate(new)})
        for i, identifier in enumerate(rows[:, self._id_index].tolist()):
            if stood[i] is None and new[identifier] != i:
                stood[i] = Part(rows, answers).one(new[identifier])  # twice in one call
        return stood

    def first(self, rows: int) -> tuple[Part, int] | None:
        """(what is to be recorded next, of how many parts it is made), about as many rows; None if nothing waits."""
        if not self._parts:
            return None
        chosen = [self._parts[0]]
        size = len(chosen[0].rows)
        for part in islice(self._parts, 1, None):
            if size + len(part.rows) > rows or not part.is_like(chosen[0]):
                break
            chosen.append(part)
            size += len(part.rows)
        return _joined(chosen), len(chosen)

    def drop(self, parts: int) -> None:
        """Forget the first parts: they are recorded."""
        for _ in range(parts):
            part = self._parts.popleft()
            self._rows -= len(part.rows)
            for identifier in part.rows[:, self._id_index].tolist():
                if self._place[identifier][0] is part:
                    del self._place[identifier]


def _joined(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    answered = [part.answers for part in parts if part.answers is not None]
    rows = np.concatenate([part.rows for part in parts])
    if not answered:
        return Part(rows, None)
    return Part(rows, together([one._replace(score=one.score.reshape(len(one.verdict), 1)) for one in answered]))
