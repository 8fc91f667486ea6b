"""Two runs side by side: one HTML file, made as the report of a run is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np

from fraud_load.report import comparison_text as words
from fraud_load.report.charts import Chart, Floats, drawing, linear, logarithmic, text
from fraud_load.report.comparison import HIGHER_IS_BETTER, Change, Comparison, Measure
from fraud_load.report.figures import Figures, server_only
from fraud_load.report.page import page, plots, verdict_box
from fraud_load.report.panels import PHONE, Panel, milliseconds, number, time_axis
from fraud_load.report.plots import middles, spans, tail_axis
from fraud_load.result import Result

STYLES: Final = {Change.NO_REGRESSION: "pass", Change.REGRESSION: "miss"}
_A, _B = "c0", "c1"
_SPAN: Final = 3.0
"""Tolerances to either side that the picture of the changes reaches; what is beyond is drawn there."""
_KEY: Final = ((_A, "A"), (_B, "B"))

Side = tuple[Result, Figures]


def render(found: Comparison, a: Side, b: Side) -> str:
    """The HTML of a comparison."""
    start, stop = found.window_s
    run = a[0].run
    under = (
        f"A: {_named(a)}. B: {_named(b)}. Compared from {number(start)} s to {number(stop)} s, "
        f"in blocks of {found.block_s:.3g} s; intervals hold 95%."
    )
    body = [
        verdict_box(STYLES.get(found.verdict, "warn"), words.sentence(found), " ".join(found.notes)),
        plots([_changes(found)]),
        "<h2>What callers saw</h2>",
        plots([_over_time(a, b, "p99", 280), _over_time(a, b, "p50", 230), _histogram(a, b), _tail(a, b)]),
        *_server(a, b),
    ]
    return page(f"Load test compared: {run.scenario['name']}", under, body)


def _named(side: Side) -> str:
    run = side[0].run
    return f"{run.started_at[:19].replace('T', ' ')} UTC against {run.url}, seed {run.seed}, {run.outcome.value}"


def _changes(found: Comparison) -> Panel:
    def draw(width: int) -> str:
        rows = [_row(one, i * _row_height(width), width) for i, one in enumerate(found.measures)]
        height = _row_height(width) * len(rows) + 20
        centre, unit = _scale(width)
        foot = [
            text(2, height - 5, "← better", "start"),
            text(centre, height - 5, "same", "middle"),
            text(centre + unit - 10, height - 5, "tolerance", "start"),
            text(width - 2, height - 5, "worse →", "end"),
        ]
        return drawing(width, height, "".join([*rows, *foot]), "changes from A to B against what is tolerated")

    return Panel(
        "changes",
        "From A to B",
        "The stroke is the 95% interval of the change, in units of what is tolerated. Wholly right of the dashed line: "
        "a regression. Wholly left of it: none. Across it: not enough data to say.",
        draw,
        whole=True,
    )


def _row_height(width: int) -> float:
    return 48.0 if width > PHONE else 76.0


def _scale(width: int) -> tuple[float, float]:
    """(where nothing changed, how wide one tolerance is), in pixels."""
    return width / 2, (width / 2 - 14) / _SPAN


def _row(one: Measure, top: float, width: int) -> str:
    """A measure's words, and below them its lane."""
    style = STYLES.get(one.verdict, "warn")
    values = f"{words.name(one)}  {words.value(one, one.a)} → {words.value(one, one.b)}"
    said = [words.change(one), f"tolerated {words.tolerated(one)}: {one.verdict.value}"]
    parts = [f"<title>{escape(one.why)}</title>" if one.why else "", text(2, top + 15, values, "start", "name")]
    if width > PHONE:
        parts.append(text(width - 2, top + 15, ", ".join(said), "end"))
    else:
        parts += [text(2, top + 30 + 14 * i, line, "start") for i, line in enumerate(said)]
    low = top + _row_height(width) - 4
    high, y = low - 20, low - 10
    centre, unit = _scale(width)
    parts.append(
        f'<rect class="tolerated" x="0" y="{high:.1f}" width="{centre + unit:.1f}" height="20"/>'
        f'<path class="even" d="M{centre:.1f} {high:.1f}v20"/>'
        f'<path class="limit" d="M{centre + unit:.1f} {high:.1f}v20"/>'
    )
    if one.change is not None:
        left, middle, right = (
            _place(one, one.change if change is None else change, width) for change in (one.low, one.change, one.high)
        )
        ends = f"M{left:.1f} {y - 4:.1f}v8M{right:.1f} {y - 4:.1f}v8"
        parts.append(f'<path class="whisker {style}" d="M{left:.1f} {y:.1f}H{right:.1f}{ends}"/>')
        parts.append(f'<circle class="dot {style}" cx="{middle:.1f}" cy="{y:.1f}" r="5"/>')
    return f"<g>{''.join(parts)}</g>"


