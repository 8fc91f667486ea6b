"""`fraudctl release`: train a release, look at it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

from fraudctl import registry
from fraudctl.engine import build, engines
from fraudctl.evaluation import evaluate
from fraudctl.options import (
    home_option,
    json_option,
    model_option,
    repository_option,
    schema_option,
    seed_option,
    signing_key_option,
)
from fraudctl.release_gates import gates
from fraudctl.release_store import publish
from fraudctl.release_trust import admit, keys, seal, sign, unseal, verify
from fraudctl.report import emit, progress
from fraudctl.score_cost import cost

_cost = click.FloatRange(0, 1e9)


@click.group()
def release() -> None:
    """Train releases, look at them, let them rise. A release is immutable: features, model, decision, one name."""


for _command in (
    admit,
    build,
    cost,
    engines,
    evaluate,
    gates,
    keys,
    publish,
    seal,
    sign,
    unseal,
    verify,
    *registry.COMMANDS,
):
    release.add_command(_command)


@release.command()
@click.option(
    "--data", "path", type=click.Path(path_type=Path), required=True, help="Labelled transactions (Parquet or CSV)."
)
@repository_option
@home_option
@signing_key_option
@schema_option
@click.option("--train-days", default=84, show_default=True, help="Longest training part, in days.")
@click.option("--validation-days", default=14, show_default=True, help="For calibration and thresholds.")
@click.option("--test-days", default=14, show_default=True, help="For the evaluation; the last days of the data.")
@click.option("--delay-days", default=7, show_default=True, help="Gap between the parts: how long labels take.")
@click.option(
    "--label-days", default=6.0, show_default=True, help="When labels are known, where the data does not say."
)
@model_option
@click.option("--trees", default=300, show_default=True, type=click.IntRange(min=1), help="How many trees to boost.")
@seed_option
@click.option("--review-cost", default=4.0, show_default=True, type=_cost, help="Of one review, major units.")
@click.option(
    "--false-decline-cost",
    default=30.0,
    show_default=True,
    type=_cost,
    help="Of declining a good customer, major units.",
)
@click.option(
    "--chargeback-fee",
    default=20.0,
    show_default=True,
    type=_cost,
    help="On top of an approved fraud's amount, major units.",
)
@click.option(
    "--background",
    default=2,
    show_default=True,
    type=click.IntRange(0, 64),
    help="Genuine payments that the reasons are measured against; 0: reasons by a scorecard's points.",
)
@registry.registry_option
@click.option("--register/--no-register", default=True, show_default=True, help="Put it on record, as dev.")
@json_option
def train(
    path: Path,
    repository: Path,
    home: Path,
    signing_key: Path | None,
    schema: Path | None,
    registry_url: str | None,
    register: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train, check, sign, write and register the next release.

    The data is split by time (train, validation, test, with the label delay between them). Nothing is written unless
    every check passes; then the release appears in the repository as fraud_*_rNNNN. The first release of a repository
    takes the traffic; a later one waits for its route.
    """
    from fraud_data import read_transactions
    from fraud_release.learning import Costs
    from fraud_release.splits import SplitDays
    from fraud_release.train import Plan
    from fraud_release.train import train as run
    from fraud_release.trust import home_signing_key
    from fraud_scoring.releases import release_number
    from fraud_scoring.routes import ROUTES_FILE, Routes
    from fraud_scoring.schema import default_schema, load_schema

    chosen = default_schema() if schema is None else load_schema(schema)
    minor_units = chosen.columns[chosen.amount_index].minor_units
    plan = Plan(
        days=SplitDays(options["train_days"], options["validation_days"], options["test_days"], options["delay_days"]),
        costs=Costs(
            chargeback_fee_minor=round(options["chargeback_fee"] * minor_units),
            false_decline_minor=round(options["false_decline_cost"] * minor_units),
            review_minor=round(options["review_cost"] * minor_units),
        ),
        label_days=options["label_days"],
        trees=options["trees"],
        model=options["model"],
        seed=options["seed"],
        background=options["background"],
    )
    with progress("release") as report:
        report(0.0, "reading the data")
        data = read_transactions(path, chosen, require_labels=True)
        provenance = {"file": path.name, "sha256": _sha256(path)}
        key = signing_key or home_signing_key(home)
        manifest = run(data, chosen, repository, plan, provenance=provenance, progress=report, signing_key=key)
    if not (repository / ROUTES_FILE).exists():
        Routes(release_number(manifest["release"])).write(repository)
    if register:
        _register(manifest["release"], repository, home, registry_url)
    emit(manifest, as_json, table=_table(manifest))


def _register(name: str, repository: Path, home: Path, registry_url: str | None) -> None:
    from fraud_release.errors import RegistryUnavailable
    from fraud_release.registry import open_registry
    from fraud_release.registry.people import person
    from fraud_scoring.releases import release_number

    try:
        opened = open_registry(repository, home, registry_url)
        opened.bring_in(release_number(name), person(None), "trained")
    except RegistryUnavailable as trouble:
        raise RegistryUnavailable(
            f"release {name} is written, and not on record: {trouble}; then: fraudctl release register {name}"
        ) from None


@release.command("list")
@repository_option
@json_option
def list_releases(repository: Path, as_json: bool) -> None:
    """The releases in the repository, with their quality, and which takes the traffic."""
    from fraud_release.assembly import verify_release
    from fraud_scoring.errors import ReleaseUnavailable
    from fraud_scoring.releases import existing, release_name
    from fraud_scoring.routes import Routes

    try:
        production = release_name(Routes.read(repository).production)
    except ReleaseUnavailable:
        production = ""
    manifests = [verify_release(repository, number) for number in existing(repository)]
    result = {"production": production or None, "releases": [_summary(manifest) for manifest in manifests]}
    rows = [
        (
            manifest["release"] + (" (production)" if manifest["release"] == production else ""),
            f"{manifest['created_at']}  average precision {manifest['evaluation']['all']['average_precision']:.3f}",
        )
        for manifest in manifests
    ]
    emit(result, as_json, table=rows or [("releases", "none; make one with: fraudctl release train --data FILE")])


def _summary(manifest: dict[str, Any]) -> dict[str, Any]:
    return {key: manifest[key] for key in ("release", "created_at", "thresholds", "evaluation")}


def _table(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("release", manifest["release"])]
    for part, label in (("all", "test, all cards"), ("new_cards", "test, cards not yet known")):
        if part in manifest["evaluation"]:
            found = manifest["evaluation"][part]
            rows.append(
                (
                    label,
                    f"AUC {found['auc']:.3f}  average precision {found['average_precision']:.3f}  "
                    f"card precision@100 {found['card_precision_100']:.3f}  "
                    f"({found['frauds']:,} frauds of {found['transactions']:,})",
                )
            )
    for decision, found in manifest["evaluation"]["decisions"].items():
        rows.append((decision, f"{found['transactions']:,} transactions, {found['frauds']:,} of them fraud"))
    thresholds = manifest["thresholds"]
    rows.append(
        ("thresholds", f"review from {thresholds['review_at']:.4f}, decline from {thresholds['decline_at']:.4f}")
    )
    return rows


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
