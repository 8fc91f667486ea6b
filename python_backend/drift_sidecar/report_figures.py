"""The figures of the report: shades, histograms, evidence, decisions, scores, calibration."""

from __future__ import annotations

import itertools
from html import escape
from typing import Final

import numpy as np

from drift_sidecar import charts, findings
from drift_sidecar.charts import Line
from drift_sidecar.findings import Moved, Period
from drift_sidecar.history import History
from drift_sidecar.quality import LEAST_ROWS, calibration_check, mean_scores, realised
from drift_sidecar.report_text import bin_labels, length, moment, percent, table
from fraud_scoring import wire

MOST_HISTOGRAMS: Final = 8
ATOM: Final = 0.6
"""Where one bin holds more than this share, the others show on a log axis only."""
STYLES: Final = ("now", "second", "third", "fourth")
_KEY_NOW: Final = '<span class="key now"></span>'
_KEY_REF: Final = '<span class="key ref"></span>'


def heat(history: History) -> str:
    edges = findings.columns_us(history)
    names = history.reference.layout.names
    values = np.full((len(names), len(edges) - 1), np.nan)
    text = [["no data"] * (len(edges) - 1) for _ in names]
    tolerance = history.monitor.settings.materiality.psi
    for column, (since, until) in enumerate(itertools.pairwise(edges)):
        for series, found in enumerate(findings.effects(history, since, until)):
            if found.rows < 30:
                continue
            beyond = max(found.psi - found.psi_threshold, 0.0)
            values[series, column] = min(beyond / (10.0 * tolerance), 1.0) ** 0.5
            text[series][column] = f"{names[series]}, {moment(since)}: PSI {found.psi:.3f} ({found.rows:,} rows)"
    caption = (
        "Shade: how far PSI lies beyond what chance and the tolerance explain, per "
        f"{length(edges[1] - edges[0])}; grey: fewer than 30 transactions."
    )
    chart = charts.heat(names, edges, values, text)
    return f"<h2>Where and when</h2><figure>{chart}<figcaption>{caption}</figcaption></figure>"


def histograms(history: History, changes: tuple[Moved, ...]) -> list[str]:
    figures = []
    for one in changes[:MOST_HISTOGRAMS]:
        if one.series >= len(history.reference.binned):
            continue
        labels, kept = bin_labels(history.reference.binned[one.series], one.foreseen, one.seen)
        before, after = one.foreseen[kept], one.seen[kept]
        chart = charts.bars(labels, before, after, log=bool(max(before.max(), after.max()) > ATOM))
        figures.append(
            f"<figure><h3>{escape(one.name)}</h3>{chart}<figcaption>{_KEY_NOW} since {moment(one.since_us)}, "
            f"{one.effect.rows:,} rows {_KEY_REF} reference, same hours of the week</figcaption></figure>"
        )
    if not figures:
        return []
    return ["<h2>The series that moved</h2>", f'<div class="two">{"".join(figures)}</div>']


def evidence(history: History, changes: tuple[Moved, ...]) -> str:
    threshold = float(np.log10(history.monitor.detector.threshold))
    chosen = [one.series for one in changes[: len(STYLES)]]
    names = history.reference.layout.names
    evidence = np.minimum(history.evidence, threshold + 3.0)
    quiet = [Line(names[k], evidence[:, k], "quiet") for k in range(len(names)) if k not in chosen]
    loud = [Line(names[k], evidence[:, k], style) for k, style in zip(chosen, STYLES, strict=False)]
    chart = charts.lines(
        history.points_us.tolist(),
        [*quiet, *loud],
        threshold=(threshold, "page"),
        marks_us=[event.at_us for event in history.events],
        lowest=0.0,
    )
    keys = "".join(f'<span class="key {line.style}"></span>{escape(line.name)}' for line in loud)
    caption = (
        f'{keys}<span class="key ref"></span>others. log10 of the e-detector\'s value in minutes; it begins again at 0 '
        "where it reaches the line. Upright lines: pages."
    )
    return f"<h2>Evidence over time</h2><figure>{chart}<figcaption>{caption}</figcaption></figure>"


