"""How the report writes: tables, tags, numbers, moments, the names of bins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any

import numpy as np

from drift_sidecar.alerts import State
from drift_sidecar.findings import Moved
from drift_sidecar.history import MINUTE_US, History
from fraud_scoring import wire
from fraud_scoring.reference import OWN_BINS, BinnedReference


def bin_labels(series: BinnedReference, *shares: Any) -> tuple[list[str], list[int]]:
    """(texts, places) of a series' bins; of OWN_BINS only those that hold anything."""
    if series.discrete:
        labels = [f"{value:.4g}" for value in series.values]
    else:
        labels = [f"< {series.edges[0]:.3g}"] if len(series.edges) else ["all"]
        labels += [f"≥ {edge:.3g}" for edge in series.edges]
    kept = list(range(series.bins))
    for place, name in enumerate(OWN_BINS):
        if any(found[series.bins + place] > 1e-4 for found in shares):
            labels.append(name)
            kept.append(series.bins + place)
    return labels, kept


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), tight: Sequence[int] = ()
) -> str:
    """Rows are HTML; columns of `numbers` stand to the right, those of `tight` are not broken."""

    def kind(column: int) -> str:
        return " class=n" if column in numbers else " class=t" if column in tight else ""

    def cell(tag: str, column: int, text: str) -> str:
        return f"<{tag}{kind(column)}>{text}</{tag}>"

    top = "".join(cell("th", column, escape(text)) for column, text in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", c, text) for c, text in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def tag(state: State) -> str:
    name = state.name.lower()
    return f'<span class="tag {name}">{name}</span>'


def percent(share: float | None) -> str:
    if share is None:
        return "–"
    if share < 5e-5:
        return "0"
    return f"{share:.2%}" if share < 0.0995 else f"{share:.1%}"


def short_moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).strftime("%d %b %H:%M")


def moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M")


def length(span_us: int) -> str:
    minutes = span_us // MINUTE_US
    for size, unit in ((10_080, "week"), (1440, "day"), (60, "hour")):
        if minutes % size == 0:
            return unit if minutes == size else f"{minutes // size} {unit}s"
    return "minute" if minutes == 1 else f"{minutes} minutes"


def mean_change(one: Moved) -> str:
    if one.mean_before is None or one.mean_after is None:
        return "–"
    return f"{one.mean_before:.3g} → {one.mean_after:.3g}"


def largest_change(history: History, one: Moved) -> str:
    """The bin whose share adds most to PSI: its name, its share before and after."""
    if one.series < len(history.reference.binned):
        labels, kept = bin_labels(history.reference.binned[one.series], one.foreseen, one.seen)
    else:
        labels, kept = [decision.name.lower() for decision in wire.Decision], list(range(len(wire.Decision)))
    before, after = one.foreseen[kept], one.seen[kept]
    adds = (after - before) * np.log((after + 1e-6) / (before + 1e-6))
    place = int(adds.argmax())
    return f"{escape(labels[place])}: {percent(float(before[place]))} → {percent(float(after[place]))}"
