"""A result as the figures that a report shows: what is plotted is what the JSON holds, and nothing else is computed.

Latency is of arrivals that behave (a bad request is refused early and would flatter), from their intended time, failed
ones included; what never went out has none. Time is cut into bins of whole seconds: one second each up to five minutes,
longer ones beyond, so that a soak's plots can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_load.result import (
    FORMAT,
    NO_SOURCE,
    WHOLE_MACHINE,
    Kind,
    ModelSeries,
    ProcessSeries,
    Requests,
    Result,
    ServerSeries,
    Status,
    plain,
)
from fraud_scoring.wire import Source

Floats = npt.NDArray[np.float64]

MOST_BINS: Final = 300
BINS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
A_DECADE: Final = 20
"""Bins of the latency histogram: neighbours differ by 12%."""
LEVELS: Final = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
TAIL_POINTS: Final = 120
GENERATOR: Final = "generator"
"""How the names of the generator's own processes begin."""


@dataclass(frozen=True)
class OverTime:
    """T bins; NaN where a bin holds nothing to say."""

    edges_s: Floats
    """[T + 1] since the run's start; the last bin ends with the run, up to half a bin earlier or later."""
    latency_ms: dict[str, Floats]
    """p50, p99, p99.9 and max, by intended time."""
    intended_per_s: Floats
    """Transactions that should have gone out."""
    sent_per_s: Floats
    """Transactions that went out, by the time at which they did."""
    answered_per_s: Floats
    """Transactions answered, or rightly refused, by the time of the answer."""
    outcomes: dict[str, npt.NDArray[np.int64]]
    """Arrivals by how they ended (see `OUTCOMES`), by intended time."""
    lag_ms: dict[str, Floats]
    """p50, p99 and max of how late the generator itself was, by intended time."""


@dataclass(frozen=True)
class Distribution:
    """Latency in the judged window."""

    edges_ms: Floats
    """[H + 1] of the histogram, evenly spaced on a log axis; empty without arrivals."""
    arrivals: npt.NDArray[np.int64]
    """[H]"""
    tail_share: Floats
    """[K] shares of arrivals, from all down to the slowest one."""
    tail_ms: Floats
    """[K] that share of the arrivals was at least so slow."""


@dataclass(frozen=True)
class Figures:
    """Everything that a report shows beside the run itself."""

    bin_s: float
    over_time: OverTime
    distribution: Distribution
    server: ServerSeries
    """Until the run's end, averaged over the same length of time; models by their requests and executions."""


GOOD: Final = ("primary", "canary", "by whom not told", "refused rightly")
DEGRADED: Final = ("fallback release", "scorecard")
OUTCOMES: Final = (
    "primary",
    "canary",
    "fallback release",
    "scorecard",
    "by whom not told",
    "refused rightly",
    "bad, yet answered",
    "refused wrongly",
    "unavailable",
    "timeout",
    "other error",
)
"""How an arrival ended, in the order shown: answers by their source, refusals, errors."""


def figures(result: Result) -> Figures:
    """The figures of a run."""
    requests = result.requests
    sent = requests.select(requests.status != Status.UNSENT)
    bin_s = _bin_seconds(result.run.seconds)
    edges = np.arange(max(round(result.run.seconds / bin_s), 1) + 1, dtype=np.float64) * bin_s
    return Figures(
        bin_s=bin_s,
        over_time=_over_time(requests, sent, edges, max(result.run.seconds, edges[-2] + bin_s / 2)),
        distribution=_distribution(sent.between(*result.run.window_s)),
        server=_thinned(_until(result.server, max(result.run.seconds, edges[-1]) + 0.5), bin_s),
    )


def document(result: Result, found: Figures) -> dict[str, Any]:
    """The report as one JSON object: the run as in `run.json`, and the figures; null for what is not a number."""
    time = found.over_time
    whole = {
        **result.run.as_dict(),
        "format": FORMAT,
        "passed": result.run.passed,
        "bin_s": found.bin_s,
        "over_time": {part.name: getattr(time, part.name) for part in fields(time)},
        "distribution": {part.name: getattr(found.distribution, part.name) for part in fields(found.distribution)},
        "server": {
            "at_s": found.server.at_s,
            "models": {name: vars(one) for name, one in found.server.models.items()},
            "processes": {name: vars(one) for name, one in found.server.processes.items()},
            "note": found.server.note,
        },
    }
    shown: dict[str, Any] = plain(whole)
    return shown


def outcome_masks(requests: Requests) -> dict[str, npt.NDArray[np.bool_]]:
    """[N] a mask for each of `OUTCOMES`; every arrival that was sent is in exactly one."""
    bad, status = requests.kind == Kind.BAD, requests.status
    answered = (status == Status.OK) & ~bad
    return {
        "primary": answered & (requests.source == Source.PRIMARY),
        "canary": answered & (requests.source == Source.CANARY),
        "fallback release": answered & (requests.source == Source.FALLBACK_RELEASE),
        "scorecard": answered & (requests.source >= Source.SCORECARD),
        "by whom not told": answered & (requests.source == NO_SOURCE),
        "refused rightly": bad & (status == Status.REFUSED),
        "bad, yet answered": bad & (status == Status.OK),
        "refused wrongly": ~bad & (status == Status.REFUSED),
        "unavailable": status == Status.UNAVAILABLE,
        "timeout": status == Status.TIMEOUT,
        "other error": status == Status.OTHER,
    }


def server_only(processes: Mapping[str, ProcessSeries]) -> dict[str, ProcessSeries]:
    """Without the generator's own, and without the whole machine."""
    return {name: one for name, one in processes.items() if not name.startswith(GENERATOR) and name != WHOLE_MACHINE}