def _place(one: Measure, change: float, width: int) -> float:
    """Where a change is drawn: worse to the right, the tolerance one unit from the middle."""
    worse = (1 / (1 + change) - 1 if change > -1 else np.inf) if one.name in HIGHER_IS_BETTER else change
    units = worse / one.tolerance if one.tolerance else np.sign(worse) * _SPAN
    centre, unit = _scale(width)
    return float(centre + unit * np.clip(units, -_SPAN, _SPAN))


def _over_time(a: Side, b: Side, level: str, height: int) -> Panel:
    ends = [float(side[1].over_time.edges_s[-1]) for side in (a, b)]
    series = [side[1].over_time.latency_ms[level] for side in (a, b)]

    def draw(width: int) -> str:
        chart = Chart(width, height, time_axis(max(ends), width), milliseconds(series))
        spans(chart, a[0].run)
        for side, style in ((a, _A), (b, _B)):
            chart.line(middles(side[1].over_time.edges_s), side[1].over_time.latency_ms[level], style)
        return chart.svg(f"{level} of latency over time in both runs")

    caption = "By intended send time; log axis."
    return Panel(f"{level}-over-time", f"{level} over time, ms", caption, draw, _KEY, whole=True)


def _histogram(a: Side, b: Side) -> Panel:
    spreads = [side[1].distribution for side in (a, b)]
    if not all(len(one.arrivals) for one in spreads):
        return Panel("latency-histogram", "Latency histogram", "A run has nothing in its judged window.")

    def draw(width: int) -> str:
        shares = [100 * one.arrivals / one.arrivals.sum() for one in spreads]
        low, high = (f(float(one.edges_ms[i]) for one in spreads) for f, i in ((min, 0), (max, -1)))
        y = linear(max(float(one.max()) for one in shares), 4, unit="%")
        chart = Chart(width, 250, logarithmic(low, high, max(width // 55, 4)), y, "ms, log axis")
        for one, share, style in zip(spreads, shares, (_A, _B), strict=True):
            chart.line(*_steps(one.edges_ms, share), style)
        return chart.svg("histograms of latency of both runs on a log axis")

    return Panel("latency-histogram", "Latency histogram", "Share of arrivals by latency.", draw, _KEY)


def _steps(edges: Floats, heights: Floats) -> tuple[Floats, Floats]:
    """The outline of a histogram."""
    return np.repeat(edges, 2), np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])


def _tail(a: Side, b: Side) -> Panel:
    spreads = [side[1].distribution for side in (a, b)]
    if not all(len(one.tail_ms) for one in spreads):
        return Panel("latency-tail", "How many were slower", "A run has nothing in its judged window.")

    def draw(width: int) -> str:
        low, high = (f(float(one.tail_ms[i]) for one in spreads) for f, i in ((min, 0), (max, -1)))
        y = tail_axis(min(float(one.tail_share[-1]) for one in spreads))
        chart = Chart(width, 250, logarithmic(low, high * 1.1, max(width // 55, 4)), y, "ms, log axis")
        for one, style in zip(spreads, (_A, _B), strict=True):
            chart.line(one.tail_ms, one.tail_share, style)
        return chart.svg("share of arrivals that were slower, in both runs")

    caption = "The share of arrivals that took longer; further right is slower."
    return Panel("latency-tail", "How many were slower", caption, draw, _KEY)


def _server(a: Side, b: Side) -> Sequence[str]:
    """Cores of the server in both runs, where they were seen."""
    sides = [side[1].server for side in (a, b)]
    if not all(server_only(one.processes) and one.at_s for one in sides):
        return []
    used = [np.sum([one.cpu for one in server_only(side.processes).values()], axis=0) for side in sides]
    ends = [float(side[1].over_time.edges_s[-1]) for side in (a, b)]

    def draw(width: int) -> str:
        y = linear(max(float(np.nanmax(one, initial=0.1)) for one in used), 4)
        chart = Chart(width, 230, time_axis(max(ends), width), y)
        spans(chart, a[0].run)
        for side, one, style in zip(sides, used, (_A, _B), strict=True):
            chart.line(side.at_s, one, style)
        return chart.svg("cores used by the server's processes in both runs")

    cpu = Panel("server-cpu", "CPU of the server, cores", "All its processes together.", draw, _KEY, whole=True)
    return ["<h2>The server</h2>", plots([cpu])]
