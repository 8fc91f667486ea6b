"""`fraudctl judge`: the rollout judge at work, its study, what it did, and A/B tests in money."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from fraud_scoring.stopping import on_stop
from fraudctl.judge_status import status
from fraudctl.options import home_option, json_option, logs_options, repository_option, seed_option
from fraudctl.registry import registry_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_judge.logs import LogFolders
    from fraud_judge.settings import JudgeSettings

_day = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.group()
def judge() -> None:
    """The rollout judge: steps a canary up on live traffic, or throws it out; A/B tests in money."""


judge.add_command(status)


@judge.command()
@logs_options
@home_option
@repository_option
@click.option("--least-minutes", type=click.FloatRange(0.1, 10_000), default=10.0, show_default=True, help="Of a step.")
@click.option(
    "--budget",
    type=click.FloatRange(1e-6, 0.2),
    default=0.01,
    show_default=True,
    help="Most probability of rolling back a good canary, over a whole rollout.",
)
@click.option("--decline-band", type=click.FloatRange(1.01, 10), default=1.25, show_default=True, help="A ratio.")
@click.option("--take-over", is_flag=True, help="Judge the present canary anew, even if its rollout ended or was left.")
@click.option("--once", is_flag=True, help="End with the rollout: exit code 0 if it was promoted, 1 if not.")
@click.option("--every", "every_s", type=click.FloatRange(0.05, 60), default=1.0, show_default=True, help="Seconds.")
@registry_option
def run(
    folders: LogFolders,
    home: Path,
    repository: Path,
    least_minutes: float,
    budget: float,
    decline_band: float,
    take_over: bool,
    once: bool,
    every_s: float,
    registry_url: str | None,
) -> None:
    """Judge canaries until SIGTERM or Ctrl-C: 5, 25, 50, 100% of the customers, or back.

    A canary is begun with `fraudctl routes canary`. It steps up when the least time has passed, harm is ruled out and
    no test is in doubt; it is rolled back as soon as one test is sure. A release that is on record takes everything
    only once it is in production there, which takes two people: `fraudctl release promote | approve`. Whoever changes
    the canary by hand takes the rollout over. What was done and why is in <home>/judge/judge.jsonl; a judge that was
    killed goes on from there.

    Several servers that follow one table: name the log of each, or a folder that holds them. While one cannot be read,
    or its server answers by another table, no step goes forward; what is bad is rolled back all the same.
    """
    from fraud_judge.journal import Journal
    from fraud_judge.loop import JudgeLoop
    from fraud_judge.sight import keep_sight
    from fraud_scoring.errors import InvalidDefinition, ReleaseUnavailable

    settings = _settings(least_minutes, budget, decline_band)
    stopped = threading.Event()
    on_stop(stopped.set)
    journal = Journal(home / "judge", _now_us)
    began = len(journal.records)
    try:
        if take_over:
            journal.write("resumed")
        loop = JudgeLoop(
            folders,
            repository,
            journal,
            settings,
            _now_us,
            _report,
            objection=partial(_not_approved, repository, home, registry_url),
        )
        _report("following the log; waiting for a canary" if loop.rollout is None else "going on where it was left")
        told = ""
        while not stopped.is_set():
            try:
                loop.look()
                told = ""
            except (ReleaseUnavailable, InvalidDefinition) as error:  # a table that is being mended is no end
                if str(error) != told:
                    _report(told := str(error))
            keep_sight(home / "judge", _now_us(), loop.logs.documents())
            ended = [one["action"] for one in journal.records[began:] if one["kind"] == "done"]
            if once and ended and ended[-1] != "step up":
                raise SystemExit(0 if ended[-1] == "promote" else 1)
            stopped.wait(every_s)
    finally:
        journal.close()


def _not_approved(repository: Path, home: Path, registry: str | None, release: int) -> str:
    """Why a release may not take everything yet; nothing where it may, or where no registry knows it."""
    from fraud_release.registry import stage_of
    from fraud_scoring.errors import FraudError
    from fraud_scoring.releases import release_name

    try:
        stage = stage_of(release, repository, home, registry)
    except FraudError as trouble:
        return f"whether {release_name(release)} is approved cannot be told: {trouble}"
    if stage in (None, "production"):
        return ""
    name = release_name(release)
    return (
        f"{name} is in {stage} on record; for production: fraudctl release promote {name} --to production, and then, "
        f"somebody else: fraudctl release approve {name}"
    )


@judge.command()
@click.option(
    "--data", "path", type=click.Path(path_type=Path), required=True, help="Labelled transactions (Parquet or CSV)."
)
@repository_option
@click.option("--release", default="r0001", show_default=True, help="The champion, which scores them.")
@click.option("--challenger", help="Another good release, as r0002: it must be promoted.")
@click.option(
    "--runs", default=1_000, show_default=True, type=click.IntRange(1, 100_000), help="Rollouts with a target."
)
@click.option("--other-runs", default=100, show_default=True, type=click.IntRange(0, 100_000), help="Of all others.")
@click.option(
    "--rate", default=100.0, show_default=True, type=click.FloatRange(1, 10_000), help="Transactions a second."
)
@click.option(
    "--days", default=45, show_default=True, type=click.IntRange(1, 400), help="Last days of the data to draw from."
)
@click.option(
    "--label-days", default=6.0, show_default=True, help="When labels are known, where the data does not say."
)
@click.option("--processes", type=click.IntRange(1, 256), help="[default: as many as processors]")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page with plots.")
@seed_option
@json_option
def simulate(path: Path, repository: Path, as_json: bool, **options: Any) -> None:
    """Measure how often the judge is wrong, and how soon it is right: whole rollouts with the judge's own code.

    Customers are drawn from the data, as a release scored them, with their habits and the hours of the day. Exit code 1
    if a target is missed. A rollout that is promoted takes a second of a processor.
    """
    import numpy as np

    from fraud_data import read_transactions
    from fraud_data.labels import fraud_known_at
    from fraud_judge.page import HEAD, cells, page
    from fraud_judge.pools import scored_pool
    from fraud_judge.settings import JudgeSettings
    from fraud_judge.study import SCENARIOS, documents, run_study
    from fraud_scoring.releases import pinned_schema, release_number

    release, challenger = release_number(options["release"]), options["challenger"]
    schema, settings = pinned_schema(repository, release), JudgeSettings()
    with progress("judge") as report:
        report(0.0, "reading and scoring the data")
        data = read_transactions(path, schema, require_labels=True)
        assert data.is_fraud is not None
        pool = scored_pool(
            data.rows,
            data.is_fraud.astype(np.int64),
            fraud_known_at(data, schema, options["label_days"]),
            repository,
            release,
            release_number(challenger) if challenger else None,
            options["days"],
        )
        del data
        runs = {one.name: options["runs"] if one.required else options["other_runs"] for one in SCENARIOS}
        if challenger is None:
            runs["another good release"] = 0
        results = run_study(
            pool,
            settings,
            runs,
            rate=options["rate"],
            seed=options["seed"],
            processes=options["processes"],
            report=report,
        )
    study = documents(results, settings, options["rate"])
    if options["html"] is not None:
        options["html"].write_text(page(study), encoding="utf-8")
    shown = Table(title=f"Simulated rollouts at {options['rate']:g} transactions a second")
    for name in HEAD:
        shown.add_column(name, justify="left" if name in (HEAD[0], HEAD[-1]) else "right")
    for one in study["scenarios"]:
        shown.add_row(*cells(one))
    emit(study, as_json, table=shown)
    if not as_json:
        click.echo("\n".join(f"missed: {line}" for line in study["missed"]) or "all targets met")
    raise SystemExit(1 if study["missed"] else 0)


@judge.command()
@click.argument("study", type=click.File("rb"))
@json_option
def table(study: Any, as_json: bool) -> None:
    """The Markdown table of a STUDY, for a document: what `judge simulate --json` printed."""
    from fraud_judge.page import markdown
    from fraud_scoring.errors import InvalidInput

    try:
        text = markdown(json.load(study))
    except (ValueError, KeyError, TypeError):
        raise InvalidInput(f"{study.name} is no study; write it with: fraudctl judge simulate --json") from None
    if as_json:
        emit({"markdown": text}, as_json)
    else:
        click.echo(text, nl=False)


@judge.command()
@logs_options
@home_option
@repository_option
@click.option("--by-release", help="Compare releases by who answered, as r0001,r0002: the first is the base.")
@click.option("--from", "since", type=_day, help="First moment of the log's time, UTC.  [default: the first]")
@click.option("--to", "until", type=_day, help="Up to this moment.  [default: the last]")
@click.option("--label-days", default=7.0, show_default=True, help="Decisions younger than this do not count yet.")
@click.option("--chargeback-fee", default=20.0, show_default=True, type=click.FloatRange(0), help="Major units.")
@click.option("--false-decline-cost", default=30.0, show_default=True, type=click.FloatRange(0), help="Major units.")
@click.option("--review-cost", default=4.0, show_default=True, type=click.FloatRange(0), help="Major units.")
@click.option(
    "--review-miss-share", default=0.2, show_default=True, type=click.FloatRange(0, 1), help="Of reviewed frauds."
)
@json_option
def ab(
    folders: LogFolders,
    home: Path,
    repository: Path,
    by_release: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **options: float,
) -> None:
    """Compare the arms of an experiment, or a canary with the champion, in money: with 95% intervals.

    Fraud caught, good customers declined, reviews and cost. A decision counts once its label had time to come; what
    has no label then is held to be good. Intervals know that a customer's transactions belong together.
    """
    from fraud_judge.business import FIGURES, Costs, compare
    from fraud_judge.trial_log import arms_of_releases, arms_of_routes, decided
    from fraud_scoring.releases import pinned_schema, release_number
    from fraud_scoring.routes import Routes

    routes = Routes.read(repository)
    schema = pinned_schema(repository, routes.production)
    logs = folders.readable()
    numbers = tuple(release_number(name.strip()) for name in by_release.split(",")) if by_release else ()
    arms = arms_of_releases(numbers) if numbers else arms_of_routes(routes)
    matured_us = _now_us() - round(options["label_days"] * 86_400e6)
    found = decided(logs, schema, arms, _microseconds(since, 0), min(_microseconds(until, 2**62), matured_us))
    minor = schema.columns[schema.amount_index].minor_units
    costs = Costs(
        options["chargeback_fee"] * minor,
        options["false_decline_cost"] * minor,
        options["review_cost"] * minor,
        options["review_miss_share"],
    )
    result = compare(found, arms.names, arms.base, costs)
    shown = Table(title=f"Arms, compared with {result['against']}")
    shown.add_column("figure")
    for name in result["arms"]:
        shown.add_column(name, justify="right")
    for name in result["differences"]:
        shown.add_column(f"{name} − {result['against']}", justify="right")
    for count in ("transactions", "customers", "frauds"):
        shown.add_row(count, *(f"{arm[count]:,}" for arm in result["arms"].values()))
    for figure, meaning in FIGURES.items():
        parts = [*result["arms"].values(), *result["differences"].values()]
        shown.add_row(meaning, *(_interval(part[figure]) for part in parts))
    emit(result, as_json, table=shown)


def _settings(least_minutes: float, budget: float, decline_band: float) -> JudgeSettings:
    from dataclasses import replace

    from fraud_judge.settings import JudgeSettings, Tolerances

    chosen = JudgeSettings()
    steps = tuple(replace(step, least_s=60.0 * least_minutes) for step in chosen.steps)
    tolerances = Tolerances(decline_ratio=decline_band, harmful_ratio=max(2.0, 1.5 * decline_band))
    return replace(chosen, steps=steps, budget=budget, tolerances=tolerances)


def _interval(figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:,.4g}"
    return f"{figure['value']:,.4g} ({figure['low']:,.4g} to {figure['high']:,.4g})"


def _microseconds(moment: datetime | None, without: int) -> int:
    return without if moment is None else round(moment.replace(tzinfo=timezone.utc).timestamp() * 1_000_000)


def _now_us() -> int:
    return time.time_ns() // 1000


def _report(line: str) -> None:
    click.echo(f"judge: {line}", err=True)
