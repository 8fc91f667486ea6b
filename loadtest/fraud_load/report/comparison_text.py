"""A comparison in words: what was measured, how it changed, what is tolerated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from fraud_load.report.comparison import DIFFERENCES, HIGHER_IS_BETTER, Change, Comparison, Measure
from fraud_load.report.panels import ms


def percent(share: float) -> str:
    """A share for people: 0%, 0.05%, 99.9%."""
    return f"{100 * share:.4g}%"


WORDS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "p50_ms": ("p50 latency", ms),
    "p99_ms": ("p99 latency", ms),
    "throughput": ("answered of what was due", percent),
    "cpu_ms": ("server CPU a transaction", ms),
    "failed_share": ("ended wrongly", percent),
    "degraded_share": ("degraded answers", percent),
}


def name(one: Measure) -> str:
    """What was measured."""
    return WORDS[one.name][0]


def value(one: Measure, measured: float | None) -> str:
    """A run's figure with its unit."""
    return "–" if measured is None or not math.isfinite(measured) else WORDS[one.name][1](measured)


def change(one: Measure) -> str:
    """How much more, with the interval."""
    if one.change is None:
        return "–"
    unit = " points" if one.name in DIFFERENCES else "%"
    digits = 3 if one.name in DIFFERENCES else 1
    shown = f"{100 * one.change:+.{digits}f}{unit}"
    if one.low is None or one.high is None:
        return shown
    return f"{shown} ({100 * one.low:+.{digits}f} to {100 * one.high:+.{digits}f})"


def tolerated(one: Measure) -> str:
    """The tolerance, towards the worse."""
    sign = "-" if one.name in HIGHER_IS_BETTER else "+"
    return f"{sign}{100 * one.tolerance:g}{' points' if one.name in DIFFERENCES else '%'}"


def sentence(found: Comparison) -> str:
    """The verdict on all measures."""
    worse = [name(one) for one in found.measures if one.verdict is Change.REGRESSION]
    unclear = [name(one) for one in found.measures if one.verdict is Change.NOT_ENOUGH_DATA]
    if found.verdict is Change.NO_VERDICT:
        return "No verdict: the generator, or other programs, decided what was measured."
    if worse:
        return f"Regression: {', '.join(worse)} got worse by more than is tolerated."
    if unclear:
        return f"Not enough data to judge {', '.join(unclear)}. That is no pass."
    return "No regression: every measure is within its tolerance, chance allowed for."
