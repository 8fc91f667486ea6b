"""Charts as inline SVG: text in, text out, no script, no external asset; colours are CSS classes of the page.

A chart is drawn for one width in pixels and its texts are sized for that width: a page that is read on a phone too
draws it twice. Values that are not numbers are gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CHARACTER: Final = 6.3
"""Width of a character of the labels, in pixels, on average."""
WITH_POINTER: Final = 400
"""Pixels from which a drawing is taken to be on a screen with a pointer."""
_LINE: Final = 14.0


@dataclass(frozen=True)
class Axis:
    """A range with its ticks; outside values are drawn at its ends."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def share(self, value: float) -> float:
        """From 0 (low) to 1 (high)."""
        if self.log:
            place = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0)


def linear(high: float, most: int = 5, low: float = 0.0, unit: str = "") -> Axis:
    """From `low` to a little above `high`, with at most so many round ticks."""
    high = max(high, low + 1e-9)
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * times for times in (1.0, 2.0, 2.5, 5.0, 10.0) if power * times >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    ticks = [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high + 0.12 * (high - low), tuple((tick, amount(tick) + unit) for tick in ticks))


def logarithmic(low: float, high: float, most: int = 8) -> Axis:
    """From below `low` to above `high`, both positive; ticks at round multiples of powers of ten."""
    high = max(high, low * 1.5)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps, every in (((1, 1.5, 2, 3, 5, 7), 1), ((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        ticks = [step * 10.0**power for power in decades if power % every == 0 for step in steps]
        inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(inside) <= most:
            break
    return Axis(low, high, tuple((tick, amount(tick)) for tick in inside), log=True)


def amount(value: float) -> str:
    """A tick's value, short: 0.5, 20, 1,500, 20k, 3M."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


class Chart:
    """A plot area with axes; elements are added and then `svg` is the drawing. `header` keeps room above for labels."""

    def __init__(self, width: float, height: float, x: Axis, y: Axis, x_name: str = "", header: int = 0) -> None:
        self._size = width, height
        self._x, self._y = x, y
        self._left = 14.0 + CHARACTER * max((len(label) for _, label in y.ticks), default=1)
        self._right = width - 12.0
        self._top, self._bottom = 8.0 + _LINE * header, height - (36.0 if x_name else 22.0)
        self._parts: list[str] = []
        self._front: list[str] = []
        self._grid(x_name)

    def x(self, value: float) -> float:
        """Where a value of the x axis is drawn."""
        return self._left + (self._right - self._left) * self._x.share(value)

    def y(self, value: float) -> float:
        """Where a value of the y axis is drawn."""
        return self._bottom - (self._bottom - self._top) * self._y.share(value)

    def line(self, at: Sequence[float] | Floats, values: Sequence[float] | Floats, style: str) -> None:
        """A line through the points; a point alone is a dot."""
        xs = [self.x(float(one)) for one in at]
        path, last, lonely = [], False, []
        for i, value in enumerate(values):
            known = math.isfinite(value)
            if known:
                path.append(f"{'L' if last else 'M'}{xs[i]:.1f} {self.y(float(value)):.1f}")
                after = i + 1 < len(xs) and math.isfinite(values[i + 1])
                if not last and not after:
                    lonely.append(f'<circle class="{style}" {_at(xs[i], self.y(float(value)))} r="2"/>')
            last = known
        self._parts.append(f'<path class="line {style}" d="{"".join(path)}"/>{"".join(lonely)}')

    def area(self, at: Sequence[float] | Floats, low: Floats, high: Floats, style: str) -> None:
        """The area between two lines without gaps."""
        top = [f"{self.x(float(a)):.1f} {self.y(float(v)):.1f}" for a, v in zip(at, high, strict=True)]
        under = [f"{self.x(float(a)):.1f} {self.y(float(v)):.1f}" for a, v in zip(at, low, strict=True)]
        if top:
            self._parts.append(f'<path class="area {style}" d="M{"L".join([*top, *reversed(under)])}Z"/>')

    def bars(self, edges: Floats, heights: Sequence[float] | Floats, style: str) -> None:
        """One bar between two edges each."""
        for i, height in enumerate(heights):
            left, right, top = self.x(float(edges[i])), self.x(float(edges[i + 1])), self.y(float(height))
            if height > 0:
                box = _box(left + 0.5, min(top, self._bottom - 1.0), max(right - left - 1.0, 0.8), self._bottom)
                self._parts.append(f'<rect class="bar {style}" {box}/>')

    def dot(self, at: float, value: float, style: str, title: str = "") -> None:
        """One point, with a text on hovering."""
        inside = f"<title>{escape(title)}</title>"
        self._front.append(f'<circle class="dot {style}" {_at(self.x(at), self.y(value))} r="4">{inside}</circle>')

    def level(self, value: float, label: str) -> None:
        """A dashed line across at a value, if it is within the axis, with its text at the right end."""
        if not self._y.low <= value <= self._y.high:
            return
        y = self.y(value)
        place = y - 5 if y - self._top > _LINE else y + 13
        self._parts.append(f'<path class="limit" d="M{self._left:.1f} {y:.1f}H{self._right:.1f}"/>')
        self._front.append(text(self._right - 3, place, label, "end", "halo"))

    def span(self, start: float, stop: float, label: str) -> None:
        """A shaded part of the x axis with its text at the top."""
        left, right = self.x(start), self.x(stop)
        if right - left < 1:
            return
        self._parts.append(f'<rect class="span" {_box(left, self._top, right - left, self._bottom)}/>')
        if CHARACTER * len(label) < right - left - 6:
            self._front.append(text(left + 4, self._top + 11, label, "start", "halo"))

    def marks(self, marks: Sequence[tuple[float, str, str]]) -> None:
        """Lines down from the header at (value, text, style): a text that would cover another goes one row lower."""
        taken: list[float] = []
        for value, label, style in sorted(marks):
            x, length = self.x(value), CHARACTER * len(label) + 8
            left = min(max(x - length / 2, self._left), self._right - length)
            row = next((i for i, until in enumerate(taken) if left >= until), len(taken))
            taken[row : row + 1] = [left + length]
            y = 6.0 + _LINE * row + 6.0
            line = f"M{x:.1f} {y + 3:.1f}V{self._bottom:.1f}"
            self._parts.append(f'<path class="mark {style}" d="{line}"/>')
            self._front.append(text(left + length / 2, y, label, "middle", "halo"))

    def hover(self, edges: Sequence[float] | Floats, titles: Sequence[str]) -> None:
        """A text for every stretch of the x axis, shown while the pointer is over it; a phone has no pointer."""
        if self._size[0] < WITH_POINTER:
            return
        for i, title in enumerate(titles):
            left, right = self.x(float(edges[i])), self.x(float(edges[i + 1]))
            box = _box(left, self._top, right - left, self._bottom)
            self._front.append(f'<rect class="hover" {box}><title>{escape(title)}</title></rect>')

    def svg(self, title: str) -> str:
        """The drawing; `title` is what a screen reader says."""
        return drawing(*self._size, "".join(self._parts + self._front), title)

    def _grid(self, x_name: str) -> None:
        for value, label in self._y.ticks:
            y = self.y(value)
            self._parts.append(f'<path class="grid" d="M{self._left:.1f} {y:.1f}H{self._right:.1f}"/>')
            self._parts.append(text(self._left - 6, y + 4, label, "end"))
        until = 0.0
        for value, label in self._x.ticks:
            x, length = self.x(value), CHARACTER * len(label)
            middle = min(max(x, length / 2), self._size[0] - length / 2)
            if middle - length / 2 < until:
                continue
            until = middle + length / 2 + 6
            self._parts.append(f'<path class="grid" d="M{x:.1f} {self._bottom:.1f}v4"/>')
            self._parts.append(text(middle, self._bottom + 16, label, "middle"))
        if x_name:
            self._parts.append(text(self._right, self._bottom + 31, x_name, "end"))


def drawing(width: float, height: float, inside: str, title: str) -> str:
    """An SVG that fills its place and keeps its proportions."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def text(x: float, y: float, content: str, anchor: str, style: str = "") -> str:
    """A text; "halo" keeps it readable over lines."""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(content)}</text>'


def strips(
    width: float, rows: Sequence[tuple[str, str, Sequence[int]]], time: Axis, edges: Floats, bin_text: str
) -> str:
    """Counts per row and bin as shades: (name, style, counts). Rare ones stay visible; the total is at the right."""
    cell = 19.0
    left = 10.0 + CHARACTER * max(len(name) for name, _, _ in rows)
    totals = [sum(counts) for _, _, counts in rows]
    right = width - 10.0 - CHARACTER * max(len(f"{total:,}") for total in totals)
    parts = []
    for r, (name, style, counts) in enumerate(rows):
        y, most = cell * r, max(counts, default=0)
        dim = "" if totals[r] else "faint"
        parts.append(text(left - 7, y + 13.5, name, "end", dim))
        parts.append(text(width - 2, y + 13.5, f"{totals[r]:,}", "end", dim))
        parts.append(f'<rect class="empty" {_box(left, y + 2, right - left, y + cell - 2)}/>')
        for i, count in enumerate(counts):
            if count:
                a, b = (left + (right - left) * time.share(float(edges[i + k])) for k in (0, 1))
                title = f"<title>{escape(f'{edges[i]:g} s: {count:,} {name} {bin_text}')}</title>"
                shade = f'fill-opacity="{0.35 + 0.65 * count / most:.2f}"'
                box = _box(a, y + 2, max(b - a - (0.6 if b - a > 3 else 0.0), 0.8), y + cell - 2)
                parts.append(f'<rect class="{style}" {shade} {box}>{title}</rect>')
    bottom = cell * len(rows)
    for value, label in time.ticks:
        x = left + (right - left) * time.share(value)
        parts.append(text(x, bottom + 14, label, "middle"))
    return drawing(width, bottom + 20, "".join(parts), "arrivals by how they ended, over time")


def _at(x: float, y: float) -> str:
    return f'cx="{x:.1f}" cy="{y:.1f}"'


def _box(x: float, top: float, width: float, bottom: float) -> str:
    return f'x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(bottom - top, 0.0):.1f}"'
