"""How soon the peers see a drift, each at the same rate of false alarms.

Peers: river's ADWIN, PageHinkley and KSWIN at their published settings but for the one that sets the rate of false
alarms, and "PSI above 0.2". Each watches one feature. Its share of the budget is the sidecar's: one false alarm in as
many months as there are series. No one can wait for that; so the rate is measured where alarms are frequent, and
carried on:

- ADWIN: the rate of alarms at three larger δ; the straight line of log rate over log δ gives the δ of the budget.
- PageHinkley, KSWIN: the highest value of the statistic in each block of a stationary stream; a Gumbel distribution
  (fitted by moments) gives the value that is exceeded once in the budget's time.
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

from drift_sidecar.evidence import MINUTES_A_MONTH
from drift_sidecar.peers import DAY_S, Kswin, PageHinkley, Stream
from drift_sidecar.statistics import psi
from fraud_scoring.errors import InvalidInput
from fraud_scoring.reference import Float64

PUBLISHED_ADWIN_DELTA: Final = 0.002
ADWIN_DELTAS: Final = (0.3, 0.1, 0.03)
SMALLEST_DELTA: Final = 1e-300
"""About the smallest positive double: where ADWIN still alarms, no setting of it keeps the budget."""
MONTH_S: Final = 60.0 * MINUTES_A_MONTH
PSI_RULE: Final = 0.2
PSI_WINDOW_MINUTES: Final = 5
_PART_ROWS: Final = 200_000
KSWIN_BLOCK_ROWS: Final = 20_000
ADWIN_WARM_ROWS: Final = 300_000


@dataclass(frozen=True)
class Effort:
    """How much a comparison may cost."""

    adwin_rows: int = 6_000_000
    adwin_runs: int = 15
    page_hinkley_days: int = 40
    kswin_blocks: int = 60
    runs: int = 40
    kswin_runs: int = 10
    limit_s: float = 600.0

    @classmethod
    def quick(cls) -> Effort:
        return cls(adwin_rows=400_000, adwin_runs=7, page_hinkley_days=6, kswin_blocks=8, runs=15, kswin_runs=2)


@dataclass(frozen=True)
class PeerDelay:
    """One peer on one stream: its setting at the budget, and seconds until it alarms after each shift (median; infinite
    where it did not alarm). `setting` is None where no setting keeps the budget."""

    peer: str
    stream: str
    setting: float | None
    median_s: dict[float, float]
    published_alarms_per_day: float


def gumbel_level(maxima: Float64, blocks: float) -> float:
    """What a block's maximum exceeds once in so many blocks (Gumbel, 1958; moments: sd = π β / √6, mean = μ + γ β)."""
    scale = float(np.std(maxima, ddof=1)) * math.sqrt(6.0) / math.pi
    place = float(np.mean(maxima)) - np.euler_gamma * scale
    return place - scale * math.log(-math.log1p(-1.0 / blocks))


def time_statistic(
    rule: PageHinkley | Kswin, stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int
) -> PeerDelay:
    """Calibrate a rule that alarms when its statistic exceeds a threshold, and time it from where that left it."""
    rng = np.random.default_rng(seed)
    slow = isinstance(rule, Kswin)
    # a block is a day, so that each holds a whole cycle; KSWIN looks at a second of rows, and a block may be short
    block_rows = KSWIN_BLOCK_ROWS if slow else round(DAY_S * stream.rows_per_second)
    maxima, alarms, at = np.zeros(effort.kswin_blocks if slow else effort.page_hinkley_days), 0, 0
    for block in range(len(maxima)):
        for rows in np.diff(np.linspace(0, block_rows, 1 if slow else 13).round().astype(int)).tolist() or [block_rows]:
            found = rule.statistic(stream.rows(rng, at, rows))
            at += rows
            maxima[block] = max(maxima[block], found.max())
            above = np.flatnonzero(found > rule.published)
            alarms += int((np.diff(above, prepend=-rule.rows_to_recover) >= rule.rows_to_recover).sum())
    threshold = gumbel_level(maxima[1:], months * MONTH_S * stream.rows_per_second / block_rows)
    days, at = at / stream.rows_per_second / DAY_S, round(2 * DAY_S * stream.rows_per_second)  # drift begins at 09:00
    limit = round(effort.limit_s * stream.rows_per_second)
    medians = {}
    for shift in shifts:
        delays = np.full(effort.kswin_runs if isinstance(rule, Kswin) else effort.runs, np.inf)
        for run in range(len(delays)):
            fresh = rule.copy()
            fresh.statistic(stream.rows(rng, at - rule.warm_rows, rule.warm_rows))
            hits = np.flatnonzero(fresh.statistic(stream.rows(rng, at, limit, shift)) > threshold)
            delays[run] = (hits[0] + 1) / stream.rows_per_second if len(hits) else np.inf
        medians[shift] = float(np.median(delays))
    return PeerDelay(rule.name, stream.name, rule.setting(threshold), medians, alarms / days)


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


