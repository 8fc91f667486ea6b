"""`fraudctl routes`: which release takes which customers, looked at and changed while servers run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraudctl.options import home_option, json_option, logs_options, repository_option
from fraudctl.registry import registry_option
from fraudctl.release_store import follow
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from datetime import datetime

    from fraud_judge.logs import LogFolders
    from fraud_scoring.routes import Routes

_moment = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])
Change = Callable[..., Callable[["Routes"], "Routes"]]

_EPILOG = """\b
A canary, from its first customers to all of them:
  fraudctl routes shadow r0002               it scores what production scores, and answers nobody
  fraudctl routes compare                    would it have decided otherwise?
  fraudctl routes canary r0002 --percent 5   it answers a twentieth of the customers
  fraudctl routes canary r0002 --percent 25  the same customers and more
  fraudctl routes promote r0002              it answers all; the release before stays loaded
  fraudctl routes rollback                   one step back, at any of these points, at once
"""


@click.group(epilog=_EPILOG)
def routes() -> None:
    """Decide which release takes which customers.

    The table (routes.json in the model repository) is replaced in one step, and each server follows it with its next
    batch. A customer belongs to one of 10,000 buckets and stays on its side while a canary grows.
    """


routes.add_command(follow)


def _changes(make: Change) -> Callable[..., None]:
    """A command that replaces the table by what `make` makes of it."""

    @repository_option
    @home_option
    @registry_option
    @click.option(
        "--url",
        "urls",
        multiple=True,
        default=("localhost:8001",),
        show_default=True,
        help="A server that follows this table, host:port; again for each of several.",
    )
    @click.option(
        "--no-server", is_flag=True, help="Change the table alone: no server runs, or none is to be waited for."
    )
    @click.option("--patience", default=60.0, show_default=True, help="Seconds a server may take to load a release.")
    @json_option
    @wraps(make)
    def command(
        repository: Path,
        home: Path,
        registry_url: str | None,
        urls: tuple[str, ...],
        no_server: bool,
        patience: float,
        as_json: bool,
        **given: Any,
    ) -> None:
        from fraud_server.route_changes import change

        asked, alter = () if no_server else urls, make(**given)

        def permitted(table: Routes) -> Routes:
            wanted = alter(table)
            _check_stages(table, wanted, repository, home, registry_url)
            return wanted

        done = change(repository, permitted, asked, patience, lambda text: click.echo(f"routes: {text}", err=True))
        result = {
            **done.routes.document(),
            "loaded_seconds": round(done.loaded_s, 3),
            "followed_seconds": round(done.answered_s, 3),
        }
        rows = _lines(done.routes)
        if asked:
            rows.append(("followed", f"by {', '.join(asked)}, {done.answered_s:.2f} s after the table was written"))
        emit(result, as_json, table=rows)

    return command


@routes.command()
@repository_option
@json_option
def show(repository: Path, as_json: bool) -> None:
    """Show the table: who answers whom, what else is loaded, and what happens where a release does not answer."""
    from fraud_scoring.routes import Routes

    table = Routes.read(repository)
    emit(table.document(), as_json, table=_lines(table))


@routes.command()
@click.argument("release")
@click.option("--percent", required=True, type=click.FloatRange(0.01, 100), help="Share of the customers, in percent.")
@_changes
def canary(release: str, percent: float) -> Callable[[Routes], Routes]:
    """Let RELEASE answer a share of the customers; again with a larger share to go on.

    The release is loaded and found ready first. Whoever it answers once, it answers until the canary ends.
    """
    from fraud_scoring.releases import release_number

    return lambda table: table.with_canary(release_number(release), round(percent * 100))


@routes.command()
@click.argument("releases", nargs=-1)
@click.option("--off", is_flag=True, help="End all shadows.")
@_changes
def shadow(releases: tuple[str, ...], off: bool) -> Callable[[Routes], Routes]:
    """Let RELEASES score what production scores, after the reply, without answering anybody."""
    from fraud_scoring.releases import release_number

    if bool(releases) == off:
        raise click.UsageError("name one or two releases, or give --off")
    return lambda table: table.with_shadow(*map(release_number, releases))


@routes.command()
@logs_options
@home_option
@click.option("--release", help="The shadow.  [default: the one that was logged last]")
@click.option("--champion", help="Who answered.  [default: the release that answered most of what the shadow scored]")
@click.option("--from", "since", type=_moment, help="First moment of the log's time, UTC.  [default: the first]")
@click.option("--to", "until", type=_moment, help="Up to this moment.  [default: the last]")
@click.option("--examples", default=5, show_default=True, type=click.IntRange(0, 100), help="Of each kind of flip.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Also write a page with plots.")
@json_option
def compare(
    folders: LogFolders,
    home: Path,
    release: str | None,
    champion: str | None,
    since: datetime | None,
    until: datetime | None,
    examples: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare a shadow with who answered, on the same transactions: decisions that would flip, amounts, scores.

    Reads the decision logs; no server is needed. Intervals are 95% and know that a customer's transactions belong
    together. What the shadow dropped is told: it rests first when the machine is busy.
    """
    from datetime import timezone

    from fraud_judge.paired import compare as figures
    from fraud_judge.paired_log import read_pairs
    from fraud_judge.paired_page import page
    from fraud_scoring.releases import release_name, release_number

    def at_us(moment: datetime | None, default: int) -> int:
        return default if moment is None else round(moment.replace(tzinfo=timezone.utc).timestamp() * 1e6)

    with progress("compare") as report:
        found = read_pairs(
            folders.found(),
            release_number(release) if release else None,
            release_number(champion) if champion else None,
            (at_us(since, -(2**62)), at_us(until, 2**62)),
            report,
        )
        report(0.9, f"{len(found.pairs.at_us):,} transactions")
        result = {
            "champion": release_name(found.champion),
            "challenger": release_name(found.challenger),
            "dropped": found.dropped,
            "answered_by_others": found.others,
            "minor_units": found.minor_units,
            **figures(found.pairs, examples=examples),
        }
    if html is not None:
        html.write_text(page(result, found.pairs), encoding="utf-8")
    emit(result, as_json, table=_compared(result))


