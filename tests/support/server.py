"""A real server for tests: `fraudctl serve` as a user starts it, known by what it says, its processes and its regions.

Nothing here waits for time to pass: it waits for a line, an exit or an answer, with a deadline that fails the test.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, TypeVar

import lmdb
import psutil

from fraud_client import Unavailable

FRAUDCTL: Final = Path(sys.executable).with_name("fraudctl")
SHARED_MEMORY: Final = Path("/dev/shm")
STUBS: Final = ("fraud_front_door", "fraud_feedback", "fraud_features", "fraud_model", "fraud_decision")
"""The models that run in a python process of their own, without their release's number."""
FIRST_PORT: Final = 20_000
PORTS: Final = 12_000
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0
_POLL_SECONDS: Final = 0.02

_Sent = TypeVar("_Sent")
_started: set[int] = set()
_homes: set[Path] = set()


class Said:
    """The lines of a stream and the moment (`time.monotonic`) at which each came."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, name="said", daemon=True)
        self._reader.start()

    @property
    def lines(self) -> list[str]:
        with self._changed:
            return [line for _, line in self._lines]

    def wait_for(self, text: str, within: float, *, after: int = 0) -> float:
        """The moment of the first line with `text` in it, the first `after` lines left out."""

        def found() -> bool:
            return self._find(text, after) is not None or self._ended

        with self._changed:
            self._changed.wait_for(found, within)
            moment = self._find(text, after)
        assert moment is not None, f"no line with {text!r} within {within} s; it said: {self.lines[after:]}"
        return moment

    def finish(self) -> None:
        """Read to the end of the stream; its process has ended."""
        self._reader.join(STOP_SECONDS)
        self._stream.close()

    def _find(self, text: str, after: int) -> float | None:
        return next((moment for moment, line in self._lines[after:] if text in line), None)

    def _read(self) -> None:
        for line in self._stream:
            with self._changed:
                self._lines.append((time.monotonic(), line.rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Server:
    """A `fraudctl serve` of its own home and ports; ended with the `with` block, if nobody did it before.

    `through` is a program, with its arguments, that becomes the server, as setpriv.
    """

    def __init__(
        self,
        repository: Path,
        home: Path,
        *options: str,
        ports: tuple[int, int, int] | None = None,
        wait: bool = True,
        through: Sequence[str] = (),
    ) -> None:
        self.repository, self.home = repository, home
        self.ports = ports or free_ports()
        self.url, self.http_url, self.metrics_url = (f"127.0.0.1:{port}" for port in self.ports)
        self._process = subprocess.Popen(
            [*through, str(FRAUDCTL), "serve", *self.arguments(repository, home, self.ports), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _started.add(self._process.pid)
        _homes.add(home)
        assert self._process.stderr is not None
        self.said = Said(self._process.stderr)
        if wait:
            try:
                self.said.wait_for("ready on", START_SECONDS)
            except BaseException:
                self.stop(signal.SIGKILL)
                raise

    @staticmethod
    def arguments(repository: Path, home: Path, ports: tuple[int, int, int]) -> list[str]:
        """The options of `fraudctl serve`."""
        names = ("--grpc-port", "--http-port", "--metrics-port")
        given = [text for name, port in zip(names, ports, strict=True) for text in (name, str(port))]
        return ["--repository", str(repository), "--home", str(home), "--no-sidecar", *given]

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def triton(self) -> psutil.Process:
        found = [child for child in psutil.Process(self.pid).children() if child.name() == "tritonserver"]
        assert len(found) == 1, found
        return found[0]

    def has_one(self, model: str, release: int = 1) -> bool:
        """Whether one python process, and not two, serves a model."""
        return len(self._stubs(model, release)) == 1

    def stub(self, model: str, release: int = 1) -> psutil.Process:
        """The python process of one model, named without its release's number; one before it may be on its way out."""
        until(lambda: self.has_one(model, release))
        return self._stubs(model, release)[0]

    def _stubs(self, model: str, release: int) -> list[psutil.Process]:
        found = []
        for child in self.triton().children(recursive=True):
            try:
                if child.status() == psutil.STATUS_ZOMBIE:
                    continue  # Triton does not ask after the stubs that it lost
                folders = [part for argument in child.cmdline()[1:2] for part in Path(argument).parts]
            except psutil.NoSuchProcess:
                continue
            if any(part.removesuffix(f"_r{release:04d}") == model for part in folders):
                found.append(child)
        return found

    def parts(self) -> list[psutil.Process]:
        """The supervisor and every process under it."""
        supervisor = psutil.Process(self.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within: float = STOP_SECONDS) -> int:
        """The exit code."""
        code = self._process.wait(within)
        self.said.finish()
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and wait until it has."""
        if self._process.poll() is None:
            self.send(number)
        return self.wait()

    def waiting_requests(self, model: str = "fraud_score") -> int:
        """Requests in the queue of a model: what came while a batch was being answered."""
        with closing(urllib.request.urlopen(f"http://{self.metrics_url}/metrics", timeout=5)) as answer:
            lines = answer.read().decode().splitlines()
        wanted = f'nv_inference_pending_request_count{{model="{model}",'
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted)))

    @contextmanager
    def slow_store(self) -> Iterator[None]:
        """While this lasts nothing can be recorded, and the front door holds what it is asked."""
        with lmdb.open(str(self.home / "store"), max_dbs=8, map_size=64 << 30, max_readers=512) as environment:
            held = environment.begin(write=True)
            try:
                yield
            finally:
                held.abort()


def fraudctl(*arguments: object, within: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    process = subprocess.Popen(
        [FRAUDCTL, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _started.add(process.pid)
    with process:
        try:
            out, err = process.communicate(timeout=within)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def json_of(*arguments: object, within: float = 120.0) -> dict[str, object]:
    """What a command reports with --json; it must have succeeded."""
    done = fraudctl(*arguments, "--json", within=within)
    assert done.returncode == 0, done
    found: dict[str, object] = json.loads(done.stdout)
    return found


def until(happened: Callable[[], bool], within: float = 30.0) -> None:
    """Return once `happened` says so: for what sends no event."""
    give_up = time.monotonic() + within
    while not happened():
        assert time.monotonic() < give_up, f"it did not happen within {within} s"
        threading.Event().wait(_POLL_SECONDS)


def when_labels_are_taken(send: Callable[[], _Sent], within: float = 30.0) -> _Sent:
    """What `send` returns once the store of the process that takes labels is back.

    Scores and labels have a process and a guard of the store each, and each guard comes back at a moment of its own.
    """
    taken: list[_Sent] = []

    def is_taken() -> bool:
        with suppress(Unavailable):  # of the store; of the client's own breaker after some of those
            taken.append(send())
        return bool(taken)

    until(is_taken, within)
    return taken[0]


def free_ports() -> tuple[int, int, int]:
    """Loopback ports that nobody uses, below those that the kernel gives to outgoing connections.

    Each worker of a run has a range of its own: a port is chosen seconds before its server takes it.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    span = PORTS // workers
    found: set[int] = set()
    while len(found) < 3:
        port = FIRST_PORT + worker % workers * span + secrets.randbelow(span)
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    first, second, third = found
    return first, second, third


def regions_of(pid: int) -> list[Path]:
    """The shared-memory regions that the server of a supervisor left."""
    return sorted(SHARED_MEMORY.glob(f"fraudserve_{pid}_*"))


def leftovers() -> list[str]:
    """What is still there of all the servers and commands that this test run has started."""
    regions = [str(region) for pid in sorted(_started) for region in regions_of(pid)]
    processes = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        if process.pid != os.getpid() and any(str(home) in command for home in _homes):
            processes.append(f"{process.pid}: {command[:200]}")
    return regions + processes
