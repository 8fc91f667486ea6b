"""`fraudctl demo`: the whole way once, from nothing to scored transactions, with a summary."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraudctl.options import home_option, json_option, repository_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_data import Transactions
    from fraud_load.rehearsal import Rehearsal
    from fraud_scoring.schema import Schema


@click.command()
@repository_option
@home_option
@click.option(
    "--transactions", default=60_000, show_default=True, type=click.IntRange(min=1_000), help="How many to stream."
)
@click.option("--callers", default=64, show_default=True, type=click.IntRange(min=1), help="Concurrent callers.")
@json_option
def demo(repository: Path, home: Path, transactions: int, callers: int, as_json: bool) -> None:
    """Simulate, train, serve, score: one command from nothing to a summary table.

    What exists is used again: the data under --home, the routed release in --repository. The server listens on free
    loopback ports and its window store is made anew; nothing keeps running afterwards.
    """
    from fraud_data.labels import DEFAULT_LABEL_DAYS
    from fraud_load.preload import preload
    from fraud_load.rehearsal import rehearse
    from fraud_load.stream import label_rows
    from fraud_release.splits import SplitDays, split_by_time
    from fraud_release.trust import pinned_key_file
    from fraud_scoring.releases import pinned_schema, release_name
    from fraud_scoring.routes import Routes
    from fraud_scoring.stores import open_store

    began = time.monotonic()
    data = prepare_release(repository, home)
    release = Routes.read(repository).production
    schema = pinned_schema(repository, release)
    start_us = split_by_time(data.rows[:, schema.time_index], SplitDays()).test_from_us
    first = int(data.rows[:, schema.time_index].searchsorted(start_us))
    streamed = data.slice(first, first + transactions)
    folder = home / "demo"
    shutil.rmtree(folder / "store", ignore_errors=True)
    store_url = f"lmdb://{(folder / 'store').absolute()}"
    store = open_store(store_url, schema)
    with progress("history") as report:
        history = preload(store, data, schema, start_us, DEFAULT_LABEL_DAYS, report)
    store.close()
    labels = label_rows(data.slice(0, first + transactions), schema, DEFAULT_LABEL_DAYS)
    labels = labels[labels[:, 2] >= start_us]
    with _server(repository, folder, store_url, pinned_key_file(home)) as url, progress("stream") as report:
        found = asyncio.run(rehearse(url, streamed, schema, labels, callers=callers, progress=report))
    result = _result(found, streamed, schema)
    result |= {
        "release": release_name(release),
        "history": history,
        "callers": callers,
        "total_seconds": round(time.monotonic() - began, 1),
    }
    emit(result, as_json, table=_table(result, found))


def prepare_release(repository: Path, home: Path) -> Transactions:
    """The simulated transactions and a routed release, made where they are missing; returns the transactions."""
    from fraud_data import read_transactions, simulate, write_transactions
    from fraud_release.train import Plan, train
    from fraud_release.trust import home_signing_key, named_signing_key
    from fraud_scoring.errors import ReleaseUnavailable
    from fraud_scoring.releases import existing, release_number
    from fraud_scoring.routes import Routes
    from fraud_scoring.schema import default_schema

    path, schema = home / "data" / "transactions.parquet", default_schema()
    if not path.exists():
        with progress("data") as report:
            write_transactions(path, simulate(progress=report), schema)
    data = read_transactions(path, schema)
    try:
        Routes.read(repository)
    except ReleaseUnavailable:
        if existing(repository):
            raise
        with progress("release") as report:
            provenance = {"file": path.name, "simulated": True}
            key = named_signing_key() or home_signing_key(home)
            manifest = train(data, schema, repository, Plan(), provenance=provenance, progress=report, signing_key=key)
        Routes(release_number(manifest["release"])).write(repository)
        _register(manifest["release"], repository, home)
    return data


def _register(name: str, repository: Path, home: Path) -> None:
    """Put a release on record in its repository, in a process of its own: what follows serves, without MLflow."""
    command = [sys.executable, "-c", "from fraudctl.cli import main; main()", "release", "register", name]
    options = ["--repository", os.fspath(repository), "--home", os.fspath(home), "--reason", "trained"]
    with progress("registry") as report:
        report(0.0, f"putting {name} on record")
        alone = {name: value for name, value in os.environ.items() if name != "FRAUD_REGISTRY"}
        ran = subprocess.run([*command, *options], stdout=subprocess.DEVNULL, env=alone, check=False)
    if ran.returncode != 0:
        click.echo(f"registry: {name} is not on record; then: fraudctl release register {name}", err=True)


@contextmanager
def _server(repository: Path, home: Path, store_url: str, release_key: Path) -> Iterator[str]:
    """A supervised server on free ports, ready; drained at the end."""
    from fraud_server.ports import free_ports
    from fraud_server.settings import Ports, ServeSettings
    from fraud_server.supervisor import supervised

    settings = ServeSettings(repository, home, Ports(*free_ports(3)), store_url, release_key=release_key)
    with supervised(settings, lambda line: click.echo(f"serve: {line}", err=True)):
        yield settings.url


def _result(found: Rehearsal, data: Transactions, schema: Schema) -> dict[str, Any]:
    from fraud_release.evaluation import quality
    from fraud_scoring.wire import Decision

    assert data.is_fraud is not None
    fraud = data.is_fraud == 1
    customer = data.rows[:, schema.entities[0][0]]
    measured = quality(found.score, data.is_fraud, customer, data.rows[:, schema.time_index])
    decisions = {
        decision.name.lower(): {
            "transactions": int((found.decision == decision).sum()),
            "frauds": int(((found.decision == decision) & fraud).sum()),
        }
        for decision in Decision
    }
    return {
        "transactions": len(data),
        "frauds": int(fraud.sum()),
        "frauds_caught": int(((found.decision > 0) & fraud).sum()),
        "decisions": decisions,
        "average_precision": round(measured.average_precision, 4),
        "auc": round(measured.auc, 4),
        "latency_ms": {f"p{percent}": round(found.latency_ms(percent), 2) for percent in (50, 99)},
        "per_second": round(found.per_second),
        "seconds": round(found.seconds, 1),
        "labels": found.labels,
    }


def _table(result: dict[str, Any], found: Rehearsal) -> list[tuple[str, str]]:
    rows = [
        ("release", result["release"]),
        ("transactions scored", f"{result['transactions']:,} on top of a history of {result['history']:,}"),
    ]
    for name, kind in result["decisions"].items():
        share = kind["transactions"] / result["transactions"]
        rows.append((f"  {name}", f"{kind['transactions']:,} ({share:.2%}), {kind['frauds']:,} of them fraud"))
    caught = result["frauds_caught"] / max(1, result["frauds"])
    rows += [
        ("frauds caught", f"{result['frauds_caught']:,} of {result['frauds']:,} ({caught:.0%}) by review or decline"),
        (
            "average precision",
            f"{result['average_precision']:.3f} (AUC {result['auc']:.3f}), labels {result['labels']:,}",
        ),
        (
            "latency",
            f"p50 {result['latency_ms']['p50']:.1f} ms, p99 {result['latency_ms']['p99']:.1f} ms "
            f"({result['callers']} concurrent callers of one transaction each)",
        ),
        ("throughput", f"{result['per_second']:,} transactions/s, {result['seconds']} s"),
        ("whole demo", f"{result['total_seconds']} s"),
        ("", ""),
        ("last flagged", "score   reasons"),
    ]
    for decision in found.flagged[-5:]:
        reasons = "; ".join(reason.text for reason in decision.reasons) or "the whole picture"
        rows.append((f"  {decision.action.name.lower()} {decision.transaction_id}", f"{decision.score:.4f}  {reasons}"))
    return rows
