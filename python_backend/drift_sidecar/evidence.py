"""When the counts say that something moved: evidence to be looked at at any time, at a stated rate of false pages.

Each series k (a feature, the score, the decision) has an e-detector of the Shiryaev–Roberts kind (Shin, Ramdas,
Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", 2023): for each bet j

    M ← (M + minutes since the last look) · Π over the rows of q/p*,        V = Σ_j w_j M_j

Guarantee: while every row's distribution stays within the null set, given the rows before it, V minus the minutes that
passed is a supermartingale, however often and whenever it is looked at. V begins again at 0 when it reaches
(K + 1) · month / pages; so a series crosses at most once in K + 1 months on average, and all K, with the labels as one
more, raise at most `pages` false alarms a month in expectation (no appeal to independence: expectations add). Looks may
be of any length; shorter ones see sooner.

Not guaranteed: rows that depend on each other beyond what the null set allows (one customer's burst of a thousand
payments within a minute counts as a thousand rows); a reference that does not stand for the hours to come.

Beside V runs, per bet, the log likelihood ratio since it last was at or below 0 (Page, "Continuous inspection schemes",
1954). Where it began is the estimate of when the change began, the rows since then are what its size is taken from, and
when it is all but gone again, the change is over.

Cost: some 20 µs a look for 19 series, and a table of odds for each hour of the week that is met.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from drift_sidecar.betting import (
    FIXED_WEIGHTS,
    MEMORY_MINUTES,
    WEIGHTS,
    FixedBets,
    jit,
    learning_odds,
)
from drift_sidecar.null_set import NullSet
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import Float64, Int64, Reference

MINUTES_A_MONTH: Final = 365.2425 / 12 * 24 * 60
MOST_NATS: Final = 30.0
"""Where the likelihood ratio since the change is capped, so that a recovery shows as soon as the change did."""
RECOVERED_NATS: Final = 3.0
"""Below this, what was evident is so no longer."""
LOOK_SECONDS: Final = 1
"""How long a look of the sidecar is. Any length is valid; a shorter one sees sooner."""
REFRESH_MINUTES: Final = 1.0
"""How often the learning bets look at what was seen."""
_LARGEST: Final = 1e250
_LEAST_NATS: Final = 1e-3
_FIRST_LEARNING: Final = len(FIXED_WEIGHTS)
_SLOWEST: Final = len(WEIGHTS) - 1


@dataclass
class EvidenceState:
    """All that a detector remembers; K series, B bins, J bets, A memories. One vector of it is a checkpoint."""

    wealth: Float64
    """M [K, J], in minutes."""
    climb: Float64
    """Log likelihood ratio since the change may have begun [K, J]."""
    age: Float64
    """Minutes since then [K, J]."""
    rows: Float64
    """Counts since then [K, J, B]."""
    foreseen: Float64
    """What the reference foresaw for these rows [K, J, B]."""
    memory: Float64
    """Fading counts that the learning bets learn from [K, A, B]."""
    memory_foreseen: Float64
    recent: Float64
    """Counts since the learning bets last learned [K, B]."""
    odds: Float64
    """log q/p* of all bets [K, B, J]."""
    clock: Float64
    """[hour of the week, or −1 before the first look; minutes since the learning bets last learned]."""
    evident: Float64
    """[K] 0, or while an episode lasts: 1, or 2 where the slowest learning bet began it."""
    lead: Float64
    """[K] the bet with the highest climb, while evident."""

    @classmethod
    def new(cls, series: int, bins: int) -> EvidenceState:
        bets, memories = len(WEIGHTS), len(MEMORY_MINUTES)
        return cls(
            wealth=np.zeros((series, bets)),
            climb=np.zeros((series, bets)),
            age=np.zeros((series, bets)),
            rows=np.zeros((series, bets, bins)),
            foreseen=np.zeros((series, bets, bins)),
            memory=np.zeros((series, memories, bins)),
            memory_foreseen=np.zeros((series, memories, bins)),
            recent=np.zeros((series, bins)),
            odds=np.zeros((series, bins, bets)),
            clock=np.array([-1.0, 0.0]),
            evident=np.zeros(series),
            lead=np.zeros(series),
        )

    def vector(self) -> Float64:
        """Everything in one vector."""
        return np.concatenate([getattr(self, field.name).ravel() for field in fields(self)])

    def load(self, vector: Float64) -> None:
        """What `vector` gave; InvalidDefinition if it is of another reference."""
        arrays = [getattr(self, field.name) for field in fields(self)]
        if len(vector) != sum(array.size for array in arrays):
            raise InvalidDefinition("drift checkpoint: it does not fit the release's reference; begin without it")
        at = 0
        for array in arrays:
            array.reshape(-1)[:] = vector[at : at + array.size]
            at += array.size


class EvidenceDetector:
    """The e-detectors of all series of one release."""

    def __init__(self, reference: Reference, null: NullSet, false_pages_per_month: float = 1.0) -> None:
        self.null = null
        self.threshold = (null.series + 1) * MINUTES_A_MONTH / false_pages_per_month
        """V at which a series crosses, in minutes; one share of the budget is that of the labels (quality.py)."""
        self.state = EvidenceState.new(null.series, null.bins)
        self.last_value: Float64 = np.zeros(null.series)
        """V after the last look, before what crossed began again [K]."""
        self.bets = FixedBets(reference, null)

    @property
    def value(self) -> Float64:
        """V of each series, in minutes [K]."""
        total: Float64 = self.state.wealth @ WEIGHTS
        return total

    def look(self, hour: int, counts: Int64, minutes: float) -> npt.NDArray[np.bool_]:
        """Take in the rows of one look, all of them in one hour of the week; which series crossed now, bool [K].

        `counts` is a vector of counts (Reference.layout); `minutes` is the time since the look before.
        """
        self.enter(hour)
        take_look(self.null.table(counts), minutes, *self.arrays())
        return self.settle()

    def enter(self, hour: int) -> None:
        """Set the odds for an hour of the week, before its rows are seen."""
        state, null = self.state, self.null
        if state.clock[0] == hour:
            return
        if state.clock[0] >= 0:
            before = null.shares[int(state.clock[0])]
            _learn(state.recent, state.clock[1], before, state.memory, state.memory_foreseen, state.climb)
        first = len(FIXED_WEIGHTS)
        state.odds[:, :, :first] = self.bets.odds(hour)
        learning_odds(
            state.memory, state.memory_foreseen, null.shares[hour], null.low[hour], null.high[hour], first, state.odds
        )
        state.clock[:] = hour, 0.0

    def arrays(self) -> tuple[Float64, ...]:
        """What `take_look` works on, for the hour that was entered."""
        state, null = self.state, self.null
        hour = int(state.clock[0])
        return (
            null.shares[hour],
            null.low[hour],
            null.high[hour],
            state.wealth,
            state.climb,
            state.age,
            state.rows,
            state.foreseen,
            state.memory,
            state.memory_foreseen,
            state.recent,
            state.odds,
            state.clock,
        )

    def settle(self) -> npt.NDArray[np.bool_]:
        """Which series crossed, bool [K]; their V begins again at 0, and what is recovered from is forgotten."""
        state = self.state
        self.last_value = self.value
        crossed: npt.NDArray[np.bool_] = self.last_value >= self.threshold
        if not crossed.any() and not state.evident.any():
            return crossed
        by_slowest = (state.wealth * WEIGHTS).argmax(axis=1) == _SLOWEST
        begun = crossed & (state.evident == 0.0)
        state.evident[begun] = np.where(by_slowest, 2.0, 1.0)[begun]
        state.wealth[crossed] = 0.0
        # what the slowest bet remembers of a drift outlives it: it holds an episode only if no other bet began it
        climb = state.climb.copy()
        climb[state.evident < 2.0, _SLOWEST] = 0.0
        state.lead[:] = climb.argmax(axis=1)
        state.evident[climb.max(axis=1) < RECOVERED_NATS] = 0.0
        return crossed


@jit
def take_look(
    counts: Float64,
    minutes: float,
    shares: Float64,
    low: Float64,
    high: Float64,
    wealth: Float64,
    climb: Float64,
    age: Float64,
    rows: Float64,
    foreseen: Float64,
    memory: Float64,
    memory_foreseen: Float64,
    recent: Float64,
    odds: Float64,
    clock: Float64,
) -> None:
    """One look at `counts` [K, B]; the odds were set before these were seen. All other arguments: EvidenceState."""
    if clock[1] >= REFRESH_MINUTES:
        _learn(recent, clock[1], shares, memory, memory_foreseen, climb)
        learning_odds(memory, memory_foreseen, shares, low, high, _FIRST_LEARNING, odds)
        clock[1] = 0.0
    clock[1] += minutes
    series, bins = counts.shape
    bets = wealth.shape[1]
    gain = np.empty(bets)
    for k in range(series):
        gain[:] = 0.0
        total = 0.0
        for b in range(bins):
            seen = counts[k, b]
            if seen > 0.0:
                total += seen
                recent[k, b] += seen
                for j in range(bets):
                    gain[j] += seen * odds[k, b, j]
        for j in range(bets):
            if gain[j] != 0.0:  # where nothing was bet, no start is opened: time alone is no evidence
                wealth[k, j] = min((wealth[k, j] + minutes) * np.exp(min(gain[j], 500.0)), _LARGEST)
            risen = climb[k, j] + gain[j]
            if risen > _LEAST_NATS:
                climb[k, j] = min(risen, MOST_NATS)
                age[k, j] += minutes
                for b in range(bins):
                    rows[k, j, b] += counts[k, b]
                    foreseen[k, j, b] += total * shares[k, b]
            elif climb[k, j] > 0.0:
                climb[k, j] = 0.0
                age[k, j] = 0.0
                rows[k, j, :] = 0.0
                foreseen[k, j, :] = 0.0


@jit
def _learn(
    recent: Float64, minutes: float, shares: Float64, memory: Float64, memory_foreseen: Float64, climb: Float64
) -> None:
    """Move `recent` [K, B] into the fading counts [K, A, B]; what a learning bet climbed fades as its memory does."""
    for k in range(recent.shape[0]):
        total = recent[k].sum()
        for a in range(len(MEMORY_MINUTES)):
            kept = np.exp(-minutes / MEMORY_MINUTES[a])
            climb[k, _FIRST_LEARNING + a] *= kept
            for b in range(recent.shape[1]):
                memory[k, a, b] = kept * memory[k, a, b] + recent[k, b]
                memory_foreseen[k, a, b] = kept * memory_foreseen[k, a, b] + total * shares[k, b]
        recent[k, :] = 0.0