def _bin_seconds(seconds: float) -> float:
    return float(next((one for one in BINS_S if seconds / one <= MOST_BINS), BINS_S[-1]))


def _over_time(requests: Requests, sent: Requests, edges: Floats, end_s: float) -> OverTime:
    widths = np.diff(edges)
    widths[-1] = end_s - edges[-2]

    def rate(at_s: Floats, rows: npt.NDArray[np.int16]) -> Floats:
        each: Floats = np.bincount(_bins(at_s, edges), rows, len(widths)) / widths
        return each

    planned = requests.select(requests.intended_s <= end_s)
    masks = outcome_masks(sent)
    answered = sent.select((sent.status == Status.OK) | masks["refused rightly"])
    behaving = sent.select(sent.kind != Kind.BAD)
    where = _bins(sent.intended_s, edges)
    lag = _percentiles(sent.lag_s, where, len(widths))
    return OverTime(
        edges_s=edges,
        latency_ms=_percentiles(behaving.latency_s, _bins(behaving.intended_s, edges), len(widths)),
        intended_per_s=rate(planned.intended_s, planned.rows),
        sent_per_s=rate(sent.sent_s, sent.rows),
        answered_per_s=rate(answered.done_s, answered.rows),
        outcomes={name: np.bincount(where[mask], minlength=len(widths)) for name, mask in masks.items()},
        lag_ms={name: lag[name] for name in ("p50", "p99", "max")},
    )


def _bins(at_s: Floats, edges: Floats) -> npt.NDArray[np.intp]:
    """[N] the bin of each moment; what is past the last edge counts as the last bin's."""
    return np.clip(np.searchsorted(edges, at_s, "right") - 1, 0, len(edges) - 2)


def _percentiles(seconds: Floats, where: npt.NDArray[np.intp], bins: int) -> dict[str, Floats]:
    """By level, [bins] in milliseconds."""
    order = np.argsort(where, kind="stable")
    ends = np.searchsorted(where[order], np.arange(bins + 1))
    found = np.full((len(LEVELS), bins), np.nan)
    for i in range(bins):
        part = seconds[order[ends[i] : ends[i + 1]]]
        if len(part):
            found[:, i] = np.percentile(part, list(LEVELS.values())) * 1e3
    return dict(zip(LEVELS, found, strict=True))


def _distribution(judged: Requests) -> Distribution:
    latency = np.sort(judged.latency_s[judged.kind != Kind.BAD]) * 1e3
    latency = np.maximum(latency, 1e-3)
    if not len(latency):
        nothing = np.empty(0)
        return Distribution(nothing, np.empty(0, np.int64), nothing, nothing)
    first, last = np.floor(np.log10(latency[0]) * A_DECADE), np.floor(np.log10(latency[-1]) * A_DECADE) + 1
    edges = 10 ** (np.arange(first, last + 1) / A_DECADE)
    edges[0], edges[-1] = min(edges[0], latency[0]), max(edges[-1], latency[-1])
    share = np.geomspace(1.0, 1.0 / len(latency), TAIL_POINTS)
    slowest = np.clip(np.ceil(share * len(latency)).astype(np.intp), 1, len(latency))
    return Distribution(edges, np.histogram(latency, edges)[0], share, latency[len(latency) - slowest])


def _until(server: ServerSeries, end_s: float) -> ServerSeries:
    """Without the samples that were taken after the run."""
    kept = sum(at <= end_s for at in server.at_s)

    def cut(one: Any) -> Any:
        return type(one)(*(getattr(one, part.name)[:kept] for part in fields(one)))

    models = {name: cut(one) for name, one in server.models.items()}
    processes = {name: cut(one) for name, one in server.processes.items()}
    return ServerSeries(server.at_s[:kept], models, processes, server.note)


def _thinned(server: ServerSeries, bin_s: float) -> ServerSeries:
    """Averages of so many neighbours that one is about a bin long."""
    at = np.array(server.at_s)
    each = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    group = max(round(bin_s / each), 1)
    if group == 1:
        return server
    models = {}
    for name, one in server.models.items():
        models[name] = ModelSeries(
            requests_per_s=_means(one.requests_per_s, group),
            executions_per_s=_means(one.executions_per_s, group),
            batch_rows=_means(one.batch_rows, group, one.executions_per_s),
            queue_ms=_means(one.queue_ms, group, one.requests_per_s),
            compute_ms=_means(one.compute_ms, group, one.requests_per_s),
            failures_per_s=_means(one.failures_per_s, group),
        )
    processes = {
        name: ProcessSeries(*(_means(getattr(one, part.name), group) for part in fields(one)))
        for name, one in server.processes.items()
    }
    ends = [*range(group - 1, len(at), group), *([len(at) - 1] if len(at) % group else [])]
    return ServerSeries(at[ends].tolist(), models, processes, server.note)


def _means(values: Sequence[float], group: int, weights: Sequence[float] | None = None) -> list[float]:
    """Of `group` neighbours each, what is not a number left out; NaN where nothing is left."""
    value = np.array(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.array(weights, np.float64)
    weight = np.where(np.isfinite(value) & np.isfinite(weight), weight, 0.0)
    starts = np.arange(0, len(value), group)
    total = np.add.reduceat(np.where(weight > 0, value, 0.0) * weight, starts)
    among = np.add.reduceat(weight, starts)
    found: list[float] = np.divide(total, among, out=np.full(len(starts), np.nan), where=among > 0).tolist()
    return found