@routes.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--percent", default=50.0, show_default=True, type=click.FloatRange(0.01, 99.99), help="Share of FIRST, in percent."
)
@click.option("--name", required=True, help="What the experiment is called in reports.")
@_changes
def ab(first: str, second: str, percent: float, name: str) -> Callable[[Routes], Routes]:
    """Let FIRST and SECOND answer side by side, each its own customers.

    Until one of them is promoted, or all is rolled back.
    """
    from fraud_scoring.releases import release_number
    from fraud_scoring.routes import BUCKETS

    border = round(percent * 100)
    arms = ((release_number(first), 0, border), (release_number(second), border, BUCKETS))
    return lambda table: table.with_experiment(name, arms)


@routes.command()
@click.argument("release")
@_changes
def bluegreen(release: str) -> Callable[[Routes], Routes]:
    """Load RELEASE beside production, and let it answer everybody at once; production before it stays loaded."""
    from fraud_scoring.releases import release_number

    return lambda table: table.promoted(release_number(release))


@routes.command()
@click.argument("release", required=False)
@_changes
def promote(release: str | None) -> Callable[[Routes], Routes]:
    """Let RELEASE (the canary, if none is named) answer everybody; the two productions before it stay loaded."""
    from fraud_scoring.releases import release_number

    number = None if release is None else release_number(release)
    return lambda table: table.promoted(number)


@routes.command()
@_changes
def rollback() -> Callable[[Routes], Routes]:
    """Go one step back, at once: end the canary or the experiment, or else return to the production before.

    Nothing is loaded for it: what it goes back to was never let go.
    """
    return lambda table: table.rolled_back()


@routes.command()
@_changes
def clear() -> Callable[[Routes], Routes]:
    """Let go what is loaded and asked nothing, as a canary that was thrown out."""
    return lambda table: table.cleared()


