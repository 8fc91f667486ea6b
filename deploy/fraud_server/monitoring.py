"""Prometheus and Alertmanager beside the server: configured from deploy/monitoring, on loopback, stopped with it.

    with Monitoring(MonitoringSettings(home=Path("var"))) as monitoring:
        print(monitoring.prometheus_url)

What is kept lies in <home>/monitoring: at most RETENTION_TIME and RETENTION_SIZE of samples, the configuration as it
was rendered, and a log of each program's last run. Start it when the server is ready and stop it before the server
drains: to Prometheus a server that is not there is an outage.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import yaml

from fraud_server.errors import CannotServe
from fraud_server.tether import tethered

CONFIGURATION: Final = Path(__file__).parent.parent / "monitoring"
RETENTION_TIME: Final = "15d"
"""The traffic alert looks back a week and an hour; the slowest burn-rate window three days."""
RETENTION_SIZE: Final = "1GB"
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
HOW_TO_GET: Final = "apt-get install prometheus prometheus-alertmanager"
_PROMETHEUS: Final = ("prometheus",)
_ALERTMANAGER: Final = ("alertmanager", "prometheus-alertmanager")  # upstream's name, Debian's
_LOOPBACK: Final = "127.0.0.1"
GATEWAY: Final = "gateway"
"""The one job that a machine may be without: prometheus.yml does not name it."""
GATEWAY_PATH: Final = "/stats/prometheus"


@dataclass(frozen=True)
class MonitoringSettings:
    """Ports on loopback. One that is taken is replaced by a free one for our own two, never for what is scraped."""

    home: Path
    triton_metrics_port: int = 8002
    sidecar_port: int = 8003
    prometheus_port: int = 9090
    alertmanager_port: int = 9093
    webhook: str = "http://127.0.0.1:9095"
    """Where notifications go: /page and /ticket below it."""
    gateway_figures: str | None = None
    """host:port of a gateway's figures, where one stands before the server; without it no rule asks after one."""
    interval: str | None = None
    """How often to scrape and to evaluate; without it, as prometheus.yml says."""

    @property
    def folder(self) -> Path:
        return self.home / "monitoring"


@dataclass(frozen=True)
class Programs:
    """The two programs, as they are installed."""

    prometheus: Path
    alertmanager: Path

    @classmethod
    def find(cls, which: Callable[[str], str | None] = shutil.which) -> Programs:
        """Where they are; CannotServe says in one line how to get them."""
        prometheus = _first(_PROMETHEUS, which)
        alertmanager = _first(_ALERTMANAGER, which)
        if prometheus is None or alertmanager is None:
            pairs = (("Prometheus", prometheus), ("Alertmanager", alertmanager))
            missing = " and ".join(name for name, found in pairs if found is None)
            raise CannotServe(f"--monitoring needs {missing}; get both with: {HOW_TO_GET}")
        return cls(prometheus, alertmanager)


