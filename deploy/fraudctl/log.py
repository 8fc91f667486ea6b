"""`fraudctl log`: verify the decision log, replay it, export it, read it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table

from fraudctl.options import home_option, json_option, repository_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_scoring.decision_log.explaining import Explained

_BAR: Final = 12
"""Characters of the longest bar."""
log_option = click.option(
    "--log", "folder", type=click.Path(file_okay=False, path_type=Path), help="The log.  [default: <home>/log]"
)


@click.group()
def log() -> None:
    """The decision log: every answered transaction, provable and repeatable."""


@log.command()
@log_option
@home_option
@click.option("--key", help="Public key in hexadecimal.  [default: of <home>/keys/decision-log.key]")
@json_option
def verify(folder: Path | None, home: Path, key: str | None, as_json: bool) -> None:
    """Read every byte again: flipped, removed, reordered, inserted, cut. Exit code 1 if anything is found.

    To see a whole log put back to an earlier state, keep copies of head.json elsewhere.
    """
    from fraud_scoring.decision_log import Signer, verify_log

    chosen = _existing(folder or home / "log")
    public = key or Signer.open(_existing(home / "keys" / "decision-log.key")).public_key
    began = time.monotonic()
    with progress("verify") as report:
        found = verify_log(chosen, public, report)
    result = {
        "writers": found.writers,
        "segments": found.segments,
        "frames": found.frames,
        "decisions": found.decisions,
        "findings": [asdict(finding) for finding in found.findings],
        "key": public,
        "seconds": round(time.monotonic() - began, 2),
    }
    rows = [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in result.items()]
    rows = [row for row in rows if row[0] != "findings"]
    rows += [
        ("finding", f"{one.writer} segment {one.segment} byte {one.byte} frame {one.sequence}: {one.what}")
        for one in found.findings
    ] or [("findings", "none: the log is what was written")]
    emit(result, as_json, table=rows)
    sys.exit(1 if found.findings else 0)


@log.command()
@log_option
@home_option
@repository_option
@click.option("--limit", type=click.IntRange(min=1), help="Only the first decisions.")
@json_option
def replay(folder: Path | None, home: Path, repository: Path, limit: int | None, as_json: bool) -> None:
    """Decide again from the logged features, by the release that decided, and compare every bit.

    Exit code 1 if any decision differs, or names a release that is not here: then nothing is proved. Scorecard answers
    are counted, not repeated: they need no release.
    """
    from fraud_scoring.decision_log.replay import replay_log

    with progress("replay") as report:
        found = replay_log(_existing(folder or home / "log"), repository, limit, report)
    emit(asdict(found), as_json)
    sys.exit(1 if found.different or found.unknown_release else 0)


@log.command()
@click.argument("transaction_id", type=int)
@log_option
@home_option
@repository_option
@json_option
def explain(transaction_id: int, folder: Path | None, home: Path, repository: Path, as_json: bool) -> None:
    """Why TRANSACTION_ID got its score: what each group of features gave, by the release that decided.

    Any decision of the log, approved ones too. Values are exact Shapley values in log odds (docs/reasons.md); they add
    up from the base, a usual genuine payment, to this payment's margin.
    """
    from fraud_scoring.decision_log.explaining import explain as run

    found = run(_existing(folder or home / "log"), repository, transaction_id)
    emit(asdict(found), as_json, table=_explained(found))


def _explained(found: Explained) -> Table:
    """A bar for each group, to the right of the base's line where it pushed up, to the left where it pushed down."""
    table = Table(
        title=f"{found.transaction_id}: {found.decision}, score {found.score:.4f}, {found.release}",
        caption="; ".join(found.reasons) or "no reasons: it was approved",
    )
    table.add_column("group")
    table.add_column("log odds", justify="right")
    table.add_column("")
    table.add_column("what the model saw")
    widest = max(abs(one.value) for one in found.groups) or 1.0
    table.add_row("a usual genuine payment", f"{found.base:+.2f}")
    for one in found.groups:
        length = round(abs(one.value) / widest * _BAR)
        bar = " " * _BAR + "█" * length if one.value > 0 else " " * (_BAR - length) + "░" * length
        seen = ", ".join(f"{name} {value:g}" for name, value in one.features.items())
        table.add_row(one.group, f"{one.value:+.2f}", bar, seen)
    table.add_row("this payment", f"{found.margin:+.2f}")
    return table