def time_adwin(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """Calibrate river's ADWIN and time it; where it still alarms at the smallest δ there is, no setting will do."""
    rng = np.random.default_rng(seed)
    rows, day = effort.adwin_rows, round(DAY_S * stream.rows_per_second)
    published = adwin_alarms(_parts(stream, seed, rows), PUBLISHED_ADWIN_DELTA)
    published_a_day = published / (rows / stream.rows_per_second / DAY_S)
    if stream.cycle and adwin_alarms(_parts(stream, seed, day), SMALLEST_DELTA, 1):
        return PeerDelay("ADWIN", stream.name, None, dict.fromkeys(shifts, math.inf), published_a_day)
    rates = [max(adwin_alarms(_parts(stream, seed, rows), delta), 1) / rows for delta in ADWIN_DELTAS]
    slope, start = np.polyfit(np.log(ADWIN_DELTAS), np.log(rates), 1)
    budget = 1.0 / (months * MONTH_S * stream.rows_per_second)
    delta = float(np.exp((math.log(budget) - start) / slope))
    warm, limit = ADWIN_WARM_ROWS, round(effort.limit_s * stream.rows_per_second)
    warmed = _river().ADWIN(delta=delta)
    for value in stream.rows(rng, 0, warm).tolist():
        warmed.update(value)
    medians = {}
    for shift in shifts:
        delays = []
        for _ in range(effort.adwin_runs):
            detector = copy.deepcopy(warmed)
            delays.append(math.inf)
            for number, value in enumerate(stream.rows(rng, warm, limit, shift).tolist()):
                detector.update(value)
                if detector.drift_detected:
                    delays[-1] = (number + 1) / stream.rows_per_second
                    break
        medians[shift] = float(np.median(delays))
    return PeerDelay("ADWIN", stream.name, delta, medians, published_a_day)


def _river() -> Any:
    try:
        return importlib.import_module("river.drift")
    except ImportError:
        raise InvalidInput(
            "river is not installed, and the peers are its detectors; install it with: uv pip install river "
            "(with numpy==1.26.4), or leave the peers out with --no-peers"
        ) from None


# ------------------------------------------------------------------------------------------------------ PSI > 0.2


def time_psi_rule(stream: Stream, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """PSI of the last five minutes on the reference's deciles above 0.2, looked at every minute. It has no setting."""
    rng = np.random.default_rng(seed)
    edges = np.quantile(stream.rows(rng, 0, 1_000_000), np.arange(1, 10) / 10)
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
                if psi(np.full(10, 0.1), window) > PSI_RULE:
                    delays[run] = 60.0 * minute
                    break
        medians[shift] = float(np.median(delays))
    return PeerDelay("PSI > 0.2", stream.name, PSI_RULE, medians, 0.0)


def _deciles(rows: Float64, edges: Float64) -> Float64:
    return np.bincount(np.searchsorted(edges, rows, side="right"), minlength=10).astype(np.float64)
