"""A study as Markdown, from the JSON that `fraudctl drift simulate --json` printed: for documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fraud_scoring.errors import InvalidInput

Document = Mapping[str, Any]


def markdown(study: Document) -> str:
    """Tables of a study's figures; InvalidInput where `study` is none."""
    try:
        parts = [_pages(study), _delays(study), *(_duel(duel, study["series"]) for duel in study["duels"])]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InvalidInput("this is no study; write one with: fraudctl drift simulate --json > STUDY.json") from None
    missed = [f"Missed: {line}." for line in study["missed"]] or ["All targets met."]
    return "\n\n".join([*parts, *missed]) + "\n"


def _pages(study: Document) -> str:
    rows = [
        (
            name,
            f"{of['look_seconds']:g} s",
            f"{of['years']:.2f}",
            of["pages"],
            f"{of['pages_per_month']:.3f}",
            f"{of['pages_per_month_low']:.3f} to {of['pages_per_month_high']:.3f}",
        )
        for name, of in (
            ("stationary: cycles of day and week, days that differ", study["stationary"]),
            ("the same, looked at as the sidecar does", study["every_second"]),
            ("every series at the edge of the tolerance", study["edge"]),
        )
    ]
    alike = study["alike_per_month"][0]
    table = _table(("stream", "a look every", "years", "false pages", "a month", "95% interval"), rows)
    return (
        f"{study['series']} series together, {study['rows_per_second']:g} transactions a second:\n\n{table}\n\n"
        f"Where all days are alike, too few to count; by importance sampling {alike['estimate']:.1e} a month "
        f"(95%: {alike['low']:.1e} to {alike['high']:.1e})."
    )


def _delays(study: Document) -> str:
    rows = (
        (of["name"], _seconds(of["median_s"]), _seconds(of["p90_s"]), f"{of['without_page']} of {of['runs']}")
        for of in study["delays"]
    )
    return _table(("drift", "median delay", "90% within", "runs without a page"), rows)


def _duel(duel: Document, series: int) -> str:
    shifts = list(duel["sidecar"])
    rows: list[Sequence[Any]] = [("**drift sidecar**", "as shipped", *map(_seconds, duel["sidecar"].values()))]
    for peer in duel["peers"]:
        name = peer["peer"] if peer["judged"] else f"({peer['peer']})"
        rows.append((name, _setting(peer), *(_seconds(peer["median_s"][shift]) for shift in shifts)))
    table = _table(("rule", "setting", *(f"+ {shift} sd" for shift in shifts)), rows)
    rate = f"false alarms of {series} series together: {duel['alarms_per_month']:.2g} a month"
    return f"{duel['stream']}; {rate}:\n\n{table}"


def _setting(peer: Document) -> str:
    if peer["setting"] is not None:
        return f"{peer['setting']:.3g}"
    return "none keeps the rate" if peer["judged"] else "by shift"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "not in 10 min"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
