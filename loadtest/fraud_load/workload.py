"""What to send: the simulator's customers, terminals and amounts, laid over the intended times.

Who pays, where and how much is drawn once from the seed; identifiers and keys are salted for each run, so that a run
meets no transaction and no customer of an earlier one and can be repeated against the same server. Event times are the
intended times, so that everything is known before the first request goes out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_data import SimulatorSettings, simulate
from fraud_load import scenario
from fraud_load.arrivals import Floats
from fraud_load.fresh_keys import fresh_keys
from fraud_load.result import Kind
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema, default_schema
from fraud_scoring.wire import MAX_ROWS

Int64 = npt.NDArray[np.int64]
Progress = Callable[[float, str], None]

PER_CUSTOMER_AND_DAY: Final = 1.8
"""Transactions that the simulator makes, a little underestimated; it is told so many days that they suffice."""
MOST_SIMULATED: Final = 2_000_000
"""Beyond, customers, terminals and amounts come again from the beginning, with ids and times of their own."""
RETRY_S: Final = 1.0
"""How long after the first a duplicate is sent, on average."""
LEAKED_CARDS: Final = 3
LEAKED_FACTOR: Final = 5
"""As in the simulator's third fraud scenario: three cards, five times the amount."""


@dataclass(frozen=True, eq=False)
class Plan:
    """N arrivals with what each sends; arrival i has the rows [first[i], first[i + 1])."""

    intended_s: Floats
    """[N], rising."""
    rows: Int64
    """[R, C] in the schema's columns; event times in microseconds since the run's start."""
    first: Int64
    """[N + 1], rising from 0 to R."""
    kind: npt.NDArray[np.int8]
    """[N] `Kind`."""
    defect: npt.NDArray[np.int8]
    """[N] position in `DEFECTS` of what a bad request breaks; -1 for the others."""

    def __len__(self) -> int:
        return len(self.intended_s)

    def share(self, index: int, of: int) -> Plan:
        """Every `of`-th arrival from `index` on: the part of one generator process."""
        which = np.arange(index, len(self), of)
        count = np.diff(self.first)[which]
        first = np.concatenate([[0], np.cumsum(count)])
        rows = np.repeat(self.first[which] - first[:-1], count) + np.arange(first[-1])
        return Plan(self.intended_s[which], self.rows[rows], first, self.kind[which], self.defect[which])

    def stamped(self, start_us: int, schema: Schema) -> Int64:
        """The rows as they are sent by a run that starts at `start_us` (UTC microseconds); a copy."""
        rows = self.rows.copy()
        rows[:, schema.time_index] += start_us
        for number, (_, break_it) in enumerate(DEFECTS):
            break_it(rows, self.first[:-1][self.defect == number], schema)
        return rows


def _no_amount(rows: Int64, which: Int64, schema: Schema) -> None:
    rows[which, schema.amount_index] = 0


def _negative_amount(rows: Int64, which: Int64, schema: Schema) -> None:
    rows[which, schema.amount_index] *= -1


def _from_the_future(rows: Int64, which: Int64, schema: Schema) -> None:
    rows[which, schema.time_index] += 400 * MICROSECONDS_PER_DAY


def _from_long_ago(rows: Int64, which: Int64, schema: Schema) -> None:
    rows[which, schema.time_index] = 1


def _negative_id(rows: Int64, which: Int64, schema: Schema) -> None:
    rows[which, schema.id_index] *= -1


DEFECTS: Final[tuple[tuple[str, Callable[[Int64, Int64, Schema], None]], ...]] = (
    ("an amount of 0", _no_amount),
    ("a negative amount", _negative_amount),
    ("a time in the future", _from_the_future),
    ("a time in seconds, not microseconds", _from_long_ago),
    ("a negative id", _negative_id),
)
"""Rules that a bad request breaks, in one of its rows."""


