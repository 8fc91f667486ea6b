"""Rows in turn, round after round, and what stands in the middle."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from fraud_bench.loads import Measured
from fraud_bench.rows import Row, Stage
from fraud_scoring.errors import FraudError

Progress = Callable[[float, str], None]
Figure = Callable[[Measured], float]


@dataclass
class Measurements:
    """By row, what each round found; None for a round in which it could not be measured, and why."""

    rounds: int
    found: dict[str, list[Measured | None]] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)

    def median(self, key: str, figure: Figure) -> float | None:
        """The middle of a figure over the rounds; None where it was not measured in most of them."""
        return self._middle([figure(one) for one in self.found.get(key, []) if one is not None])

    def ratio(self, key: str, other: str, figure: Figure) -> float | None:
        """The middle of the ratio of two rows' figures in the same round; None as for `median`."""
        pairs = zip(self.found.get(key, []), self.found.get(other, []), strict=False)
        return self._middle([figure(one) / figure(two) for one, two in pairs if one is not None and two is not None])

    def _middle(self, values: list[float]) -> float | None:
        return statistics.median(values) if 2 * len(values) > self.rounds else None


def measure(
    rows: Sequence[Row],
    stage: Stage,
    rounds: int,
    progress: Progress,
    *,
    deadline: float = math.inf,
    clock: Callable[[], float] = time.monotonic,
) -> Measurements:
    """Every row once a round; each round begins with another row, so that none has a place of its own.

    Neighbours that have several turns are measured in turn, there and back again, and stay side by side. After the
    first, no round is begun that would end behind the `deadline` if it took as long as the one before.
    """
    found = Measurements(0, {row.key: [] for row in rows})
    began = took = clock()
    for number in range(rounds):
        took, began = clock() - began, clock()
        if number and began + took > deadline:
            break
        found.rounds += 1
        measured: dict[str, list[Measured | None]] = {row.key: [] for row in rows}
        order = list(_in_turn(rows, number, rounds))
        for place, row in enumerate(order):
            progress((number + place / len(order)) / rounds, f"round {number + 1} of {rounds}: {row.title}")
            measured[row.key].append(_measure(row, stage, found))
        for key, turns in measured.items():
            there = [turn for turn in turns if turn is not None]
            found.found[key].append(Measured.together(there) if len(there) == len(turns) else None)
    progress(1.0, "measured")
    return found


def _in_turn(rows: Sequence[Row], number: int, rounds: int) -> Iterator[Row]:
    """The rows of a round, each as often as it has turns."""
    blocks: list[list[Row]] = []
    for row in rows:
        if blocks and 1 < row.turns == blocks[-1][0].turns:
            blocks[-1].append(row)
        else:
            blocks.append([row])
    shift = number * len(blocks) // rounds
    for block in (*blocks[shift:], *blocks[:shift]):
        for turn in range(block[0].turns):
            yield from reversed(block) if turn % 2 else block


def warm_up(rows: Sequence[Row], stage: Stage, progress: Progress) -> None:
    """A load for each server and store that is not counted: their pages are read then, their processes have grown."""
    for row in {frozenset(row.kind.needs): row for row in reversed(rows)}.values():
        progress(0.0, f"warming up: {row.title}")
        with suppress(FraudError):  # the first round tells
            row.kind.measure(stage, 0)


def _measure(row: Row, stage: Stage, found: Measurements) -> Measured | None:
    before = [one.sent for one in found.found[row.key] if one is not None]
    try:
        return row.kind.measure(stage, before[-1] if before else 0)
    except FraudError as trouble:
        found.trouble.setdefault(row.key, str(trouble))
        return None
