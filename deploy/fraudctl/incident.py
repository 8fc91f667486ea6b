"""`fraudctl incident`: what happened, from the log."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

import click

from fraud_scoring.errors import InvalidInput
from fraudctl.options import home_option, json_option
from fraudctl.report import emit, progress

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Moment(click.ParamType[datetime, datetime | str]):
    """UTC, as 2026-03-01T10:00[:30], or so long ago, as 30m, 2h, 1d."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        if text[:-1].isdecimal() and text[-1:] in _SECONDS:
            return datetime.now(timezone.utc) - timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
        try:
            found = datetime.fromisoformat(text.removesuffix("Z"))
        except ValueError:
            self.fail(
                f"{text!r} is no moment; write UTC as 2026-03-01T10:00, or how long ago, as 30m, 2h, 1d", param, ctx
            )
        return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found


@click.group()
def incident() -> None:
    """What happened, for the page that is written afterwards (deploy/runbooks/procedures/Incident.md)."""


@incident.command()
@click.option("--from", "start", type=Moment(), default="1h", show_default=True, help="UTC, or how long ago.")
@click.option("--to", "end", type=Moment(), default="0s", show_default=True, help="UTC, or how long ago.")
@click.option(
    "--log", "folder", type=click.Path(file_okay=False, path_type=Path), help="The log.  [default: <home>/log]"
)
@home_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the Markdown here.")
@json_option
def timeline(start: datetime, end: datetime, folder: Path | None, home: Path, out: Path | None, as_json: bool) -> None:
    """Route changes, fallbacks, restarts, gaps, and each minute's decisions, as Markdown.

    Read from the decision log, and from the judge's journal in the home folder where there is one.
    """
    from fraud_recovery.timeline import document, markdown
    from fraud_recovery.timeline import timeline as read

    if start >= end:
        raise InvalidInput("--from must lie before --to")
    log = folder or home / "log"
    if not log.is_dir():
        raise InvalidInput(f"{log} is not there; name the server's --home, or the log with --log")
    with progress("timeline") as report:
        found = read(log, _micro(start), _micro(end), home / "judge" / "judge.jsonl", report)
    text = markdown(found)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    if as_json:
        emit(document(found), as_json=True)
    elif out is None:
        click.echo(text, nl=False)


def _micro(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)
