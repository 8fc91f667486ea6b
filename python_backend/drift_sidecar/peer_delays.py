"""How soon the peers see a drift, each at the same rate of false alarms.

Peers: river's ADWIN, PageHinkley and KSWIN at their published settings but for the one that sets the rate of false
alarms; PSI of five minutes, above 0.2 and above what keeps the rate; and what no rule can beat, a CUSUM that is told
the shift. Each watches every series by itself, an alarm of any is a false page, and so each series has an equal share
of the budget: one alarm in `months`. No one can wait for that, so that the rate is found without waiting, and where
there is doubt the peer gets the benefit of it:

- ADWIN: importance sampling (rare_alarms.py) of river's own detector, whose δ is moved until the rate is the budget's.
- PageHinkley: the highest value of the statistic on each day of a stationary stream; a Gumbel distribution (fitted by
  moments) gives the value that is exceeded once in the budget's time; the lower end of its 95% interval is taken.
- KSWIN: its exact p-value, a hundred times larger than the budget's: alarms of tests that share rows may come together.
- PSI: the χ² distribution that it has at the highest of the cycle; looks that share rows may alarm together.
- CUSUM: Siegmund's approximation.
"""

from __future__ import annotations

import copy
import importlib
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy import stats

from drift_sidecar.evidence import MINUTES_A_MONTH
from drift_sidecar.peers import (
    DAY_S,
    KSWIN_WINDOW,
    Kswin,
    PageHinkley,
    Stream,
    cusum,
    cusum_threshold,
    kswin_distance,
)
from drift_sidecar.rare_alarms import GAUSSIAN_TILTS, SKEWED_TILTS, Rate, alarm_rate, setting_at
from drift_sidecar.statistics import psi
from fraud_scoring.errors import InvalidInput
from fraud_scoring.reference import Float64

PUBLISHED_ADWIN_DELTA: Final = 0.002
FIRST_ADWIN_DELTA: Final = 1e-5
SMALLEST_DELTA: Final = 1e-300
"""About the smallest positive double: where ADWIN still alarms, no setting of it keeps the budget."""
MONTH_S: Final = 60.0 * MINUTES_A_MONTH
PSI_RULE: Final = 0.2
PSI_WINDOW_MINUTES: Final = 5
_DECILES: Final = 10
_PART_ROWS: Final = 200_000
_KSWIN_ROWS: Final = 20_000
ADWIN_WARM_ROWS: Final = 300_000
ADWIN_SPAN_ROWS: Final = 4_000
_CUSUM_WARM_ROWS: Final = 20_000


@dataclass(frozen=True)
class Effort:
    """How much a comparison may cost."""

    adwin_rows: int = 2_000_000
    """Rows on which its alarms at the published setting are counted."""
    adwin_samples: int = 250
    """Runs of importance sampling for a rate."""
    adwin_runs: int = 40
    page_hinkley_days: int = 40
    runs: int = 40
    kswin_runs: int = 10
    limit_s: float = 600.0

    @classmethod
    def quick(cls) -> Effort:
        return cls(adwin_rows=200_000, adwin_samples=100, adwin_runs=11, page_hinkley_days=12, runs=15, kswin_runs=2)


@dataclass(frozen=True)
class PeerDelay:
    """One peer on one stream: its setting at the budget, and seconds until it alarms after each shift (median; infinite
    where it did not alarm). `setting` is None where no setting keeps the budget, NaN where each shift has its own.

    `alarms_per_month` of one series at that setting, where it was estimated, with its 95% interval; elsewhere None.
    `judged`: whether the sidecar is held to be sooner.
    """

    peer: str
    stream: str
    setting: float | None
    median_s: dict[float, float]
    published_alarms_per_day: float
    alarms_per_month: Rate | None = None
    judged: bool = True


def gumbel_level(maxima: Float64, blocks: float) -> float:
    """What a block's maximum exceeds once in so many blocks (Gumbel, 1958; moments: sd = π β / √6, mean = μ + γ β)."""
    scale = float(np.std(maxima, ddof=1)) * math.sqrt(6.0) / math.pi
    place = float(np.mean(maxima)) - np.euler_gamma * scale
    return place - scale * math.log(-math.log1p(-1.0 / blocks))


def lowest_gumbel_level(maxima: Float64, blocks: float) -> float:
    """The lower end of the level's 95% interval (bootstrap)."""
    rng = np.random.default_rng(0)
    levels = [gumbel_level(rng.choice(maxima, len(maxima)), blocks) for _ in range(200)]
    return float(np.quantile(levels, 0.025))


