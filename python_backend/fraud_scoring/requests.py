"""Callers' requests and their replies, many at once: parts of one matrix, cut out only where one is asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeVar, overload

import numpy as np

from fraud_scoring.errors import FraudError
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64

Part = TypeVar("Part")


class Request(NamedTuple):
    """One caller's request: `rows` [N, C] as sent, and its parameters as JSON text."""

    rows: Int64
    parameters: str = ""


Reply = Answers | FraudError
"""What a request gets: its own answers, or its own error."""


class _Whole(Sequence[Part]):
    """Parts of `sizes` rows each, one after the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: slice) -> list[Part]: ...

    def __getitem__(self, index: int | slice) -> Part | list[Part]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        at = index % len(self)
        return self._part(at, slice(self._ends[at], self._ends[at + 1]))

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.sizes, initial=0))

    @abstractmethod
    def _part(self, at: int, rows: slice) -> Part: ...


class Joined(_Whole[Request]):
    """Requests whose rows are `rows` [N, C], in their order, each with its `parameters`."""

    def __init__(self, rows: Int64, sizes: Sequence[int], parameters: Sequence[str]) -> None:
        super().__init__(sizes)
        self.rows = rows
        self.parameters = parameters

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Joined:
        """Requests, one or more, of one type and width of rows."""
        rows = requests[0].rows if len(requests) == 1 else np.concatenate([request.rows for request in requests])
        return cls(rows, [len(request.rows) for request in requests], [request.parameters for request in requests])

    def _part(self, at: int, rows: slice) -> Request:
        return Request(self.rows[rows], self.parameters[at])


class Parts(_Whole[Reply]):
    """Replies that are all answers, as parts of the `whole`."""

    def __init__(self, whole: Answers, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        self.whole = whole

    def _part(self, at: int, rows: slice) -> Answers:
        return Answers(self.whole.score[rows], self.whole.verdict[rows], self.whole.features[rows])
