"""A study as one HTML page that needs no other file: precision and recall, reliability, gain by feature, costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from html import escape
from typing import Final

import numpy as np

from fraud_release.curves import cost_curves, cost_summary, precision_recall, reliability
from fraud_release.learning import Costs
from fraud_release.study import MEASURES, Study
from fraud_scoring.features import Float64

STYLE: Final = """
:root { color-scheme: light dark; --paper: #fbfaf8; --panel: #fff; --ink: #1d2328; --muted: #5f6972; --rule: #e3e0da;
  --c0: #2f6f9f; --c1: #c8731a; --c2: #3f8f6b; --c3: #7a5ba6; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181b; --panel: #1b2024; --ink: #e4e7e9; --muted: #9aa4ac;
  --rule: #2d343a; --c0: #6cb0e0; --c1: #eba35a; --c2: #6cc08f; --c3: #b39ae0; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 24px; } h2 { font-size: 17px; margin: 0 0 4px; }
p { color: var(--muted); max-width: 90ch; margin: 4px 0; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 16px; }
section { background: var(--panel); border: 1px solid var(--rule); padding: 14px; }
table { border-collapse: collapse; background: var(--panel); margin: 12px 0; }
th, td { padding: 4px 12px; border-bottom: 1px solid var(--rule); text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { fill: var(--muted); font-size: 12px; } .rule { stroke: var(--rule); }
svg path { fill: none; stroke-width: 1.8; } .ideal { stroke: var(--muted); stroke-dasharray: 4 4; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
circle.dot { fill: var(--c0); } rect.bar { fill: var(--c0); } .key { font-weight: 600; } .mark { stroke-width: 1.2; }
.key.c0 { color: var(--c0); } .key.c1 { color: var(--c1); } .key.c2 { color: var(--c2); } .key.c3 { color: var(--c3); }
"""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 540, 320, 60, 16, 12, 44
LEAST_SCORE: Final = 3e-4
"""Where log axes of scores and shares begin."""


def page(study: Study, costs: Costs | None = None) -> str:
    """The page of a study; costs as the thresholds were chosen by."""
    costs = costs or Costs()
    kind = "all history" if study.protocol.history else f"{study.protocol.train_days} training days"
    seeds = len({one.seed for one in study.measured})
    panels = [_precision_recall(study), _reliability(study), _cost(study, costs)]
    panels += [_gain(study)] if study.gain else []
    rows = "".join(
        f"<tr><td>{name.replace('_', ' ')}</td><td>{study.mean[name]:.4f}</td><td>{study.spread[name]:.4f}</td></tr>"
        for name in MEASURES
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Model study: {escape(study.model)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(study.model)}, {kind}</h1><p>{len(study.scored)} test folds; seeds: {seeds}; the drawings show "
        "the first seed.</p><table><thead><tr><th>measure</th><th>mean</th><th>spread over seeds</th></tr></thead>"
        f'<tbody>{rows}</tbody></table><div class="grid2">{"".join(panels)}</div></main></body></html>\n'
    )


def _precision_recall(study: Study) -> str:
    ticks = [(value, f"{value:.0%}") for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts, keys = [_axes(ticks, ticks, _linear, _linear, "recall: share of frauds found")], []
    for place, one in enumerate(study.scored):
        recall, precision = precision_recall(one)
        style, day = f"c{place % 4}", date(1970, 1, 1) + timedelta(days=one.start)
        parts.append(f'<path class="{style}" d="{_path(recall, precision, _linear, _linear)}"/>')
        keys.append(f'<span class="key {style}">{day}</span>')
    text = f"Precision over recall by fold, named by its first training day: {', '.join(keys)}."
    return _panel("Precision and recall", text, "".join(parts))


def _reliability(study: Study) -> str:
    ticks = [(value, f"{value:g}") for value in (0.001, 0.01, 0.1, 1.0)]
    parts = [_axes(ticks, ticks, _log, _log, "mean score of the bin, log axis")]
    ends = np.array([LEAST_SCORE, 1.0])
    parts.append(f'<path class="ideal" d="{_path(ends, ends, _log, _log)}"/>')
    for score, share, rows in reliability(study.scored):
        low = "" if share >= LEAST_SCORE else " (below the axis)"
        title = f"mean score {score:.5f}: {share:.3%} frauds of {rows:,}{low}"
        parts.append(
            f'<circle class="dot" cx="{_x(_log(score)):.1f}" cy="{_y(_log(share)):.1f}" r="4">'
            f"<title>{title}</title></circle>"
        )
    text = (
        "Share of frauds over mean score in 20 bins of equally many rows, all folds, both axes logarithmic; the dashed "
        "line is a score that keeps its word. What is below an axis is drawn on it."
    )
    return _panel("Reliability", text, "".join(parts))


def _cost(study: Study, costs: Costs) -> str:
    thresholds = np.geomspace(LEAST_SCORE, 1.0, 160)
    review, decline = cost_curves(study.scored, thresholds, costs)
    summary = cost_summary(study.scored, costs)
    highest = 20 * float(np.ceil(1.05 * summary["approve_all_minor"] / 20))

    def scale(value: float) -> float:
        return min(value / highest, 1.0)

    levels = [(highest * part / 4, f"{highest * part / 4:.0f}") for part in range(5)]
    ticks = [(value, f"{value:g}") for value in (0.001, 0.01, 0.1, 1.0)]
    parts = [_axes(ticks, levels, _log, scale, "threshold on the score, log axis")]
    for style, values in (("c0", review), ("c1", decline)):
        parts.append(f'<path class="{style}" d="{_path(thresholds, values, _log, scale)}"/>')
    level = _y(scale(summary["approve_all_minor"]))
    parts.append(f'<path class="ideal" d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}"/>')
    for one in study.scored:
        for style, at, name in (("c0", one.review_at, "review"), ("c1", one.decline_at, "decline")):
            title = f"<title>{name} from {at:.4f}</title>"
            parts.append(f'<path class="mark {style}" d="M{_x(_log(at)):.1f} {TOP}V{HEIGHT - BOTTOM}">{title}</path>')
    text = (
        "Minor units a transaction, cut off above, all folds: "
        '<span class="key c0">review</span> from a threshold on while what is declined stays, and '
        '<span class="key c1">decline</span> from it on while what is reviewed stays below it. '
        "Vertical: chosen for each fold on the days before it. Dashed: approve all, "
        f"{summary['approve_all_minor']:.1f}; as chosen {summary['chosen_minor']:.1f}; "
        f"best in hindsight {summary['hindsight_minor']:.1f}."
    )
    return _panel("Cost against threshold", text, "".join(parts))


def _gain(study: Study) -> str:
    highest = max(study.gain.values())
    parts, step, left = [], 20, 210
    for place, (name, share) in enumerate(study.gain.items()):
        y = TOP + step * place
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        width = (WIDTH - left - 60) * share / highest
        parts.append(f'<rect class="bar" x="{left}" y="{y + 2}" width="{width:.1f}" height="{step - 6}"/>')
        parts.append(f'<text x="{left + width + 6:.1f}" y="{y + 13}">{share:.1%}</text>')
    text = "Share of the trees' loss reduction by the feature that a split is on, mean over folds and seeds."
    return _panel("Gain by feature", text, "".join(parts), height=TOP + step * len(study.gain) + 8)


def _panel(title: str, text: str, inside: str, height: int = HEIGHT) -> str:
    drawn = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{inside}</svg>'
    return f"<section><h2>{escape(title)}</h2><p>{text}</p>{drawn}</section>"


Scale = Callable[[float], float]
"""A value to its place between 0 and 1."""


def _linear(value: float) -> float:
    return value


def _log(value: float) -> float:
    return min(max(1 - float(np.log(max(value, LEAST_SCORE)) / np.log(LEAST_SCORE)), 0.0), 1.0)


def _x(share: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * share


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _path(xs: Float64, ys: Float64, across: Scale, up: Scale) -> str:
    points = dict.fromkeys(
        f"{_x(across(x)):.1f} {_y(up(y)):.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
    )
    return "M" + "L".join(points)


def _axes(
    across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]], x_of: Scale, y_of: Scale, name: str
) -> str:
    parts = []
    for value, text in up:
        y = _y(y_of(value))
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in across:
        parts.append(f'<text x="{_x(x_of(value)):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{text}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(name)}</text>')
    return "".join(parts)
