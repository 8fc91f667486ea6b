"""Whether a run, B, was worse than another of the same scenario, A: by more than chance and more than is tolerated.

Each judged window is cut into some twenty blocks of time, at least a second long, and the blocks are drawn again with
replacement (block bootstrap): latencies of one moment depend on each other, and drawing single arrivals would promise
far too narrow an interval. The spread of the redrawn figures, widened where neighbouring blocks are alike, gives a 95%
interval of B against A, with Student's t for the few blocks (Welch's degrees of freedom). Then, for each measure:

    regression        the whole interval is worse than the tolerance
    no regression     the whole interval is better than it
    not enough data   it holds the tolerance, or there were too few blocks or samples: no pass
    not measured      neither run could tell (CPU of a server elsewhere)

p50, p99, throughput (answered of what was due) and CPU a transaction are compared as ratios; shares of wrong ends and
of degraded answers as differences. What differs between two runs but not within either (another neighbour on the
machine, a warmer cache) is in no interval: give it a tolerance, and repeat what surprises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from fraud_load.gate import samples_for, samples_for_share
from fraud_load.report.figures import Floats, server_only
from fraud_load.result import Kind, Outcome, Requests, Result, Run, Status
from fraud_scoring.errors import InvalidInput

TOLERANCES: Final = {
    "p50_ms": 0.10,
    "p99_ms": 0.15,
    "throughput": 0.05,
    "cpu_ms": 0.10,
    "failed_share": 0.001,
    "degraded_share": 0.005,
}
"""By how much each may be worse: a share of A's for the first four, a difference of shares for the last two."""
BLOCKS: Final = 20
FEWEST_BLOCKS: Final = 10
SHORTEST_BLOCK_S: Final = 1.0
REDRAWN: Final = 500
FOREIGN_NOTED: Final = 0.1
"""Share of the machine's cores by which other programs' use may differ between the runs before it is noted,"""
FOREIGN_DECIDES: Final = 0.25
"""and before it, and not the server, is what a difference shows."""
_CELL: Final = 0.005
"""Width of a latency bin of the bootstrap, as a logarithm: half a percent."""
_FINEST_MS: Final = 1e-3
_MOST_ALIKE: Final = 0.7
"""Correlation of neighbouring blocks beyond which nothing is mended further."""
_SAME: Final = ("arrivals", "workload", "sending")
DIFFERENCES: Final = ("failed_share", "degraded_share")
HIGHER_IS_BETTER: Final = ("throughput",)


class Change(str, Enum):
    """How one measure, or the whole comparison, was judged."""

    REGRESSION = "regression"
    NO_REGRESSION = "no regression"
    NOT_ENOUGH_DATA = "not enough data"
    NOT_MEASURED = "not measured"
    NO_VERDICT = "no verdict"
    """The generator was the bottleneck of a run, or other programs had much more of the machine in one of them."""


@dataclass(frozen=True)
class Measure:
    """One measure in both runs."""

    name: str
    a: float | None
    b: float | None
    change: float | None
    """B/A - 1, or B - A for shares; above 0 is more."""
    low: float | None
    high: float | None
    """The 95% interval of `change`; None where there were too few blocks."""
    tolerance: float
    verdict: Change
    why: str = ""
    """What was missing, in words."""


@dataclass(frozen=True)
class Comparison:
    """Two runs, compared."""

    measures: list[Measure]
    verdict: Change
    block_s: float
    window_s: tuple[float, float]
    """The part of both that is compared: what both judged."""
    notes: list[str]
    """What else differs, in words."""

    @property
    def passed(self) -> bool:
        return self.verdict is Change.NO_REGRESSION

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"passed": self.passed, **asdict(self)}


@dataclass(frozen=True)
class _Estimate:
    """A measure of one run: its value, and how it scatters from drawing to drawing."""

    value: float
    error: float
    """Standard error: of the logarithm for ratios, of the value for shares."""
    blocks: int
    samples: int


