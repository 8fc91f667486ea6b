"""Other frameworks, as their authors would have them: their environments, how they are started, where they answer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import fraud_bench
import fraud_scoring
from fraud_bench.same_job import REPOSITORY_VARIABLE
from fraud_bench.servers import CannotMeasure, Server, program, wait_until, with_idle_cores
from fraud_scoring.decision_log import writers
from fraud_scoring.settings import LOG_KEY_VARIABLE, LOG_MODE_VARIABLE, LOG_VARIABLE, STORE_VARIABLE
from fraud_server.ports import free_ports

PEERS: Final = Path(fraud_bench.__path__[0]) / "peers"
_SOURCES: Final = tuple(Path(package.__path__[0]).parent for package in (fraud_scoring, fraud_bench))
"""What a rival imports of ours lies in these folders."""
INSTALL_S: Final = 900.0
_INSTALLED: Final = "installed.sha256"


@dataclass(frozen=True)
class Rival:
    """A framework's server. `command` gets the environment's folder of programs, and three ports, HTTP first."""

    name: str
    title: str
    folder: str
    """Of its application and its requirements, under peers/."""
    command: Callable[[Path, Sequence[int]], list[str]]
    path: str
    """Where single transactions are sent."""
    ready: str
    workers: int
    """Processes that do the job; each writes a decision log of its own."""
    shape: str = "rows"
    """How a request is written: `rows` or `kserve`."""
    environment: Mapping[str, str] = field(default_factory=dict)


def _uvicorn(programs: Path, ports: Sequence[int]) -> list[str]:
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(ports[0]),
        "--workers",
        "2",
        "--loop",
        "uvloop",
        "--http",
        "httptools",
    ]
    return [str(programs / "uvicorn"), "fraud_bench.peers.fastapi.app:app", *options, "--no-access-log"]


def _python(module: str) -> Callable[[Path, Sequence[int]], list[str]]:
    return lambda programs, ports: [str(programs / "python"), "-m", module, *map(str, ports)]


RIVALS: Final = (
    Rival("fastapi", "FastAPI, uvicorn, two workers", "fastapi", _uvicorn, "/score", "/ready", workers=2),
    Rival(
        "fastapi_batched",
        "the same with batches by hand",
        "fastapi",
        _uvicorn,
        "/score",
        "/ready",
        workers=2,
        environment={"FRAUD_PEER_BATCH": "1"},
    ),
    Rival(
        "litserve",
        "LitServe, batches",
        "litserve",
        _python("fraud_bench.peers.litserve.app"),
        "/predict",
        "/health",
        workers=1,
    ),
    Rival(
        "mlserver",
        "MLServer, adaptive batches",
        "mlserver",
        _python("fraud_bench.peers.mlserver.app"),
        "/v2/models/fraud/infer",
        "/v2/models/fraud/ready",
        workers=1,
        shape="kserve",
    ),
)


def install(rival: Rival, environments: Path) -> Path:
    """The folder of the programs of a rival's environment, made anew when its requirements have changed."""
    environment, requirements = environments / rival.folder, PEERS / rival.folder / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    marker = environment / _INSTALLED
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(environment)])
        target = ["--python", str(environment / "bin" / "python"), "--no-deps", "--require-hashes"]
        _run([uv, "pip", "install", "--quiet", *target, "--requirement", str(requirements)])
        marker.write_text(wanted, encoding="utf-8")
    return environment / "bin"


@contextmanager
def rival_server(rival: Rival, environments: Path, repository: Path, folder: Path) -> Iterator[Server]:
    """A rival on the store in `folder`/store, with a durable log in `folder`/log."""
    programs = install(rival, environments)
    ports = free_ports(3)
    log = folder / "log"
    environment = {
        **os.environ,
        **rival.environment,
        "PYTHONPATH": os.pathsep.join(map(str, _SOURCES)),
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        REPOSITORY_VARIABLE: str(repository),
        STORE_VARIABLE: f"lmdb://{folder / 'store'}",
        LOG_VARIABLE: str(log),
        LOG_KEY_VARIABLE: str(folder / "key"),
        LOG_MODE_VARIABLE: "durable",
        "MLSERVER_METRICS_DIR": str(folder / "metrics"),  # else it writes them where the benchmark was started
    }
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "server.txt"
    with program(rival.command(programs, ports), said, None, environment) as pid:
        url = f"127.0.0.1:{ports[0]}"
        wait_until(lambda: _answers(f"http://{url}{rival.ready}"), rival.title, pid, said)
        wait_until(lambda: len(writers(log)) >= rival.workers, f"{rival.title}: {rival.workers} workers", pid, said)
        yield with_idle_cores(Server(rival.name, url, {"server": (pid,)}, url, log))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMeasure(f"its environment could not be made: {type(error).__name__}; run: make setup") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["uv said nothing"])[-1]
        raise CannotMeasure(f"its environment could not be made: {last[:300]}")
