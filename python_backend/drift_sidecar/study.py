"""The study that `fraudctl drift simulate` prints: false pages over years, delays per drift, the peers in the same run.

Everything is seeded and independent of how many processes share the work.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
from scipy import stats

from drift_sidecar import worlds
from drift_sidecar.drifts import DRIFTS, NOON, SHIFTS, Delay, Drift, delays, label_delays, shifted
from drift_sidecar.evidence import LOOK_SECONDS
from drift_sidecar.peer_delays import (
    Effort,
    PeerDelay,
    psi_limit,
    time_adwin,
    time_cusum,
    time_kswin,
    time_page_hinkley,
    time_psi_rule,
)
from drift_sidecar.peers import Stream
from drift_sidecar.rare_alarms import Rate, crossing_rates, per_month
from drift_sidecar.simulation import Stationary, World, stationary

Progress = Callable[[float, str], None]

TARGET_SHIFT: Final = 0.25
TARGET_DELAY_S: Final = 600.0
TARGET_PAGES: Final = 1.0
MINUTE_DRIFT: Final = f"mean of one feature + {TARGET_SHIFT:g} sd"
"""What is seen with one look a minute, too."""
DAYS_A_WORLD: Final = 91
ROWS_PER_SECOND: Final = 100.0
MINUTE: Final = 60.0
EDGE_LOOK_SECONDS: Final = 10.0
DAY_SD: Final = 0.01


@dataclass(frozen=True)
class Plan:
    """How much is simulated: years of a stationary stream that is looked at once a minute, years in which it is looked
    at as often as the sidecar does, years at the edge of the tolerance, runs of each drift."""

    years: float = 10.0
    second_years: float = 1.0
    edge_years: float = 0.5
    runs: int = 100
    peers: bool = True
    effort: Effort = field(default_factory=Effort)
    seed: int = 7

    @classmethod
    def quick(cls, years: float, seed: int, peers: bool) -> Plan:
        """A minute at most on two cores."""
        return cls(years, 0.05, 0.1, 30, peers, Effort.quick(), seed)


@dataclass(frozen=True)
class Pages:
    """Pages and crossings of a stationary stream, with the exact 95% interval of a Poisson rate (Garwood, 1936)."""

    look_seconds: float
    years: float
    pages: int
    pages_per_month: float
    pages_per_month_low: float
    pages_per_month_high: float
    crossings: int
    highest_share_of_threshold: float


@dataclass(frozen=True)
class Duel:
    """The sidecar and its peers on one stream: median seconds until the alarm, by the size of the shift; the peers are
    set to so many false alarms a month on series that are all like this one."""

    stream: str
    alarms_per_month: float
    sidecar: dict[float, float]
    peers: tuple[PeerDelay, ...]


@dataclass(frozen=True)
class Study:
    """All of it.

    `stationary`, `every_second`: days that differ and features that follow the clock; `edge`: every series as far from
    its reference as the tolerance allows; `alike_per_month`: crossings a month where all days are alike, by importance
    sampling, of all series together and of the Gaussian one.
    """

    series: int
    rows_per_second: float
    stationary: Pages
    every_second: Pages
    edge: Pages
    alike_per_month: tuple[Rate, Rate]
    delays: tuple[Delay, ...]
    duels: tuple[Duel, ...]
    seconds: float

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that were missed, in words.

        Shown and not judged: what no rule can beat; and ADWIN with a δ of its own for Gaussian rows that are all alike,
        day and night, every day. It comes near that bound there, which a rule with a tolerance cannot.
        """
        out = []
        for pages in (self.stationary, self.every_second):
            if pages.pages_per_month > TARGET_PAGES:
                looks = f"looked at every {pages.look_seconds:g} s"
                out.append(f"{pages.pages_per_month:.2f} false pages a month, {looks}, at most {TARGET_PAGES:g} wanted")
        for delay in self.delays:
            if delay.name.endswith(f"+ {TARGET_SHIFT:g} sd") and not delay.median_s < TARGET_DELAY_S:
                out.append(
                    f"{delay.name}: seen after {delay.median_s:.0f} s, sooner than {TARGET_DELAY_S:.0f} s wanted"
                )
        for duel in self.duels:
            own = duel.sidecar[TARGET_SHIFT]
            for peer in duel.peers:
                theirs = peer.median_s[TARGET_SHIFT]
                if peer.judged and not own < theirs:
                    out.append(
                        f"{duel.stream}: {peer.peer} sees the shift after {theirs:.1f} s, the sidecar {own:.1f} s"
                    )
        return tuple(out)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what is infinite is None."""
        document: dict[str, Any] = {**asdict(self), "missed": list(self.missed)}
        found: dict[str, Any] = _finite(document)
        return found


TEXTBOOK: Final = "Gaussian, every row alike"
CYCLE: Final = "Gaussian with a daily cycle"
AMOUNT: Final = "log-normal amount, every row alike"
TEXTBOOK_STREAM: Final = Stream(TEXTBOOK, ROWS_PER_SECOND)
AMOUNT_STREAM: Final = Stream(AMOUNT, ROWS_PER_SECOND, log_sd=worlds.LOG_SD)
STREAMS: Final = (
    (TEXTBOOK_STREAM, "gaussian", 0.0),
    (Stream(CYCLE, ROWS_PER_SECOND, cycle=worlds.CYCLE_SD, day_sd=DAY_SD), "gaussian_with_cycle", DAY_SD),
    (AMOUNT_STREAM, "amount", 0.0),
)
"""(stream of the peers' rows, the series that is the same to the sidecar, how far its days differ)."""
SHARES: Final = len(worlds.SERIES) + 1
"""Of the budget; one is that of the labels."""


def run_study(plan: Plan, progress: Progress) -> Study:
    """Run all parts, as many at a time as there are cores."""
    began = time.monotonic()
    rates = crossing_rates(plan.seed + 13, NOON, ROWS_PER_SECOND, plan.effort.adwin_samples)
    alike = (per_month(rates, 1.0 / LOOK_SECONDS), per_month(rates[worlds.GAUSSIAN : worlds.GAUSSIAN + 1], 1.0))
    own_months = 1.0 / alike[1].estimate
    parts = _parts(plan, own_months)
    cost = sum(weight for weight, _, _ in parts.values())
    found: dict[str, Any] = {}
    done = 0.0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        waiting: dict[Future[Any], str] = {
            pool.submit(function, *arguments): name
            for name, (_, function, arguments) in sorted(parts.items(), key=lambda part: -part[1][0])
        }
        for future in as_completed(waiting):
            name = waiting[future]
            found[name] = future.result()
            done += parts[name][0]
            progress(done / cost, name.rstrip("0123456789 "))
    kinds = ("stationary", "every second", "edge", "drift ")
    of = {kind: [found[name] for name in parts if name.startswith(kind)] for kind in kinds}
    duels: tuple[Duel, ...] = ()
    if plan.peers:
        own = {stream.name: found[f"sidecar on {stream.name}"] for stream, _, _ in STREAMS}
        duels = (
            *(Duel(name, 1.0, own[name], _of_kind(found, f"at the budget, {name}: ")) for name in own),
            Duel(TEXTBOOK, SHARES / own_months, own[TEXTBOOK], _of_kind(found, "at the sidecar's own rate: ")),
        )
    return Study(
        series=len(worlds.SERIES),
        rows_per_second=ROWS_PER_SECOND,
        stationary=_pages(MINUTE, of["stationary"]),
        every_second=_pages(LOOK_SECONDS, of["every second"]),
        edge=_pages(EDGE_LOOK_SECONDS, of["edge"]),
        alike_per_month=alike,
        delays=(*of["drift "], *found["labels"]),
        duels=duels,
        seconds=round(time.monotonic() - began, 1),
    )


def _parts(plan: Plan, own_months: float) -> dict[str, tuple[float, Callable[..., Any], tuple[Any, ...]]]:
    """By name: (about how many seconds, function, arguments)."""
    parts: dict[str, tuple[float, Callable[..., Any], tuple[Any, ...]]] = {}
    for kind, years, look_seconds, cost in (
        ("stationary", plan.years, MINUTE, 0.02),
        ("every second", plan.second_years, LOOK_SECONDS, 0.21),
        ("edge", plan.edge_years, EDGE_LOOK_SECONDS, 0.06),
    ):
        days = math.ceil(years * 365.2425)
        # at least one piece for each core
        worlds_needed = max(math.ceil(days / DAYS_A_WORLD), min(os.cpu_count() or 1, days))
        for number in range(worlds_needed):
            share = days * (number + 1) // worlds_needed - days * number // worlds_needed
            parts[f"{kind} {number}"] = (cost * share, _stationary, (plan.seed, number, share, look_seconds, kind))
    for drift in DRIFTS:
        parts[f"drift {drift.name}"] = (plan.runs / 40, _delay, (plan.seed, drift, plan.runs))
        if drift.name == MINUTE_DRIFT:
            name = f"looked at once a minute: {drift.name}"
            parts[f"drift {name}"] = (plan.runs / 40, _delay, (plan.seed, replace(drift, name=name), plan.runs, 60.0))
    parts["labels"] = (plan.runs / 5, label_delays, (plan.seed, max(plan.runs // 3, 1)))
    for number, (stream, series, day_sd) in enumerate(STREAMS if plan.peers else ()):
        seed = plan.seed + 101 * number
        parts[f"sidecar on {stream.name}"] = (plan.runs / 20, _own, (seed, series, day_sd, plan.runs))
        for name, function in PEERS.items():
            if function is not time_cusum or stream is TEXTBOOK_STREAM:
                known = (float(SHARES), SHIFTS, plan.effort, seed)
                parts[f"at the budget, {stream.name}: {name}"] = (10.0, function, (stream, *known))
    if plan.peers:
        parts[f"at the budget, {TEXTBOOK}: {ADWIN_SHARED}"] = (10.0, _adwin_shared, (plan.effort, plan.seed))
        for name in (ADWIN_ALONE, "CUSUM"):
            known = (own_months, SHIFTS, plan.effort, plan.seed)
            parts[f"at the sidecar's own rate: {name}"] = (10.0, PEERS[name], (TEXTBOOK_STREAM, *known))
    return parts


def _stationary(seed: int, number: int, days: int, look_seconds: float, kind: str) -> Stationary:
    own = seed * 100_003 + number + 25_000 * ("stationary", "every second", "edge").index(kind)
    return stationary(World(own, day_sd=DAY_SD, look_seconds=look_seconds, edge=kind == "edge"), days)


def _delay(seed: int, drift: Drift, runs: int, look_seconds: float = LOOK_SECONDS) -> Delay:
    world = World(seed + 11, day_sd=DAY_SD, look_seconds=look_seconds)
    return delays(world, drift, runs, rows_per_second=ROWS_PER_SECOND, limit_s=TARGET_DELAY_S)


def _own(seed: int, series: str, day_sd: float, runs: int) -> dict[float, float]:
    world = World(seed + 13, day_sd=day_sd)
    found = {}
    for sd in SHIFTS:
        drift = Drift(f"{series} {sd:g}", partial(shifted, name=series, sd=sd))
        found[sd] = delays(world, drift, runs, rows_per_second=ROWS_PER_SECOND, limit_s=TARGET_DELAY_S).median_s
    return found


def _adwin(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    """ADWIN with a δ for each feature by itself."""
    found = time_adwin(stream, months, shifts, effort, seed)
    return replace(found, peer=ADWIN_ALONE, judged=False) if stream.name == TEXTBOOK else found


def _adwin_shared(effort: Effort, seed: int) -> PeerDelay:
    """ADWIN with one δ for all features, as it is sold: the two amounts may use up all of the budget."""
    return replace(time_adwin(TEXTBOOK_STREAM, 2.0, SHIFTS, effort, seed, AMOUNT_STREAM), peer=ADWIN_SHARED)


def _psi_at_the_rate(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    return time_psi_rule(stream, shifts, effort, seed, psi_limit(stream, months))


def _psi(stream: Stream, months: float, shifts: tuple[float, ...], effort: Effort, seed: int) -> PeerDelay:
    return time_psi_rule(stream, shifts, effort, seed)


ADWIN_ALONE: Final = "ADWIN, δ for this feature"
ADWIN_SHARED: Final = "ADWIN, one δ for all features"
PEERS: Final[dict[str, Callable[..., PeerDelay]]] = {
    ADWIN_ALONE: _adwin,
    "PageHinkley": time_page_hinkley,
    "KSWIN": time_kswin,
    "PSI": _psi,
    "PSI at the rate": _psi_at_the_rate,
    "CUSUM": time_cusum,
}


def _of_kind(found: dict[str, Any], kind: str) -> tuple[PeerDelay, ...]:
    return tuple(part for name, part in sorted(found.items()) if name.startswith(kind))


def _pages(look_seconds: float, parts: list[Stationary]) -> Pages:
    months = sum(part.months for part in parts)
    pages = sum(part.pages for part in parts)
    low = float(stats.chi2.ppf(0.025, 2 * pages) / 2.0) if pages else 0.0
    high = float(stats.chi2.ppf(0.975, 2 * pages + 2) / 2.0)
    return Pages(
        look_seconds=look_seconds,
        years=months / 12.0,
        pages=pages,
        pages_per_month=pages / months,
        pages_per_month_low=low / months,
        pages_per_month_high=high / months,
        crossings=sum(part.crossings for part in parts),
        highest_share_of_threshold=max(part.highest for part in parts),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float | np.floating) and not math.isfinite(value):
        return None
    return value