def compare(a: Result, b: Result, tolerances: Mapping[str, float] | None = None, seed: int = 7) -> Comparison:
    """B against A; InvalidInput where they are not runs of the same scenario, or a tolerance is of nothing."""
    wanted = _tolerances(tolerances or {})
    _require_same(a.run, b.run)
    window = max(a.run.window_s[0], b.run.window_s[0]), min(a.run.window_s[1], b.run.window_s[1])
    if window[1] <= window[0]:
        raise InvalidInput("the judged windows of the two runs have nothing in common")
    block_s = max(SHORTEST_BLOCK_S, (window[1] - window[0]) / BLOCKS)
    rng = np.random.default_rng(seed)
    first, second = (_estimates(one, window, block_s, rng) for one in (a, b))
    measures = [_judged(name, first[name], second[name], wanted[name]) for name in TOLERANCES]
    return Comparison(measures, _overall(a.run, b.run, measures), block_s, window, _notes(a.run, b.run))


def _tolerances(given: Mapping[str, float]) -> dict[str, float]:
    for name, value in given.items():
        if name not in TOLERANCES:
            raise InvalidInput(f"there is no measure {name!r} to tolerate; there are {', '.join(TOLERANCES)}")
        if not 0 <= value < 100:
            raise InvalidInput(f"the tolerance of {name} is {value:g}; write a share from 0, for example 0.1")
    return {**TOLERANCES, **given}


def _require_same(a: Run, b: Run) -> None:
    different = [part for part in _SAME if a.scenario.get(part) != b.scenario.get(part)]
    if a.runner != b.runner:
        different.append(f"runner ({a.runner}, {b.runner})")
    if different:
        raise InvalidInput(
            f"the runs differ in {', '.join(different)}: what they show would be the difference in load; "
            "compare two runs of the same scenario with the same options"
        )


def _notes(a: Run, b: Run) -> list[str]:
    notes = []
    if a.machine != b.machine:
        differs = ", ".join(name for name in a.machine if a.machine.get(name) != b.machine.get(name))
        notes.append(f"The generators' machines differ in {differs or 'what is known of them'}.")
    if a.seed != b.seed:
        notes.append(f"The seeds differ ({a.seed}, {b.seed}): other arrival times, other customers.")
    for name, run in (("A", a), ("B", b)):
        if run.generator.bottleneck:
            notes.append(f"{name}: {run.generator.bottleneck}.")
    before, after = _others(a), _others(b)
    if before is not None and after is not None and _foreign(a, b) > FOREIGN_NOTED:
        notes.append(
            f"Other programs used {before:.2f} cores of the machine during A and {after:.2f} during B: latency "
            "follows that. Repeat on a quiet machine."
        )
    knees = [run.findings.get("knee", {}).get("rate") for run in (a, b)]
    if any(knees):
        shown = " and ".join("none" if rate is None else f"{rate:,.0f}/s" for rate in knees)
        notes.append(f"The knees are {shown}; steps are not judged here.")
    return notes


def _others(run: Run) -> float | None:
    """Cores that neither server nor generator used; None where the machine was not watched, or the generator not."""
    used = run.findings.get("cores")
    if not used or not used["generator"]:
        return None
    return max(float(used["machine"] - used["server"] - used["generator"]), 0.0)


def _foreign(a: Run, b: Run) -> float:
    """By how much other programs' use of the machine differed, as a share of its cores; 0 where it was not seen."""
    before, after = _others(a), _others(b)
    return 0.0 if before is None or after is None else abs(before - after) / (a.machine.get("cores") or 1)


def _overall(a: Run, b: Run, measures: list[Measure]) -> Change:
    if Outcome.NO_VERDICT in (a.outcome, b.outcome) or a.generator.bottleneck or b.generator.bottleneck:
        return Change.NO_VERDICT
    if _foreign(a, b) > FOREIGN_DECIDES:
        return Change.NO_VERDICT
    verdicts = {one.verdict for one in measures}
    return next(
        (worst for worst in (Change.REGRESSION, Change.NOT_ENOUGH_DATA) if worst in verdicts), Change.NO_REGRESSION
    )


