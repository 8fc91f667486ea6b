"""A scenario through Locust, headless: one process, or a master and workers, and the result that it leaves."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fraud_load.access import for_process, for_transport
from fraud_load.result import RUN_FILE, Result, load
from fraud_load.runner import Target
from fraud_load.scenario import Scenario, folder
from fraud_scoring.errors import FraudError

Progress = Callable[[float, str], None]
_STARTING_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.5


class LocustFailed(FraudError):
    """Locust is not installed, or ended without a result."""


def locustfile() -> Path:
    """The file that Locust is given."""
    return folder().with_name("locustfile.py")


def run_locust(scenario: Scenario, target: Target, progress: Progress = lambda share, text: None) -> Result:
    """Send `scenario` with Locust and judge it; LocustFailed with what it said last."""
    if find_spec("locust") is None:
        raise LocustFailed("locust is not installed; run: make setup, or pip install 'fraudserve[load]'")
    for_transport(target.access)  # what cannot be read is told before anything is started
    with tempfile.TemporaryDirectory(prefix="locust-") as name:
        workspace = Path(name)
        asked = workspace / "scenario.yaml"
        asked.write_text(scenario.as_yaml(), encoding="utf-8")
        out = workspace / "result"
        options = ["--headless", "--only-summary", "--host", target.url, "--scenario", str(asked), "--result", str(out)]
        options += ["--metrics-url", target.metrics] if target.metrics else []
        options += ["--allow-remote"] if target.allow_remote else []
        environment = {**os.environ, **for_process(target.access)}
        with _processes(scenario.sending.processes, options, workspace, environment) as first:
            _wait(first, scenario, progress)
        if not (out / RUN_FILE).exists():
            raise LocustFailed(f"locust ended without a result: {_last_words(workspace / '0.log')}")
        return load(out)


@contextmanager
def _processes(
    count: int, options: list[str], workspace: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The process that leaves the result, alone or as the master of `count` workers; all are gone afterwards."""
    commands = [options]
    if count > 1:
        port = _free_port()
        commands = [[*options, "--master", "--master-bind-port", str(port), "--expect-workers", str(count)]]
        commands += [["--worker", "--master-port", str(port)]] * count
    started = []
    try:
        for number, command in enumerate(commands):
            with (workspace / f"{number}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "locust", "-f", str(locustfile()), *command],
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield started[0]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], scenario: Scenario, progress: Progress) -> None:
    began = time.monotonic()
    most_s = _STARTING_S + scenario.duration_s + 2 * scenario.sending.give_up_s
    while True:
        try:
            process.wait(_LOOK_EVERY_S)
            return
        except subprocess.TimeoutExpired:
            since = time.monotonic() - began
            progress(min(since / scenario.duration_s, 1.0), f"locust, {since:.0f} s")
            if since > most_s:
                raise LocustFailed(f"locust did not end within {most_s:.0f} s; it was ended") from None


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    wanted = [line for line in lines if "Error" in line or "rror:" in line]
    return (wanted or lines or ["it said nothing"])[-1][:300]
