"""`fraudctl features`: compute features offline, prove that serving gives the same, fill a window store."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from fraudctl.options import home_option, json_option, repository_option, schema_option, seed_option, url_option
from fraudctl.report import emit, progress

data_option = click.option(
    "--data", "path", type=click.Path(path_type=Path), required=True, help="Transactions (Parquet or CSV)."
)
label_days_option = click.option(
    "--label-days", default=6.0, show_default=True, help="When labels are known, where the data does not say."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of the file.")


@click.group()
def features() -> None:
    """Features offline and online: replay a history, verify a running server, load a store."""


@features.command()
@data_option
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@schema_option
@label_days_option
@limit_option
@json_option
def replay(path: Path, out: Path, schema: Path | None, label_days: float, limit: int | None, as_json: bool) -> None:
    """Compute the features of a whole history, each row as serving would have seen it."""
    import polars as pl

    from fraud_data import read_transactions
    from fraud_data.labels import fraud_known_at
    from fraud_scoring.features import replay as run
    from fraud_scoring.schema import default_schema, load_schema

    chosen = default_schema() if schema is None else load_schema(schema)
    began = time.monotonic()
    with progress("replay") as report:
        report(0.0, "reading")
        data = read_transactions(path, chosen, limit=limit)
        report(0.2, f"features of {len(data):,} transactions")
        found = run(chosen, data.rows, fraud_known_at(data, chosen, label_days))
        report(0.9, "writing")
        columns = {name: found[:, i] for i, name in enumerate(chosen.feature_names)}
        frame = pl.DataFrame({chosen.column_names[chosen.id_index]: data.rows[:, chosen.id_index], **columns})
        staged = out.with_name(f".{out.name}.part")
        out.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(staged)
        staged.replace(out)
        report(1.0, "done")
    seconds = time.monotonic() - began
    result = {
        "rows": len(data),
        "features": len(chosen.features),
        "seconds": round(seconds, 2),
        "rows_per_second": round(len(data) / seconds),
        "out": out,
    }
    emit(result, as_json)


@features.command()
@data_option
@url_option
@repository_option
@label_days_option
@limit_option
@click.option("--batch", default=512, show_default=True, type=click.IntRange(1, 1024), help="Most rows a request.")
@click.option(
    "--repeat-share",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the requests that is sent twice.",
)
@click.option("--kill-halfway", is_flag=True, help="SIGKILL the tritonserver that serves from --home, halfway.")
@home_option
@seed_option
@json_option
def verify(
    path: Path,
    url: str,
    repository: Path,
    label_days: float,
    limit: int | None,
    batch: int,
    repeat_share: float,
    kill_halfway: bool,
    home: Path,
    seed: int,
    as_json: bool,
) -> None:
    """Stream a history through a RUNNING server and compare its features and decisions with the replay, bit by bit.

    The stream uses ids and keys of its own: it can run against a store with other content, and again. Exit code 1 on
    any mismatch; those that are `degraded` say themselves that another answered in the release's place.
    """
    from fraud_client import FraudClient, Policy
    from fraud_data import read_transactions
    from fraud_load.verify import verify as run
    from fraud_scoring.pipeline import Pipeline
    from fraud_scoring.routes import Routes

    pipeline = Pipeline.load(repository, Routes.read(repository).production)
    with progress("verify") as report, FraudClient(url, policy=Policy.plain()) as client:
        report(0.0, "reading")
        data = read_transactions(path, pipeline.schema, limit=limit)
        found = run(
            data,
            pipeline,
            client,
            batch=batch,
            repeat_share=repeat_share,
            label_days=label_days,
            seed=seed,
            halfway=(lambda: _kill_server(home)) if kill_halfway else (lambda: None),
            progress=report,
        )
    result = {
        **asdict(found),
        "mismatches": found.mismatches,
        "rows_per_second": round(found.rows_per_second),
        "seconds": round(found.seconds, 1),
        "killed": kill_halfway,
    }
    emit(result, as_json)
    sys.exit(1 if found.mismatches else 0)


@features.command()
@data_option
@click.option(
    "--store", required=True, envvar="FRAUD_STORE", help="Window store URL, as lmdb:///folder or redis://host."
)
@click.option("--until", type=click.DateTime(), help="Only events before this UTC time.")
@schema_option
@label_days_option
@json_option
def load(path: Path, store: str, until: object, schema: Path | None, label_days: float, as_json: bool) -> None:
    """Fill a window store with a history, labels included, so that windows are warm from the first transaction on."""
    from datetime import datetime, timezone

    from fraud_data import read_transactions
    from fraud_load.preload import preload
    from fraud_scoring.schema import default_schema, load_schema
    from fraud_scoring.stores import open_store

    chosen = default_schema() if schema is None else load_schema(schema)
    data = read_transactions(path, chosen)
    times = data.rows[:, chosen.time_index]
    until_us = int(times.max()) + 1
    if isinstance(until, datetime):
        until_us = int(until.replace(tzinfo=timezone.utc).timestamp() * 1_000_000)
    opened = open_store(store, chosen, filling=True)
    began = time.monotonic()
    with progress("load") as report:
        rows = preload(opened, data, chosen, until_us, label_days, report)
    opened.close()
    emit({"rows": rows, "seconds": round(time.monotonic() - began, 1)}, as_json)


def _kill_server(home: Path) -> None:
    """SIGKILL the tritonserver whose process id the supervisor wrote under `home`."""
    import psutil

    from fraud_server.errors import CannotServe
    from fraud_server.process import PROCESS_FILE

    try:
        process = psutil.Process(json.loads((home / "run" / PROCESS_FILE).read_text(encoding="utf-8"))["pid"])
        if process.name() != "tritonserver":
            raise ValueError("the file outlived its server, and the number went to another process")
        process.kill()
    except (OSError, ValueError, KeyError, psutil.Error):
        raise CannotServe(f"no server is supervised from {home}; start it with: fraudctl serve --home {home}") from None
