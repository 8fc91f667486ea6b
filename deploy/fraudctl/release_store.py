"""`fraudctl release publish` and `fraudctl routes follow`: releases and tables on their way to servers elsewhere."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from fraud_scoring.stopping import on_stop
from fraudctl.options import home_option, json_option, release_key_option, repository_option
from fraudctl.report import emit


@click.command()
@click.argument("name")
@click.option("--to", "url", required=True, help="The store: s3://bucket/prefix or folder:///path.")
@repository_option
@home_option
@release_key_option
@json_option
def publish(name: str, url: str, repository: Path, home: Path, release_key: Path | None, as_json: bool) -> None:
    """Put release NAME where servers elsewhere fetch it; it is verified first, and never written twice."""
    from fraud_release.release_store import open_store, publish_release
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_number

    store = open_store(url)
    publish_release(repository, release_number(name), store, TrustSettings.read(home, release_key, remember=False))
    emit({"release": name, "published": url}, as_json, table=[(name, f"published to {url}")])


@click.command()
@click.option(
    "--table",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the table to follow, as `fraudctl routes show --json` gives it.",
)
@click.option("--from", "url", required=True, help="Where its releases are: s3://bucket/prefix or folder:///path.")
@repository_option
@home_option
@release_key_option
@click.option("--url", "server", help="The server that follows the repository, host:port: asked before customers are.")
@click.option("--once", is_flag=True, help="Take the table that is there and end; before a server is started.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds the server may take to load a release.")
def follow(
    table: Path,
    url: str,
    repository: Path,
    home: Path,
    release_key: Path | None,
    server: str | None,
    once: bool,
    patience: float,
) -> None:
    """Follow a table that is written elsewhere: one writer, many servers with a repository of their own.

    What it names is fetched, verified by the pinned key, loaded, and must give its golden vectors before any customer
    is routed to it; otherwise everything stays as it is, and that is told. Runs until SIGTERM or Ctrl-C.
    """
    from fraud_release.release_store import open_store
    from fraud_release.trust import TrustSettings
    from fraud_server.release_probe import ask_release
    from fraud_server.routes_follower import RoutesFollower

    def report(line: str) -> None:
        click.echo(f"routes: {line}", err=True)

    def ask(release: int) -> None:
        assert server is not None
        ask_release(repository, server, release)

    follower = RoutesFollower(
        repository,
        open_store(url),
        TrustSettings.read(home, release_key),
        report,
        None if server is None else ask,
        patience,
    )
    if once:
        follower.take(table.read_text(encoding="utf-8"))
        return
    stop = threading.Event()
    on_stop(stop.set)
    follower.follow(table, stop)
