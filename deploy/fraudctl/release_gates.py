"""`fraudctl release gates`: may this release leave its stage?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.table import Table

from fraudctl.options import home_option, json_option, release_key_option, repository_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_release.gates import GateResult, GateSettings

_F = TypeVar("_F", bound=Callable[..., Any])
_share = click.FloatRange(0)
_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Labelled transactions with the test part in them.  [default: <home>/data/transactions.parquet]",
    ),
    click.option(
        "--server/--no-server", default=True, show_default=True, help="Measure on a server of the release's own."
    ),
    click.option(
        "--ap-margin", type=_share, default=0.02, show_default=True, help="Average precision may be this lower."
    ),
    click.option("--cost-margin", type=_share, default=0.05, show_default=True, help="Cost may be this share higher."),
    click.option(
        "--calibration-error",
        type=_share,
        default=0.2,
        show_default=True,
        help="Expected calibration error, as a share of the fraud rate.",
    ),
    click.option(
        "--fraud-ratio",
        type=click.FloatRange(1),
        default=1.25,
        show_default=True,
        help="Expected over found frauds, either way.",
    ),
    click.option(
        "--false-positive-ratio",
        type=_share,
        default=1.5,
        show_default=True,
        help="A segment's false-positive rate over what is expected of it.",
    ),
    click.option(
        "--recall-ratio", type=_share, default=0.75, show_default=True, help="A segment's recall over what is expected."
    ),
    click.option("--latency-ms", type=_share, default=60.0, show_default=True, help="Budget of p99, milliseconds."),
    click.option("--memory-mib", type=_share, default=2_048.0, show_default=True, help="Budget of memory, MiB."),
)


def gate_options(command: _F) -> _F:
    """The options that `gate_settings` reads, for every command that asks the gates."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def gate_settings(home: Path, release_key: Path | None, options: dict[str, Any]) -> GateSettings:
    """Settings from the values of `gate_options`."""
    from fraud_data import read_transactions
    from fraud_release.gates import GateSettings, Tolerances
    from fraud_release.trust import TrustSettings
    from fraud_scoring.schema import default_schema
    from fraud_server.trial import measure

    trust = TrustSettings.read(home, release_key, remember=False)
    path = options["data"] or home / "data" / "transactions.parquet"
    named = {field.name for field in fields(Tolerances)} & options.keys()
    return GateSettings(
        trust=trust,
        data=read_transactions(path, default_schema(), require_labels=True)
        if path.exists() or options["data"]
        else None,
        measure=partial(measure, trust=trust) if options["server"] else None,
        tolerances=Tolerances(**{name: options[name] for name in named}),
    )


@click.command()
@click.option("--candidate", required=True, help="The release that is to rise, as r0008.")
@click.option("--champion", help="The release to compare with.  [default: the one in production]")
@repository_option
@home_option
@release_key_option
@gate_options
@json_option
def gates(
    candidate: str,
    champion: str | None,
    repository: Path,
    home: Path,
    release_key: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Ask every gate whether a release may leave its stage. Exit code 1 where one says no.

    Signature, golden vectors, parity of the exported model, quality and cost against the champion on the same test
    rows, calibration, segments of customers, and latency and memory on a real server that serves nothing else.
    """
    from fraud_release.gates import judge
    from fraud_scoring.releases import release_name, release_number

    number = release_number(candidate)
    other = release_number(champion) if champion else _production(repository, number)
    settings = gate_settings(home, release_key, options)
    with progress("gates") as report:
        results = judge(repository, number, other, settings, report)
    passed = all(result.passed for result in results)
    found = {
        "candidate": candidate,
        "champion": None if other is None else release_name(other),
        "passed": passed,
        "gates": [{name: _finite(value) for name, value in result.as_dict().items()} for result in results],
    }
    emit(found, as_json, table=gate_table(results))
    sys.exit(0 if passed else 1)


def gate_table(results: list[GateResult]) -> Table:
    """What each gate said, one a line."""
    table = Table(box=None, pad_edge=False)
    for name in ("gate", "", "figure", "95% interval", "bound", "what"):
        table.add_column(name, justify="right" if name in ("figure", "95% interval", "bound") else "left")
    for result in results:
        span = "" if result.interval is None else f"{result.interval[0]:.4g} … {result.interval[1]:.4g}"
        figure, bound = ("" if value is None else f"{value:.4g}" for value in (result.figure, result.bound))
        table.add_row(result.name, "passed" if result.passed else "FAILED", figure, span, bound, result.explanation)
    return table


def _production(repository: Path, candidate: int) -> int | None:
    from fraud_scoring.errors import ReleaseUnavailable
    from fraud_scoring.routes import Routes

    try:
        production = Routes.read(repository).production
    except ReleaseUnavailable:
        return None
    return None if production == candidate else production


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, tuple | list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and value - value != 0 else value