@log.command()
@log_option
@home_option
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for Parquet.")
@click.option(
    "--prune-days", type=click.IntRange(min=1), help="Remove exported segments that ended before so many days."
)
@json_option
def export(folder: Path | None, home: Path, out: Path, prune_days: int | None, as_json: bool) -> None:
    """Write closed segments as Parquet, partitioned by day; what was written before is left alone.

    \b
      duckdb -c "select decision, count(*) from 'parquet/*/*.parquet' group by 1"
    """
    from fraud_scoring.decision_log import Signer
    from fraud_scoring.decision_log.export import export as run
    from fraud_scoring.decision_log.export import prune

    chosen = _existing(folder or home / "log")
    with progress("export") as report:
        result: dict[str, Any] = run(chosen, out, report)
    if prune_days is not None:
        signer = Signer.open(_existing(home / "keys" / "decision-log.key"))
        before_us = time.time_ns() // 1000 - prune_days * 86_400_000_000
        result["pruned_segments"] = prune(chosen, out, before_us, signer)
    emit(result, as_json)


@log.command()
@log_option
@home_option
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder on another disk, or region."
)
@click.option("--every", type=click.FloatRange(min=0.1), help="Go on, every so many seconds, until SIGTERM or Ctrl-C.")
@json_option
def ship(folder: Path | None, home: Path, to: Path, every: float | None, as_json: bool) -> None:
    """Copy what is new of the log to another place while it is written; the copy always verifies.

    Where fraudctl restore --surviving-log finds it once this place is gone. Exit code 1, and nothing is sent, where a
    server went on from the copy: this region was replaced, and must not answer any more.
    """
    from fraud_recovery.shipping import Shipping

    shipping = Shipping(_existing(folder or home / "log"), to)
    if every is None:
        emit(asdict(shipping.run()), as_json)
        return
    while True:
        began = time.monotonic()
        try:
            found = asdict(shipping.run())
        except OSError as error:
            click.echo(f"log ship: {to} cannot be written ({error.strerror}); tried again in {every:g} s", err=True)
        else:
            if found["bytes"]:
                emit(found, as_json, table=[("shipped", f"{found['bytes']:,} bytes")])
        time.sleep(max(0.0, began + every - time.monotonic()))


@log.command()
@log_option
@home_option
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(min=0), help="Last decisions to show.")
@click.option("--follow", is_flag=True, help="Go on as they come, until Ctrl-C.")
@json_option
def tail(folder: Path | None, home: Path, count: int, follow: bool, as_json: bool) -> None:
    """The last decisions, one a line; with --json each line is an object."""
    from fraud_scoring.decision_log.export import last_rows, new_rows

    chosen = _existing(folder or home / "log")
    for row in last_rows(chosen, count):
        _show(row, as_json)
    if follow:
        for row in new_rows(chosen):
            _show(row, as_json)


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        # a feature that a scorecard did not look at is no number, which JSON cannot write
        click.echo(json.dumps({name: None if value != value else value for name, value in row.items()}))
        return
    reasons = [row[name] for name in ("reason_1", "reason_2", "reason_3") if row[name]]
    click.echo(
        f"{time.strftime('%H:%M:%S', time.gmtime(row['written_at_us'] / 1e6))}  {row['transaction_id']}  "
        f"{row['decision']:8} {row['score']:.4f}  reasons {reasons}  {row['release']} {row['source']}"
        f"{'  repeat' if row['repeat'] else ''}"
    )


def _existing(path: Path) -> Path:
    from fraud_scoring.errors import InvalidInput

    if not path.exists():
        raise InvalidInput(f"{path} is not there; name the server's --home, or the log with --log")
    return path
