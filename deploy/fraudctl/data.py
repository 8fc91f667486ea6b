"""`fraudctl data`: simulate transactions, import files of others, describe what a file holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from fraudctl.options import json_option, schema_option
from fraudctl.report import emit, progress

_file = click.Path(dir_okay=False, path_type=Path)


@click.group()
def data() -> None:
    """Transactions as files: simulate them, import your own, describe what is there."""


@data.command()
@click.option("--out", type=_file, required=True, help="Parquet file to write.")
@click.option("--customers", default=5_000, show_default=True, help="How many cards there are.")
@click.option("--terminals", default=10_000, show_default=True, help="How many terminals they pay at.")
@click.option("--days", default=183, show_default=True, help="How many days of transactions.")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same transactions.")
@click.option(
    "--start", type=click.DateTime(["%Y-%m-%d"]), default="2018-04-01", show_default=True, help="The first day."
)
@json_option
def simulate(out: Path, customers: int, terminals: int, days: int, seed: int, start: datetime, as_json: bool) -> None:
    """Simulate labelled card transactions, as published in the Fraud Detection Handbook."""
    from fraud_data import SimulatorSettings, write_transactions
    from fraud_data import simulate as run
    from fraud_data.summary import frauds

    began = time.monotonic()
    settings = SimulatorSettings(customers, terminals, days, start.date(), seed)
    with progress("simulate") as report:
        transactions = run(settings, progress=lambda done, text: report(0.9 * done, text))
        report(0.9, "writing")
        write_transactions(out, transactions)
        report(1.0, "written")
    seconds = round(time.monotonic() - began, 2)
    summary = {"transactions": len(transactions), **frauds(transactions)}
    emit({**summary, "seed": seed, "seconds": seconds, "file": str(out)}, as_json)


@data.command("import")
@click.option("--in", "source", type=_file, required=True, help="Parquet or CSV file to read.")
@click.option("--out", type=_file, required=True, help="Parquet file to write.")
@click.option(
    "--map", "pairs", multiple=True, metavar="OURS=THEIRS", help="Name of a column in the file: customer_id=cust_no."
)
@click.option(
    "--token-key-env",
    default="FRAUD_TOKEN_KEY",
    show_default=True,
    metavar="NAME",
    help="Environment variable with the secret that makes keys of identifiers that are text.",
)
@click.option(
    "--as-text",
    multiple=True,
    metavar="COLUMN",
    help="Entity column (customer_id) whose numbers your application passes to the client library as text.",
)
@click.option("--sort", is_flag=True, help="Put the rows in event order instead of refusing any other order.")
@schema_option
@json_option
def import_(
    source: Path,
    out: Path,
    pairs: tuple[str, ...],
    token_key_env: str,
    as_text: tuple[str, ...],
    sort: bool,
    schema: Path | None,
    as_json: bool,
) -> None:
    """Check a file of transactions, rule by rule, and write it in the canonical form.

    Amounts in major units (12.50) go by the name amount: --map amount=NAME.
    """
    from fraud_data import describe, read_transactions, write_transactions
    from fraud_scoring.schema import default_schema, load_schema

    began = time.monotonic()
    columns, tokenize = _column_map(pairs), _tokenize(token_key_env)
    chosen = default_schema() if schema is None else load_schema(schema)
    with progress("import") as report:
        report(0.0, "reading and checking")
        transactions = read_transactions(source, chosen, columns=columns, sort=sort, tokenize=tokenize, as_text=as_text)
        report(0.7, "writing")
        write_transactions(out, transactions, chosen)
        report(1.0, "written")
    seconds = round(time.monotonic() - began, 2)
    emit({**describe(transactions, chosen), "seconds": seconds, "file": str(out)}, as_json)


@data.command("describe")
@click.option("--data", "source", type=_file, required=True, help="Parquet or CSV file of transactions.")
@schema_option
@json_option
def describe_(source: Path, schema: Path | None, as_json: bool) -> None:
    """Rows, span, entities, amounts and frauds of a file."""
    from fraud_data import describe, read_transactions
    from fraud_scoring.schema import default_schema, load_schema

    chosen = default_schema() if schema is None else load_schema(schema)
    emit({**describe(read_transactions(source, chosen), chosen), "file": str(source)}, as_json)


def _column_map(pairs: tuple[str, ...]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if not ours or not theirs:
            raise click.UsageError(f"--map {pair} is no pair; write --map OURS=THEIRS, as customer_id=cust_no")
        if ours in columns:
            raise click.UsageError(f"--map {ours}= is given twice; map a column once")
        columns[ours] = theirs
    return columns


def _tokenize(variable: str) -> Callable[[str, str], int] | None:
    """Makes the keys that the client library makes; None where the environment variable holds no secret."""
    from fraud_client import InvalidRequest, Tokenizer
    from fraud_scoring.errors import InvalidInput

    if not (secret := os.environ.get(variable)):
        return None
    try:
        tokenizer = Tokenizer(secret.encode())
    except InvalidRequest as error:
        raise InvalidInput(f"{variable}: {error}") from None

    def tokenize(column: str, identifier: str) -> int:
        try:
            return tokenizer.token(identifier, entity=column.removesuffix("_key"))
        except InvalidRequest as error:
            raise InvalidInput(str(error)) from None

    return tokenize