def _judged(name: str, a: _Estimate | None, b: _Estimate | None, tolerance: float) -> Measure:
    if a is None or b is None:
        missing = "neither run" if a is None and b is None else "run A" if a is None else "run B"
        why = f"{missing} could tell" if missing == "neither run" else f"{missing} could not tell"
        first, second = (None if one is None else one.value for one in (a, b))
        return Measure(name, first, second, None, None, None, tolerance, Change.NOT_MEASURED, why)
    apart = name in DIFFERENCES
    known = apart or (a.value > 0 and b.value > 0)
    change = b.value - a.value if apart else b.value / a.value - 1 if known else None
    short = _too_little(name, a, b, tolerance) or ("" if known else "a run answered nothing")
    if short or change is None:
        return Measure(name, a.value, b.value, change, None, None, tolerance, Change.NOT_ENOUGH_DATA, short)
    width = _quantile(a, b) * math.hypot(a.error, b.error)
    middle = change if apart else math.log1p(change)
    ends = middle - width, middle + width
    if apart and width == 0:  # not one in either: at most three in so many (rule of three)
        ends = middle - 3 / a.samples, middle + 3 / b.samples
    low, high = ends if apart else tuple(math.expm1(end) for end in ends)
    # how much worse, at least and at most
    least, most = (1 / (1 + high) - 1, 1 / (1 + low) - 1) if name in HIGHER_IS_BETTER else (low, high)
    if least > tolerance:
        verdict, why = Change.REGRESSION, ""
    elif most <= tolerance:
        verdict, why = Change.NO_REGRESSION, ""
    else:
        verdict, why = Change.NOT_ENOUGH_DATA, "the interval holds the tolerance: a longer run would tell"
    return Measure(name, a.value, b.value, change, low, high, tolerance, verdict, why)


def _too_little(name: str, a: _Estimate, b: _Estimate, tolerance: float) -> str:
    blocks, samples = min(a.blocks, b.blocks), min(a.samples, b.samples)
    if blocks < FEWEST_BLOCKS:
        return f"{blocks} blocks of time in the shorter run, {FEWEST_BLOCKS} are needed"
    needed = {"p50_ms": samples_for(50), "p99_ms": samples_for(99)}.get(name, 0)
    if name in DIFFERENCES:
        needed = samples_for_share(tolerance)
    return f"{samples:,} samples in the smaller run, {needed:,} are needed" if samples < needed else ""


def _quantile(a: _Estimate, b: _Estimate) -> float:
    """97.5% of Student's t with Welch's degrees of freedom."""
    parts = [one.error**2 for one in (a, b)]
    if sum(parts) == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(part**2 / (one.blocks - 1) for part, one in zip(parts, (a, b), strict=True))
    return float(stdtrit(freedom, 0.975))


def _estimates(
    result: Result, window: tuple[float, float], block_s: float, rng: np.random.Generator
) -> dict[str, _Estimate | None]:
    judged = result.requests.between(*window)
    blocks = max(int((window[1] - window[0]) / block_s + 1e-9), 1)
    where = np.minimum(((judged.intended_s - window[0]) / block_s).astype(np.intp), blocks - 1)
    weights = _draws(blocks, rng)
    behaving = judged.kind != Kind.BAD
    latency = judged.latency_s[behaving] * 1e3
    quantiles = _quantiles(latency, where[behaving], weights)
    answered = judged.status == Status.OK
    return {
        "p50_ms": quantiles[0],
        "p99_ms": quantiles[1],
        "throughput": _throughput(result.requests, window, block_s, weights),
        "cpu_ms": _cpu(result, window, block_s, rng),
        "failed_share": _share(judged.failed, np.ones(len(judged), np.bool_), where, weights),
        "degraded_share": _share(judged.degraded & answered, answered, where, weights),
    }


