"""`fraudctl drift`: measure the sidecar's false pages and delays by simulation, and write a report of what moved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.table import Table

from fraudctl.options import json_option, seed_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from drift_sidecar.study import Duel, Pages, Study

_day = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def drift() -> None:
    """Drift: how often the sidecar pages for nothing, how soon for something, and what moved."""


@drift.command()
@click.option("--quick", is_flag=True, help="Under a minute on two idle cores: one year, looked at every ten seconds.")
@click.option("--years", type=click.FloatRange(0.02, 1000), help="Years of stationary streams: 10, or 1 with --quick.")
@click.option("--no-peers", is_flag=True, help="Leave out river's detectors.")
@seed_option
@json_option
@click.pass_context
def simulate(ctx: click.Context, quick: bool, years: float | None, no_peers: bool, seed: int, as_json: bool) -> None:
    """Measure false pages a month over simulated years, and the delay until a page per kind and size of drift.

    15 features, the score and the decision at 100 transactions a second, with a daily and weekly cycle and days that
    differ; the sidecar's own code. river's ADWIN, KSWIN and PageHinkley, set to the same rate of false alarms, and
    "PSI above 0.2" see the same drifts. Exit code 1 if a target is missed. About 15 minutes on two idle cores.
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


def _study_tables(study: Study) -> RenderableType:
    pages = Table(title=f"False pages, {study.series} series together, looked at every {study.look_seconds:g} s")
    for column in ("stream", "years", "pages", "a month", "95% interval", "evidence alone"):
        pages.add_column(column, justify="left" if column == "stream" else "right")
    _add_pages(pages, "stationary: cycles, days that differ", study.stationary)
    _add_pages(pages, "all series at the edge of the tolerance", study.edge)
    delays = Table(title=f"Delay until the page, at {study.rows_per_second:g} transactions a second")
    for column in ("drift", "median", "90% within", "first to page", "runs without"):
        delays.add_column(column, justify="left" if column in ("drift", "first to page") else "right")
    for found in study.delays:
        without = f"{found.without_page} of {found.runs}"
        delays.add_row(found.name, _seconds(found.median_s), _seconds(found.p90_s), found.first_series, without)
    lines = [f"missed: {line}" for line in study.missed] or ["all targets met"]
    return Group(pages, delays, *(_duel_table(duel) for duel in study.duels), *lines)


def _add_pages(table: Table, name: str, pages: Pages) -> None:
    interval = f"{pages.pages_per_month_low:.3f} to {pages.pages_per_month_high:.3f}"
    crossings = str(pages.crossings)
    table.add_row(name, f"{pages.years:.2f}", str(pages.pages), f"{pages.pages_per_month:.3f}", interval, crossings)


def _duel_table(duel: Duel) -> Table:
    note = None if duel.judged else "shown, not judged: payments have days and nights, and no two days are alike"
    table = Table(title=f"Mean shift, same false alarms: {duel.stream} (median delay)", caption=note)
    table.add_column("rule")
    table.add_column("setting", justify="right")
    for shift in duel.sidecar:
        table.add_column(f"{shift:g} sd", justify="right")
    table.add_column("false alarms a day as published", justify="right")
    table.add_row("drift sidecar", "as shipped", *map(_seconds, duel.sidecar.values()), "")
    for peer in duel.peers:
        setting = "none keeps the budget" if peer.setting is None else f"{peer.setting:.3g}"
        table.add_row(
            peer.peer, setting, *map(_seconds, peer.median_s.values()), f"{peer.published_alarms_per_day:.0f}"
        )
    return table


def _seconds(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "not in 10 min"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
