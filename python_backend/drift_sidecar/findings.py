"""What a history amounts to: which series moved, when, by how much, and what it did to the decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from drift_sidecar.alerts import State
from drift_sidecar.history import MINUTE_US, History
from drift_sidecar.quality import Estimate, estimate
from drift_sidecar.statistics import Effect
from fraud_scoring.reference import Float64, Int64

MOST_COLUMNS: Final = 56
"""Columns of the table of shades."""


@dataclass(frozen=True)
class Moved:
    """A series that paged: from when on (as far as can be told), until when (None: still), and its size in between."""

    series: int
    name: str
    since_us: int
    paged_us: int
    until_us: int | None
    reason: str
    effect: Effect
    mean_before: float | None
    mean_after: float | None
    foreseen: Float64
    """Shares of the cells over that time, as the reference foresees them, and as they were seen."""
    seen: Float64
    state: State


@dataclass(frozen=True)
class Period:
    """A span of time and what the scores say of it."""

    name: str
    since_us: int
    until_us: int
    decisions: Int64
    estimate: Estimate


def between(history: History, since_us: int, until_us: int) -> dict[int, Int64]:
    """Counts of a span by hour of the week; whole minutes."""
    inside = (history.minutes * MINUTE_US >= since_us) & (history.minutes * MINUTE_US < until_us)
    hours = history.hours()[inside]
    counts = history.counts[inside]
    return {int(hour): counts[hours == hour].sum(axis=0) for hour in np.unique(hours)}


def span_us(history: History) -> tuple[int, int]:
    """[first, last) of the history."""
    return int(history.minutes[0]) * MINUTE_US, (int(history.minutes[-1]) + 1) * MINUTE_US


def effects(history: History, since_us: int, until_us: int) -> tuple[Effect, ...]:
    """Effect sizes of all series over a span."""
    return history.monitor.window_effects(between(history, since_us, until_us))


def moved(history: History) -> tuple[Moved, ...]:
    """Series that paged, those that moved most first; a series that paged several times is told from its last page
    on."""
    names = history.reference.layout.names
    last = {event.page.series: event for event in history.events}
    end = span_us(history)[1]
    out = []
    for name, event in last.items():
        series = names.index(name)
        since = event.at_us - round(event.page.since_minutes * MINUTE_US)
        later = np.flatnonzero((history.points_us >= event.at_us) & (history.states[:, series] == State.OK))
        until = int(history.points_us[later[0]]) if len(later) else None
        found = effects(history, since, until or end)[series]
        foreseen, seen = shares(history, series, since, until or end)
        before, after = _means(history, series, foreseen, seen)
        state = State(int(history.states[-1, series]))
        page = event.page
        out.append(
            Moved(series, name, since, event.at_us, until, page.reason, found, before, after, foreseen, seen, state)
        )
    return tuple(sorted(out, key=lambda one: (-one.state, -one.effect.psi_excess)))


def shares(history: History, series: int, since_us: int, until_us: int) -> tuple[Float64, Float64]:
    """(shares that the reference foresees for a span's hours, shares that were seen) of a series' cells."""
    by_hour = between(history, since_us, until_us)
    places = history.reference.layout.of(series)
    hours = np.zeros(168, np.int64)
    seen = np.zeros(places.stop - places.start, np.float64)
    for hour, counts in by_hour.items():
        hours[hour] = counts[places].sum()
        seen += counts[places]
    return history.monitor.null.expected(series, hours)[0], seen / max(seen.sum(), 1.0)


def periods(history: History, changes: tuple[Moved, ...]) -> tuple[Period, ...]:
    """The whole, or what was before the first change and what was after it."""
    first, last = span_us(history)
    if not changes:
        return (_period(history, "the whole time", first, last),)
    change = max(min(one.since_us for one in changes), first)
    if change <= first:
        return (_period(history, "since the first change", change, last),)
    return (
        _period(history, "before the first change", first, change),
        _period(history, "since the first change", change, last),
    )


def columns_us(history: History) -> list[int]:
    """Edges of the columns of the table of shades, of equal and round length."""
    first, last = span_us(history)
    lengths = [n * MINUTE_US for n in (1, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 40_320)]
    length = next((length for length in lengths if (last - first) / length <= MOST_COLUMNS), lengths[-1])
    return list(range(first // length * length, last + length, length))


def _period(history: History, name: str, since_us: int, until_us: int) -> Period:
    total = sum(between(history, since_us, until_us).values(), np.zeros(history.counts.shape[1], np.int64))
    decisions = total[history.reference.layout.of("decision")]
    return Period(name, since_us, until_us, decisions, estimate(history.reference, total))


def _means(history: History, series: int, foreseen: Float64, seen: Float64) -> tuple[float | None, float | None]:
    """Means before and after, as far as bins tell: each row lies at the mean of its bin in the reference."""
    if series >= len(history.reference.binned):
        return None, None
    binned = history.reference.binned[series]
    before, after = foreseen[: binned.bins], seen[: binned.bins]
    if before.sum() <= 0 or after.sum() <= 0:
        return None, None
    return float(before @ binned.means / before.sum()), float(after @ binned.means / after.sum())
