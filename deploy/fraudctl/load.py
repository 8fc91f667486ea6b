"""`fraudctl load`: scenarios against a running server, judged; the exit code is the gate."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.table import Table

from fraudctl.load_report import compare, report, write_report
from fraudctl.options import access_options, home_option, json_option, url_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_client import Access
    from fraud_load.result import Result

_SHORT: Final = {"rate": "arrivals.rate", "duration": "arrivals.duration_s", "processes": "sending.processes"}


@click.group()
def load() -> None:
    """Load tests: whether a deployment keeps its p99 at a rate, and where it breaks."""


load.add_command(report)
load.add_command(compare)

_scenario_argument = click.argument("scenario")
_metrics_option = click.option(
    "--metrics-url", help="Triton's metrics page.  [default: found on this machine, else port 8002]"
)
_remote_option = click.option(
    "--allow-remote", is_flag=True, help="The server is on another machine, and ours to load."
)
_out_option = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the result.  [default: <home>/load/<scenario>-<time>]",
)
_set_option = click.option(
    "--set", "replaced", multiple=True, metavar="FIELD=VALUE", help="Replace a field: --set slo.p99_ms=80. Repeatable."
)
_rate_option = click.option("--rate", type=float, help="Arrivals a second: short for --set arrivals.rate=…")
_duration_option = click.option("--duration", type=float, help="Seconds: short for --set arrivals.duration_s=…")
_seed_option = click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Of arrivals and workload.")


@load.command()
@_scenario_argument
@url_option
@access_options
@_metrics_option
@_remote_option
@click.option(
    "--runner",
    type=click.Choice(["asyncio", "locust"]),
    default="asyncio",
    show_default=True,
    help="Locust: up to one or two thousand requests a second and process, not coalesced.",
)
@_out_option
@home_option
@_rate_option
@_duration_option
@click.option("--processes", type=int, help="Generator processes: short for --set sending.processes=…")
@_seed_option
@_set_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    scenario: str,
    url: str,
    access: Access | None,
    metrics_url: str | None,
    allow_remote: bool,
    runner: str,
    out: Path | None,
    home: Path,
    rate: float | None,
    duration: float | None,
    processes: int | None,
    seed: int | None,
    replaced: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send SCENARIO, a name of `fraudctl load list` or a YAML file, and judge it by its targets.

    Exit code 0: every target was met. 1: one was missed, or there were not enough data, or the generator was the
    bottleneck and no verdict is given. Ctrl-C ends the run early and keeps what was measured.
    Through a gateway the load is one caller's: what is over its limits is refused, and counts as failed.
    """
    from fraud_load import scenario as scenarios
    from fraud_load.locust_process import run_locust
    from fraud_load.runner import Target
    from fraud_load.runner import run as run_scenario

    options = _options(replaced, seed, rate=rate, duration=duration, processes=processes)
    asked = scenarios.load(scenario, options)
    target = Target(url, metrics_url, allow_remote, access)
    with progress(asked.name) as tell:
        result = (run_locust if runner == "locust" else run_scenario)(asked, target, tell)
    _finish(ctx, result, out or _new_folder(home, asked.name), as_json)


@load.command(name="perf-analyzer")
@_scenario_argument
@url_option
@_metrics_option
@_remote_option
@click.option(
    "--mode",
    type=click.Choice(["request-rate", "custom-interval", "concurrency"]),
    help="[default: request-rate for one rate, custom-interval for every other kind of arrivals]",
)
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1, 1024), help="For that mode.")
@click.option(
    "--perf-analyzer",
    "program",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The program; without it FRAUD_PERF_ANALYZER, then the PATH.",
)
@_out_option
@home_option
@_rate_option
@_duration_option
@_seed_option
@_set_option
@json_option
@click.pass_context
def perf_analyzer(
    ctx: click.Context,
    scenario: str,
    url: str,
    metrics_url: str | None,
    allow_remote: bool,
    mode: str | None,
    concurrency: int,
    program: Path | None,
    out: Path | None,
    home: Path,
    rate: float | None,
    duration: float | None,
    seed: int | None,
    replaced: tuple[str, ...],
    as_json: bool,
) -> None:
    """SCENARIO through Triton's perf_analyzer: its input written, the program run, its figures judged alike.

    It joins no calls, ends at the first refused request, and measures from the send: what it was late itself hides.
    Targets that it cannot tell (degraded answers, the generator's lag) are left out.
    """
    from fraud_load import scenario as scenarios
    from fraud_load.perf_analyzer import find_perf_analyzer
    from fraud_load.perf_analyzer_run import run_perf_analyzer
    from fraud_load.runner import Target

    asked = scenarios.load(scenario, _options(replaced, seed, rate=rate, duration=duration))
    target, found = Target(url, metrics_url, allow_remote), find_perf_analyzer(program)
    with progress(asked.name) as tell:
        result = run_perf_analyzer(asked, target, found, mode=mode, concurrency=concurrency, progress=tell)
    _finish(ctx, result, out or _new_folder(home, f"{asked.name}-perf-analyzer"), as_json)