def _check_stages(before: Routes, after: Routes, repository: Path, home: Path, url: str | None) -> None:
    """InvalidInput where a release would answer more customers than its stage on record allows.

    A canary or an arm must have left dev; all traffic is for what was approved for production, or was in production. A
    release that is not on record is nobody's to refuse.
    """
    from fraud_release.registry import stage_of
    from fraud_scoring.errors import InvalidInput
    from fraud_scoring.releases import release_name

    kept = {before.production, *before.previous}
    for release in after.answering:
        if release in kept:
            continue
        stage = stage_of(release, repository, home, url)
        name = release_name(release)
        if stage == "dev":
            raise InvalidInput(
                f"release {name} is in stage dev, and answers nobody; "
                f"first: fraudctl release promote {name} --to staging"
            )
        if release == after.production and stage in ("staging", "retired"):
            raise InvalidInput(
                f"release {name} is in stage {stage}, and was not approved for production; "
                f"first: fraudctl release promote {name} --to production"
            )


def _compared(result: dict[str, Any]) -> list[tuple[str, str]]:
    """A comparison for people."""
    from fraud_judge.paired_page import money, percent

    ks, dropped = result["scores"]["ks_distance"], sum(result["dropped"].values())
    lines = [
        ("compared", f"{result['challenger']} in the shadow of {result['champion']}"),
        ("transactions", f"{result['transactions']:,} of {result['customers']:,} customers; {dropped:,} were dropped"),
        *((name, percent(result[name])) for name in ("agreement", "stricter", "milder")),
    ]
    for name, one in result["decisions"].items():
        change = percent(one["difference"])
        lines.append((name, f"{one['champion']['value']:.2%} → {one['challenger']['value']:.2%}: {change}"))
    for flip in result["flips"]:
        share, amount = percent(flip["share"]), money(flip["amount_minor"], result["minor_units"])
        said = f"{flip['transactions']:,} transactions, {share}; amounts {amount}, {percent(flip['amount_share'])}"
        lines.append((f"{flip['champion']} → {flip['challenger']}", said))
        for one in flip["examples"][:3]:
            scores = f"score {one['champion_score']:.4f} → {one['challenger_score']:.4f}"
            lines.append(("", f"{one['transaction']}  {money(one['amount_minor'], result['minor_units'])}  {scores}"))
    within = "" if ks["low"] is None else f" ({ks['low']:.4f} to {ks['high']:.4f})"
    lines.append(("scores", f"Kolmogorov–Smirnov distance {ks['value']:.4f}{within}"))
    for q in ("0.5", "0.95", "0.99"):
        both = [result["scores"][name][q] for name in ("champion", "challenger")]
        lines.append((f"{float(q):.0%} quantile", f"{both[0]:.5f} → {both[1]:.5f}"))
    return lines


def _lines(table: Routes) -> list[tuple[str, str]]:
    """The table for people."""
    from fraud_scoring.releases import release_name
    from fraud_scoring.routes import BUCKETS

    def share(buckets: int) -> str:
        return f"{100 * buckets / BUCKETS:g}% of the customers"

    left = BUCKETS - sum(end - first for _, first, end in table.slices)
    lines = [("epoch", str(table.epoch)), ("production", f"{release_name(table.production)}, {share(left)}")]
    if table.canary is not None:
        lines.append(("canary", f"{release_name(table.canary.release)}, {share(table.canary.share)}"))
    if table.experiment is not None:
        arms = (f"{release_name(release)} {share(end - first)}" for release, first, end in table.experiment.arms)
        lines.append((f"experiment {table.experiment.name}", "; ".join(arms)))
    for name in ("shadow", "previous", "warm"):
        lines.append((name, ", ".join(map(release_name, getattr(table, name))) or "none"))
    chain = [name for name in ("release", "scorecard") if getattr(table.fallback, name)]
    lines.append(
        ("fallback", " → ".join(["production before" if n == "release" else n for n in chain] + ["by amount"]))
    )
    return lines
