"""How everything stands at one moment: what the metrics, the status page and /healthz are drawn from.

A picture is made by the working thread and never changed; the pages' threads only read the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from drift_sidecar.alerts import Finding
from drift_sidecar.books import Books, drift_series, hours_series
from drift_sidecar.judging import LabelFinding, PageRecord, window_effects
from drift_sidecar.monitor import DriftMonitor
from drift_sidecar.outcomes import OUTCOME_SHAPE, outcome_series
from drift_sidecar.quality import calibration_check, estimate, realised
from drift_sidecar.statistics import Effect, degrees, psi, psi_expected
from drift_sidecar.traffic import FLOW, FLOW_WIDTH, MIX_WIDTH, mix_series
from fraud_scoring.decision_log.batches import MINUTE_US, Int64
from fraud_scoring.decision_log.tail import Lag
from fraud_scoring.reference import OWN_BINS, Reference

WINDOWS: Final = {"5m": 5, "1h": 60, "1d": 1440}
"""Sliding windows in minutes, up to and with the present minute."""
TREND_POINTS: Final = 24
MOST_CHANCE: Final = 0.05
"""A trend has no point where a window is so small that chance alone gives a PSI beyond this."""
OUTCOME_DAYS: Final = 28
"""Realised performance is that of the decisions that matured within this time."""


@dataclass(frozen=True)
class Series:
    """A feature, the score or the decision of a release."""

    name: str
    effects: Mapping[str, Effect]
    """By window, where it has rows."""
    finding: Finding
    missing: Mapping[str, float]
    """Share of missing values by window."""
    trend: tuple[float | None, ...]
    """PSI beyond chance in tumbling windows, oldest first; the last one is still open."""


@dataclass(frozen=True)
class ReleasePicture:
    """A release; `series` is empty where it has no reference that fits, and `mismatch` says why."""

    release: int
    last_minute: int
    mix: Int64
    """Of all time."""
    mix_by_window: Mapping[str, Int64]
    reference: Reference | None
    mismatch: str
    series: tuple[Series, ...]
    trend_minutes: int
    performance: Mapping[str, float]
    """Estimated and realised precision and recall, calibration error: those that can be told, by metric."""
    labels: LabelFinding | None
    """How the labels stand against the scores; None without a reference."""


@dataclass(frozen=True)
class Timeline:
    """Flow and mix of all releases in tumbling windows of `step` minutes from minute `start` on [T, …]."""

    start: int
    step: int
    flow: Int64
    mix: Int64


@dataclass(frozen=True)
class Progress:
    """How far the work is: times are of the monotonic clock, in seconds."""

    made_at: float
    checkpoint_at: float
    checkpoint_bytes: int
    lags: tuple[Lag, ...]
    log_free_bytes: int | None = None
    """What a writer can still write on the log's disk; None while there is no log."""


@dataclass(frozen=True)
class Picture:
    """Everything, at `at_us`."""

    at_us: int
    flow: Int64
    """Of all time."""
    hour: Timeline
    day: Timeline
    releases: tuple[ReleasePicture, ...]
    pages: tuple[PageRecord, ...]
    rows: int
    sampled_one_of: int
    progress: Progress


