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

from drift_sidecar import peer_delays, worlds
from drift_sidecar.drifts import DRIFTS, SHIFTS, Delay, Drift, delays, label_delays, shifted
from drift_sidecar.evidence import LOOK_SECONDS
from drift_sidecar.peer_delays import Effort, PeerDelay
from drift_sidecar.peers import Kswin, PageHinkley, Stream
from drift_sidecar.simulation import Stationary, World, stationary

Progress = Callable[[float, str], None]

TARGET_SHIFT: Final = 0.25
TARGET_DELAY_S: Final = 600.0
TARGET_PAGES: Final = 1.0
MINUTE_DRIFT: Final = f"mean of one feature + {TARGET_SHIFT:g} sd"
"""What is seen with one look a minute, too."""
DAYS_A_WORLD: Final = 91
ROWS_PER_SECOND: Final = 100.0
DAY_SD: Final = 0.01


@dataclass(frozen=True)
class Plan:
    """How much is simulated: years at the target volume, years at the edge of the tolerance, runs of each drift."""

    years: float = 10.0
    edge_years: float = 0.5
    look_seconds: float = LOOK_SECONDS
    """How often the stationary streams are looked at; the drifts always as often as the sidecar does."""
    runs: int = 200
    peers: bool = True
    effort: Effort = field(default_factory=Effort)
    seed: int = 7

    @classmethod
    def quick(cls, years: float, seed: int, peers: bool) -> Plan:
        """A minute at most on two cores."""
        return cls(years, 0.1, 10.0, 30, peers, Effort.quick(), seed)


@dataclass(frozen=True)
class Pages:
    """Pages and crossings of a stationary stream, with the exact 95% interval of a Poisson rate (Garwood, 1936)."""

    years: float
    pages: int
    pages_per_month: float
    pages_per_month_low: float
    pages_per_month_high: float
    crossings: int
    highest_share_of_threshold: float


@dataclass(frozen=True)
class Duel:
    """The sidecar and its peers on one stream: median seconds until the alarm, by the size of the shift."""

    stream: str
    judged: bool
    sidecar: dict[float, float]
    peers: tuple[PeerDelay, ...]


