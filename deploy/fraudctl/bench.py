"""`fraudctl bench`: how fast, at which cost, against what."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from fraud_scoring.errors import InvalidInput
from fraud_scoring.stopping import leaving_on_sigterm
from fraudctl.options import home_option, json_option, repository_option
from fraudctl.report import emit, progress


@click.command()
@repository_option
@home_option
@click.option("--quick", is_flag=True, help="The same shape in under three minutes: short rounds, two where they fit.")
@click.option(
    "--peers", is_flag=True, help="Other frameworks doing the same job too, each in an environment of its own."
)
@click.option("--rounds", type=click.IntRange(1, 100), help="How often each row is measured.  [default: 5; quick: 2]")
@click.option("--seconds", type=click.FloatRange(0.5, 60), help="Window of each load.  [default: 4; quick: 0.7]")
@click.option("--only", help="Only rows whose key begins with one of these, as in: single_64,floor")
@click.option(
    "--perf-analyzer",
    type=click.Path(path_type=Path),
    help="Triton's perf_analyzer; without it FRAUD_PERF_ANALYZER, then the PATH.",
)
@click.option(
    "--from", "result_file", type=click.Path(exists=True, path_type=Path), help="Show a result that --json gave."
)
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables as Markdown, too.")
@json_option
def bench(
    repository: Path,
    home: Path,
    quick: bool,
    peers: bool,
    rounds: int | None,
    seconds: float | None,
    only: str | None,
    perf_analyzer: Path | None,
    result_file: Path | None,
    write: Path | None,
    as_json: bool,
) -> None:
    """Measure the served stack in one run: rounds of all rows in turn, medians, and what must be reached.

    Starts everything itself on free loopback ports, with a preloaded store, and ends it. Without a release, one is
    trained first. Exit code 1 where a target is missed.
    """
    from fraud_bench.report import markdown, read, table

    if result_file is None:
        result = _measure(repository, home, _plan(quick, peers, rounds, seconds, perf_analyzer), only)
    else:
        result = read(result_file.read_text(encoding="utf-8"))
    if write is not None:
        write.write_text(markdown(result, "fraudctl bench --peers --write docs/benchmarks.md"), encoding="utf-8")
    emit(result, as_json, table=table(result))
    sys.exit(0 if result["held"] else 1)


def _plan(quick: bool, peers: bool, rounds: int | None, seconds: float | None, perf_analyzer: Path | None) -> Any:
    from dataclasses import replace

    from fraud_bench.bench import Plan

    plan = Plan.short() if quick else Plan()
    return replace(
        plan,
        rounds=rounds or plan.rounds,
        seconds=seconds or plan.seconds,
        perf_analyzer=perf_analyzer,
        peers=peers,
    )


def _measure(repository: Path, home: Path, plan: Any, only: str | None) -> dict[str, Any]:
    from fraud_bench.bench import run
    from fraud_bench.rows import RIVAL_ROWS, ROWS
    from fraud_release.trust import RELEASE_KEY_VARIABLE, pinned_key_file
    from fraudctl.demo import prepare_release

    prefixes = tuple(only.split(",")) if only else ("",)
    offered = [*ROWS, *(RIVAL_ROWS if plan.peers else ())]
    rows = [row for row in offered if row.key.startswith(prefixes)]
    if not rows:
        raise InvalidInput(f"--only {only}: no row begins so; rows are {', '.join(row.key for row in offered)}")
    prepare_release(repository, home)
    # its servers have homes of their own, and trust whom this one trusts
    os.environ[RELEASE_KEY_VARIABLE] = str(pinned_key_file(home).absolute())
    with leaving_on_sigterm(), progress("bench") as report:
        return run(repository, home, plan, report, rows)