class Painter:
    """Makes pictures of books; remembers what of the past cannot change any more."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._trends: dict[tuple[int, int, int], tuple[int, tuple[float | None, ...]]] = {}

    def paint(self, now_us: int, progress: Progress) -> Picture:
        """How everything stands."""
        books, end = self._books, now_us // MINUTE_US + 1
        total = books.counters.total(FLOW)
        return Picture(
            at_us=now_us,
            flow=np.zeros(FLOW_WIDTH, np.int64) if total is None else total.copy(),
            hour=self._timeline(end - 60, 1, 60),
            day=self._timeline((end - 1) // 15 * 15 + 15 - 1440, 15, 96),
            releases=tuple(self._release(release, end) for release in books.ledger.releases),
            pages=tuple(books.judge.pages),
            rows=books.rows,
            sampled_one_of=books.outcomes.sampled_one_of,
            progress=progress,
        )

    def _timeline(self, start: int, step: int, steps: int) -> Timeline:
        flow, mix = np.zeros((steps, FLOW_WIDTH), np.int64), np.zeros((steps, MIX_WIDTH), np.int64)
        for at in range(steps):
            end = start + (at + 1) * step
            flow[at] = _or_zero(self._books.counters.window(FLOW, end, step), FLOW_WIDTH)
            for release in self._books.ledger.releases:
                mix[at] += _or_zero(self._books.counters.window(mix_series(release), end, step), MIX_WIDTH)
        return Timeline(start, step, flow, mix)

    def _release(self, release: int, end: int) -> ReleasePicture:
        books = self._books
        monitor = books.judge.monitor(release)
        mixes = {name: books.counters.window(mix_series(release), end, length) for name, length in WINDOWS.items()}
        first = books.counters.minutes(mix_series(release))[:1]
        trend_minutes = 5 if first and first[0] > end - 180 else 60
        return ReleasePicture(
            release=release,
            last_minute=books.ledger.last_minute(release),
            mix=_or_zero(books.counters.total(mix_series(release)), MIX_WIDTH).copy(),
            mix_by_window={name: mix for name, mix in mixes.items() if mix is not None},
            reference=monitor.reference if monitor else None,
            mismatch=books.ledger.mismatch(release),
            series=self._series(release, monitor, end, trend_minutes) if monitor else (),
            trend_minutes=trend_minutes,
            performance=self._performance(release, monitor, end),
            labels=books.judge.label_finding(release, end),
        )

    def _series(self, release: int, monitor: DriftMonitor, end: int, trend_minutes: int) -> tuple[Series, ...]:
        counters, layout = self._books.counters, monitor.reference.layout
        effects: dict[str, tuple[Effect, ...]] = {}
        counts: dict[str, Int64] = {}
        for name, length in WINDOWS.items():
            window = counters.window(drift_series(release), end, length)
            hours = counters.window(hours_series(release), end, length)
            if window is not None and hours is not None and hours.any():
                counts[name] = window
                effects[name] = window_effects(monitor, window, hours)
        trends = self._trend(release, monitor, end, trend_minutes)
        findings = monitor.findings()
        binned = len(monitor.reference.binned)
        return tuple(
            Series(
                name=series,
                effects={window: found[number] for window, found in effects.items()},
                finding=findings[number],
                missing={} if number >= binned else {w: _missing(c[layout.of(number)]) for w, c in counts.items()},
                trend=tuple(point[number] if point else None for point in trends),
            )
            for number, series in enumerate(layout.names)
        )

    def _trend(self, release: int, monitor: DriftMonitor, end: int, step: int) -> list[tuple[float | None, ...]]:
        """For each of the last tumbling windows, every series' PSI beyond chance."""
        last = -(-end // step) * step
        points: list[tuple[float | None, ...]] = []
        for window_end in range(last - (TREND_POINTS - 1) * step, last + 1, step):
            hours = self._books.counters.window(hours_series(release), window_end, step)
            counts = self._books.counters.window(drift_series(release), window_end, step)
            if hours is None or counts is None or not hours.any():
                points.append(())
                continue
            key, rows = (release, window_end, step), int(hours.sum())
            known = self._trends.get(key)
            if known is None or known[0] != rows:
                known = self._trends[key] = (rows, _excesses(monitor, counts, hours))
            points.append(known[1])
        for key in [key for key in self._trends if key[1] < last - TREND_POINTS * 60]:
            del self._trends[key]
        return points

    def _performance(self, release: int, monitor: DriftMonitor | None, end: int) -> Mapping[str, float]:
        """By the scores of a day's decisions, and by the labels of those that matured within OUTCOME_DAYS."""
        if monitor is None:
            return {}
        found: dict[str, float | None] = {}
        counts = self._books.counters.window(drift_series(release), end, WINDOWS["1d"])
        if counts is not None:
            estimated = estimate(monitor.reference, counts)
            found |= {"estimated_precision": estimated.precision, "estimated_recall": estimated.recall}
        outcomes = self._books.counters.window(outcome_series(release), end, OUTCOME_DAYS * 1440)
        if outcomes is not None:
            table, calibration = outcomes.reshape(OUTCOME_SHAPE), monitor.reference.calibration
            matured = realised(table, calibration)
            found |= {
                "realised_precision": matured.precision.value if matured.precision else None,
                "realised_recall": matured.recall,
                "calibration_error": calibration_check(table, calibration).error,
            }
        return {name: value for name, value in found.items() if value is not None}


def _excesses(monitor: DriftMonitor, counts: Int64, hours: Int64) -> tuple[float | None, ...]:
    """PSI beyond chance of every series; None where a window is too small to say anything."""
    layout = monitor.reference.layout
    found: list[float | None] = []
    for number in range(len(layout.names)):
        cells = counts[layout.of(number)].astype(np.float64)
        shares, rows = monitor.null.expected(number, hours)
        chance = psi_expected(degrees(shares, cells.sum()) + 1, max(1.0, cells.sum()), rows)
        found.append(None if chance > MOST_CHANCE else max(0.0, psi(shares, cells) - chance))
    return tuple(found)


def _missing(cells: Int64) -> float:
    """Share of a series' rows that are missing."""
    return float(cells[len(cells) - len(OWN_BINS) + OWN_BINS.index("missing")] / max(1, cells.sum()))


def _or_zero(vector: Int64 | None, width: int) -> Int64:
    return np.zeros(width, np.int64) if vector is None else vector
