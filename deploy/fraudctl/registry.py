"""`fraudctl release register | stages | show | promote | approve | …`: releases on record, and who let them rise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fraudctl.options import home_option, json_option, release_key_option, repository_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_release.gates import GateResult
    from fraud_release.registry.registry import Registry
    from fraud_release.registry.rows import Row

    _Gates = Callable[[Path, int, int | None], list[GateResult]]

_F = TypeVar("_F", bound=Callable[..., Any])

registry_option = click.option(
    "--registry",
    "registry_url",
    envvar="FRAUD_REGISTRY",
    help="URL of a shared MLflow server; also as FRAUD_REGISTRY.  [default: the one inside the model repository]",
)
actor_option = click.option("--actor", help="Who acts.  [default: this account's user]")
reason_option = click.option("--reason", required=True, help="Why, in a line; it stays in the audit.")


def _where(command: _F) -> _F:
    """The options that say which registry, of which repository, from which home."""
    return repository_option(home_option(registry_option(command)))


def _what_gates_need(command: _F) -> _F:
    """No tolerances among them: one that may be loosened at will is no gate."""
    data = click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Labelled transactions that the gates look at.  [default: <home>/data/transactions.parquet]",
    )
    return release_key_option(data(command))


@click.command()
@click.argument("name")
@_where
@actor_option
@click.option("--reason", default="registered by hand", show_default=True, help="Why, in a line.")
@json_option
def register(
    name: str, repository: Path, home: Path, registry_url: str | None, actor: str | None, reason: str, as_json: bool
) -> None:
    """Bring release NAME into the registry, as dev.

    `release train` does it by itself. The first release of an empty registry that takes the traffic already is put into
    production, and the audit says that nobody approved that.
    """
    from fraud_release.registry.people import person
    from fraud_scoring.releases import release_number

    rows = _open(repository, home, registry_url).bring_in(release_number(name), person(actor), reason)
    emit({"registered": name, "rows": [asdict(row) for row in rows]}, as_json, table=[_line(row) for row in rows])


@click.command()
@_where
@json_option
def stages(repository: Path, home: Path, registry_url: str | None, as_json: bool) -> None:
    """Which release is in which stage, and what waits for approval."""
    from fraud_release.registry import stages as names
    from fraud_scoring.releases import release_name

    book = _open(repository, home, registry_url).book()
    held = book.stages.as_dict()
    every = {release_name(release): book.stage_of(release) for release in book.releases}
    waiting = book.pending()
    result = {
        "stages": held,
        "releases": every,
        "waiting": [
            {"release": row.release, "actor": row.actor, "at": row.at, "reason": row.reason} for row in waiting
        ],
    }
    table = [
        (stage, " ".join(name for name, its in every.items() if its == stage) or "–")
        for stage in (names.PRODUCTION, *names.PREVIOUS, names.STAGING, names.DEV, names.RETIRED)
    ]
    table += [
        (
            "waiting",
            f"{row.release} for production, asked by {row.actor}: {row.reason}; "
            f"fraudctl release approve {row.release} --approver NAME",
        )
        for row in waiting
    ]
    emit(result, as_json, table=table)


@click.command()
@click.argument("name")
@_where
@json_option
def show(name: str, repository: Path, home: Path, registry_url: str | None, as_json: bool) -> None:
    """Everything on record about release NAME: stage, figures, data, commit, schemas, needs, signature, its rows."""
    from fraud_release.registry.catalogue import Place, documents_of
    from fraud_scoring.releases import release_number

    registry = _open(repository, home, registry_url)
    number, book = release_number(name), registry.book()
    row = registry.registration(book, number)
    place = Place(row.version, row.run)
    tags = registry.catalogue.tags(place)
    plain = {key: value for key, value in tags.items() if not key.endswith(".json")}
    history = [one for one in book.rows if one.release == name]
    documents = documents_of(tags)
    metrics, parameters = registry.catalogue.metrics(place), registry.catalogue.parameters(place)
    result = {
        "release": name,
        "stage": book.stage_of(number),
        "version": row.version,
        **plain,
        "metrics": metrics,
        "parameters": parameters,
        **documents,
        "history": [asdict(one) for one in history],
    }
    table = [("release", name), ("stage", book.stage_of(number)), *plain.items()]
    table += [(key, f"{value:,.4g}") for key, value in sorted(metrics.items())]
    table += [(key, value) for key, value in sorted(parameters.items())]
    table += [(key, ", ".join(f"{one}: {two}" for one, two in documents[key].items())) for key in ("signature", "data")]
    table += [_line(one) for one in history]
    emit(result, as_json, table=table)


@click.command()
@click.argument("name")
@click.option("--to", type=click.Choice(["staging", "production"]), required=True, help="The stage above its own.")
@_where
@actor_option
@click.option("--approver", help="Who alone may approve it; production only.  [default: anybody but the actor]")
@reason_option
@_what_gates_need
@json_option
def promote(
    name: str,
    to: str,
    repository: Path,
    home: Path,
    registry_url: str | None,
    release_key: Path | None,
    data: Path | None,
    actor: str | None,
    approver: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Let release NAME rise one stage; the gates are asked first, and one that fails refuses.

    To staging at once. For production this only asks: a second person says yes with `release approve`. Traffic does not
    move by it: that is `fraudctl routes`.
    """
    from fraud_release.registry.people import person
    from fraud_scoring.releases import release_number

    registry = _open(repository, home, registry_url, release_key, _asker(home, release_key, data))
    _emit(registry.promote(release_number(name), to, person(actor), reason, approver), as_json)