def time_page_hinkley(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """Calibrate PageHinkley on whole days, so that each holds a whole cycle, and time it."""
    rng, rule = np.random.default_rng(seed), PageHinkley()
    a_day = round(DAY_S * stream.rows_per_second)
    maxima, alarms = np.zeros(effort.page_hinkley_days), 0
    for day in range(len(maxima)):
        for part in range(12):
            first = day * a_day + part * (a_day // 12)
            found = rule.statistic(stream.rows(rng, first, a_day // 12))
            maxima[day] = max(maxima[day], found.max())
            alarms += _separate(np.flatnonzero(found > rule.published), rule.rows_to_recover)
    threshold = lowest_gumbel_level(maxima[1:], months * MONTH_S / DAY_S)
    median = _time_statistic(rule, threshold, stream, shifts, effort, effort.runs, rng)
    return PeerDelay(rule.name, stream.name, threshold, median, alarms / len(maxima))


def time_kswin(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """Set KSWIN by its exact p-value, and time it."""
    rng, rule = np.random.default_rng(seed), Kswin()
    found = rule.statistic(stream.rows(rng, 0, _KSWIN_ROWS))
    alarms = _separate(np.flatnonzero(found > rule.published), rule.rows_to_recover)
    per_row = 1.0 / (months * MONTH_S * stream.rows_per_second)
    distance = kswin_distance(min(KSWIN_WINDOW * per_row, 1.0))
    median = _time_statistic(rule, distance - 1e-9, stream, shifts, effort, effort.kswin_runs, rng)
    days = _KSWIN_ROWS / stream.rows_per_second / DAY_S
    return PeerDelay(rule.name, stream.name, rule.setting(distance), median, alarms / days)


def _separate(rows: Any, apart: int) -> int:
    """How many alarms they are, if a rule must recover after each."""
    return int((np.diff(rows, prepend=-apart) >= apart).sum())


def _time_statistic(
    rule: PageHinkley | Kswin,
    threshold: float,
    stream: Stream,
    shifts: tuple[float, ...],
    effort: Effort,
    runs: int,
    rng: np.random.Generator,
) -> dict[float, float]:
    """Median seconds until a rule's statistic exceeds a threshold, for drifts that begin at 09:00."""
    at, limit = round(2 * DAY_S * stream.rows_per_second), round(effort.limit_s * stream.rows_per_second)
    medians = {}
    for shift in shifts:
        delays = np.full(runs, np.inf)
        for run in range(runs):
            fresh = rule.copy()
            fresh.statistic(stream.rows(rng, at - rule.warm_rows, rule.warm_rows))
            hits = np.flatnonzero(fresh.statistic(stream.rows(rng, at, limit, shift)) > threshold)
            delays[run] = (hits[0] + 1) / stream.rows_per_second if len(hits) else np.inf
        medians[shift] = _median(delays)
    return medians


def _median(delays: Float64) -> float:
    return float(np.quantile(delays, 0.5, method="higher"))


# ---------------------------------------------------------------------------------------------------------- ADWIN


def adwin_alarms(parts: Iterable[Float64], delta: float, most: int = sys.maxsize) -> int:
    """How often river's ADWIN alarms on rows that come in parts; not counted further than `most`."""
    detector = _river().ADWIN(delta=delta)
    alarms = 0
    for rows in parts:
        for value in rows.tolist():
            detector.update(value)
            alarms += detector.drift_detected
        if alarms >= most:
            break
    return alarms


def _parts(stream: Stream, seed: int, rows: int) -> Iterator[Float64]:
    """The same rows for the same seed, some at a time."""
    rng = np.random.default_rng(seed)
    for first in range(0, rows, _PART_ROWS):
        yield stream.rows(rng, first, min(_PART_ROWS, rows - first))


def _first_alarm(warmed: Any, rows: Float64) -> int:
    """After how many rows a copy of a detector alarms; 0 if it does not."""
    detector = copy.deepcopy(warmed)
    for number, value in enumerate(rows.tolist()):
        detector.update(value)
        if detector.drift_detected:
            return number + 1
    return 0


def _warmed_adwin(stream: Stream, delta: float, seed: int) -> Any:
    detector = _river().ADWIN(delta=delta)
    for value in stream.rows(np.random.default_rng(seed), 0, ADWIN_WARM_ROWS).tolist():
        detector.update(value)
    return detector


def adwin_rate(stream: Stream, delta: float, samples: int, seed: int) -> Rate:
    """ADWIN's alarms per row of a stream whose rows are all alike."""
    warmed = _warmed_adwin(stream, delta, seed)
    tilts = SKEWED_TILTS if stream.log_sd else GAUSSIAN_TILTS
    rng = np.random.default_rng(seed + 1)
    return alarm_rate(lambda scores: _first_alarm(warmed, stream.values(scores)), tilts, ADWIN_SPAN_ROWS, samples, rng)


def time_adwin(
    stream: Stream,
    months: float,
    shifts: tuple[float, ...],
    effort: Effort,
    seed: int,
    widest: Stream | None = None,
) -> PeerDelay:
    """Calibrate river's ADWIN and time it; where it still alarms at the smallest δ there is, no setting will do.

    δ is set on `widest`, if given: the stream that alarms most often of those that share the setting.
    """
    rows, day = effort.adwin_rows, round(DAY_S * stream.rows_per_second)
    published = adwin_alarms(_parts(stream, seed, rows), PUBLISHED_ADWIN_DELTA)
    published_a_day = published / (rows / stream.rows_per_second / DAY_S)
    none = PeerDelay("ADWIN", stream.name, None, dict.fromkeys(shifts, math.inf), published_a_day)
    if stream.cycle and adwin_alarms(_parts(stream, seed, day), SMALLEST_DELTA, 1):
        return none
    budget = 1.0 / (months * MONTH_S * stream.rows_per_second)
    smallest = math.log(SMALLEST_DELTA)
    log_delta, rate = setting_at(
        lambda at: adwin_rate(widest or stream, math.exp(max(at, smallest)), effort.adwin_samples, seed),
        budget,
        math.log(FIRST_ADWIN_DELTA),
    )
    if log_delta < smallest:
        return none
    warmed = _warmed_adwin(stream, math.exp(log_delta), seed)
    rng, limit = np.random.default_rng(seed), round(effort.limit_s * stream.rows_per_second)
    medians = {}
    for shift in shifts:
        delays = np.full(effort.adwin_runs, np.inf)
        for run in range(len(delays)):
            if seen := _first_alarm(warmed, stream.rows(rng, ADWIN_WARM_ROWS, limit, shift)):
                delays[run] = seen / stream.rows_per_second
        medians[shift] = _median(delays)
    a_month = rate.per_month(MONTH_S * stream.rows_per_second)
    return PeerDelay("ADWIN", stream.name, math.exp(log_delta), medians, published_a_day, a_month)


def _river() -> Any:
    try:
        return importlib.import_module("river.drift")
    except ImportError:
        raise InvalidInput(
            "river is not installed, and the peers are its detectors; install it with: uv pip install river "
            "(with numpy==1.26.4), or leave the peers out with --no-peers"
        ) from None


# ------------------------------------------------------------------------------------------------------------ PSI


def time_psi_rule(
    stream: Stream, shifts: tuple[float, ...], effort: Effort, seed: int, limit: float = PSI_RULE
) -> PeerDelay:
    """PSI of the last five minutes on the reference's deciles above a limit, looked at every minute."""
    rng = np.random.default_rng(seed)
    edges = np.quantile(stream.rows(rng, 0, 1_000_000), np.arange(1, _DECILES) / _DECILES)
    minutes, per_minute = round(effort.limit_s / 60.0), round(60.0 * stream.rows_per_second)
    medians = {}
    for shift in shifts:
        delays = np.full(min(effort.runs, 10), np.inf)
        for run in range(len(delays)):
            rows = stream.rows(rng, 0, PSI_WINDOW_MINUTES * per_minute)
            after = stream.rows(rng, len(rows), minutes * per_minute, shift)
            counts = np.stack([_deciles(part, edges) for part in np.split(np.concatenate([rows, after]), minutes + 5)])
            for minute in range(1, minutes + 1):
                window = counts[minute : minute + PSI_WINDOW_MINUTES].sum(axis=0)
                if psi(np.full(_DECILES, 1.0 / _DECILES), window) > limit:
                    delays[run] = 60.0 * minute
                    break
        medians[shift] = _median(delays)
    name = "PSI > 0.2" if limit == PSI_RULE else "PSI, set to the rate"
    return PeerDelay(name, stream.name, limit, medians, 0.0)


def psi_limit(stream: Stream, months: float) -> float:
    """What PSI exceeds in one look in `months`: at the highest of the cycle, on the worst day of all, PSI times the
    rows of a window is χ² with the squared shift of the mean as its non-centrality; a fifth of the looks count."""
    rows = 60.0 * PSI_WINDOW_MINUTES * stream.rows_per_second
    days = months * MONTH_S / DAY_S
    furthest = stream.cycle + stream.day_sd * float(stats.norm.isf(min(1.0 / days, 0.5)))
    chance = PSI_WINDOW_MINUTES / (months * MINUTES_A_MONTH)
    return float(stats.ncx2.isf(chance, _DECILES - 1, rows * furthest**2) / rows)


def _deciles(rows: Float64, edges: Float64) -> Float64:
    return np.bincount(np.searchsorted(edges, rows, side="right"), minlength=_DECILES).astype(np.float64)


# ---------------------------------------------------------------------------------------------------------- CUSUM


def time_cusum(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """A CUSUM of Gaussian rows that is told the mean before, the spread and the shift: on such rows, and at the same
    rate, no rule has a lower worst mean delay (Moustakides, "Optimal stopping times for detecting changes", 1986)."""
    rng, limit = np.random.default_rng(seed), round(effort.limit_s * stream.rows_per_second)
    medians, rows = {}, months * MONTH_S * stream.rows_per_second
    for shift in shifts:
        threshold = cusum_threshold(shift, rows)
        delays = np.full(5 * effort.runs, np.inf)
        for run in range(len(delays)):
            state, out = np.zeros(1), np.empty(_CUSUM_WARM_ROWS)
            cusum(rng.normal(size=_CUSUM_WARM_ROWS), shift, state, out)
            out = np.empty(limit)
            cusum(rng.normal(size=limit) + shift, shift, state, out)
            hits = np.flatnonzero(out >= threshold)
            delays[run] = (hits[0] + 1) / stream.rows_per_second if len(hits) else np.inf
        medians[shift] = _median(delays)
    return PeerDelay("CUSUM told the shift", stream.name, math.nan, medians, 0.0, judged=False)
