"""What is measured: the served stack, the floor, a Redis server; started, known by their processes, ended."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from fraud_bench.floor import ONE_HOP, THREE_HOPS, write_repository
from fraud_client import FraudClientError, GrpcTransport
from fraud_load.processes import tree, tree_usage
from fraud_scoring.errors import FraudError
from fraud_server.ports import free_ports
from fraud_server.process import TritonProcess
from fraud_server.settings import Ports, ServeSettings
from fraud_server.tether import tethered

START_S: Final = 90.0
STOP_S: Final = 40.0
QUIET_S: Final = 10.0
"""How long to wait, after a load, for work that was put off."""
_LOOK_EVERY_S: Final = 0.1
_QUIET_LOOK_S: Final = 0.3
_QUIET_CORES: Final = 0.15
"""A server that uses this much of a core more than when idle still works on something."""


class CannotMeasure(FraudError):
    """A part of the benchmark could not be started; the text says why, and what to do."""


@dataclass(frozen=True)
class Server:
    """Processes that answer, and where. Their CPU time is given by groups of process trees."""

    name: str
    url: str
    """host:port, of gRPC where there is one."""
    groups: dict[str, tuple[int, ...]]
    """Roots of process trees by name; `server` is everything that the server needs."""
    http_url: str = ""
    log: Path | None = None
    """Folder of its decision log."""
    idle_cores: float = field(default=0.0)
    """Cores that it uses while nobody asks anything."""

    def settle(self) -> float:
        """Wait until it is quiet again; CPU seconds that it used meanwhile, beyond what it uses when idle."""
        began, first = time.monotonic(), self._cpu_seconds()
        before = first
        while time.monotonic() - began < QUIET_S:
            time.sleep(_QUIET_LOOK_S)
            now = self._cpu_seconds()
            if now - before <= (self.idle_cores + _QUIET_CORES) * _QUIET_LOOK_S:
                break
            before = now
        waited = time.monotonic() - began
        return self._cpu_seconds() - first - self.idle_cores * waited

    def _cpu_seconds(self) -> float:
        return tree_usage(*self.groups["server"]).cpu_seconds


@contextmanager
def program(
    command: Sequence[str],
    log: Path,
    ready: Callable[[str], bool] | None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """A program from when `ready` says so of a line that it printed until the end of `with`; gives its process id.

    Without `ready` it is not waited for. What it prints is kept in `log`.
    """
    process = subprocess.Popen(
        tethered(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=environment,
    )
    is_ready, ended, last = threading.Event(), threading.Event(), deque[str](maxlen=3)

    def read() -> None:
        assert process.stdout is not None
        with log.open("w", encoding="utf-8", buffering=1) as file, process.stdout:
            for line in process.stdout:
                file.write(line)
                last.append(line.strip())
                if ready is not None and ready(line):
                    is_ready.set()
        ended.set()
        is_ready.set()

    reader = threading.Thread(target=read, name="program", daemon=True)
    reader.start()
    try:
        if ready is not None and (not is_ready.wait(START_S) or ended.is_set()):
            raise CannotMeasure(f"{Path(command[0]).name} did not start: {' | '.join(last) or 'it said nothing'}"[:400])
        yield process.pid
    finally:
        _end(process)
        reader.join(STOP_S)


def _end(process: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL for what is left of its tree after a while."""
    everything = [psutil.Process(pid) for pid in tree(process.pid)]
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    for one in everything:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


