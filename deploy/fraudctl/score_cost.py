"""`fraudctl release cost`: what a score costs on one core."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from fraudctl.options import json_option, repository_option
from fraudctl.report import emit, progress


@click.command()
@click.argument("release")
@click.option(
    "--data", "path", type=click.Path(path_type=Path), required=True, help="Transactions (Parquet or CSV) to score."
)
@click.option("--batch", default=64, show_default=True, type=click.IntRange(1, 1024), help="Payments in a batch.")
@click.option("--batches", default=500, show_default=True, type=click.IntRange(1, 100_000), help="Batches measured.")
@click.option("--judge/--no-judge", default=True, show_default=True, help="Exit code 1 above 25 µs.")
@repository_option
@json_option
def cost(release: str, path: Path, batch: int, batches: int, judge: bool, repository: Path, as_json: bool) -> None:
    """Measure features, model and decision of RELEASE, in this process.

    Processor time of one core, a payment, mean over the last payments of the data. The store's read is shown, and not
    judged; nothing of network, server or waiting is in it.
    """
    from fraud_data import read_transactions
    from fraud_release.score_cost import AT_MOST_US, measure
    from fraud_scoring.pipeline import Pipeline
    from fraud_scoring.releases import release_number

    pipeline = Pipeline.load(repository, release_number(release))
    with progress("cost") as report:
        report(0.0, "reading the data")
        data = read_transactions(path, pipeline.schema)
        found = measure(pipeline, data.rows, batch=batch, batches=batches, progress=report)
    missed = judge and found.score_us > AT_MOST_US
    result = {**asdict(found), "score_us": found.score_us, "at_most_us": AT_MOST_US, "missed": missed}
    lines = [(name.removesuffix("_us"), f"{value:.2f} µs") for name, value in asdict(found).items() if "_us" in name]
    lines.append(("score", f"{found.score_us:.2f} µs a payment without the read; at most {AT_MOST_US:g} µs"))
    emit(result, as_json, table=lines)
    if missed:
        raise click.exceptions.Exit(1)
