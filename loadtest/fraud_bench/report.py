"""The benchmark's JSON document, and the table of it, as text and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fraud_bench.loads import Measured
from fraud_bench.log_check import Logged
from fraud_bench.rounds import Measurements
from fraud_bench.rows import Row
from fraud_bench.targets import Judgement, judge
from fraud_scoring.errors import InvalidInput

VERSION: Final = 1
_ROW_COLUMNS: Final = ("transactions/s", "p50 ms", "p99 ms", "p99.9 ms", "server µs", "client µs")


def read(text: str) -> dict[str, Any]:
    """A document that was kept; InvalidInput where it is none that these tables can show."""
    try:
        found = json.loads(text)
        version = found["version"]
    except (ValueError, TypeError, KeyError):
        raise InvalidInput("this is no result of the benchmark; keep one with: fraudctl bench --json > FILE") from None
    if version != VERSION:
        raise InvalidInput(f"the result has version {version}; this is version {VERSION}: measure again")
    return dict(found)


def document(
    found: Measurements,
    rows: Sequence[Row],
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    logs: Mapping[str, Logged],
) -> dict[str, Any]:
    """What `fraudctl bench --json` prints; `logs` by server."""
    judged = judge(found)
    return {
        "version": VERSION,
        "machine": dict(machine),
        "settings": dict(settings),
        "rows": [_row(row, found) for row in rows],
        "targets": [_target(one) for one in judged],
        "errors": (errors := sum(one.errors for row in found.found.values() for one in row if one is not None)),
        "logs": {name: asdict(log) for name, log in logs.items()},
        "held": all(one.held for one in judged) and not errors and all(log.sound for log in logs.values()),
    }


def table(result: Mapping[str, Any]) -> Group:
    """For a terminal."""
    targets = Table("target", "at least", "aim", "found", "", title="Targets", title_justify="left")
    for one in result["targets"]:
        targets.add_row(one["what"], one["at_least"], one["aim"], one["found"], _mark(one))
    rows = Table("row", title="Rows: medians over the rounds", title_justify="left")
    for name in _ROW_COLUMNS:
        rows.add_column(name, justify="right")
    for row in result["rows"]:
        rows.add_row(row["title"], *_cells(row))
    notes = [Text(note) for note in _remarks(result)]
    return Group(Text(_machine_line(result)), Text(_settings_line(result)), rows, targets, *notes)


def markdown(result: Mapping[str, Any], command: str) -> str:
    """`docs/benchmarks.md`: the same tables; `command` is what makes them."""
    lines = [
        "# Benchmarks",
        "",
        f"Written by `{command}`; nothing here is typed by hand. Run it on your machine: the ratios carry over, the",
        "absolute figures are this machine's.",
        "",
        f"{_machine_line(result)}  ",
        _settings_line(result),
        "",
        "## Targets",
        "",
        *_grid(
            ("what", "at least", "aim", "found", ""),
            [(one["what"], one["at_least"], one["aim"], one["found"], _mark(one)) for one in result["targets"]],
        ),
        "",
        "## Rows",
        "",
        *_NOTES,
        "",
        *_grid(("row", *_ROW_COLUMNS), [(row["title"], *_cells(row)) for row in result["rows"]]),
        "",
    ]
    lines += [f"- {note}" for note in _remarks(result)]
    return "\n".join(lines).rstrip() + "\n"


_NOTES: Final = (
    "Medians over the rounds; in each round every row was measured in turn. Latency is a request's, in a closed",
    "loop.",
    "CPU time is a transaction's, as the kernel counted it: all processes of the server (supervisor, Triton, its",
    "python processes, drift sidecar, and Redis where it is the store) with the work that they put off until the load",
    "was over; and the load generator's. The decision log is durable: on the disk before each answer. The stores hold",
    "30 days of history.",
)


def _row(row: Row, found: Measurements) -> dict[str, Any]:
    measured = [one for one in found.found[row.key] if one is not None]
    return {
        "key": row.key,
        "title": row.title,
        "measured": len(measured),
        "trouble": found.trouble.get(row.key, ""),
        "median": _median(measured),
        "rounds": [None if one is None else _figures(one) for one in found.found[row.key]],
    }


def _figures(one: Measured) -> dict[str, Any]:
    p50, p99, p999 = one.latency_ms
    return {
        "per_second": round(one.per_second, 1),
        "latency_ms": {"p50": p50, "p99": p99, "p99.9": p999},
        "cpu_us": {group: round(value, 2) for group, value in one.cpu_us.items()},
        "put_off_us": round(one.put_off_us, 2),
        "transactions": one.transactions,
        "seconds": round(one.seconds, 3),
        "sent": one.sent,
        "errors": one.errors,
        "first_error": one.first_error,
    }


def _median(measured: Sequence[Measured]) -> dict[str, Any] | None:
    if not measured:
        return None
    latency = zip(*(one.latency_ms for one in measured), strict=True)
    return {
        "per_second": round(statistics.median(one.per_second for one in measured), 1),
        "latency_ms": dict(zip(("p50", "p99", "p99.9"), map(statistics.median, latency), strict=True)),
        "cpu_us": {
            group: round(statistics.median(one.cpu_us[group] for one in measured), 2) for group in measured[0].cpu_us
        },
    }


def _target(judged: Judgement) -> dict[str, Any]:
    target = judged.target
    return {
        "what": target.what,
        "rows": list(target.rows),
        "at_least": target.bound_text(target.at_least),
        "aim": target.bound_text(target.aim),
        "value": judged.value,
        "found": judged.trouble if judged.value is None else target.text(judged.value),
        "held": judged.held,
        "aimed": judged.aimed,
    }


def _mark(target: Mapping[str, Any]) -> str:
    if not target["held"]:
        return "missed"
    return "aim reached" if target["aimed"] else "held"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    middle = row["median"]
    if middle is None:
        return ("–",) * len(_ROW_COLUMNS)
    latency, cpu = middle["latency_ms"], middle["cpu_us"]
    per_second, server = middle["per_second"], cpu["server"]
    in_ms = tuple(f"{latency[name]:.2f}" for name in ("p50", "p99", "p99.9"))
    return (f"{per_second:,.0f}", *in_ms, f"{server:,.1f}", f"{cpu['client']:,.1f}")


def _remarks(result: Mapping[str, Any]) -> list[str]:
    """What could not be measured and why, and what the decision logs say."""
    remarks = [f"{row['title']}: {row['trouble']}" for row in result["rows"] if row["trouble"]]
    for name, log in result["logs"].items():
        remarks.append(
            f"decision log of {name}: {log['answers']:,} answers, {log['repeats']:,} of them repeats, "
            f"{log['scorecard']:,} by the scorecard"
        )
    if result["errors"]:
        remarks.append(f"{result['errors']:,} requests failed")
    return remarks


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def _machine_line(result: Mapping[str, Any]) -> str:
    m = result["machine"]
    return (
        f"{m['cores']} cores of {m['processor']}, {m['memory_gib']} GiB, {m['kernel']}; Python {m['python']}, "
        f"Triton {m['triton']}, ONNX Runtime {m['onnxruntime']}."
    )


def _settings_line(result: Mapping[str, Any]) -> str:
    s = result["settings"]
    return (
        f"{s['rounds']} rounds, {s['seconds']:g} s a row, {s['customers']:,} customers and {s['terminals']:,} "
        f"terminals, {s['started_at'][:10]}, {s['minutes']:g} minutes{', quick' if s['quick'] else ''}."
    )