def decisions(history: History, changes: tuple[Moved, ...]) -> str:
    """Decisions over time, and what the scores say of them before and after."""
    edges = findings.columns_us(history)
    place = history.reference.layout.of("decision")
    per_column = np.stack(
        [
            sum(findings.between(history, since, until).values(), np.zeros(history.counts.shape[1], np.int64))[place]
            for since, until in itertools.pairwise(edges)
        ]
    ).astype(np.float64)
    total = per_column.sum(axis=1, keepdims=True)
    share = np.where(total >= 30, per_column / np.maximum(total, 1.0), np.nan)
    usual = history.reference.decisions / history.reference.decisions.sum()
    times = [(since + until) // 2 for since, until in itertools.pairwise(edges)]
    flat = np.ones(len(times))
    chart = charts.lines(
        times,
        [
            Line("review", share[:, wire.Decision.REVIEW], "now"),
            Line("decline", share[:, wire.Decision.DECLINE], "second"),
            Line("review, reference", flat * usual[wire.Decision.REVIEW], "refnow"),
            Line("decline, reference", flat * usual[wire.Decision.DECLINE], "refsecond"),
        ],
        percent=True,
        lowest=0.0,
    )
    caption = (
        '<span class="key now"></span>review <span class="key second"></span>decline; dashed: the reference. '
        f"Shares of the transactions per {length(edges[1] - edges[0])}."
    )
    rows = [_period_row(period) for period in findings.periods(history, changes)]
    head = ["", "transactions", "review", "decline", "fraud, by scores", "precision", "recall", "cost per 1,000"]
    note = (
        "<p class='muted'>Precision and recall of reviews and declines together, and the cost in minor units, as the "
        "calibrated scores foresee them, before any label (CBPE). They hold as far as the calibration does.</p>"
    )
    return (
        f"<h2>How much it matters</h2>{table(head, rows, numbers=tuple(range(1, 8)))}{note}"
        f"<figure>{chart}<figcaption>{caption}</figcaption></figure>"
    )


def _period_row(period: Period) -> list[str]:
    found, rows = period.estimate, max(period.estimate.rows, 1)
    return [
        escape(period.name),
        f"{found.rows:,}",
        percent(period.decisions[wire.Decision.REVIEW] / rows),
        percent(period.decisions[wire.Decision.DECLINE] / rows),
        percent(found.fraud_share),
        percent(found.precision),
        percent(found.recall),
        "–" if found.cost_minor is None else f"{1000 * found.cost_minor / rows:,.0f}",
    ]


def scores(history: History, changes: tuple[Moved, ...]) -> str:
    first, last = findings.span_us(history)
    since = min((one.since_us for one in changes), default=first)
    series = len(history.reference.features)
    foreseen, seen = findings.shares(history, series, since, last)
    labels, kept = bin_labels(history.reference.score, foreseen, seen)
    bars = charts.bars(labels, foreseen[kept], seen[kept], log=True, height=300)
    score = (
        f"<figure><h3>Scores</h3>{bars}<figcaption>{_KEY_NOW} since {moment(since)} {_KEY_REF} reference; "
        "log axis</figcaption></figure>"
    )
    return f'<h2>Scores and labels</h2><div class="two">{score}{_calibration(history)}</div>'


def _calibration(history: History) -> str:
    base = history.reference.calibration
    check = calibration_check(history.outcomes, base)
    if not check.rows or check.error is None or check.by_chance is None:
        return "<figure><h3>Calibration</h3><p class='muted'>No decision is old enough to have its label.</p></figure>"
    means = mean_scores(base)
    points = [
        (float(score), found.value, found.low, found.high)
        for score, found in zip(means, check.shares, strict=True)
        if found is not None and found.rows >= LEAST_ROWS
    ]
    before = [
        (float(score), float(frauds / rows))
        for score, frauds, rows in zip(means, base.frauds, base.rows, strict=True)
        if rows >= LEAST_ROWS
    ]
    caption = (
        f"Share of fraud over the mean score, both on log axes. {_KEY_NOW} now, with 95% intervals {_KEY_REF} "
        f"reference. Error {check.error:.5f} ({check.by_chance:.5f} by chance); {check.observed:,} frauds, "
        f"{check.expected:,.0f} foreseen. {_realised(history)}"
    )
    chart = charts.reliability(points, before)
    title = f"Calibration, {check.rows:,} decisions old enough for their label"
    return f"<figure><h3>{title}</h3>{chart}<figcaption>{caption}</figcaption></figure>"


def _realised(history: History) -> str:
    found = realised(history.outcomes, history.reference.calibration)
    out = ""
    if found.precision is not None:
        share = f"{percent(found.precision.value)} ({percent(found.precision.low)} to {percent(found.precision.high)})"
        out += (
            f"Realised precision {share}, of the {percent(found.known_share)} of reviews and declines that are known; "
        )
    if found.recall is not None:
        bounds = f"{percent(found.recall_low)} to {percent(found.recall_high)}"
        out += f"recall about {percent(found.recall)}, for certain {bounds}."
    return out