@dataclass(frozen=True)
class Study:
    """All of it. `stationary`: days that differ and features that follow the clock; `edge`: every series as far from
    its reference as the tolerance allows."""

    series: int
    rows_per_second: float
    look_seconds: float
    stationary: Pages
    edge: Pages
    delays: tuple[Delay, ...]
    duels: tuple[Duel, ...]
    seconds: float

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that were missed, in words.

        The textbook stream is shown and not judged: on rows that are all alike, day and night, every day, a rule that
        needs no tolerance has the advantage, and no such rows come from payments.
        """
        out = []
        if self.stationary.pages_per_month > TARGET_PAGES:
            out.append(f"{self.stationary.pages_per_month:.2f} false pages a month, at most {TARGET_PAGES:g} wanted")
        for delay in self.delays:
            if delay.name.endswith(f"+ {TARGET_SHIFT:g} sd") and not delay.median_s < TARGET_DELAY_S:
                out.append(
                    f"{delay.name}: seen after {delay.median_s:.0f} s, sooner than {TARGET_DELAY_S:.0f} s wanted"
                )
        for duel in self.duels:
            own = duel.sidecar[TARGET_SHIFT]
            for peer in duel.peers if duel.judged else ():
                theirs = peer.median_s[TARGET_SHIFT]
                if not own < theirs:
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
STREAMS: Final = (
    (Stream(TEXTBOOK, ROWS_PER_SECOND), "gaussian", 0.0),
    (Stream(CYCLE, ROWS_PER_SECOND, cycle=worlds.CYCLE_SD, day_sd=DAY_SD), "gaussian_with_cycle", DAY_SD),
    (Stream(AMOUNT, ROWS_PER_SECOND, log_sd=worlds.LOG_SD), "amount", 0.0),
)
"""(stream of the peers' rows, the series that is the same to the sidecar, how far its days differ)."""


def run_study(plan: Plan, progress: Progress) -> Study:
    """Run all parts, as many at a time as there are cores."""
    began = time.monotonic()
    parts = _parts(plan)
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
    of = {kind: [found[name] for name in parts if name.startswith(kind)] for kind in ("stationary", "edge", "drift ")}
    months = len(worlds.SERIES) + 1
    duels = tuple(
        Duel(stream.name, stream.name != TEXTBOOK, found[f"sidecar on {stream.name}"], _peers_of(found, stream.name))
        for stream, _, _ in STREAMS
        if plan.peers
    )
    return Study(
        series=months - 1,
        rows_per_second=ROWS_PER_SECOND,
        look_seconds=plan.look_seconds,
        stationary=_pages(of["stationary"]),
        edge=_pages(of["edge"]),
        delays=(*of["drift "], *found["labels"]),
        duels=duels,
        seconds=round(time.monotonic() - began, 1),
    )


def _parts(plan: Plan) -> dict[str, tuple[float, Callable[..., Any], tuple[Any, ...]]]:
    """By name: (about how many seconds, function, arguments)."""
    parts: dict[str, tuple[float, Callable[..., Any], tuple[Any, ...]]] = {}
    for kind, years, cost in (
        ("stationary", plan.years, 0.36 / plan.look_seconds),
        ("edge", plan.edge_years, 1.1 / plan.look_seconds),
    ):
        days = max(round(years * 365.2425), 1)
        # at least one piece for each core
        worlds_needed = max(math.ceil(days / DAYS_A_WORLD), min(os.cpu_count() or 1, days))
        for number in range(worlds_needed):
            share = days * (number + 1) // worlds_needed - days * number // worlds_needed
            parts[f"{kind} {number}"] = (cost * share, _stationary, (plan, number, share, kind == "edge"))
    for drift in DRIFTS:
        parts[f"drift {drift.name}"] = (plan.runs / 40, _delay, (plan.seed, drift, plan.runs))
        if drift.name == MINUTE_DRIFT:
            name = f"looked at once a minute: {drift.name}"
            parts[f"drift {name}"] = (plan.runs / 40, _delay, (plan.seed, replace(drift, name=name), plan.runs, 60.0))
    parts["labels"] = (plan.runs / 20, label_delays, (plan.seed, plan.runs))
    if plan.peers:
        months = len(worlds.SERIES) + 1
        for number, (stream, series, day_sd) in enumerate(STREAMS):
            seed = plan.seed + 101 * number
            parts[f"sidecar on {stream.name}"] = (plan.runs / 20, _own, (seed, series, day_sd, plan.runs))
            for peer in PEERS:
                cost = 20.0 if peer is _adwin else 4.0
                parts[f"{peer.__name__[1:]} on {stream.name}"] = (cost, peer, (stream, months, plan.effort, seed))
    return parts


def _stationary(plan: Plan, number: int, days: int, edge: bool) -> Stationary:
    seed = plan.seed * 100_003 + number + 50_000 * edge
    return stationary(World(seed, day_sd=DAY_SD, look_seconds=plan.look_seconds, edge=edge), days)


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


def _adwin(stream: Stream, months: float, effort: Effort, seed: int) -> PeerDelay:
    return peer_delays.time_adwin(stream, months, SHIFTS, effort, seed)


def _page_hinkley(stream: Stream, months: float, effort: Effort, seed: int) -> PeerDelay:
    return peer_delays.time_statistic(PageHinkley(), stream, months, SHIFTS, effort, seed)


def _kswin(stream: Stream, months: float, effort: Effort, seed: int) -> PeerDelay:
    return peer_delays.time_statistic(Kswin(), stream, months, SHIFTS, effort, seed)


def _psi(stream: Stream, months: float, effort: Effort, seed: int) -> PeerDelay:
    return peer_delays.time_psi_rule(stream, SHIFTS, effort, seed)


PEERS: Final = (_adwin, _page_hinkley, _kswin, _psi)


def _peers_of(found: dict[str, Any], stream: str) -> tuple[PeerDelay, ...]:
    return tuple(found[f"{peer.__name__[1:]} on {stream}"] for peer in PEERS)


def _pages(parts: list[Stationary]) -> Pages:
    months = sum(part.months for part in parts)
    pages = sum(part.pages for part in parts)
    low = float(stats.chi2.ppf(0.025, 2 * pages) / 2.0) if pages else 0.0
    high = float(stats.chi2.ppf(0.975, 2 * pages + 2) / 2.0)
    return Pages(
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
