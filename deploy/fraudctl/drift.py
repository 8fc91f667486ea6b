"""`fraudctl drift`: measure the sidecar's false pages and delays by simulation, and write a report of what moved."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.table import Table

from fraudctl.options import home_option, json_option, repository_option, seed_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from drift_sidecar.study import Duel, Pages, Study

_day = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def drift() -> None:
    """Drift: how often the sidecar pages for nothing, how soon for something, and what moved."""


@drift.command()
@click.option("--quick", is_flag=True, help="Under a minute on two idle cores: one year.")
@click.option("--years", type=click.FloatRange(0.02, 1000), help="Years of a stationary stream: 10, or 1 with --quick.")
@click.option("--no-peers", is_flag=True, help="Leave out river's detectors.")
@seed_option
@json_option
@click.pass_context
def simulate(ctx: click.Context, quick: bool, years: float | None, no_peers: bool, seed: int, as_json: bool) -> None:
    """Measure false pages a month over simulated years, and the delay until a page per kind and size of drift.

    15 features, the score and the decision at 100 transactions a second, with a daily and weekly cycle and days that
    differ; the sidecar's own code. river's ADWIN, KSWIN and PageHinkley and a PSI, set to the same rate of false
    alarms, and "PSI above 0.2" see the same drifts. Exit code 1 if a target is missed. Some 5 minutes on two idle
    cores.
    """
    from drift_sidecar.study import Plan, run_study

    plan = (
        Plan.quick(years or 1.0, seed, not no_peers)
        if quick
        else Plan(years=years or 10.0, peers=not no_peers, seed=seed)
    )
    with progress("drift") as report:
        study = run_study(plan, report)
    emit(study.as_dict(), as_json, table=_study_tables(study))
    ctx.exit(1 if study.missed else 0)


@drift.command()
@click.argument("study", type=click.File("rb"))
@json_option
def table(study: IO[bytes], as_json: bool) -> None:
    """The Markdown tables of a STUDY, for a document: what `drift simulate --json` printed."""
    from drift_sidecar.study_text import markdown
    from fraud_scoring.errors import InvalidInput

    try:
        document = json.load(study)
    except ValueError:
        raise InvalidInput(f"{study.name} is no JSON; write it with: fraudctl drift simulate --json") from None
    text = markdown(document)
    if as_json:
        emit({"markdown": text}, as_json)
    else:
        click.echo(text, nl=False)


@drift.command()
@click.option(
    "--log", "folder", type=click.Path(file_okay=False, path_type=Path), help="The log.  [default: <home>/log]"
)
@home_option
@repository_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="HTML file to write.")
@click.option("--release", help="As r0001.  [default: the one with the most decisions in the log]")
@click.option("--from", "since", type=_day, help="First moment of the transactions' time, UTC.  [default: the first]")
@click.option("--to", "until", type=_day, help="Up to this moment.  [default: the last]")
@click.option("--label-days", default=6.0, show_default=True, help="How old a decision is when its label is known.")
@json_option
def report(
    folder: Path | None,
    home: Path,
    repository: Path,
    out: Path,
    release: str | None,
    since: datetime | None,
    until: datetime | None,
    label_days: float,
    as_json: bool,
) -> None:
    """Which features moved, when, and how much it matters: one HTML file with plots, from the decision log.

    The decisions of one release are compared with the reference that it carries. The file needs nothing else.
    """
    from drift_sidecar.history import read_history, releases_in
    from drift_sidecar.monitor import DriftMonitor
    from drift_sidecar.report import render, summary
    from fraud_scoring.errors import InvalidInput
    from fraud_scoring.reference import Reference
    from fraud_scoring.releases import release_name, release_number

    log = folder or home / "log"
    if not out.resolve().parent.is_dir():
        raise InvalidInput(f"--out: there is no folder {out.parent}; make it first")
    with progress("report") as tell:
        tell(0.0, "reading")
        if release is None:
            rows = releases_in(log)
            if not rows:
                raise InvalidInput("the log holds no decision yet")
            release = release_name(max(rows, key=lambda number: rows[number]))
        reference = Reference.load(repository, release_number(release))
        span = (_microseconds(since, 0), _microseconds(until, 2**62))
        history = read_history(log, reference, DriftMonitor(reference), span, label_days, tell)
        tell(0.95, "writing")
        out.write_text(render(history), encoding="utf-8")
        tell(1.0, "written")
    found = summary(history)
    lines = [("release", found["release"]), ("from", found["from"]), ("to", found["to"])]
    lines.append(("transactions", f"{found['transactions']:,}"))
    lines += [(one["series"], f"{one['state']}, since {one['since']}: {one['reason']}") for one in found["moved"]] or [
        ("moved", "nothing by enough to matter")
    ]
    emit({**found, "file": str(out)}, as_json, table=[*lines, ("file", str(out))])


def _microseconds(moment: datetime | None, without: int) -> int:
    return without if moment is None else round(moment.replace(tzinfo=timezone.utc).timestamp() * 1_000_000)


def _study_tables(study: Study) -> RenderableType:
    pages = Table(title=f"False pages, {study.series} series together")
    for column in ("stream", "a look every", "years", "pages", "a month", "95% interval", "evidence alone"):
        pages.add_column(column, justify="left" if column == "stream" else "right")
    _add_pages(pages, "stationary: cycles, days that differ", study.stationary)
    _add_pages(pages, "the same, as the sidecar looks", study.every_second)
    _add_pages(pages, "all series at the edge of the tolerance", study.edge)
    delays = Table(title=f"Delay until the page, at {study.rows_per_second:g} transactions a second")
    for column in ("drift", "median", "90% within", "first to page", "runs without"):
        delays.add_column(column, justify="left" if column in ("drift", "first to page") else "right")
    for found in study.delays:
        without = f"{found.without_page} of {found.runs}"
        delays.add_row(found.name, _seconds(found.median_s), _seconds(found.p90_s), found.first_series, without)
    alike, gaussian = study.alike_per_month
    rare = (
        f"where all days are alike, by importance sampling: {alike.estimate:.1e} crossings a month of all series "
        f"({alike.low:.1e} to {alike.high:.1e}), {gaussian.estimate:.1e} of the Gaussian one"
    )
    lines = [rare, *([f"missed: {line}" for line in study.missed] or ["all targets met"])]
    return Group(pages, delays, *(_duel_table(duel, study.series) for duel in study.duels), *lines)


def _add_pages(table: Table, name: str, pages: Pages) -> None:
    interval = f"{pages.pages_per_month_low:.3f} to {pages.pages_per_month_high:.3f}"
    crossings = str(pages.crossings)
    looks = f"{pages.look_seconds:g} s"
    table.add_row(
        name, looks, f"{pages.years:.2f}", str(pages.pages), f"{pages.pages_per_month:.3f}", interval, crossings
    )


def _duel_table(duel: Duel, series: int) -> Table:
    note = "in brackets: shown, not judged" if not all(peer.judged for peer in duel.peers) else None
    rate = f"{duel.alarms_per_month:.2g} a month of {series} series together"
    table = Table(title=f"{duel.stream}: median delay of a shifted mean; false alarms {rate}", caption=note)
    for column in ("rule", "setting", "a month, this series (95%)", *(f"{shift:g} sd" for shift in duel.sidecar)):
        table.add_column(column, justify="left" if column == "rule" else "right")
    table.add_column("a day as published", justify="right")
    table.add_row("drift sidecar", "as shipped", "", *map(_seconds, duel.sidecar.values()), "")
    for peer in duel.peers:
        told = peer.alarms_per_month
        table.add_row(
            peer.peer if peer.judged else f"({peer.peer})",
            _setting(peer.setting),
            "" if told is None else f"{told.estimate:.1e} ({told.low:.0e} to {told.high:.0e})",
            *map(_seconds, peer.median_s.values()),
            f"{peer.published_alarms_per_day:.0f}" if peer.published_alarms_per_day else "",
        )
    return table


def _setting(setting: float | None) -> str:
    if setting is None:
        return "none keeps the rate"
    return "by shift" if math.isnan(setting) else f"{setting:.3g}"


def _seconds(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "not in 10 min"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