@click.command()
@click.argument("name")
@_where
@click.option("--approver", help="Who approves; not who asked.  [default: this account's user]")
@click.option("--reason", default="", help="What was looked at; it stays in the audit.")
@click.option("--reject", is_flag=True, help="Say no instead (or take one's own request back); needs --reason.")
@_what_gates_need
@json_option
def approve(
    name: str,
    repository: Path,
    home: Path,
    registry_url: str | None,
    release_key: Path | None,
    data: Path | None,
    approver: str | None,
    reason: str,
    reject: bool,
    as_json: bool,
) -> None:
    """As a second person, let release NAME into production; the gates are asked again.

    Without an identity provider a name is what somebody typed. The audit also holds the account and machine of both
    acts, and with FRAUD_REGISTRY_DISTINCT_ACCOUNTS=1 they must differ.
    """
    from fraud_release.registry.people import person
    from fraud_scoring.releases import release_number

    registry = _open(repository, home, registry_url, release_key, _asker(home, release_key, data))
    act = registry.reject if reject else registry.approve
    _emit(act(release_number(name), person(approver), reason), as_json)


@click.command()
@_where
@actor_option
@reason_option
@json_option
def rollback(
    repository: Path, home: Path, registry_url: str | None, actor: str | None, reason: str, as_json: bool
) -> None:
    """On record, previous-1 is production again and what was there is retired; one person may.

    Traffic does not move by it: that is `fraudctl routes rollback`.
    """
    from fraud_release.registry.people import person

    _emit(_open(repository, home, registry_url).roll_back(person(actor), reason), as_json)


@click.command()
@click.argument("name")
@_where
@release_key_option
@click.option("--admit", is_flag=True, help="Also if this host has verified newer releases, and never this one.")
@click.option("--from", "store_url", help="A store instead of the registry: s3://bucket/prefix or folder:///path.")
@json_option
def fetch(
    name: str,
    repository: Path,
    home: Path,
    registry_url: str | None,
    release_key: Path | None,
    admit: bool,
    store_url: str | None,
    as_json: bool,
) -> None:
    """Copy release NAME from the registry into the model repository; it is verified before it gets its name."""
    from fraud_scoring.releases import release_number

    if store_url is not None:
        fetched = _fetch_from_store(name, repository, home, release_key, admit, store_url)
    else:
        fetched = _open(repository, home, registry_url, release_key).fetch(release_number(name), admit=admit)
    text = "fetched and verified" if fetched else "is here already, as registered"
    emit({"release": name, "fetched": fetched}, as_json, table=[(name, text)])


@click.command()
@_where
@json_option
def history(repository: Path, home: Path, registry_url: str | None, as_json: bool) -> None:
    """Every act, oldest first: who, which release, whereto, why, what the gates said."""
    book = _open(repository, home, registry_url).book()
    rows = [{**asdict(row), "digest": row.digest, "same_account": _same_account(row)} for row in book.rows]
    table = [_line(row) for row in book.rows] or [("history", "nothing was registered yet")]
    emit({"rows": rows, "head": book.head and asdict(book.head)}, as_json, table=table)


@click.group()
def audit() -> None:
    """The audit of the registry: is it what was written, and whose rows count here."""


