"""The report of a run: one HTML file with everything in it, that opens anywhere and asks nothing of the network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Final

from fraud_load.report.charts import drawing
from fraud_load.report.figures import Figures
from fraud_load.report.panels import Panel, ms, number
from fraud_load.report.plots import client_panels
from fraud_load.report.server_plots import server_panels
from fraud_load.result import Outcome, Result, Run, SloVerdict, Status

STYLES: Final = {Outcome.PASS: "pass", Outcome.MISS: "miss"}
_GAUGE_PX: Final = 190.0


def render(result: Result, found: Figures) -> str:
    """The HTML of a run."""
    run = result.run
    body = [
        verdict_box(STYLES.get(run.outcome, "warn"), sentence(run), run.generator.bottleneck or ""),
        f'<ul class="slos">{"".join(_slo(one) for one in run.slos)}</ul>' if run.slos else "",
        _facts(result),
        "<h2>What callers saw</h2>",
        plots(client_panels(run, found)),
        "<h2>The server</h2>",
        plots(server_panels(run, found)),
    ]
    return page(f"Load test: {run.scenario['name']}", subtitle(run), body)


def page(title: str, under: str, body: Sequence[str]) -> str:
    """A whole page around elements."""
    template = Template(resources.files("fraud_load.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), subtitle=escape(under), body="\n".join(body))


def plots(panels: Sequence[Panel]) -> str:
    """Panels in a grid."""
    return f'<div class="plots">{"".join(panel.html() for panel in panels)}</div>'


def verdict_box(style: str, words: str, note: str = "") -> str:
    """The verdict in a sentence, with a colour."""
    return f'<div class="verdict {style}">{escape(words)}{f"<p>{escape(note)}</p>" if note else ""}</div>'


def sentence(run: Run) -> str:
    """The outcome of the whole run in words."""
    worse = [one.slo for one in run.slos if one.outcome is run.outcome]
    if run.outcome is Outcome.PASS:
        return (
            f"Pass: {len(run.slos)} of {len(run.slos)} targets met."
            if run.slos
            else "Pass: the scenario has no targets."
        )
    if run.outcome is Outcome.MISS:
        return f"Miss: {len(worse)} of {len(run.slos)} targets, {', '.join(worse)}."
    if run.outcome is Outcome.NOT_ENOUGH_DATA:
        return f"Not enough data to judge {', '.join(worse)}. That is no pass."
    return "No verdict: the generator was the bottleneck. What was measured says little about the server."


def subtitle(run: Run) -> str:
    """What was run, where and when, in a line."""
    start, stop = run.window_s
    return (
        f"{run.scenario.get('about', '')} {run.runner} runner against {run.url}, seed {run.seed}, started "
        f"{run.started_at[:19].replace('T', ' ')} UTC; {run.seconds:,.0f} s, judged from {number(start)} s "
        f"to {number(stop)} s. Generator on {run.machine.get('processor', 'an unknown processor')}, "
        f"{run.machine.get('cores', '?')} cores."
    ).strip()


def _slo(one: SloVerdict) -> str:
    style = STYLES.get(one.outcome, "warn")
    return (
        f'<li><span class="tag {style}">{escape(one.outcome.value)}</span>'
        f'<span class="text">{escape(one.text)}</span>{_gauge(one, style)}</li>'
    )


def _gauge(one: SloVerdict, style: str) -> str:
    """What was measured as a bar, its target as a line across."""
    if one.measured is None:
        return "<span></span>"
    full = max(one.measured, one.limit, 1e-12) * 1.12
    bar, goal = (max(value / full, 0.0) * _GAUGE_PX for value in (one.measured, one.limit))
    inside = (
        f'<rect class="gauge" x="0" y="4" width="{_GAUGE_PX:g}" height="8" rx="2"/>'
        f'<rect class="gauge {style}" x="0" y="4" width="{max(bar, 1.5):.1f}" height="8" rx="2"/>'
        f'<path class="goal" d="M{max(goal, 1.0):.1f} 1v14"/>'
    )
    return drawing(_GAUGE_PX, 16, inside, f"measured {one.measured:g}, target {one.limit:g}")


def _facts(result: Result) -> str:
    run, total = result.run, result.run.totals
    answered = result.requests.rows[result.requests.status == Status.OK].sum()
    facts = [
        *((name, ms(run.latency_ms[name])) for name in ("p50", "p99", "p99.9", "max") if name in run.latency_ms),
        ("arrivals sent", number(total["arrivals"] - total.get("unsent", 0))),
        ("requests", number(total["calls"])),
        ("transactions answered", number(float(answered))),
        ("ended wrongly", number(total["failed"])),
        ("degraded", number(total["degraded"])),
    ]
    return f'<div class="facts">{"".join(f"<div><b>{escape(v)}</b>{escape(n)}</div>" for n, v in facts)}</div>'