@contextmanager
def served(name: str, repository: Path, home: Path, store_url: str, beside: dict[str, int]) -> Iterator[Server]:
    """`fraudctl serve` as a user starts it, with its log durable and its sidecar.

    `beside` are processes that belong to it, as a Redis, by the name of their group.
    """
    grpc, http, metrics, page = free_ports(4)
    options = {
        "--repository": repository,
        "--home": home,
        "--store": store_url,
        "--grpc-port": grpc,
        "--http-port": http,
        "--metrics-port": metrics,
        "--sidecar-port": page,
    }
    home.mkdir(parents=True, exist_ok=True)
    words = [str(part) for pair in options.items() for part in pair]
    command = [str(Path(sys.executable).with_name("fraudctl")), "serve", *words]
    with program(command, home / "serve.txt", lambda line: "status page on" in line) as pid:
        groups = {"server": (pid, *beside.values()), **{one: (root,) for one, root in beside.items()}}
        groups["sidecar"] = (_wait_for_child(pid, "drift_sidecar"),)
        server = Server(name, f"127.0.0.1:{grpc}", groups, f"127.0.0.1:{http}", home / "log")
        yield with_idle_cores(server)


def with_idle_cores(server: Server, seconds: float = 2.0) -> Server:
    """The same server, once it is quiet, with what it uses then."""
    server.settle()
    before = tree_usage(*server.groups["server"]).cpu_seconds
    time.sleep(seconds)
    used = tree_usage(*server.groups["server"]).cpu_seconds - before
    return Server(server.name, server.url, server.groups, server.http_url, server.log, used / seconds)


@contextmanager
def floor(folder: Path, columns: int) -> Iterator[Server]:
    """The two identity models on the settings of the real server."""
    repository = write_repository(folder / "models", columns)
    grpc, http, metrics = free_ports(3)
    settings = ServeSettings(repository, folder, Ports(grpc, http, metrics), store_url="", log_mode="off")
    process = TritonProcess(settings, [ONE_HOP, THREE_HOPS])
    try:
        transport = GrpcTransport(settings.url)
        try:
            wait_until(
                lambda: all(_is_ready(transport, model) for model in (ONE_HOP, THREE_HOPS)),
                "the floor's server",
                process.pid,
            )
        finally:
            transport.close()
        yield Server("floor", settings.url, {"server": (process.pid,)}, f"127.0.0.1:{http}")
    finally:
        process.kill()


_REDIS: Final = (
    "--appendonly", "yes", "--auto-aof-rewrite-percentage", "300", "--rdbcompression", "no", "--latency-tracking", "no",
)  # fmt: skip
"""As it is set where it is deployed (deploy/compose/redis.conf)."""


@contextmanager
def redis(folder: Path) -> Iterator[tuple[str, int]]:
    """A Redis server of its own: (its URL, its process id). CannotMeasure where redis-server is not installed."""
    found = shutil.which("redis-server")
    if found is None:
        raise CannotMeasure("redis-server is not here; install it (Debian: apt-get install redis-server)")
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *_REDIS]
    with program([found, *options], folder / "redis.txt", lambda line: "eady to accept connections" in line) as pid:
        # patient: what is measured here is cost, on a machine that is kept busy
        yield f"redis://127.0.0.1:{port}/0?timeout_ms=1000", pid


def _is_ready(transport: GrpcTransport, model: str) -> bool:
    try:
        return transport.ready(model, 1.0)
    except FraudClientError:
        return False


def _wait_for_child(pid: int, word: str) -> int:
    """The process under `pid` whose command line has `word` in it."""
    found: list[int] = []

    def look() -> bool:
        for child in tree(pid)[1:]:
            with suppress(psutil.NoSuchProcess):
                if any(word in part for part in psutil.Process(child).cmdline()[1:4]):
                    found.append(child)
        return bool(found)

    wait_until(look, word, pid)
    return found[0]


def wait_until(happened: Callable[[], bool], what: str, pid: int, log: Path | None = None) -> None:
    """For what sends no event; CannotMeasure when the process `pid` has ended, or after START_S, quotes its `log`."""
    give_up = time.monotonic() + START_S
    while not happened():
        if time.monotonic() > give_up:
            raise CannotMeasure(f"{what} did not start within {START_S:g} s: {_last_line(log)}")
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            raise CannotMeasure(f"{what} ended while it started: {_last_line(log)}")
        time.sleep(_LOOK_EVERY_S)


def _last_line(log: Path | None) -> str:
    lines = log.read_text(encoding="utf-8").split("\n") if log is not None and log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1][-300:] if said else "it said nothing"