def plan(
    asked: scenario.Scenario, salt: int, progress: Progress = lambda share, text: None, schema: Schema | None = None
) -> Plan:
    """What `asked` sends. The same scenario, seed and `salt` give the same plan, bit for bit."""
    schema = schema or default_schema()
    work, rng = asked.workload, np.random.default_rng([asked.seed, 2])
    progress(0.0, "arrivals")
    intended = asked.arrivals.times(asked.seed)
    n = len(intended)
    sizes = np.array(sorted(work.rows), np.int64)
    size = rng.choice(sizes, n, p=[work.rows[one] for one in sizes.tolist()])
    kind = rng.choice(
        np.array([Kind.ORDINARY, Kind.DUPLICATE, Kind.BAD], np.int8),
        n,
        p=[1 - work.duplicate_share - work.bad_share, work.duplicate_share, work.bad_share],
    )
    original = _originals(kind, size, asked, rng)
    kind[original < 0] = np.where(kind[original < 0] == Kind.DUPLICATE, Kind.ORDINARY, kind[original < 0])
    first = np.concatenate([[0], np.cumsum(size)])
    rows = _simulated(int(first[-1]), asked, schema, progress)
    offset = np.arange(first[-1]) - np.repeat(first[:-1], size)
    rows[:, schema.time_index] = np.repeat((intended * 1e6).astype(np.int64), size) + offset
    _add_bursts(rows, first, intended, work.bursts, rng, schema)
    _salt(rows, salt, schema)
    for i in np.flatnonzero(kind == Kind.DUPLICATE):
        rows[first[i] : first[i + 1]] = rows[first[original[i]] : first[original[i] + 1]]
    defect = np.where(kind == Kind.BAD, rng.integers(0, len(DEFECTS), n), -1).astype(np.int8)
    progress(1.0, "transactions")
    return Plan(intended, rows, first, kind, defect)


def _originals(
    kind: npt.NDArray[np.int8], size: Int64, asked: scenario.Scenario, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """For each duplicate the arrival that it repeats, an ordinary one of its size from before; -1 where none is.

    No arrival is repeated twice: two repeats that travel together would refuse each other.
    """
    n = len(kind)
    found = np.arange(n)
    rate = n / asked.duration_s
    # Two rows of one id would refuse the request that joins them: when calls are joined, a repeat comes later than
    # any request reaches back.
    least = MAX_ROWS * asked.sending.processes if asked.sending.coalesce else 1
    for rows in np.unique(size).tolist():
        ordinary = np.flatnonzero((kind == Kind.ORDINARY) & (size == rows))
        repeats = np.flatnonzero((kind == Kind.DUPLICATE) & (size == rows))
        back = least + rng.exponential(RETRY_S * rate, len(repeats)).astype(np.int64)
        place = np.searchsorted(ordinary, repeats - back, side="right") - 1
        _, once = np.unique(place, return_index=True)
        place[np.setdiff1d(np.arange(len(place)), once)] = -1
        found[repeats] = np.where(place >= 0, ordinary[np.maximum(place, 0)] if len(ordinary) else -1, -1)
    return found


def _simulated(count: int, asked: scenario.Scenario, schema: Schema, progress: Progress) -> Int64:
    """`count` rows with the simulator's customers, terminals and amounts, in its order."""
    work = asked.workload
    wanted = min(count, MOST_SIMULATED)
    days = int(np.ceil(wanted / (PER_CUSTOMER_AND_DAY * work.customers))) + 1
    drawn = np.empty((0, schema.width), np.int64)
    while len(drawn) < wanted:
        settings = SimulatorSettings(work.customers, work.terminals, min(days, 3_650), seed=asked.seed)
        drawn = simulate(settings, progress=lambda share, _: progress(0.9 * share, "transactions")).rows
        if days >= 3_650:  # so few customers that ten years do not suffice
            break
        days *= 2
    return np.resize(drawn[:wanted], (count, schema.width))


def _add_bursts(
    rows: Int64, first: Int64, intended: Floats, bursts: scenario.Bursts, rng: np.random.Generator, schema: Schema
) -> None:
    """Give the first rows of a share of the requests in each burst to three cards, at five times the amount."""
    inside = (intended % bursts.every_s < bursts.for_s) & (rng.random(len(intended)) < bursts.share)
    which = first[:-1][inside]
    if not len(which):
        return
    customer = schema.entities[0][0]
    burst = (intended[inside] // bursts.every_s).astype(np.int64)
    cards = rng.choice(rows[:, customer], (int(burst.max()) + 1, LEAKED_CARDS))
    rows[which, customer] = cards[burst, rng.integers(0, LEAKED_CARDS, len(which))]
    rows[which, schema.amount_index] *= LEAKED_FACTOR


def _salt(rows: Int64, salt: int, schema: Schema) -> None:
    """Ids from a place of the run's own, rising; keys that spread over all 64 bits, one for each entity and run."""
    random = np.random.default_rng(salt)
    rows[:, schema.id_index] = random.integers(2**61, 2**62) + np.arange(len(rows))
    for column, _ in schema.entities:
        keys = fresh_keys(random, int(rows[:, column].max(initial=0)) + 1)
        rows[:, column] = keys[rows[:, column]]
