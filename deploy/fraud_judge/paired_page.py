"""The comparison of a shadow with who answered, as one HTML page with plots. Needs no other file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from typing import Any, Final

import numpy as np

from fraud_judge.betting import Float64
from fraud_judge.page import BOTTOM, COLOURS, LEFT, STYLE, WIDTH
from fraud_judge.paired import NAMES, Pairs

HEIGHT: Final = 320
TICKS: Final = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99)
_LEAST: Final = 0.00005
_CELLS: Final = 48
_SLICES: Final = 60
_STYLE: Final = """
.flip { color: var(--bad); } .same { color: var(--good); } figcaption { color: var(--muted); font-size: 13px; }
.plots { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; } figure { margin: 0; }
@media (max-width: 820px) { .plots { grid-template-columns: 1fr; } }
.keys span { margin-right: 16px; }
.keys i { display: inline-block; width: 14px; height: 3px; margin-right: 5px; vertical-align: middle; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 28px; } .facts div { color: var(--muted); font-size: 13px; }
.facts b { display: block; font-size: 20px; color: var(--ink); }
th:last-child, td:last-child { text-align: right; } .scroll { margin: 12px 0; }
"""


def page(found: Mapping[str, Any], pairs: Pairs) -> str:
    """The page of what `fraudctl routes compare --json` prints, with plots of its `pairs`."""
    champion, challenger = found["champion"], found["challenger"]
    title = f"{challenger} in the shadow of {champion}"
    figures = (
        _figure("Scores at or above", _tails(pairs), "Share of transactions, on a log scale; both axes show the tail."),
        _figure("Score beside score", _heat(pairs), f"Darker: more transactions. Across {champion}, up {challenger}."),
        _figure("Decisions that would flip", _over_time(pairs), "Share of the transactions, over the time compared."),
        _figure("Score differences", _differences(pairs), f"{challenger} minus {champion}, share at or below."),
    )
    keys = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in ((champion, COLOURS[0]), (challenger, COLOURS[1]))
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p>{_moment(found['from_us'])} to {_moment(found['to_us'])} UTC. {escape(_seen(found))} Intervals are 95%, "
        "over customers.</p>"
        f'<div class="facts">{_facts(found)}</div>'
        f"<h2>Decisions</h2>{_matrix(found)}{_shares(found)}"
        f"<h2>What would flip</h2>{_flips(found)}"
        f'<h2>Scores</h2><p class="keys">{keys}</p><div class="plots">{"".join(figures)}</div>{_quantiles(found)}'
        f"<h2>Examples</h2>{_examples(found)}</main></body></html>\n"
    )


def percent(figure: Mapping[str, float | None], digits: int = 2) -> str:
    """`1.20% (0.90% to 1.50%)`"""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "–"
    shown = f"{value:.{digits}%}"
    return shown if low is None or high is None else f"{shown} ({low:.{digits}%} to {high:.{digits}%})"


def money(minor: int, minor_units: int) -> str:
    """An amount in major units."""
    return f"{minor / minor_units:,.{0 if minor_units == 1 else 2}f}"


def _seen(found: Mapping[str, Any]) -> str:
    text = f"{found['transactions']:,} transactions of {found['customers']:,} customers were scored by both."
    if dropped := sum(found["dropped"].values()):
        why = ", ".join(f"{count:,} {reason}" for reason, count in found["dropped"].items() if count)
        text += f" The shadow dropped {dropped:,} ({why}): it rests first when the machine is busy."
    return text


def _facts(found: Mapping[str, Any]) -> str:
    scores = found["scores"]
    ks = scores["ks_distance"]
    facts = (
        (percent(found["agreement"]), "decide alike"),
        (percent(found["stricter"]), "would be stricter"),
        (percent(found["milder"]), "would be milder"),
        (f"{ks['value']:.4f}", "distance of the scores (Kolmogorov–Smirnov)"),
    )
    return "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for value, name in facts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _matrix(found: Mapping[str, Any]) -> str:
    head = [f"{found['champion']} says", *(f"{found['challenger']}: {name}" for name in NAMES), "in all"]
    rows = []
    for row, (name, cells) in enumerate(zip(NAMES, found["matrix"], strict=True)):
        shown = []
        for column, cell in enumerate(cells):
            text = f"{cell['transactions']:,}<br><small>{money(cell['amount_minor'], found['minor_units'])}</small>"
            style = "same" if row == column else "flip"
            shown.append(f'<span class="{style}">{text}</span>' if cell["transactions"] else "–")
        rows.append([name, *shown, f"{sum(cell['transactions'] for cell in cells):,}"])
    return _table(head, rows)


def _shares(found: Mapping[str, Any]) -> str:
    rows = [
        [name, percent(one["champion"]), percent(one["challenger"]), percent(one["difference"])]
        for name, one in found["decisions"].items()
    ]
    return _table(["share", found["champion"], found["challenger"], "difference"], rows)


def _flips(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{one['champion']} → {one['challenger']}",
            f"{one['transactions']:,}",
            f"{one['customers']:,}",
            percent(one["share"]),
            money(one["amount_minor"], found["minor_units"]),
            percent(one["amount_share"]),
        ]
        for one in found["flips"]
    ]
    head = ["decision", "transactions", "customers", "share", "amount", "share of the amount"]
    return _table(head, rows) if rows else "<p>Nothing: both decided the same everywhere.</p>"


def _quantiles(found: Mapping[str, Any]) -> str:
    scores = found["scores"]
    names = list(scores["champion"])
    rows = [[name, *(f"{scores[name][q]:.5f}" for q in names)] for name in ("champion", "challenger", "difference")]
    return _table(["quantile", *(f"{float(q):.4g}" for q in names)], rows)


def _examples(found: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{flip['champion']} → {flip['challenger']}",
            str(one["transaction"]),
            money(one["amount_minor"], found["minor_units"]),
            f"{one['champion_score']:.5f}",
            f"{one['challenger_score']:.5f}",
        ]
        for flip in found["flips"]
        for one in flip["examples"]
    ]
    head = ["decision", "transaction", "amount", f"score of {found['champion']}", f"score of {found['challenger']}"]
    return _table(head, rows) if rows else "<p>There are none.</p>"


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def _logit(score: Float64 | float) -> Float64:
    inside = np.clip(score, _LEAST, 1 - _LEAST)
    return np.asarray(np.log(inside / (1 - inside)), np.float64)


_EDGE: Final = float(np.log(_LEAST / (1 - _LEAST)))


def _x(score: Float64 | float) -> Float64:
    """Where a score lies across, on a scale of log odds."""
    return np.asarray(LEFT + (WIDTH - LEFT - 10) * (_logit(score) - _EDGE) / (-2 * _EDGE), np.float64)


def _y(share: Float64 | float) -> Float64:
    """Where 0 to 1 lies upwards."""
    return np.asarray(10 + (HEIGHT - BOTTOM - 10) * (1.0 - np.asarray(share)), np.float64)


def _figure(title: str, drawing: str, caption: str) -> str:
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{drawing}</svg>'
    return f"<figure><b>{escape(title)}</b>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _grid(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> str:
    """Lines and words of the axes, at places in the drawing."""
    parts = []
    for x, name in across:
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{name}</text>')
    for y, name in up:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    return "".join(parts)


def _line(xs: Float64, ys: Float64, colour: str) -> str:
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True))
    return f'<path stroke="{colour}" d="M{points}"/>'


_ACROSS: Final = [(float(_x(tick)), f"{tick:g}") for tick in TICKS]


def _tails(pairs: Pairs) -> str:
    n = len(pairs.score)
    top = max(1.0, np.log10(n))

    def up(share: Float64) -> Float64:
        return _y(1 + np.log10(np.maximum(share, 1 / n)) / top)

    decades = [10.0**-power for power in range(int(top) + 1)]
    parts = [_grid(_ACROSS, [(float(up(np.array(one))), f"{one:.6g}") for one in decades])]
    at = 1 / (1 + np.exp(-np.linspace(_EDGE, -_EDGE, 160)))
    for scores, colour in ((pairs.champion_score, COLOURS[0]), (pairs.score, COLOURS[1])):
        ordered = np.sort(scores)
        above = 1 - np.searchsorted(ordered, at, side="left") / n
        seen = above > 0
        parts.append(_line(_x(at[seen]), up(above[seen]), colour))
    return "".join(parts)


def _heat(pairs: Pairs) -> str:
    span = (_EDGE - 1e-6, 1e-6 - _EDGE)  # what was cut off at the edges lies within
    counts, _, _ = np.histogram2d(_logit(pairs.champion_score), _logit(pairs.score), bins=_CELLS, range=(span, span))
    across, up = (WIDTH - LEFT - 10) / _CELLS, (HEIGHT - BOTTOM - 10) / _CELLS
    ticks = [(float(_y((float(_logit(tick)) - _EDGE) / (-2 * _EDGE))), f"{tick:g}") for tick in TICKS]
    parts = [_grid(_ACROSS, ticks)]
    most = np.log1p(counts.max())
    for i, j in np.argwhere(counts > 0).tolist():
        strength = 0.12 + 0.88 * np.log1p(counts[i, j]) / most
        x, y = LEFT + i * across, HEIGHT - BOTTOM - (j + 1) * up
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{across:.2f}" height="{up:.2f}" fill="{COLOURS[0]}" '
            f'fill-opacity="{strength:.2f}"><title>{int(counts[i, j]):,}</title></rect>'
        )
    parts.append(_line(np.array([LEFT, WIDTH - 10.0]), np.array([HEIGHT - BOTTOM, 10.0]), COLOURS[8]))
    return "".join(parts)


def _over_time(pairs: Pairs) -> str:
    begin, end = int(pairs.at_us.min()), int(pairs.at_us.max()) + 1
    places = ((pairs.at_us - begin) * _SLICES // (end - begin)).astype(np.int64)
    seen = np.bincount(places, minlength=_SLICES)
    kinds: tuple[tuple[str, str, Callable[[], Any]], ...] = (
        ("stricter", COLOURS[2], lambda: pairs.challenger > pairs.champion),
        ("milder", COLOURS[3], lambda: pairs.challenger < pairs.champion),
    )
    shares = [np.bincount(places[chosen()], minlength=_SLICES) / np.maximum(seen, 1) for _, _, chosen in kinds]
    most = max(float(np.max(shares)), 1e-4) * 1.1
    width = (WIDTH - LEFT - 10) / _SLICES
    levels = [(float(_y(part)), f"{part * most:.2%}") for part in (0.0, 0.5, 1.0)]
    moments = [
        (LEFT + (WIDTH - LEFT - 10) * part, _moment(round(begin + part * (end - begin)))[11:])
        for part in (0.1, 0.5, 0.9)
    ]
    parts = [_grid(moments, levels)]
    for place, ((name, colour, _), share) in enumerate(zip(kinds, shares, strict=True)):
        for i in np.flatnonzero(share).tolist():
            top = float(_y(share[i] / most))
            x = LEFT + (i + 0.5 * place) * width
            parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{0.5 * width - 0.5:.2f}" height="{HEIGHT - BOTTOM - top:.1f}" '
                f'fill="{colour}"><title>{name}: {share[i]:.2%} of {seen[i]:,}</title></rect>'
            )
        parts.append(f'<text x="{LEFT + 12}" y="{26 + 18 * place}" style="fill:{colour}">{name}</text>')
    return "".join(parts)


def _differences(pairs: Pairs) -> str:
    ordered = np.sort(pairs.score - pairs.champion_score)
    reach = max(float(np.abs(np.quantile(ordered, [0.002, 0.998])).max()), 1e-6)
    at = np.linspace(-reach, reach, 200)
    below = np.searchsorted(ordered, at, side="right") / len(ordered)
    xs = LEFT + (WIDTH - LEFT - 10) * (at + reach) / (2 * reach)
    ticks = [
        (LEFT + (WIDTH - LEFT - 10) * (part + 1) / 2, f"{part * reach:+.2g}") for part in (-0.9, -0.5, 0.0, 0.5, 0.9)
    ]
    return _grid(ticks, [(float(_y(one)), f"{one:.0%}") for one in (0.0, 0.5, 1.0)]) + _line(xs, _y(below), COLOURS[4])
