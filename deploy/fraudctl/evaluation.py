"""`fraudctl release evaluate`: a model on published folds, beside what is published about them."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from fraudctl.options import json_option, schema_option
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
@click.option("--model", type=click.Choice(["trees", "mlp", "blend"]), default="trees", show_default=True)
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
@schema_option
@json_option
def evaluate(path: Path, schema: Path | None, as_json: bool, first_day: datetime | None, **options: Any) -> None:
    """Measure a model as the Fraud Detection Handbook does, without making a release.

    Four weekly folds: 7 days to train, 7 days until labels are known, 7 days of test without the cards that are known
    as compromised. Exit code 1 where the published test folds are measured and a target is missed.
    """
    from fraud_data import read_transactions
    from fraud_release.protocol import Protocol
    from fraud_release.study import missed, run
    from fraud_scoring.schema import default_schema, load_schema

    chosen = default_schema() if schema is None else load_schema(schema)
    protocol = Protocol(history=options["protocol"] == "history")
    if first_day is not None:
        protocol = Protocol(date(first_day.year, first_day.month, first_day.day), history=protocol.history)
    judged = options["folds"] == "test" and first_day is None
    if options["folds"] == "validation":
        protocol = protocol.for_validation()
    with progress("evaluate") as report:
        data = read_transactions(path, chosen, require_labels=True)
        study = run(data, chosen, protocol, options["model"], range(1, options["seeds"] + 1), progress=report)
    short = missed(study) if judged else {}
    emit({**study.as_dict(), "missed": short}, as_json, table=_table(study, judged))
    if short:
        raise click.exceptions.Exit(1)


def _table(study: Any, judged: bool) -> Table:
    """The figures beside the book's and what must be reached."""
    from fraud_release.study import AT_LEAST, AT_LEAST_WITH_HISTORY, AT_MOST, BOOK, MEASURES

    least = {**(AT_LEAST_WITH_HISTORY if study.protocol.history else AT_LEAST), **AT_MOST}
    table = Table()
    for heading in ("measure", study.model, "spread over seeds", "book's best", "must reach"):
        table.add_column(heading)
    for name in MEASURES:
        sign = "≤" if name in AT_MOST else "≥"
        table.add_row(
            name.replace("_", " "),
            f"{study.mean[name]:.4f}",
            f"{study.spread[name]:.4f}",
            f"{BOOK[name]:.3f}" if name in BOOK else "",
            f"{sign} {least[name]:.3f}" if judged else "",
        )
    return table
