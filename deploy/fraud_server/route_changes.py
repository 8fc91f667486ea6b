"""Changes of the route table while servers run: what is to answer is loaded first, and what was changed is seen.

a release that is new to the servers:  warm ──▶ every server has it ──▶ the change ──▶ every server answers by it
one that is loaded already:                                            the change ──▶ every server answers by it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_client import FraudClient, FraudClientError, GrpcTransport, Policy
from fraud_scoring import releases
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import ensemble_name, golden_vectors, pinned_schema, release_name
from fraud_scoring.routes import Routes, StaleRoutes
from fraud_scoring.wire import SCORE_MODEL, VERDICT_RELEASE

_LOOK_EVERY_S: Final = 0.02
_ASK_S: Final = 5.0
"""Where nobody listens a server says so at once; one that is busy may take its time."""


class ChangeFailed(FraudError):
    """The servers did not take a release up; the table is as it was."""


@dataclass(frozen=True)
class Changed:
    """`routes`: as written; `loaded_s`, `answered_s`: seconds until all servers had it, and did so."""

    routes: Routes
    loaded_s: float
    answered_s: float


def change(
    repository: Path,
    alter: Callable[[Routes], Routes],
    urls: Sequence[str],
    patience_s: float,
    report: Callable[[str], None] = lambda text: None,
) -> Changed:
    """Alter the table of `repository` that the servers at `urls` follow; without any, the table alone.

    ChangeFailed if a server does not load what is to answer within `patience_s` seconds: nothing was changed for any
    caller. StaleRoutes if somebody else changed the table meanwhile.
    """
    routes = Routes.read(repository)
    wanted = alter(routes)
    check_columns(repository, wanted)
    began = time.monotonic()
    with ExitStack() as stack:
        transports = {url: GrpcTransport(url) for url in urls}
        clients = {
            url: stack.enter_context(FraudClient(url, transport=one, policy=Policy.plain()))
            for url, one in transports.items()
        }
        for url, one in transports.items():
            if not _has(one, SCORE_MODEL):
                raise ChangeFailed(
                    f"no server answers at {url}, and nothing was changed; start it, name the right one with --url, or "
                    "change the table alone with --no-server"
                )
        new = [release for release in wanted.loaded if release not in routes.loaded]
        if new and clients:
            for release in new:
                routes = routes.with_warm(release)
            routes = routes.write(repository)
            _wait_until_loaded(repository, routes, wanted.loaded, transports, patience_s, report)
            wanted = alter(routes)
        loaded_s = time.monotonic() - began
        began = time.monotonic()
        written = wanted.write(repository)
        report(f"epoch {written.epoch} is written")
        for url, client in clients.items():
            _wait_until_followed(repository, written, url, client, patience_s)
    return Changed(written, loaded_s, time.monotonic() - began)


def check_columns(repository: Path, routes: Routes) -> None:
    """ChangeFailed unless all releases of the table are there; ReleaseUnavailable unless they take the same columns."""
    for release in routes.loaded:
        if not (repository / ensemble_name(release)).is_dir():
            raise ChangeFailed(f"release {release_name(release)} is not in the repository; see: fraudctl release list")
    schemas = {release: pinned_schema(repository, release) for release in routes.loaded}
    releases.check_columns(schemas, routes.production)


def _wait_until_loaded(
    repository: Path,
    routes: Routes,
    releases: Sequence[int],
    transports: dict[str, GrpcTransport],
    patience_s: float,
    report: Callable[[str], None],
) -> None:
    give_up = time.monotonic() + patience_s
    waiting = [(url, release) for url in transports for release in releases]
    while waiting:
        url, release = waiting[0]
        if _has(transports[url], ensemble_name(release)):
            report(f"{url} has {release_name(release)}")
            waiting.pop(0)
        elif time.monotonic() > give_up:
            _take_back(repository, routes)
            raise ChangeFailed(
                f"{url} has not loaded release {release_name(release)} within {patience_s:g} s, and nothing was "
                "changed; what the server said of it stands in its log"
            )
        else:
            time.sleep(_LOOK_EVERY_S)


def _has(transport: GrpcTransport, model: str) -> bool:
    try:
        return transport.ready(model, _ASK_S)
    except FraudClientError:
        return False


def _take_back(repository: Path, routes: Routes) -> None:
    try:
        routes.cleared().write(repository)
    except StaleRoutes:
        return  # it is somebody else's table now


def _wait_until_followed(repository: Path, routes: Routes, url: str, client: FraudClient, patience_s: float) -> None:
    """Ask dry runs until production of the new table answers them; that a release does not answer is not waited for."""
    golden = golden_vectors(repository, routes.production)["transaction"][:1]
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        try:
            answer = client.score_rows(golden, dry_run=True, deadline=1.0)
        except FraudClientError as error:
            raise ChangeFailed(f"the table is changed, and {url} does not answer: {error}") from None
        if int(answer.verdict[0, VERDICT_RELEASE]) in routes.answering:
            return
        time.sleep(_LOOK_EVERY_S)
    raise ChangeFailed(f"the table is changed, and {url} does not follow it within {patience_s:g} s; see its log")