@audit.command()
@_where
@click.option("--head", help="A row's digest that was kept elsewhere; it must still be there.")
@json_option
def verify(repository: Path, home: Path, registry_url: str | None, head: str | None, as_json: bool) -> None:
    """Look for every edit, removal, reordering and cut. Exit code 1 if anything is found.

    Each row is signed and holds the hash of the row before it; this host remembers how far it has seen. Keep the head's
    digest elsewhere (a ticket, a mail) to prove later that nothing was rewritten since.
    """
    book, findings = _open(repository, home, registry_url).verify(head)
    result = {
        "rows": len(book.rows),
        "head": book.head and asdict(book.head),
        "findings": [asdict(finding) for finding in findings],
    }
    table = [("rows", f"{len(book.rows):,}"), ("head", book.head.digest if book.head else "–")]
    table += [("finding", f"row {finding.sequence} {finding.what}") for finding in findings] or [
        ("findings", "none: the audit is what was written")
    ]
    emit(result, as_json, table=table)
    sys.exit(1 if findings else 0)


@audit.command()
@_where
@json_option
def key(repository: Path, home: Path, registry_url: str | None, as_json: bool) -> None:
    """The public key that signs this home's rows: what colleagues trust, with `audit trust`."""
    from fraud_scoring.key_files import public_text

    emit({"key": public_text(_open(repository, home, registry_url).home.key())}, as_json)


@audit.command()
@click.argument("public_key", metavar="KEY")
@_where
@json_option
def trust(public_key: str, repository: Path, home: Path, registry_url: str | None, as_json: bool) -> None:
    """From now on rows signed by KEY (64 hex digits) count on this host."""
    registry = _open(repository, home, registry_url)
    registry.home.trust(public_key)
    emit({"trusted": sorted(registry.home.trusted())}, as_json, table=[("trusted", public_key)])


@audit.command()
@_where
@actor_option
@reason_option
@json_option
def restore(
    repository: Path, home: Path, registry_url: str | None, actor: str | None, reason: str, as_json: bool
) -> None:
    """Put the aliases back to what the audit says, after somebody set them by other means."""
    from fraud_release.registry.people import person

    _emit(_open(repository, home, registry_url).restore(person(actor), reason), as_json)


def _fetch_from_store(name: str, repository: Path, home: Path, release_key: Path | None, admit: bool, url: str) -> bool:
    from fraud_release.release_store import fetch_release, open_store
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_number

    if admit:
        raise click.UsageError("--admit is for the registry: a store holds what was published, by nobody's name")
    trust = TrustSettings.read(home, release_key, remember=False)
    return fetch_release(repository, release_number(name), open_store(url), trust)


COMMANDS = (register, stages, show, promote, approve, rollback, fetch, history, audit)
"""What stands under `fraudctl release`."""


def _open(
    repository: Path,
    home: Path,
    registry_url: str | None,
    release_key: Path | None = None,
    gates: _Gates | None = None,
) -> Registry:
    from fraud_release.registry import open_registry

    return open_registry(repository, home, registry_url, release_key=release_key, gates=gates)


def _asker(home: Path, release_key: Path | None, data: Path | None) -> _Gates:
    """Asks every gate, with the tolerances that all promotions share."""

    def ask(repository: Path, candidate: int, champion: int | None) -> list[GateResult]:
        from fraud_release.gates import judge
        from fraudctl.release_gates import gate_settings

        with progress("gates") as report:
            report(0.0, "reading the data")
            settings = gate_settings(home, release_key, {"data": data, "server": True})
            return judge(repository, candidate, champion, settings, report)

    return ask


def _emit(row: Row, as_json: bool) -> None:
    table = [_line(row), ("stages", ", ".join(f"{stage} {name}" for stage, name in row.stages.items()))]
    if row.act.value == "requested":
        table.append(("next", f"a second person: fraudctl release approve {row.release} --approver NAME"))
    emit({**asdict(row), "digest": row.digest, "same_account": _same_account(row)}, as_json, table=table)


def _line(row: Row) -> tuple[str, str]:
    by = f"{row.actor} ({row.account})"
    if row.approver_account:
        by += f", approved by {row.approver} ({row.approver_account})"
        by += ": the same account" if _same_account(row) else ""
    failed = [name for name, passed, _ in row.gates if not passed]
    gates = f"; {len(row.gates) - len(failed)} of {len(row.gates)} gates passed" if row.gates else ""
    gates += f", not {', '.join(failed)}" if failed else ""
    to = f" → {row.to}" if row.to else ""
    return f"{row.sequence}  {row.at[:19]}", f"{row.release} {row.act.value}{to} by {by}: {row.reason}{gates}"


def _same_account(row: Row) -> bool:
    return row.approver_account is not None and row.approver_account == row.account
