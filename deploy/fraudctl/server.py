"""`fraudctl serve` and `fraudctl health`: the server from inside and from outside."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraud_scoring.settings import INLINE, SERVED
from fraud_scoring.stopping import on_stop
from fraudctl.options import access_options, home_option, json_option, release_key_option, repository_option, url_option
from fraudctl.report import emit

if TYPE_CHECKING:
    from fraud_client import Access

_port = click.IntRange(1, 65_535)


@click.command()
@repository_option
@home_option
@click.option(
    "--store",
    envvar="FRAUD_STORE",
    help="Window store URL, as lmdb:///folder or redis://host; also as FRAUD_STORE, which no list of processes shows.  "
    "[default: lmdb:///<home>/store]",
)
@release_key_option
@click.option(
    "--log",
    "log_mode",
    type=click.Choice(["durable", "async", "off"]),
    default="durable",
    show_default=True,
    help="Decision log under <home>/log: on the disk before each answer, within 0.2 s, or none.",
)
@click.option(
    "--models",
    envvar="FRAUD_MODELS",
    type=click.Choice([INLINE, SERVED]),
    default=INLINE,
    show_default=True,
    help="Where releases' graphs run: in the front door's process, which is faster, or each in a process of its own, "
    "whose end the front door survives. Engines for a GPU are always asked in theirs.",
)
@click.option("--grpc-port", default=8001, show_default=True, type=_port, help="Where clients call.")
@click.option("--http-port", default=8000, show_default=True, type=_port, help="The same over HTTP.")
@click.option("--metrics-port", default=8002, show_default=True, type=_port, help="Triton's Prometheus metrics.")
@click.option("--sidecar-port", default=8003, show_default=True, type=_port, help="The sidecar's page and metrics.")
@click.option(
    "--listen",
    type=click.Choice(["127.0.0.1", "0.0.0.0"]),
    default="127.0.0.1",
    show_default=True,
    help="Where gRPC and metrics listen; 0.0.0.0 only in a container that nothing but the gateway can reach.",
)
@click.option("--sidecar/--no-sidecar", default=True, show_default=True, help="Drift statistics and a status page.")
@click.option("--monitoring", is_flag=True, help="Start Prometheus and Alertmanager beside it, where installed.")
@click.option("--gateway-figures", metavar="HOST:PORT", help="With --monitoring: scrape the gateway that is before it.")
@click.option("--prepare", is_flag=True, help="Without a release: simulate transactions and train one first.")
def serve(
    repository: Path,
    home: Path,
    store: str | None,
    release_key: Path | None,
    log_mode: str,
    models: str,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
    sidecar_port: int,
    listen: str,
    sidecar: bool,
    monitoring: bool,
    gateway_figures: str | None,
    prepare: bool,
) -> None:
    """Serve the routed release, on loopback unless told otherwise, until SIGTERM or Ctrl-C.

    Before anything of a release is opened, its files are verified by the pinned key: what was changed, added, removed,
    linked or put back to an older state is refused by name.
    Ready means that the release's golden vectors came back right through the whole path. A dead server or a dead
    python stub is noticed and replaced. SIGTERM finishes what is in flight and leaves nothing behind.
    """
    from fraud_server.companion import sidecar as sidecar_companion
    from fraud_server.monitoring import Monitoring, MonitoringSettings, Programs
    from fraud_server.settings import Ports, ServeSettings
    from fraud_server.supervisor import Supervisor

    programs = Programs.find() if monitoring else None
    if prepare:
        from fraudctl.demo import prepare_release

        prepare_release(repository, home)
    settings = ServeSettings(
        repository=repository,
        home=home,
        ports=Ports(grpc_port, http_port, metrics_port, sidecar_port if sidecar and log_mode != "off" else None),
        log_mode=log_mode,
        models=models,
        store_url=store or f"lmdb://{(home / 'store').absolute()}",
        release_key=release_key,
        listen=listen,
    )
    beside = ExitStack()

    def report(line: str) -> None:
        click.echo(f"serve: {line}", err=True)

    def start_beside() -> None:
        if settings.ports.sidecar is not None:
            beside.enter_context(sidecar_companion(settings, report))
            report(f"status page on http://127.0.0.1:{settings.ports.sidecar}")
        if programs is not None:
            wanted = MonitoringSettings(home, metrics_port, sidecar_port, gateway_figures=gateway_figures)
            started = beside.enter_context(Monitoring(wanted, programs))
            report(f"Prometheus on {started.prometheus_url}, Alertmanager on {started.alertmanager_url}")

    supervisor = Supervisor(settings, report, when_ready=start_beside, before_draining=beside.close)
    on_stop(supervisor.stop)
    with beside:
        supervisor.run()


@click.command()
@repository_option
@url_option
@access_options
@click.option(
    "--timeout",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0, 60, min_open=True),
    help="Seconds to wait for the answer.",
)
@click.option(
    "--every-release",
    is_flag=True,
    help="Also ask each release that may have to answer, by itself; for readiness. One that is wrong counts; one that "
    "is away is told, since others answer for it, and so is a window store that is away.",
)
@click.option(
    "--alive",
    is_flag=True,
    help="0 as long as anybody answers in time, in another's place too; for who starts servers again.",
)
@json_option
def health(
    repository: Path,
    url: str,
    access: Access | None,
    timeout: float,
    every_release: bool,
    alive: bool,
    as_json: bool,
) -> None:
    """Ask a running server for the golden vectors of the routed release. Exit code 0: right to the bit; 1: not."""
    import time

    from fraud_client import FraudClient, Policy
    from fraud_scoring.errors import FraudError
    from fraud_scoring.releases import release_name
    from fraud_scoring.routes import Routes
    from fraud_server.probe import Degraded, GoldenProbe, StoreAway
    from fraud_server.release_probe import ask_release, state_of

    probe = GoldenProbe(repository, url, FraudClient(url, policy=Policy.plain(), access=access))
    began = time.monotonic()
    store_away, trouble, counts = False, None, False
    try:
        probe.check(timeout)
    except FraudError as error:
        store_away, trouble = isinstance(error, StoreAway), str(error)
        forgiven = (StoreAway, Degraded) if alive else (StoreAway,) if every_release else ()
        counts = not isinstance(error, forgiven)
    finally:
        probe.close()
    others = {}
    if every_release and not store_away and not counts:
        for release in Routes.read(repository).answering:
            said, wrong = state_of(release, lambda number: ask_release(repository, url, number, timeout))
            others[release_name(release)] = said
            trouble, counts = (said, True) if wrong else (trouble, counts)
    result = {
        "healthy": not counts,
        "release": release_name(probe.release),
        "golden_vectors": probe.rows,
        "milliseconds": round((time.monotonic() - began) * 1000, 1),
        "trouble": trouble,
        **({"releases": others} if every_release else {}),
    }
    emit(result, as_json)
    sys.exit(int(counts))
