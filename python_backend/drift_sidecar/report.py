"""The drift report: one HTML file with everything in it, that opens anywhere and asks nothing of the network."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template
from typing import Any

from drift_sidecar import findings
from drift_sidecar.alerts import State
from drift_sidecar.findings import Moved
from drift_sidecar.history import History
from drift_sidecar.quality import data_quality
from drift_sidecar.report_figures import decisions, evidence, heat, histograms, scores
from drift_sidecar.report_text import largest_change, mean_change, moment, percent, short_moment, table, tag
from drift_sidecar.statistics import Effect
from fraud_scoring import wire
from fraud_scoring.releases import release_name


def summary(history: History) -> dict[str, Any]:
    """The report as data."""
    first, last = findings.span_us(history)
    changes = findings.moved(history)
    return {
        "release": release_name(history.reference.release),
        "from": moment(first),
        "to": moment(last),
        "transactions": int(history.counts[:, history.reference.layout.of("decision")].sum()),
        "not_compared": history.skipped,
        "moved": [
            {
                "series": one.name,
                "state": one.state.name.lower(),
                "since": moment(one.since_us),
                "paged": moment(one.paged_us),
                "until": None if one.until_us is None else moment(one.until_us),
                "psi": one.effect.psi,
                "psi_expected_by_chance": one.effect.psi_expected,
                "wasserstein_sd": one.effect.wasserstein,
                "reason": one.reason,
            }
            for one in changes
        ],
        "periods": [
            {
                "name": period.name,
                "transactions": period.estimate.rows,
                "decisions": {d.name.lower(): int(period.decisions[d]) for d in wire.Decision},
                "estimated_precision": period.estimate.precision,
                "estimated_recall": period.estimate.recall,
                "estimated_cost_minor": period.estimate.cost_minor,
            }
            for period in findings.periods(history, changes)
        ],
    }


def render(history: History) -> str:
    """The HTML of a history."""
    first, last = findings.span_us(history)
    changes = findings.moved(history)
    rows = int(history.counts[:, history.reference.layout.of("decision")].sum())
    body = "\n".join(
        [
            _verdict(history, changes),
            _moved_table(history, changes),
            heat(history),
            *histograms(history, changes),
            evidence(history, changes),
            decisions(history, changes),
            scores(history, changes),
            _quality(history),
            _all_series(history),
            _reading(history),
        ]
    )
    template = Template(resources.files("drift_sidecar").joinpath("report.html").read_text(encoding="utf-8"))
    skipped = (
        f"; {history.skipped:,} rows of other releases, repeats and scorecards left out" if history.skipped else ""
    )
    return template.substitute(
        title=f"Drift report, release {release_name(history.reference.release)}",
        subtitle=escape(
            f"{moment(first)} to {moment(last)} UTC · {rows:,} transactions{skipped} · compared with "
            f"{history.reference.rows:,} of the release's validation part"
        ),
        body=body,
    )


def _verdict(history: History, changes: tuple[Moved, ...]) -> str:
    series, now = history.monitor.null.series, [one for one in changes if one.until_us is None]
    kind = "alert" if now else "past" if changes else ""
    names = ", ".join(escape(one.name) for one in (now or changes)[:5]) + (" …" if len(now or changes) > 5 else "")
    if now:
        since = moment(min(one.since_us for one in now))
        text = f"{len(now)} of {series} series differ from the reference, the first since {since}: <b>{names}</b>"
    elif changes:
        text = f"Nothing is off now. {len(changes)} of {series} series were: <b>{names}</b>"
    else:
        text = f"None of {series} series moved by enough to matter."
    budget = history.monitor.settings.false_pages_per_month
    note = (
        f"An alert needs evidence (at most {budget:g} false page a month, all series together) and a size that matters."
    )
    return f'<div class="verdict {kind}">{text}<p>{note}</p></div>'


def _moved_table(history: History, changes: tuple[Moved, ...]) -> str:
    if not changes:
        return ""
    rows = [
        [
            f'<b title="{escape(one.reason)}">{escape(one.name)}</b>',
            tag(one.state),
            short_moment(one.since_us),
            short_moment(one.paged_us),
            "still" if one.until_us is None else short_moment(one.until_us),
            largest_change(history, one),
            mean_change(one),
            f"{one.effect.psi:.3f}",
            f"{one.effect.wasserstein:.2f}",
        ]
        for one in changes
    ]
    head = ["series", "now", "since about", "page", "until", "bin that changed most", "mean", "PSI", "W, sd"]
    return "<h2>What moved, and when</h2>" + table(head, rows, numbers=(7, 8), tight=(2, 3, 4, 5, 6))


def _quality(history: History) -> str:
    total = history.counts.sum(axis=0)
    found = [q for q in data_quality(history.reference, total) if max(q.missing, q.unseen, q.below, q.above) >= 5e-5]
    if not found:
        return "<h2>Data quality</h2><p>Hardly a value was missing, out of the reference's range or unseen in it.</p>"
    rows = [[escape(q.series), *(percent(share) for share in (q.missing, q.unseen, q.below, q.above))] for q in found]
    head = ["series", "missing", "unseen", "below the reference's range", "above"]
    return "<h2>Data quality</h2>" + table(head, rows, numbers=(1, 2, 3, 4))


def _all_series(history: History) -> str:
    rows = []
    for series, (name, found) in enumerate(
        zip(history.reference.layout.names, findings.effects(history, *findings.span_us(history)), strict=True)
    ):
        rows.append([escape(name), tag(State(int(history.states[-1, series]))), *_effect_cells(found)])
    head = ["series", "at the end", "PSI", "by chance", "KS", "JS, bits", "W, sd"]
    return "<h2>All series, over the whole time</h2>" + table(head, rows, numbers=(2, 3, 4, 5, 6))


def _effect_cells(found: Effect) -> list[str]:
    values = (found.psi, found.psi_expected, found.ks, found.js, found.wasserstein)
    return [f"{value:.4f}" for value in values]


def _reading(history: History) -> str:
    wanted = history.monitor.settings
    entries = (
        (
            "PSI",
            "Population stability index over the reference's frozen bins. “By chance” is what it is on average where "
            f"nothing moved. A change matters from {wanted.materiality.psi:g} on; 0.02 is a shift of the mean by 0.14 "
            "standard deviations.",
        ),
        (
            "W, KS, JS",
            "Wasserstein distance in standard deviations, Kolmogorov–Smirnov distance, Jensen–Shannon divergence.",
        ),
        (
            "Evidence",
            "An e-detector per series. While every row lies within the tolerance around the reference for its hour of "
            f"the week, all series together raise at most {wanted.false_pages_per_month:g} false page a month on "
            "average, however often they are looked at. Rows that depend on each other beyond that are not covered.",
        ),
        ("Since about", "The estimate of when the change began: where the likelihood ratio last was at zero."),
        (
            "Labels",
            "A declined payment has no natural label: precision is of known outcomes, recall is given with bounds.",
        ),
    )
    text = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in entries)
    return f"<h2>How to read this</h2><dl>{text}</dl>"
