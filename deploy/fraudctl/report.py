"""How every command reports: results on standard output, progress on standard error."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

Report = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""

PLAIN_LINE_EVERY_S: Final = 5.0
PLAIN_WIDTH: Final = 160


def emit(result: Mapping[str, Any], as_json: bool, table: RenderableType | list[tuple[str, str]] | None = None) -> None:
    """The result of a command on standard output: one JSON object, or else `table`.

    `table` is anything that rich renders, or lines of (name, text); without it, the result's own names and values.
    """
    if as_json:
        click.echo(json.dumps(result, default=_plain, allow_nan=False))
        return
    if table is None:
        table = [(name.replace("_", " "), _text(value)) for name, value in result.items()]
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    console.print(_lines(table) if isinstance(table, list) else table)


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A progress bar on standard error; plain lines where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(label, total=1.0)
        yield lambda fraction, text: bars.update(task, completed=fraction, description=f"{label}: {text}")


def _plain_lines(label: str) -> Report:
    """A line whenever the text changes, and every few seconds while it does not."""
    shown, shown_at = "", 0.0

    def report(fraction: float, text: str) -> None:
        nonlocal shown, shown_at
        now = time.monotonic()
        if text != shown or now - shown_at >= PLAIN_LINE_EVERY_S:
            click.echo(f"{label}: {text} ({fraction:.0%})", err=True)
            shown, shown_at = text, now

    return report


def _lines(rows: list[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    return table


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(inner)}" for name, inner in value.items())
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return value.tolist()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
