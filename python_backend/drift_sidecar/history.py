"""What a decision log says of one release, minute by minute, for the report.

Minutes are those of the transactions' own time. Counts are the sidecar's (reference.py), evidence is gathered anew from
them, with one look a minute; the sidecar itself looks every second, and so may have paged a little sooner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from drift_sidecar.alerts import Page, State
from drift_sidecar.monitor import DriftMonitor
from drift_sidecar.quality import FRAUD, LEGITIMATE, UNLABELLED
from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, Labels, read, writers
from fraud_scoring.errors import InvalidInput
from fraud_scoring.reference import (
    SCORE_BOUNDS,
    Float64,
    Int64,
    Reference,
    compared,
    count_groups,
    hour_of_week,
)
from fraud_scoring.releases import release_name
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema

MINUTE_US: Final = 60_000_000
BATCH_ROWS: Final = 32_768
MOST_POINTS: Final = 480
"""Points of time for which evidence is kept."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Event:
    """A page, and when it was raised (UTC microseconds)."""

    at_us: int
    page: Page


@dataclass(frozen=True)
class History:
    """One release over a span of time. M minutes that have rows, T points of time, K series."""

    reference: Reference
    minutes: Int64
    """Minutes since 1970 [M], rising."""
    counts: Int64
    """[M, width]."""
    outcomes: Int64
    """By bin of the score, decision and outcome [S, 3, 3], of decisions as old as labels take."""
    skipped: int
    """Rows of other releases, repeats, and rows that no model decided."""
    points_us: Int64
    """[T]"""
    evidence: Float64
    """log10 V [T, K]: the highest since the point before."""
    states: npt.NDArray[np.int8]
    """alerts.State [T, K]: the highest since the point before."""
    events: tuple[Event, ...]
    monitor: DriftMonitor
    """As it stands at the end."""

    def hours(self) -> Int64:
        """Hour of the week of each minute [M]."""
        return hour_of_week(self.minutes * MINUTE_US)


@dataclass
class _Rows:
    """What is gathered of a release while the log is read."""

    by_minute: dict[int, Int64]
    ids: list[Int64]
    at_us: list[Int64]
    cells: list[Int64]
    """Bin of the score × 3 + decision."""
    skipped: int = 0


def releases_in(log: Path) -> dict[int, int]:
    """Rows of each release in a log, repeats left out."""
    rows: dict[int, int] = {}
    for content in _contents(log):
        if isinstance(content, Decisions):
            for release, count in zip(*np.unique(content.verdict[~content.repeat, 4], return_counts=True), strict=True):
                rows[int(release)] = rows.get(int(release), 0) + int(count)
    return rows


def read_history(
    log: Path,
    reference: Reference,
    monitor: DriftMonitor,
    span_us: tuple[int, int],
    label_days: float,
    progress: Progress,
) -> History:
    """A release's history within `span_us`; InvalidInput if there is no row of it."""
    schema: Schema | None = None
    rows, labels = _Rows({}, [], [], []), []
    waiting: list[Decisions] = []
    for content in _contents(log):
        if isinstance(content, Context) and content.release == reference.release:
            schema = Schema.parse(json.loads(content.schema))
        elif isinstance(content, Decisions):
            waiting.append(content)
            if sum(map(len, waiting)) >= BATCH_ROWS:
                _gather(rows, reference, waiting, schema, span_us)
                progress(0.3, f"reading, {len(rows.by_minute):,} minutes so far")
                waiting = []
        elif isinstance(content, Labels):
            labels.append(content.label)
    _gather(rows, reference, waiting, schema, span_us)
    if not rows.by_minute:
        raise InvalidInput(f"the log holds no decision of release {release_name(reference.release)} in that time")
    minutes = np.array(sorted(rows.by_minute), np.int64)
    counts = np.stack([rows.by_minute[minute] for minute in minutes.tolist()])
    progress(0.5, f"evidence of {len(minutes):,} minutes")
    found = _watch(monitor, minutes, counts)
    progress(0.9, "outcomes")
    outcomes = _outcomes(rows, labels, round(label_days * MICROSECONDS_PER_DAY))
    return History(reference, minutes, counts, outcomes, rows.skipped, *found, monitor=monitor)


def _contents(log: Path) -> Iterator[object]:
    names = writers(log)
    if not names:
        raise InvalidInput("there is no decision log in that folder; give the folder that holds the writers' folders")
    for writer in names:
        for frame, _ in read(log / writer):
            yield frame.content()