@load.command(name="list")
@json_option
def list_scenarios(as_json: bool) -> None:
    """The scenarios that come with the project."""
    from fraud_load import scenario as scenarios

    found = {name: scenarios.load(name) for name in scenarios.names()}
    table = Table("scenario", "seconds", "arrivals", "about", box=None)
    for name, one in found.items():
        arrivals = f"{one.arrivals.profile().expected:,.0f}"
        table.add_row(name, f"{one.duration_s:,.0f}", arrivals, one.about)
    emit({"scenarios": {name: one.about for name, one in found.items()}}, as_json, table=table)


@load.command()
@_scenario_argument
@_rate_option
@_duration_option
@_seed_option
@_set_option
@json_option
def describe(
    scenario: str,
    rate: float | None,
    duration: float | None,
    seed: int | None,
    replaced: tuple[str, ...],
    as_json: bool,
) -> None:
    """SCENARIO with every default filled in: what would be sent, how, and what is asked of the server."""
    from fraud_load import scenario as scenarios

    asked = scenarios.load(scenario, _options(replaced, seed, rate=rate, duration=duration))
    profile = asked.arrivals.profile()
    result: dict[str, Any] = {
        **asked.as_dict(),
        "duration_s": asked.duration_s,
        "expected_arrivals": round(profile.expected),
        "peak_transactions_per_s": round(profile.peak * asked.workload.mean_rows, 3),
    }
    emit(result, as_json, table=[(name, _shown(value)) for name, value in _flat(result)])


def _new_folder(home: Path, name: str) -> Path:
    return home / "load" / f"{name}-{datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}"


def _finish(ctx: click.Context, result: Result, folder: Path, as_json: bool) -> None:
    """Keep the result and its report, say the verdicts, and end with the gate's exit code."""
    from fraud_load.result import save

    save(result, folder)
    html, _ = write_report(result, folder)
    told = {**_summary(result), "folder": str(folder), "report": str(html)}
    emit(told, as_json, table=_verdicts(result, html))
    ctx.exit(0 if result.run.passed else 1)


def _options(replaced: tuple[str, ...], seed: int | None, **short: float | None) -> dict[str, str]:
    """Fields to replace, by path."""
    from fraud_scoring.errors import InvalidInput

    found = {} if seed is None else {"seed": str(seed)}
    found |= {_SHORT[name]: f"{value}" for name, value in short.items() if value is not None}
    for one in replaced:
        path, equals, value = one.partition("=")
        if not equals:
            raise InvalidInput(f"--set {one}: write FIELD=VALUE, for example --set arrivals.rate=500")
        found[path] = value
    return found


def _summary(result: Result) -> dict[str, Any]:
    """What `--json` says: the run without its series, numbers that JSON can hold."""
    from fraud_load.result import plain

    summary: dict[str, Any] = plain(result.run.as_dict())
    return {"passed": result.run.passed, **summary}


def _verdicts(result: Result, html: Path) -> list[tuple[str, str]]:
    run = result.run
    lines = [(one.outcome.value, one.text) for one in run.slos]
    lag = run.generator.lag_ms
    cpu = ", ".join(f"{used:.0%}" for used in run.generator.cpu)
    lines.append(("", f"{run.totals['arrivals']:,} arrivals in {run.totals['calls']:,} requests, {run.seconds:.1f} s"))
    told = f"lag p50 {lag['p50']:.2f} ms, p99 {lag['p99']:.2f} ms" if run.runner != "perf_analyzer" else "lag not told"
    lines.append(("", f"generator: {told}; CPU of each process {cpu}"))
    if run.generator.bottleneck:
        lines.append(("", run.generator.bottleneck))
    lines += [("", line) for line in _found(run.findings)]
    return [*lines, ("", str(html)), (run.outcome.value.upper(), f"{run.scenario['name']} on {run.url}")]


def _found(findings: dict[str, Any]) -> list[str]:
    lines = []
    if cores := findings.get("cores"):
        lines.append(
            f"cores in use: server {cores['server']:.2f}, generator {cores['generator']:.2f}, "
            f"the whole machine {cores['machine']:.2f}"
        )
    if knee := findings.get("knee"):
        lines += [
            f"{step['rate']:>8,.0f}/s  p99 {step['p99_ms']:>9.1f} ms  {'held' if step['held'] else 'left'}"
            for step in knee["steps"]
        ]
    if spike := findings.get("recovery"):
        lines.append(f"p99 before {spike['before_p99_ms']:.1f} ms, at worst {spike['worst_p99_ms']:.1f} ms")
    if tool := findings.get("perf_analyzer"):
        lines.append(
            f"perf_analyzer, {tool['mode']}: {tool['csv'].get('Inferences/Second', 0.0):,.0f} a second by its CSV"
        )
    if drift := findings.get("drift"):
        lines.append(
            f"p99 in the first third {drift['p99_first_ms']:.1f} ms, in the last {drift['p99_last_ms']:.1f} ms"
        )
    return lines


def _flat(document: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in document.items():
        full = f"{path}.{name}" if path else str(name)
        found += _flat(value, full) if isinstance(value, dict) and value else [(full, value)]
    return found


def _shown(value: object) -> str:
    return "–" if value is None or value == {} else str(value)