def render_prometheus(
    targets: Mapping[str, str], alertmanager: str, rules: Path = CONFIGURATION / "rules", interval: str | None = None
) -> str:
    """prometheus.yml for these addresses (host:port by job); `interval` replaces how often it scrapes and evaluates.

    A gateway is scraped where it has an address. ValueError names the job of prometheus.yml that has no address.
    """
    document: dict[str, Any] = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8"))
    for job in document["scrape_configs"]:
        if job["job_name"] not in targets:
            raise ValueError(f"job {job['job_name']} of prometheus.yml has no address")
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    if GATEWAY in targets:
        gateway = {"job_name": GATEWAY, "metrics_path": GATEWAY_PATH}
        document["scrape_configs"].append({**gateway, "static_configs": [{"targets": [targets[GATEWAY]]}]})
    document["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    document["rule_files"] = [str(rules.absolute() / "*.yaml")]
    if interval is not None:
        document["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), interval)
    return yaml.safe_dump(document, sort_keys=False)


def render_alertmanager(webhook: str) -> str:
    """alertmanager.yml whose receivers are `webhook`/page and `webhook`/ticket."""
    document: dict[str, Any] = yaml.safe_load((CONFIGURATION / "alertmanager.yml").read_text(encoding="utf-8"))
    for receiver in document["receivers"]:
        for hook in receiver.get("webhook_configs", ()):
            hook["url"] = f"{webhook.rstrip('/')}/{receiver['name']}"
    return yaml.safe_dump(document, sort_keys=False)


class Monitoring:
    """Both programs, running; a context manager. CannotServe if one is missing or does not get ready."""

    def __init__(self, settings: MonitoringSettings, programs: Programs | None = None) -> None:
        if not CONFIGURATION.is_dir():
            raise CannotServe("deploy/monitoring is not there; run from a checkout of fraudserve")
        programs = programs or Programs.find()
        prometheus_port = _usable(settings.prometheus_port)
        alertmanager_port = _usable(settings.alertmanager_port, prometheus_port)
        self.prometheus_url = f"http://{_LOOPBACK}:{prometheus_port}"
        self.alertmanager_url = f"http://{_LOOPBACK}:{alertmanager_port}"
        self._folder = settings.folder.absolute()
        self._folder.mkdir(parents=True, exist_ok=True)
        ports = {
            "triton": settings.triton_metrics_port,
            "sidecar": settings.sidecar_port,
            "prometheus": prometheus_port,
            "alertmanager": alertmanager_port,
        }
        targets = {job: f"{_LOOPBACK}:{port}" for job, port in ports.items()}
        if settings.gateway_figures is not None:
            targets[GATEWAY] = settings.gateway_figures
        prometheus_yml = render_prometheus(targets, targets["alertmanager"], interval=settings.interval)
        prometheus_file = self._write("prometheus.yml", prometheus_yml)
        alertmanager_file = self._write("alertmanager.yml", render_alertmanager(settings.webhook))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._start(
                "alertmanager",
                [
                    str(programs.alertmanager),
                    f"--config.file={alertmanager_file}",
                    f"--storage.path={self._folder / 'alertmanager'}",
                    f"--web.listen-address={targets['alertmanager']}",
                    "--cluster.listen-address=",  # one machine: nobody to gossip with, and no port for it
                    "--log.level=warn",
                ],
            )
            self._start(
                "prometheus",
                [
                    str(programs.prometheus),
                    f"--config.file={prometheus_file}",
                    f"--storage.tsdb.path={self._folder / 'prometheus'}",
                    f"--storage.tsdb.retention.time={RETENTION_TIME}",
                    f"--storage.tsdb.retention.size={RETENTION_SIZE}",
                    f"--web.listen-address={targets['prometheus']}",
                    "--log.level=warn",
                ],
            )
            for name, url in (("alertmanager", self.alertmanager_url), ("prometheus", self.prometheus_url)):
                self._wait_until_ready(name, url)
        except BaseException:
            self.stop()
            raise

    def what_died(self) -> str | None:
        """The program that is no longer there, in words; None while both are."""
        for name, process in self._running.items():
            if process.poll() is not None:
                return f"{name} ended (code {process.returncode}): {self._last_line(name)}"
        return None

    def stop(self) -> None:
        """End both. What they keep stays, for the next start."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        give_up = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, give_up - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()

    def __enter__(self) -> Monitoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write(self, name: str, text: str) -> Path:
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                tethered(command),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_ready(self, name: str, url: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if (died := self.what_died()) is not None:
                raise CannotServe(died)
            try:
                with opener.open(f"{url}/-/ready", timeout=1):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.05)
        raise CannotServe(f"{name} was not ready after {START_SECONDS:g} s: {self._last_line(name)}")

    def _last_line(self, name: str) -> str:
        with suppress(OSError):
            lines = (self._folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][:300]
        return "it logged nothing"


def _first(names: tuple[str, ...], which: Callable[[str], str | None]) -> Path | None:
    return next((Path(found) for name in names if (found := which(name)) is not None), None)


def _usable(wanted: int, taken: int | None = None) -> int:
    """`wanted`, or a free port where it is taken."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if wanted != taken:
            with suppress(OSError):
                attempt.bind((_LOOPBACK, wanted))
                return int(attempt.getsockname()[1])
        with socket.socket() as free:
            free.bind((_LOOPBACK, 0))
            return int(free.getsockname()[1])