def _gather(
    rows: _Rows, reference: Reference, waiting: list[Decisions], schema: Schema | None, span_us: tuple[int, int]
) -> None:
    """Count frames that wait, joined to one batch for each width of their rows."""
    widths = {(d.features.shape[1], d.transaction.shape[1]) for d in waiting}
    for width in widths:
        batch = Decisions.concatenate([d for d in waiting if (d.features.shape[1], d.transaction.shape[1]) == width])
        kept = compared(reference, batch)
        rows.skipped += int((~kept).sum())
        if not kept.any():
            continue
        at_us = batch.transaction[:, reference.time_column]
        kept &= (at_us >= span_us[0]) & (at_us < span_us[1])
        if not kept.any():
            continue
        batch, at_us = batch.rows(kept), at_us[kept]
        minutes, group = np.unique(at_us // MINUTE_US, return_inverse=True)
        for minute, vector in zip(minutes.tolist(), count_groups(reference, batch, group, len(minutes)), strict=True):
            known = rows.by_minute.get(minute)
            rows.by_minute[minute] = vector if known is None else known + vector
        if schema is not None:
            bins = np.searchsorted(SCORE_BOUNDS, np.rint(1e6 * batch.score.astype(np.float64)) / 1e6)
            rows.ids.append(batch.transaction[:, schema.id_index])
            rows.at_us.append(at_us)
            rows.cells.append(bins * len(wire.Decision) + batch.verdict[:, 0])


def _watch(
    monitor: DriftMonitor, minutes: Int64, counts: Int64
) -> tuple[Int64, Float64, npt.NDArray[np.int8], tuple[Event, ...]]:
    """(points of time, evidence, states, pages) of minutes that are looked at one after the other."""
    hours = hour_of_week(minutes * MINUTE_US)
    first, last = int(minutes[0]), int(minutes[-1]) + 1
    points = min(MOST_POINTS, last - first)
    place = (minutes - first) * points // (last - first)
    evidence = np.full((points, monitor.null.series), np.nan)
    states = np.zeros((points, monitor.null.series), np.int8)
    events = []
    before = first - 1
    for minute, hour, vector, point in zip(minutes.tolist(), hours.tolist(), counts, place.tolist(), strict=True):
        pages = monitor.look(hour, vector, float(minute - before))
        before = minute
        events += [Event((minute + 1) * MINUTE_US, page) for page in pages]
        value = np.log10(np.maximum(monitor.detector.last_value, 1e-9))
        evidence[point] = np.fmax(evidence[point], value)
        states[point] = np.maximum(states[point], monitor.alerts.state.astype(np.int8))
    ends = first + (np.arange(points) + 1) * (last - first) // points
    return ends.astype(np.int64) * MINUTE_US, evidence, states, tuple(events)


def _outcomes(rows: _Rows, labels: list[Int64], delay_us: int) -> Int64:
    """What became of the decisions that are at least `delay_us` older than the last one [S, 3, 3]."""
    out = np.zeros((len(SCORE_BOUNDS) + 1, len(wire.Decision), 3), np.int64)
    if not rows.ids:
        return out
    ids, at_us, cells = (np.concatenate(parts) for parts in (rows.ids, rows.at_us, rows.cells))
    last = at_us.max()
    known = np.concatenate(labels) if labels else np.empty((0, len(wire.LABEL_COLUMNS)), np.int64)
    if len(known):
        last = max(last, known[:, 2].max())
    mature = at_us + delay_us <= last
    ids, cells = ids[mature], cells[mature]
    outcome = np.full(len(ids), UNLABELLED, np.int64)
    if len(known):
        known = known[np.argsort(known[:, 2], kind="stable")]
        unique, at = np.unique(known[::-1, 0], return_index=True)  # the latest label of each transaction
        is_fraud = known[::-1, 1][at] != 0
        place = np.minimum(np.searchsorted(unique, ids), len(unique) - 1)
        found = unique[place] == ids
        outcome[found] = np.where(is_fraud[place[found]], FRAUD, LEGITIMATE)
    np.add.at(out.reshape(-1, 3), (cells, outcome), 1)
    return out


def state_name(state: int) -> str:
    """`ok`, `evidence`, `alert`"""
    return State(state).name.lower()
