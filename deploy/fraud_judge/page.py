"""The study as one HTML page: tables, and how soon rollouts ended, drawn. Needs no other file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

import numpy as np

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf8; --panel: #fff; --ink: #1d2328; --muted: #5f6972; --rule: #e3e0da;
  --bad: #b3362b; --good: #2e7d4f; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181b; --panel: #1b2024; --ink: #e4e7e9; --muted: #9aa4ac;
  --rule: #2d343a; --bad: #ec7a6f; --good: #6cc08f; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin-top: 32px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; background: var(--panel); width: 100%; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; } th { font-weight: 600; }
figure { margin: 12px 0; padding: 12px; background: var(--panel); border: 1px solid var(--rule); }
svg { width: 100%; height: auto; } svg text { fill: var(--muted); font-size: 12px; } .grid { stroke: var(--rule); }
svg path { fill: none; stroke-width: 2; } svg .name { font-size: 12px; } p { color: var(--muted); max-width: 90ch; }
.verdict { color: var(--good); } .verdict.miss { color: var(--bad); }
"""
COLOURS: Final = (
    "#2f6f9f",
    "#c8731a",
    "#a63a50",
    "#3f8f6b",
    "#7a5ba6",
    "#a08a1c",
    "#4fb0b8",
    "#7d5a45",
    "#98a2ab",
    "#b04ac0",
)
TICKS: Final = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3_600, "1 h"), (21_600, "6 h"))
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 330, 60, 30


def page(study: Mapping[str, Any]) -> str:
    """The page of what `fraudctl judge simulate --json` printed."""
    scenarios = study["scenarios"]
    missed = "; ".join(study["missed"])
    verdict = (
        f'<p class="verdict miss">missed: {escape(missed)}</p>' if missed else '<p class="verdict">all targets met</p>'
    )
    bad = [(one["scenario"], one["delays_s"], one["runs"]) for one in scenarios if not one["good"]]
    good = [(one["scenario"], one["promotions_s"], one["runs"]) for one in scenarios if one["good"]]
    steps = ", ".join(f"{share:.0%} for {least / 60:g} min" for share, least, _ in study["steps"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The rollout judge, simulated</title><style>{STYLE}</style></head><body><main>"
        f"<h1>The rollout judge, simulated</h1><p>{study['rows_per_second']:g} transactions a second in all; steps "
        f"{escape(steps)} at least; at most {study['budget']:.0%} of good canaries may be rolled back.</p>{verdict}"
        f'<div class="scroll">{table(scenarios)}</div>'
        f"<h2>How soon a bad canary is rolled back</h2>{_curves(bad)}"
        f"<h2>How long a good canary takes to 100%</h2>{_curves(good)}</main></body></html>\n"
    )


HEAD: Final = ("canary", "runs", "rolled back", "95% interval", "median delay", "90% within", "promoted", "by")


def cells(one: Mapping[str, Any]) -> list[str]:
    """A scenario's row, under HEAD."""
    low, high = one["rolled_back_share_95"]
    delay = one["delay_s"]
    by = ", ".join(f"{test} {count:,}" for test, count in sorted(one["by_test"].items(), key=lambda item: -item[1]))
    shown = [duration(delay["median"]), duration(delay["p90"])] if delay else ["–", "–"]
    back, up = f"{one['rolled_back']:,}", f"{one['promoted']:,}"
    return [one["scenario"], f"{one['runs']:,}", back, f"{low:.1%} to {high:.1%}", *shown, up, by or "–"]


def table(scenarios: Sequence[Mapping[str, Any]]) -> str:
    """The scenarios as an HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in HEAD)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(one)) + "</tr>" for one in scenarios)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def markdown(study: Mapping[str, Any]) -> str:
    """The scenarios as a Markdown table."""
    lines = ["| " + " | ".join(HEAD) + " |", "| --- |" + " ---: |" * 6 + " --- |"]
    lines += ["| " + " | ".join(cells(one)) + " |" for one in study["scenarios"]]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """`12 s`, `3.4 min`, `1.2 h`"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6_000 else f"{seconds / 3600:.1f} h"


def _curves(series: Sequence[tuple[str, Sequence[float], int]]) -> str:
    """Share of runs that had ended by a time, one line each, time on a log axis."""
    top = float(np.log10(TICKS[-1][0]))

    def x(seconds: float) -> float:
        return float(LEFT + (WIDTH - LEFT) * np.log10(max(seconds, 1.0)) / top)

    def y(share: float) -> float:
        return 10 + (HEIGHT - BOTTOM - 10) * (1.0 - share)

    parts = [f'<svg viewBox="0 0 {WIDTH + 340} {HEIGHT}" role="img">']
    for seconds, name in TICKS:
        parts.append(f'<line class="grid" x1="{x(seconds):.1f}" x2="{x(seconds):.1f}" y1="10" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x(seconds):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{name}</text>')
    for level in (0.0, 0.5, 1.0):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:.0%}</text>')
    for place, (name, ended, runs) in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
        points, reached = [f"M{x(1.0):.1f} {y(0.0):.1f}"], 0.0
        for count, after in enumerate(sorted(ended), 1):
            points.append(f"L{x(after):.1f} {y(reached):.1f}")
            reached = count / runs
            points.append(f"L{x(after):.1f} {y(reached):.1f}")
        points.append(f"L{WIDTH} {y(reached):.1f}")
        title = f"{name}: {len(ended):,} of {runs:,}"
        parts.append(f'<path stroke="{colour}" d="{"".join(points)}"><title>{escape(title)}</title></path>')
        row = 22 + 22 * place
        parts.append(
            f'<line x1="{WIDTH + 14}" x2="{WIDTH + 30}" y1="{row}" y2="{row}" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<text class="name" x="{WIDTH + 36}" y="{row + 4}">{escape(name)}</text>')
    return "<figure>" + "".join(parts) + "</svg></figure>"
