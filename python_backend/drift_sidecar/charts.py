"""Charts as inline SVG: text in, text out, no script, no external asset; colours are CSS variables of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape
from typing import Final

import numpy as np

from fraud_scoring.reference import Float64

DAY_US: Final = 86_400_000_000
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 20.0, 10.0, 34.0


@dataclass(frozen=True)
class Line:
    """One line of a chart; `style` is a CSS class (now, second, ref, quiet)."""

    name: str
    values: Float64
    style: str


def bars(labels: Sequence[str], reference: Float64, current: Float64, *, log: bool = False, height: int = 190) -> str:
    """Shares per bin: the reference as an outline, the present as a bar. On a log axis shares below 0.01% are not
    drawn."""
    width = 520
    plot = _Plot(width, height)
    highest = max(float(reference.max()), float(current.max()), 1e-9) * 1.08
    floor = 1e-4 if log else 0.0

    def y(share: float) -> float:
        if not log:
            return plot.y(share / highest)
        return plot.y(math.log(max(share, floor) / floor) / math.log(highest / floor))

    ticks = [10.0**e for e in range(-4, 1) if 10.0**e <= highest] if log else _ticks(highest)
    parts = [plot.grid([(y(tick), _percent(tick)) for tick in ticks])]
    step = plot.width / len(labels)
    for b, label in enumerate(labels):
        x = plot.left + b * step
        top = y(float(current[b]))
        title = f"<title>{escape(label)}: {current[b]:.2%}, reference {reference[b]:.2%}</title>"
        parts.append(f'<g>{title}<rect class="now" {_box(x + 0.18 * step, top, 0.64 * step, plot.bottom - top)}/>')
        mark = y(float(reference[b]))
        parts.append(f'<path class="refline" d="M{x + 0.06 * step:.1f} {mark:.1f}h{0.88 * step:.1f}"/></g>')
    skip = max(1, math.ceil((6.4 * max(map(len, labels)) + 8.0) / step))
    for b in range(0, len(labels), skip):
        parts.append(_text(plot.left + (b + 0.5) * step, plot.bottom + 14, labels[b], "middle"))
    return plot.svg("".join(parts), "bars: share of rows per bin, now; lines: reference")


def lines(
    times_us: Sequence[int],
    series: Sequence[Line],
    *,
    threshold: tuple[float, str] | None = None,
    marks_us: Sequence[int] = (),
    percent: bool = False,
    height: int = 220,
    lowest: float | None = None,
) -> str:
    """Lines over time; what is not a number is a gap. `marks_us` are moments at which something was raised."""
    plot = _Plot(1040, height)
    values = np.concatenate([line.values for line in series] + [np.array([threshold[0]] if threshold else [])])
    values = values[np.isfinite(values)]
    low = lowest if lowest is not None else min(float(values.min(initial=0.0)), 0.0)
    high = max(float(values.max(initial=0.0)), low + 1e-9)
    high += 0.06 * (high - low)
    first, last = times_us[0], max(times_us[-1], times_us[0] + 1)

    def x(at_us: float) -> float:
        return plot.left + plot.width * (at_us - first) / (last - first)

    def y(value: float) -> float:
        return plot.y((max(value, low) - low) / (high - low))

    ticks = list(_ticks(high - low)) if low == 0 else [tick + low for tick in _ticks(high - low)]
    parts = [plot.grid([(y(tick), _percent(tick) if percent else f"{tick:g}") for tick in ticks])]
    parts += [_text(x(at), plot.bottom + 15, label, "middle") for at, label in time_ticks(first, last)]
    for at in marks_us:
        parts.append(f'<path class="mark" d="M{x(at):.1f} {plot.top:.1f}V{plot.bottom:.1f}"/>')
    if threshold:
        place = y(threshold[0])
        parts.append(f'<path class="threshold" d="M{plot.left} {place:.1f}h{plot.width:.1f}"/>')
        parts.append(_text(plot.left + 4, place - 5, threshold[1], "start"))
    for line in series:
        path = _path(
            [(x(at), y(float(v)) if np.isfinite(v) else None) for at, v in zip(times_us, line.values, strict=True)]
        )
        parts.append(f'<path class="line {line.style}" d="{path}"><title>{escape(line.name)}</title></path>')
    return plot.svg("".join(parts), ", ".join(line.name for line in series))


def heat(rows: Sequence[str], times_us: Sequence[int], values: Float64, text: Sequence[Sequence[str]]) -> str:
    """Values 0 to 1 [rows, columns] as shades, each cell with a text on hovering; not a number: no data."""
    left, cell = 190.0, 17.0
    width, height = 1040.0, cell * len(rows) + 28.0
    step = (width - left - 12.0) / values.shape[1]
    parts = []
    for r, name in enumerate(rows):
        parts.append(_text(left - 8, cell * r + 12.5, name, "end"))
        for c in range(values.shape[1]):
            box = _box(left + c * step, cell * r + 1.0, max(step - 1.0, 0.6), cell - 2.0)
            known = bool(np.isfinite(values[r, c]))
            shade = f'class="heat" fill-opacity="{0.05 + 0.95 * float(values[r, c]):.2f}"' if known else 'class="none"'
            parts.append(f"<rect {shade} {box}><title>{escape(text[r][c])}</title></rect>")
    first, last = times_us[0], times_us[-1]
    for at, label in time_ticks(first, last):
        parts.append(_text(left + (width - left - 12.0) * (at - first) / (last - first), height - 8, label, "middle"))
    return _svg(width, height, "".join(parts), "which series differ from the reference, and when")


def reliability(points: Sequence[tuple[float, float, float, float]], reference: Sequence[tuple[float, float]]) -> str:
    """Observed share of fraud (value, low, high) over the mean score, both on log axes from 0.03% to 100%."""
    plot = _Plot(520, 300)
    least = math.log(3e-4)

    def place(share: float) -> float:
        return (math.log(max(share, 3e-4)) - least) / -least

    ticks = [0.001, 0.01, 0.1, 1.0]
    parts = [plot.grid([(plot.y(place(tick)), _percent(tick)) for tick in ticks])]
    parts += [_text(plot.left + plot.width * place(t), plot.bottom + 15, _percent(t), "middle") for t in ticks]
    parts.append(f'<path class="refline" d="M{plot.left} {plot.bottom}L{plot.left + plot.width} {plot.y(1.0):.1f}"/>')
    for score, share in reference:
        at = plot.left + plot.width * place(score)
        parts.append(f'<circle class="refdot" cx="{at:.1f}" cy="{plot.y(place(share)):.1f}" r="4"/>')
    for score, value, low, high in points:
        at = plot.left + plot.width * place(score)
        title = f"<title>mean score {score:.4f}: {value:.2%} fraud ({low:.2%} to {high:.2%})</title>"
        parts.append(f'<g>{title}<path class="bar" d="M{at:.1f} {plot.y(place(low)):.1f}V{plot.y(place(high)):.1f}"/>')
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{plot.y(place(value)):.1f}" r="3.5"/></g>')
    return plot.svg("".join(parts), "observed share of fraud by mean score")


class _Plot:
    """A plot's frame: a drawing of `width` × `height` with room for the axes' texts."""

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self.left, self.top, self.bottom = _LEFT, _TOP, height - _BOTTOM
        self.width = width - _LEFT - _RIGHT

    def y(self, share: float) -> float:
        """From 0 (bottom) to 1 (top)."""
        return self.bottom - (self.bottom - self.top) * min(max(share, 0.0), 1.0)

    def grid(self, ticks: Sequence[tuple[float, str]]) -> str:
        drawn = [f'<path class="grid" d="M{self.left} {y:.1f}h{self.width:.1f}"/>' for y, _ in ticks]
        drawn += [_text(self.left - 7, y + 4, label, "end") for y, label in ticks]
        return "".join(drawn)

    def svg(self, inside: str, title: str) -> str:
        return _svg(*self._size, inside, title)


def time_ticks(first_us: int, last_us: int, most: int = 8) -> list[tuple[int, str]]:
    """Round moments between two, with their texts: days, or hours where the span is short."""
    span = max(last_us - first_us, 1)
    hours = (1 / 12, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 672, 1344, 2688)
    step = next((round(h * DAY_US / 24) for h in hours if span / (h * DAY_US / 24) <= most), span)
    ticks = range(-(-first_us // step) * step, last_us + 1, step)
    text = "%d %b" if step >= DAY_US else "%d %b %H:%M" if span > DAY_US else "%H:%M"
    return [(at, datetime.fromtimestamp(at / 1e6, timezone.utc).strftime(text)) for at in ticks]


def _ticks(highest: float) -> list[float]:
    """Four or five round values from 0 to `highest`."""
    raw = highest / 4.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1.0, 2.0, 2.5, 5.0, 10.0) if power * m >= raw)
    return [step * n for n in range(int(highest / step + 1e-9) + 1)]


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _path(points: Sequence[tuple[float, float | None]]) -> str:
    out, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        out.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(out)


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0.0):.1f}"'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, inside: str, title: str) -> str:
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px;min-width:{0.65 * width:g}px"'
    return f'<svg {size} role="img" aria-label="{escape(title)}">{inside}</svg>'
