"""`fraudctl release build | engines`: TensorRT engines of a release for this machine's GPU."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fraudctl.options import home_option, json_option, release_key_option, repository_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_release.engine.cuda import Gpu
    from fraud_release.engine.record import EngineRecord

ENGINES_FOLDER: Final = "engines"
"""In the home folder."""

_engines = click.option(
    "--engines",
    type=click.Path(file_okay=False, path_type=Path),
    help="This machine's engines, a second model repository for Triton.  [default: <home>/engines]",
)
_release = click.option("--release", "name", help="As r0007; the one in production without it.")


@click.command()
@click.option(
    "--engine",
    type=click.Choice(["tensorrt", "tensorrt_rtx"]),
    required=True,
    help="tensorrt for Triton; tensorrt_rtx builds without a GPU, to check that the graph builds.",
)
@_release
@click.option(
    "--precision",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="fp16 where it passes its gate, else fp32.",
)
@click.option("--compute-capability", help="Of the GPU to build for, as 8.9, where it is not here (tensorrt_rtx only).")
@click.option(
    "--most-flips",
    type=click.FloatRange(0, 1),
    default=1e-4,
    show_default=True,
    help="Gate for fp16: largest share of rows that may be decided otherwise.",
)
@click.option(
    "--precision-loss",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Gate for fp16: how far average precision may move.",
)
@repository_option
@_engines
@home_option
@release_key_option
@json_option
def build(
    engine: str,
    name: str | None,
    precision: str,
    compute_capability: str | None,
    most_flips: float,
    precision_loss: float,
    repository: Path,
    engines: Path | None,
    home: Path,
    release_key: Path | None,
    as_json: bool,
) -> None:
    """Build a release's model as a TensorRT engine, on the machine that will serve it.

    The release is verified by the pinned key. The engine's answers are checked against its golden vectors and labelled
    rows; then it is written as fraud_engine_rNNNN_*, sealed, with a record of GPU and versions.
    """
    from fraud_release.agreement import ReducedPrecision
    from fraud_release.engine.build import BuildOrder, build_engine
    from fraud_release.signing import verify_release
    from fraud_release.trust import TrustSettings

    number = _number(repository, name)
    order = BuildOrder(engine, precision, compute_capability, ReducedPrecision(precision_loss, most_flips))
    with progress("engine") as report:
        report(0.0, "verifying the release")
        verify_release(repository, number, TrustSettings.read(home, release_key, remember=False))
        record = build_engine(repository, number, order, engines or home / ENGINES_FOLDER, progress=report)
    found = record.answers["check_rows"]
    rows = [
        ("engine", record.name),
        ("for", f"{record.gpu or 'no GPU here'}, compute capability {record.compute_capability}"),
        ("with", f"{record.engine} {record.version}, {record.precision}"),
        (
            "answers",
            f"{found['decisions_differ']} of {found['rows']:,} rows decided otherwise, by {record.answers['asked']}",
        ),
    ]
    if record.refused_precision:
        rows.append(("refused", record.refused_precision))
    emit({"name": record.name, **_plain(record)}, as_json, table=rows)


@click.command()
@_release
@repository_option
@_engines
@home_option
@json_option
def engines(name: str | None, repository: Path, engines: Path | None, home: Path, as_json: bool) -> None:
    """The engines of a release, and which of them this machine may serve. Exit code 1 where none may be."""
    from fraud_release.engine.cuda import find_gpu
    from fraud_release.engine.record import engines_of, fitting_engine, read_engine
    from fraud_release.engine.toolkit import installed_version
    from fraud_release.errors import ReleaseRefused

    folder = engines or home / ENGINES_FOLDER
    number, gpu, version = _number(repository, name), find_gpu(), installed_version("tensorrt")
    found: dict[str, str | None] = {}
    for one in engines_of(folder, number):
        try:
            found[one] = read_engine(folder, one, repository, number).objection(gpu, version)
        except ReleaseRefused as refusal:
            found[one] = str(refusal)
    result = {
        "gpu": None if gpu is None else {"name": gpu.name, "compute_capability": gpu.compute_capability},
        "tensorrt": version,
        "engines": [
            {"name": one, "fits": objection is None, "objection": objection} for one, objection in found.items()
        ],
    }
    result["serve"] = _served(folder, repository, number, gpu, version)
    emit(result, as_json, table=[(one, objection or "fits this machine") for one, objection in found.items()])
    fitting_engine(folder, repository, number, gpu, version)


def _served(engines: Path, repository: Path, number: int, gpu: Gpu | None, version: str | None) -> str | None:
    """The engine for FRAUD_ENGINES; None where none may be served."""
    from fraud_release.engine.record import fitting_engine
    from fraud_release.errors import ReleaseRefused

    try:
        return fitting_engine(engines, repository, number, gpu, version).name
    except ReleaseRefused:
        return None


def _number(repository: Path, name: str | None) -> int:
    from fraud_scoring.errors import ReleaseUnavailable
    from fraud_scoring.releases import existing, release_number
    from fraud_scoring.routes import Routes

    if name is None:
        return Routes.read(repository).production
    number = release_number(name)
    if number not in existing(repository):
        raise ReleaseUnavailable(f"there is no release {name}; see: fraudctl release list")
    return number


def _plain(record: EngineRecord) -> dict[str, Any]:
    return {field: value for field, value in asdict(record).items() if value is not None}