def _draws(blocks: int, rng: np.random.Generator) -> Floats:
    """[REDRAWN, blocks] how often each block was drawn."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), REDRAWN).astype(np.float64)


def _error(redrawn: Floats, parts: Floats) -> float:
    """The standard error, from what was redrawn and from what each block [blocks] added to the figure.

    Drawing from few blocks makes it too small by sqrt(1 - 1/blocks), and neighbours that are alike by
    sqrt((1 - r) / (1 + r)), where r is their correlation: both are mended.
    """
    blocks, known = len(parts), redrawn[np.isfinite(redrawn)]
    if blocks < 2 or len(known) < REDRAWN / 2:
        return float("inf")
    off = parts - parts.mean()
    alike = float((off[1:] * off[:-1]).sum() / max(float((off**2).sum()), 1e-12))
    alike = min(max(alike + 1 / blocks, 0.0), _MOST_ALIKE)  # from so few blocks it comes out too low by about 1/blocks
    return float(known.std() * math.sqrt(blocks / (blocks - 1) * (1 + alike) / (1 - alike)))


def _quantiles(latency_ms: Floats, where: npt.NDArray[np.intp], weights: Floats) -> tuple[_Estimate, _Estimate]:
    """p50 and p99. What is drawn again are counts in fine bins, not arrivals: as good, and a hundred times as fast."""
    blocks = weights.shape[1]
    if not len(latency_ms):
        nothing = _Estimate(float("nan"), float("inf"), blocks, 0)
        return nothing, nothing
    cell = (np.log(np.maximum(latency_ms, _FINEST_MS)) / _CELL).astype(np.intp)
    first, cells = int(cell.min()), int(np.ptp(cell)) + 1
    counts = np.bincount(where * cells + cell - first, minlength=blocks * cells).reshape(blocks, cells)
    below = np.cumsum(weights @ counts.astype(np.float64), axis=1)
    found = []
    for level in (50, 99):
        target = below[:, -1:] * (level / 100)
        place = np.minimum((below < target).sum(axis=1), cells - 1)
        redrawn = (first + place + 0.5) * _CELL
        value = float(np.percentile(latency_ms, level))
        slower = np.bincount(where, (latency_ms > value) - (1 - level / 100), blocks).astype(np.float64)
        # a spread below the width of a bin is not seen: that width is then what is uncertain
        found.append(_Estimate(value, max(_error(redrawn, slower), _CELL / math.sqrt(12)), blocks, len(latency_ms)))
    return found[0], found[1]


def _ratio(over: Floats, under: Floats, weights: Floats, samples: int) -> _Estimate:
    """Sums over sums, and the error of its logarithm."""
    with np.errstate(divide="ignore", invalid="ignore"):
        redrawn = np.log((weights @ over) / (weights @ under))
        value = float(over.sum() / under.sum()) if under.sum() > 0 else 0.0
    return _Estimate(value, _error(redrawn, over - value * under), len(over), samples)


def _throughput(requests: Requests, window: tuple[float, float], block_s: float, weights: Floats) -> _Estimate:
    """Transactions answered within the window, for each that should have been sent in it: chance in the arrivals
    themselves is no difference between servers."""
    blocks = weights.shape[1]

    def rows(at_s: Floats, which: npt.NDArray[np.bool_]) -> Floats:
        inside = which & (at_s >= window[0]) & (at_s < window[0] + blocks * block_s)
        where = np.minimum(((at_s[inside] - window[0]) / block_s).astype(np.intp), blocks - 1)
        return np.bincount(where, requests.rows[inside], blocks).astype(np.float64)

    answered = requests.status == Status.OK
    due = rows(requests.intended_s, requests.kind != Kind.BAD)
    return _ratio(rows(requests.done_s, answered), due, weights, int(answered.sum()))


def _cpu(result: Result, window: tuple[float, float], block_s: float, rng: np.random.Generator) -> _Estimate | None:
    """Server CPU milliseconds a transaction answered; blocks are of whole samples of the server's side."""
    processes = server_only(result.server.processes)
    ends = np.array(result.server.at_s)
    if not processes or not len(ends):
        return None
    starts = np.concatenate([[0.0], ends[:-1]])
    used = np.sum([np.array(one.cpu) for one in processes.values()], axis=0) * (ends - starts) * 1e3
    good = (starts >= window[0] - 1e-9) & (ends <= window[1] + SHORTEST_BLOCK_S) & np.isfinite(used)
    if not good.any():
        return None
    answered = result.requests.select(result.requests.status == Status.OK)
    order = np.argsort(answered.done_s)
    before = np.concatenate([[0.0], np.cumsum(answered.rows[order])])
    done = answered.done_s[order]
    rows = before[np.searchsorted(done, ends)] - before[np.searchsorted(done, starts)]
    where = ((ends[good] - window[0] - 1e-9) / block_s).astype(np.intp)
    kept, where = np.unique(where, return_inverse=True)
    over, under = (np.bincount(where, part[good], len(kept)).astype(np.float64) for part in (used, rows))
    return _ratio(over, under, _draws(len(kept), rng), int(good.sum()))


def _share(
    of: npt.NDArray[np.bool_], among: npt.NDArray[np.bool_], where: npt.NDArray[np.intp], weights: Floats
) -> _Estimate:
    """How many of those among whom they are, and the error of that share."""
    blocks = weights.shape[1]
    part, whole = (np.bincount(where[mask], minlength=blocks).astype(np.float64) for mask in (of, among))
    with np.errstate(divide="ignore", invalid="ignore"):
        redrawn = (weights @ part) / (weights @ whole)
    value = float(part.sum() / whole.sum()) if whole.sum() else 0.0
    return _Estimate(value, _error(redrawn, part - value * whole), blocks, int(whole.sum()))
