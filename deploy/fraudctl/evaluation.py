"""`fraudctl release evaluate`: a model on published folds, beside what is published about them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.table import Table

from fraudctl.options import json_option, model_option, schema_option
from fraudctl.report import emit, progress


@click.command()
@click.option(
    "--data", "path", type=click.Path(path_type=Path), required=True, help="Labelled transactions (Parquet or CSV)."
)
@click.option(
    "--protocol",
    type=click.Choice(["handbook", "history"]),
    default="handbook",
    show_default=True,
    help="7 training days as published, or all days before the delay.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1, 100), help="How many seeds.")
@model_option
@click.option(
    "--folds",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="The test folds, or the earlier ones on which settings are chosen.",
)
@click.option(
    "--first-day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First training day of the first test fold, UTC; without it as published: 2018-07-25.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, too, as one page in this file.")
@click.option("--oracle", is_flag=True, help="Beside it, what one reaches who knows how the frauds were simulated.")
@click.option(
    "--without",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="Measure also without these features; each time that it is given is a row of its own.",
)
@schema_option
@json_option
def evaluate(
    path: Path,
    schema: Path | None,
    as_json: bool,
    first_day: datetime | None,
    html: Path | None,
    oracle: bool,
    without: tuple[str, ...],
    **options: Any,
) -> None:
    """Measure a model as the Fraud Detection Handbook does, without making a release.

    Four weekly folds: 7 days to train, 7 days until labels are known, 7 days of test without the cards that are known
    as compromised. Exit code 1 where the published test folds are measured and a target is missed.
    """
    from fraud_data import read_transactions
    from fraud_release.oracle import ceiling
    from fraud_release.protocol import Protocol
    from fraud_release.study import kept_columns, missed, run, study_features
    from fraud_release.study_page import page
    from fraud_scoring.errors import InvalidInput
    from fraud_scoring.schema import default_schema, load_schema

    chosen = default_schema() if schema is None else load_schema(schema)
    protocol = Protocol(history=options["protocol"] == "history")
    if first_day is not None:
        protocol = Protocol(date(first_day.year, first_day.month, first_day.day), history=protocol.history)
    judged = options["folds"] == "test" and first_day is None
    if options["folds"] == "validation":
        protocol = protocol.for_validation()
    if html is not None and not html.absolute().parent.is_dir():
        raise InvalidInput(f"--html {html.name}: its folder is not there; make it, or give another")
    left_out = [tuple(name.strip() for name in names.split(",")) for names in without]
    for names in left_out:
        kept_columns(chosen, names)  # refused before the work, and not after it
    seeds = range(1, options["seeds"] + 1)
    with progress("evaluate") as report:
        data = read_transactions(path, chosen, require_labels=True)
        limit = ceiling(data, chosen, protocol) if oracle else None
        features = study_features(data, chosen, protocol, report)
        study, *others = (
            run(data, chosen, protocol, options["model"], seeds, progress=report, features=features, without=names)
            for names in ((), *left_out)
        )
    if html is not None:
        html.write_text(page(study), encoding="utf-8")
    short = missed(study) if judged else {}
    result = {**study.as_dict(), "missed": short, "ablations": [one.as_dict() for one in others]}
    if limit is not None:
        result["oracle"] = asdict(limit)
    emit(result, as_json, table=Group(_table(study, judged, limit), *_notes(study, limit), *_ablations(study, others)))
    if short:
        raise click.exceptions.Exit(1)


def _table(study: Any, judged: bool, limit: Any) -> Table:
    """The figures beside the book's and what must be reached."""
    from fraud_release.study import AT_LEAST, AT_LEAST_WITH_HISTORY, AT_MOST, BOOK, MEASURES

    least = {**(AT_LEAST_WITH_HISTORY if study.protocol.history else AT_LEAST), **AT_MOST}
    table = Table()
    for heading in (
        "measure",
        study.model,
        "spread over seeds",
        "book's best",
        "must reach",
        *(["oracle"] if limit else []),
    ):
        table.add_column(heading)
    for name in MEASURES:
        sign = "≤" if name in AT_MOST else "≥"
        table.add_row(
            name.replace("_", " "),
            f"{study.mean[name]:.4f}",
            f"{study.spread[name]:.4f}",
            f"{BOOK[name]:.3f}" if name in BOOK else "",
            f"{sign} {least[name]:.3f}" if judged else "",
            *([f"{getattr(limit, name):.4f}" if hasattr(limit, name) else ""] if limit else []),
        )
    return table


def _notes(study: Any, limit: Any) -> list[str]:
    """What mistakes and reviews cost, and what no label could tell."""
    cost = study.as_dict()["cost"]
    notes = [
        f"cost a transaction, minor units: {cost['chosen_minor']:.1f} at the thresholds chosen before the test, "
        f"{cost['hindsight_minor']:.1f} at the best in hindsight, {cost['approve_all_minor']:.1f} if all is approved"
    ]
    if limit:
        notes.append(
            f"no label tells of {limit.unforeseen:.1%} of the frauds: they are {limit.unforeseen_of_scenario_2:.1%} of "
            "scenario 2's, at terminals none of whose frauds was known yet"
        )
    return notes


def _ablations(study: Any, others: list[Any]) -> list[Table]:
    """The figures without some features, and how far they are from those with all."""
    if not others:
        return []
    table = Table()
    for heading in ("without", "average precision", "change", "AUC", "change", "card precision@100", "change"):
        table.add_column(heading)
    for one in others:
        cells = []
        for name in ("average_precision", "auc", "card_precision_100"):
            cells += [f"{one.mean[name]:.4f}", f"{one.mean[name] - study.mean[name]:+.4f}"]
        table.add_row(", ".join(one.without), *cells)
    return [table]
