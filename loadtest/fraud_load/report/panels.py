"""A panel of a report: a plot with its name, its key and a sentence or two, drawn for a screen and for a phone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np

from fraud_load.report.charts import Axis, Floats, amount, logarithmic

WHOLE: Final = 1024
"""Pixels of a panel over the whole width, inside its frame."""
HALF: Final = 490
PHONE: Final = 330
_TICKS_S: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600)

Draw = Callable[[int], str]
"""From a width in pixels to a drawing."""


@dataclass(frozen=True)
class Panel:
    """One plot of a report; without `draw` it is a sentence that says why there is nothing to draw."""

    name: str
    """Of the HTML element, and what tests look for."""
    title: str
    caption: str
    draw: Draw | None = None
    key: tuple[tuple[str, str], ...] = ()
    """(style, meaning) of each colour."""
    whole: bool = False
    """Over the whole width; else two stand side by side where there is room."""

    def html(self) -> str:
        """The panel's element."""
        key = "".join(f'<span><i class="key {style}"></i>{escape(meaning)}</span>' for style, meaning in self.key)
        drawn = ""
        if self.draw is not None:
            wide, phone = self.draw(WHOLE if self.whole else HALF), self.draw(PHONE)
            drawn = f'<div class="wide">{wide}</div><div class="phone">{phone}</div>'
        kind = ("whole" if self.whole else "half") + ("" if drawn else " note")
        return (
            f'<figure id="{self.name}" class="{kind}"><h3>{escape(self.title)}</h3>'
            f"{f'<p class=keys>{key}</p>' if key else ''}{drawn}"
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


def time_axis(end_s: float, width: int) -> Axis:
    """Seconds since the run's start, in seconds, minutes or hours; ticks as the width has room for."""
    most = max(width // 90, 3)
    step = next((one for one in _TICKS_S if end_s / one <= most), 43_200)
    ticks = [float(step * n) for n in range(int(end_s / step + 1e-9) + 1)]
    return Axis(0.0, max(end_s, 1e-9), tuple((tick, _moment(tick, step)) for tick in ticks))


def milliseconds(series: Iterable[Sequence[float] | Floats], floor: float = 0.1, most: int = 7) -> Axis:
    """A log axis that holds every number in the series; what is below `floor` is drawn at it."""
    values = np.concatenate([np.asarray(one, np.float64) for one in series] or [np.empty(0)])
    values = values[np.isfinite(values)]
    low = max(float(values.min(initial=1e9)), floor) if len(values) else floor
    high = max(float(values.max(initial=0.0)), low * 1.2)
    return logarithmic(_nice(low, down=True), _nice(high * 1.05), most)


def ms(value: float) -> str:
    """A time for people: 0.42 ms, 84.5 ms, 5.02 s."""
    if not math.isfinite(value):
        return "–"
    return f"{value / 1e3:,.3g} s" if value >= 1_000 else f"{value:.3g} ms"


def number(value: float) -> str:
    """A count or a rate for people."""
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else amount(round(value, 2))


def _nice(value: float, down: bool = False) -> float:
    """The next 1, 2 or 5 times a power of ten, above or below."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [power * times for times in (1.0, 2.0, 5.0, 10.0)]
    return max(s for s in steps if s <= value * 1.001) if down else min(s for s in steps if s >= value * 0.999)


def _moment(seconds: float, step: int) -> str:
    if step % 3_600 == 0:
        return f"{seconds / 3_600:g} h"
    if step % 60 == 0:
        return f"{seconds / 60:g} min"
    return f"{seconds:g} s"
