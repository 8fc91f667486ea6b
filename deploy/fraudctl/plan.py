"""`fraudctl plan`: from a benchmark to servers, Redis, log, generators, and what a million predictions cost."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fraud_scoring.errors import InvalidInput
from fraudctl.options import home_option, json_option, repository_option
from fraudctl.report import Report, emit, progress

if TYPE_CHECKING:
    from fraud_capacity.check import Compared
    from fraud_scoring.schema import Schema

_ROWS: Final = ("coalesced", "redis_64")
"""What is measured where no benchmark is there."""


@click.command()
@click.option(
    "--rate", type=click.FloatRange(1), default=10_000, show_default=True, help="Transactions a second, at the peak."
)
@click.option("--p99", "p99_ms", type=click.FloatRange(1), default=100, show_default=True, help="Milliseconds.")
@click.option("--history", default="30d", show_default=True, help="Days of history in the windows, as 30d.")
@click.option(
    "--bench",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A result of `fraudctl bench --json`, or its tables, as docs/benchmarks.md.  [default: the newest bench*.json "
    "in the home folder; without one it is measured, in about two minutes]",
)
@click.option(
    "--traffic",
    type=click.Choice(["coalesced", "single"]),
    default="coalesced",
    show_default=True,
    help="Calls as our client joins them, or requests of one row.",
)
@click.option("--prices", type=click.Path(dir_okay=False, path_type=Path), help="Your prices.  [default: the example]")
@click.option("--check", is_flag=True, help="Compare predictions with other measurements; exit code 1 beyond 20%.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --check: predict the rows of this other result, too.",
)
@repository_option
@home_option
@json_option
def plan(
    rate: float,
    p99_ms: float,
    history: str,
    bench: Path | None,
    traffic: str,
    prices: Path | None,
    check: bool,
    against: Path | None,
    repository: Path,
    home: Path,
    as_json: bool,
) -> None:
    """Say what a rate needs: servers, Redis shards and memory, log a day, load generators, and what predictions cost.

    From measured rows of the benchmark and bytes measured on a real log, LMDB and Redis. What is assumed beyond that
    (utilisation, spares, replicas) is in the report; prices are a file of yours (docs/capacity.md).
    """
    from fraud_capacity.model import Model, is_quiet, points_of, redis_us
    from fraud_capacity.plan import RULES, Wanted, make
    from fraud_capacity.prices import read_prices
    from fraud_capacity.sizes import measure

    wanted = Wanted(rate, p99_ms, _days(history))
    costs = read_prices(prices)
    with progress("plan") as report:
        path, result = _benchmark(bench, repository, home, report)
        schema = _schema(repository)
        points = points_of(result, traffic)
        if check:
            other = _read(against) if against else None
            quiet = is_quiet(result) and (other is None or is_quiet(other))
            _check(points, other and points_of(other, traffic), schema, path, report, as_json, quiet)
            return
        model = Model.of(points)
        sizes = measure(schema, _rows_a_frame(points[0].in_flight), report)
    made = make(wanted, model, sizes, redis_us(result), schema, costs)
    document = {
        "wanted": asdict(wanted),
        "plan": asdict(made),
        "measured": {"bench": path, "machine": result["machine"], "sizes": asdict(sizes)},
        "assumed": asdict(RULES),
        "prices": asdict(costs),
    }
    emit(document, as_json, table=_table(document))


def _check(points: Any, others: Any, schema: Schema, path: Path, report: Report, as_json: bool, quiet: bool) -> None:
    from fraud_capacity.check import TOLERANCE, left_out, sizes
    from fraud_capacity.check import against as predict

    compared: list[Compared] = left_out(points, quiet=quiet)
    if others is not None:
        compared += predict(points, others, quiet=quiet)
    compared += sizes(schema, report)
    held = all(one.held for one in compared if one.steady)
    result = {
        "bench": path,
        "tolerance": TOLERANCE,
        "held": held,
        "compared": [{**asdict(one), "error": round(one.error, 4), "held": one.held} for one in compared],
    }
    table = [
        (
            one.what,
            f"predicted {one.predicted:,.1f}, measured {one.measured:,.1f}: {one.error:+.1%}"
            f"{'' if one.held else '  BEYOND' if one.steady else '  (not judged: others move it)'}",
        )
        for one in compared
    ]
    emit(result, as_json, table=table)
    sys.exit(0 if held else 1)


def _benchmark(path: Path | None, repository: Path, home: Path, report: Report) -> tuple[Path, dict[str, Any]]:
    """A result, and where it is kept: the one that was named, the newest of the home, or one that is measured now."""
    if path is None:
        kept = sorted(home.glob("bench*.json"), key=lambda one: one.stat().st_mtime)
        path = kept[-1] if kept else _measure(repository, home, report)
    return path, _read(path)


def _measure(repository: Path, home: Path, report: Report) -> Path:
    from dataclasses import replace

    from fraud_bench.bench import Plan, run
    from fraud_bench.rows import ROWS
    from fraudctl.demo import prepare_release

    prepare_release(repository, home)
    rows = [row for row in ROWS if row.key.startswith(_ROWS)]
    result = run(repository, home, replace(Plan.short(), seconds=2.0, rounds=3), report, rows)
    path = home / f"bench-{datetime.now(timezone.utc):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def _read(path: Path) -> dict[str, Any]:
    from fraud_bench.report import read
    from fraud_capacity.published import read_tables

    text = path.read_text(encoding="utf-8")
    return read_tables(text) if path.suffix == ".md" else read(text)


def _schema(repository: Path) -> Schema:
    """Of the release in production; the default one where none is there."""
    from fraud_scoring.releases import existing, pinned_schema
    from fraud_scoring.routes import Routes
    from fraud_scoring.schema import default_schema

    return pinned_schema(repository, Routes.read(repository).production) if existing(repository) else default_schema()


def _rows_a_frame(in_flight: int) -> int:
    """A frame is a dynamic batch; of what is in flight about half is in the one that is answered."""
    return max(1, in_flight // 2)


def _days(text: str) -> float:
    number = text.removesuffix("d")
    try:
        found = float(number)
    except ValueError:
        found = 0.0
    if not 0 < found <= 3_650:
        raise InvalidInput(f"--history {text!r}: write days from 1 to 3650, as 30d")
    return found


def _table(document: dict[str, Any]) -> list[tuple[str, str]]:
    made, wanted, prices = document["plan"], document["wanted"], document["prices"]
    redis = made["redis_by"]
    if made["redis_shards"] is not None:
        redis = (
            f"{made['redis_shards']} primaries, each with {document['assumed']['replicas']} replica; "
            f"{made['redis_gib']:,} GiB, {made['redis_gib_of_records']:,} of them records; {redis} decides"
        )
    return [
        ("peak", f"{wanted['rate']:,.0f}/s, p99 {wanted['p99_ms']:g} ms, {wanted['history_days']:g} days of history"),
        (
            "servers",
            f"{made['servers']} of {prices['server']['name']}: {made['server_cores']:g} cores' work, and a spare",
        ),
        ("CPU time", f"{made['server_us']:g} µs a transaction with {made['in_flight']:,} in flight"),
        ("Redis", redis),
        ("LMDB", f"{made['lmdb_gib']:,} GiB in its place, on one machine"),
        ("log", f"{made['log_gib_a_day']:,} GiB a day, {made['log_bytes_a_transaction']:g} bytes a transaction"),
        ("load generators", f"{made['generators']} of {prices['generator']['name']}"),
        ("a million predictions", f"{made['cost_per_million']:,.4f} {made['currency']} {made['cost_parts']}"),
        ("prices", f"{prices['source']} ({prices['date']})"),
        ("measured", str(document["measured"]["bench"])),
    ]
