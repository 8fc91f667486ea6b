"""The server while it is under load, once a second: its metrics page, and its processes where they are on this machine.

A loopback server is found by the port it listens on; its metrics port by its own command line. Elsewhere the metrics
page is asked for by URL, and processes are not seen.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from fraud_load.result import WHOLE_MACHINE, ModelSeries, ProcessSeries, ServerSeries
from fraud_load.triton_metrics import NOTHING, Counters, ModelFigures, between, scrape

EVERY_S: Final = 1.0
METRICS_PORT: Final = 8002
_OPTION: Final = "--metrics-port="


def split_url(url: str) -> tuple[str, int]:
    """(host, port) of `host:port`; ValueError."""
    host, _, port = url.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether every address that the name stands for is this machine's own."""
    try:
        found = {str(one[4][0]) for one in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(one.partition("%")[0]).is_loopback for one in found)


def listener(port: int) -> psutil.Process | None:
    """The process of this machine that listens on a TCP port, where the system lets us see it."""
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                return psutil.Process(one.pid)
    return None


def metrics_url(url: str, given: str | None = None) -> str:
    """Where the metrics page of the server at `url` is."""
    if given:
        return given if "://" in given else f"http://{given}/metrics"
    host, port = split_url(url)
    found = METRICS_PORT
    if is_loopback(host) and (process := listener(port)) is not None:
        with suppress(psutil.Error, ValueError):
            found = next(
                (int(one.removeprefix(_OPTION)) for one in process.cmdline() if one.startswith(_OPTION)), found
            )
    return f"http://{f'[{host}]' if ':' in host else host}:{found}/metrics"


def server_processes(url: str) -> dict[str, psutil.Process]:
    """The processes behind a loopback URL by a name to show: the server, and each python model by its own."""
    host, port = split_url(url)
    root = listener(port) if is_loopback(host) else None
    if root is None:
        return {}
    found: dict[str, psutil.Process] = {}
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            name, number = _name(process), 2
            while name in found:  # several instances of one model
                name, number = f"{_name(process)} {number}", number + 1
            found[name] = process
    return found


class ServerWatch:
    """Samples from `with` to its end, in a thread; `series` is what it saw. `others` are watched beside the server.

    Without a `url` no process is looked for behind it.
    """

    def __init__(
        self,
        url: str | None,
        start: float,
        page: str,
        others: Mapping[str, int] | None = None,
        every_s: float = EVERY_S,
    ) -> None:
        self._start, self._page, self._every_s = start, page, every_s
        self._processes = {} if url is None else server_processes(url)
        for name, pid in (others or {}).items():
            with suppress(psutil.Error):
                self._processes[name] = psutil.Process(pid)
        self._at: list[float] = []
        self._models: dict[str, list[ModelFigures]] = {}
        self._used: dict[str, list[tuple[float, float, float]]] = {
            name: [] for name in (*self._processes, *([WHOLE_MACHINE] if self._processes else []))
        }
        self._counters: tuple[float, Counters] | None = None
        self._cpu: dict[str, float] = {}
        self._seen_at = time.monotonic()
        self._note = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server-watch", daemon=True)

    def __enter__(self) -> ServerWatch:
        self._look(keep=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def series(self) -> ServerSeries:
        """What was seen until now."""
        models = {
            name: ModelSeries(*(list(column) for column in zip(*figures, strict=True)))
            for name, figures in self._models.items()
        }
        processes = {
            name: ProcessSeries(*(list(column) for column in zip(*used, strict=True)))
            for name, used in self._used.items()
            if used
        }
        return ServerSeries(list(self._at), models, processes, self._note)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()

    def _look(self, keep: bool = True) -> None:
        try:
            counters: Counters | None = scrape(self._page, self._every_s)
        except (OSError, ValueError) as error:
            counters = None
            self._note = f"no metrics from {self._page} at times: {type(error).__name__}"
        now = time.monotonic()
        figures = self._model_figures(counters, now)
        seconds, self._seen_at = now - self._seen_at, now
        used = {name: self._usage(name, process, seconds) for name, process in self._processes.items()}
        if used:
            used[WHOLE_MACHINE] = self._machine(seconds)
        if not keep:
            return
        for name in figures:
            self._models.setdefault(name, [NOTHING] * len(self._at))
        for name, column in self._models.items():
            column.append(figures.get(name, NOTHING))
        for name, one in used.items():
            self._used[name].append(one)
        self._at.append(now - self._start)

    def _model_figures(self, counters: Counters | None, now: float) -> dict[str, ModelFigures]:
        if counters is None:
            return {}
        before, self._counters = self._counters, (now, counters)
        if before is None:
            return {}
        then, old = before
        return {name: between(old.get(name, {}), new, now - then) for name, new in counters.items()}

    def _usage(self, name: str, process: psutil.Process, seconds: float) -> tuple[float, float, float]:
        """(cores used since the last look, resident bytes, private bytes); NaN for a process that is gone."""
        try:
            times, memory = process.cpu_times(), process.memory_info()
        except psutil.Error:
            return (float("nan"),) * 3
        total = times.user + times.system
        cpu = (total - self._cpu.get(name, total)) / max(seconds, 1e-3)
        self._cpu[name] = total
        return cpu, float(memory.rss), float(memory.rss - memory.shared)

    def _machine(self, seconds: float) -> tuple[float, float, float]:
        """The same of everything that runs here, ours and others': time that the host took away counts as used."""
        times, memory = psutil.cpu_times(), psutil.virtual_memory()
        idle = times.idle + times.iowait
        rise = idle - self._cpu.get(WHOLE_MACHINE, idle)
        self._cpu[WHOLE_MACHINE] = idle
        cores = psutil.cpu_count() or 1
        used = float(memory.total - memory.available)
        return max(cores - rise / max(seconds, 1e-3), 0.0), used, used


def _name(process: psutil.Process) -> str:
    """A python stub by the model that it runs, anything else by its own name."""
    for argument in process.cmdline()[1:2]:
        model = [part for part in Path(argument).parts if part.startswith("fraud_")]
        if model:
            return model[-1]
    return process.name()
