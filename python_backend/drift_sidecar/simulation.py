"""The sidecar's false pages and delays, measured: streams worth years, drifts of every kind, the sidecar's own code.

Looks are simulated, not rows: the number of rows in a cell within a look of a stream with Poisson arrivals is a Poisson
number, independent of the other cells, so that nothing is lost by drawing it at once. What is done with the counts is
`evidence.take_look` and `alerts.AlertBook`, as in the sidecar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from drift_sidecar import worlds
from drift_sidecar.alerts import Page
from drift_sidecar.betting import TILTS, WEIGHTS, jit, normal_scores
from drift_sidecar.evidence import LOOK_SECONDS, MINUTES_A_MONTH, take_look
from drift_sidecar.monitor import DriftMonitor, MonitorSettings
from fraud_scoring.reference import HOURS, Float64, Reference

GUIDE: Final = 256
"""Places of the guide table that leads a uniform number to a Poisson one (Chen and Asau, 1974)."""
Guide = npt.NDArray[np.int16]
Words = npt.NDArray[np.uint64]
LONGEST: Final = 512
LARGEST_MEAN: Final = 300.0


class World:
    """A truth and its reference, the reference's monitor, and looks drawn from the truth into it."""

    def __init__(
        self,
        seed: int,
        *,
        rows_per_second: float = 100.0,
        reference_rows: int = 1_000_000,
        day_sd: float = 0.01,
        look_seconds: float = LOOK_SECONDS,
        settings: MonitorSettings | None = None,
        edge: bool = False,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.reference: Reference = worlds.draw_reference(self.rng, reference_rows, day_sd)
        self.monitor = DriftMonitor(self.reference, settings)
        self.look_seconds = look_seconds
        self._rows_per_second = rows_per_second
        self._day_sd = day_sd
        self.truth = true_shares(self.monitor)
        if edge:
            self.truth = edge_of_tolerance(self.monitor, self.rng)
        self._scores = np.zeros(self.truth.shape[1:])
        for k, series in enumerate(worlds.SERIES):
            if not isinstance(series, worlds.Flag) and not edge:
                ordered = self.reference.layout.of(k).stop - self.reference.layout.of(k).start
                ordered -= 4 if series.own_bins else 0
                self._scores[k, :ordered] = normal_scores(self.reference.cells[self.reference.layout.of(k)][:ordered])
        self.tilts = worlds.day_tilts(self.rng, day_sd)
        shape = self.truth.shape[1:]
        self._tables = (np.zeros((*shape, LONGEST)), np.zeros((*shape, GUIDE), np.int16))
        self._random = self.rng.integers(1, 2**63, 2, np.uint64)
        _seed(seed)

    def new_day(self) -> None:
        """Another day, which differs a little."""
        self.tilts = worlds.day_tilts(self.rng, self._day_sd)

    def forget(self) -> None:
        """Begin anew: no evidence, no alert."""
        bets = self.monitor.detector.bets
        self.monitor = DriftMonitor(self.reference, self.monitor.settings, self.monitor.null)
        self.monitor.detector.bets = bets

    def volume(self, hour: int) -> float:
        """Rows a second in an hour of the week."""
        return float(self._rows_per_second * 24.0 * worlds.volume_shares()[hour % 24])

    def shares(self, hour: int) -> Float64:
        """What the rows of an hour of today are [K, B]."""
        tilted = self.truth[hour] * np.exp(self.tilts[:, None] * self._scores)
        today: Float64 = tilted / tilted.sum(axis=1, keepdims=True)
        return today

    def run(self, hour: int, looks: int, shares: Float64, rows_per_second: float) -> Iterator[tuple[int, Page | None]]:
        """Let so many looks pass; yields (looks so far, page) for each page, and (looks, None) for each crossing."""
        detector, alerts = self.monitor.detector, self.monitor.alerts
        detector.enter(hour)
        fill_tables(shares * rows_per_second * self.look_seconds, *self._tables)
        done, minutes = 0, self.look_seconds / 60.0
        while done < looks:
            most = 1 if detector.state.evident.any() else looks - done
            done += draw_looks(
                most, minutes, detector.threshold, WEIGHTS, self._random, *self._tables, *detector.arrays()
            )
            crossed = detector.settle()
            for _ in range(int(crossed.sum())):
                yield done, None
            if crossed.any() or alerts.state.any():
                for page in alerts.update():
                    yield done, page


def true_shares(monitor: DriftMonitor) -> Float64:
    """Shares of all series in all hours [168, K, B], as the simulated world has them."""
    out = np.zeros_like(monitor.null.shares)
    for k, series in enumerate(worlds.SERIES):
        for hour in range(HOURS):
            out[hour, k, : monitor.null.size(k)] = series.shares(hour)
    return out


def edge_of_tolerance(monitor: DriftMonitor, rng: np.random.Generator) -> Float64:
    """Shares at the edge of what counts as nothing moved [168, K, B]: the fair price of a bet on a shifted mean.

    Under it that bet's wealth has mean exactly 1 a row: as near to a false alarm as "nothing has moved" allows.
    """
    null = monitor.null
    out = np.zeros_like(null.shares)
    series = np.arange(null.series)
    bet = rng.integers(0, len(TILTS), null.series)
    for hour in range(HOURS):
        bets = monitor.detector.bets.bets(hour)[series, bet]
        out[hour] = np.where(bets > 0, bets * np.exp(-monitor.detector.bets.odds(hour)[series, :, bet]), 0.0)
    shares: Float64 = out / out.sum(axis=2, keepdims=True)
    return shares


@dataclass(frozen=True)
class Stationary:
    """What a stationary stream brought: `pages`, and `crossings` of the evidence alone (pages need size as well)."""

    months: float
    pages: int
    crossings: int
    highest: float
    """The highest share of the threshold that any series' V reached at the end of an hour."""


def stationary(world: World, days: int) -> Stationary:
    """Let a world be stationary for so many days, looked at every `look_seconds`, from a random hour of the week on."""
    start = int(world.rng.integers(0, HOURS))
    looks = round(3600 / world.look_seconds)
    pages = crossings = 0
    highest = 0.0
    for hour in range(start, start + 24 * days):
        of_week = hour % HOURS
        if of_week % 24 == 0:
            world.new_day()
        for _, page in world.run(of_week, looks, world.shares(of_week), world.volume(of_week)):
            pages += page is not None
            crossings += page is None
        highest = max(highest, float(world.monitor.detector.value.max() / world.monitor.detector.threshold))
    return Stationary(days * 1440.0 / MINUTES_A_MONTH, pages, crossings, highest)


@jit
def _seed(seed: int) -> None:
    np.random.seed(seed)


@jit
def fill_tables(means: Float64, below: Float64, guide: Guide) -> None:
    """Poisson distribution functions of `means` [K, B] and where to begin to search them, into `below` [K, B, LONGEST]
    and `guide` [K, B, GUIDE]; a mean above LARGEST_MEAN gets no table (its first guide is −1) but stays in `below`."""
    for k in range(means.shape[0]):
        for b in range(means.shape[1]):
            mean = means[k, b]
            if mean > LARGEST_MEAN:
                guide[k, b, 0], below[k, b, 0] = -1, mean
                continue
            term = np.exp(-mean)
            total, at, n = term, 0, 0
            while True:
                below[k, b, n] = total
                while at < GUIDE and total > at / GUIDE:
                    guide[k, b, at] = n
                    at += 1
                if n == LONGEST - 1 or (n > mean and term < 1e-18):
                    break
                n += 1
                term *= mean / n
                total += term
            below[k, b, n] = 2.0
            guide[k, b, at:] = n


@jit
def _uniform_bits(state: Words) -> Any:
    """64 random bits: xorshift128+ (Vigna, "Further scramblings of Marsaglia's xorshift generators", 2017)."""
    x, y = state[0], state[1]
    state[0] = y
    x ^= x << np.uint64(23)
    state[1] = x ^ y ^ (x >> np.uint64(17)) ^ (y >> np.uint64(26))
    return state[1] + y


@jit
def draw(state: Words, below: Float64, guide: Guide, counts: Float64) -> None:
    """Write a look's counts [K, B]."""
    for k in range(counts.shape[0]):
        for b in range(counts.shape[1]):
            if guide[k, b, 0] < 0:
                counts[k, b] = np.random.poisson(below[k, b, 0])
                continue
            if below[k, b, 0] >= 1.0:
                counts[k, b] = 0.0
                continue
            bits = _uniform_bits(state)
            uniform = (bits >> np.uint64(11)) / 9007199254740992.0
            n = guide[k, b, np.int64(bits >> np.uint64(56))]
            while uniform > below[k, b, n]:
                n += 1
            counts[k, b] = n


@jit
def draw_looks(
    looks: int,
    minutes: float,
    threshold: float,
    weights: Float64,
    random: Words,
    below: Float64,
    guide: Guide,
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
) -> int:
    """Draw and take up to `looks` looks, and stop after one in which a series crosses; how many were taken."""
    counts = np.zeros(shares.shape)
    for look in range(looks):
        draw(random, below, guide, counts)
        take_look(
            counts,
            minutes,
            shares,
            low,
            high,
            wealth,
            climb,
            age,
            rows,
            foreseen,
            memory,
            memory_foreseen,
            recent,
            odds,
            clock,
        )
        for k in range(wealth.shape[0]):
            value = 0.0
            for j in range(wealth.shape[1]):
                value += weights[j] * wealth[k, j]
            if value >= threshold:
                return look + 1
    return looks
