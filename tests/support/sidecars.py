"""Sidecars for tests: one that is stepped by hand within the test's process, and one that is a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from drift_sidecar.service import Sidecar
from drift_sidecar.settings import SidecarSettings
from support.decision_logs import DecisionLog

PATIENT = 60.0
"""Seconds after which what was waited for counts as never coming."""
Labels = frozenset[tuple[str, str]]


def fetch(url: str, **headers: str) -> tuple[int, str]:
    """(status, body) of a GET."""
    try:
        with urlopen(Request(url, headers=headers), timeout=PATIENT) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def samples(exposition: str) -> dict[tuple[str, Labels], float]:
    """Every sample of a Prometheus exposition, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def value(found: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """One sample."""
    return found[name, frozenset(labels.items())]


def decisions_in(exposition: str) -> Counter[tuple[str, str, str]]:
    """fraud_transactions_total by (release, decision, source), without zeros."""
    found: Counter[tuple[str, str, str]] = Counter()
    for (name, labels), count in samples(exposition).items():
        if name == "fraud_transactions_total" and count:
            by_name = dict(labels)
            found[by_name["release"], by_name["decision"], by_name["source"]] = int(count)
    return found


class SteppedSidecar:
    """A sidecar over a test's log, with clocks that the test sets; `said` is what it reported."""

    def __init__(self, log: DecisionLog, folder: Path, **changes: Any) -> None:
        self.log = log
        self.seconds = 1_000.0
        self.said: list[str] = []
        self.later_us = 2_000_000
        """How far the wall clock is ahead of the log's."""
        repository = folder / "repository"
        repository.mkdir(exist_ok=True)
        self.settings = SidecarSettings(
            **{"log": log.folder, "repository": repository, "home": folder / "home", "port": 0, **changes}
        ).check()
        self.sidecar = Sidecar(
            self.settings,
            self.said.append,
            now_us=lambda: self.log.clock.now_us + self.later_us,
            monotonic=lambda: self.seconds,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.sidecar.port}"

    def step(self, seconds: float = 10.0) -> None:
        """Let so much time pass, count all that is there, and take a picture."""
        self.seconds += seconds
        while self.sidecar.step():
            pass
        self.seconds += self.settings.look_every_s
        self.sidecar.step()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(fetch(f"{self.url}/api/status")[1]))

    def metrics(self) -> dict[tuple[str, Labels], float]:
        return samples(fetch(f"{self.url}/metrics")[1])


@contextmanager
def stepped(log: DecisionLog, folder: Path, **changes: Any) -> Iterator[SteppedSidecar]:
    """A sidecar that is closed at the end, as if it had been killed: only the checkpoints that were due are there."""
    made = SteppedSidecar(log, folder, **changes)
    try:
        yield made
    finally:
        made.sidecar.close()


class Process(Protocol):
    """What is needed of a process; a subprocess.Popen has it."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


def _life(arguments: list[str], errors: Path) -> None:
    """A forked process's life."""
    from drift_sidecar.__main__ import main

    with errors.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = ["drift_sidecar", *arguments]
    sys.exit(main())


class ForkedProcess:
    """The same process without the seconds that its imports take: forked from a server that has made them."""

    _forks = multiprocessing.get_context("forkserver")
    _forks.set_forkserver_preload(["drift_sidecar.service"])

    def __init__(self, arguments: list[str], errors: Path) -> None:
        self._process = self._forks.Process(target=_life, args=(arguments, errors))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, "the sidecar does not end"
        return self._process.exitcode

    def send_signal(self, sig: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, sig)


class SidecarProcess:
    """`python -m drift_sidecar` on a free port."""

    def __init__(
        self,
        log: Path,
        folder: Path,
        *options: str,
        before: Callable[[], object] | None = None,
        forked: bool = False,
    ) -> None:
        repository = folder / "repository"
        repository.mkdir(exist_ok=True)
        self.errors = folder / "sidecar.err"
        self.errors.touch()
        self._from = self.errors.stat().st_size
        arguments = [
            *("--log", str(log), "--repository", str(repository), "--home", str(folder / "home")),
            *("--port", "0", "--look-every", "0.1", *options),
        ]
        self.process: Process
        if forked:
            self.process = ForkedProcess(arguments, self.errors)
        else:
            with self.errors.open("ab") as errors:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "drift_sidecar", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    preexec_fn=before,  # noqa: PLW1509 - nothing else runs in a test's process at that time
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
        self.url = ""

    @property
    def said(self) -> str:
        """What this process wrote on standard error."""
        return self.errors.read_bytes()[self._from :].decode()

    def wait_until_ready(self) -> SidecarProcess:
        """Wait until it says where its pages are."""
        await_that(lambda: "ready on http://" in self.said or self.process.poll() is not None, "the sidecar starts")
        assert self.process.poll() is None, self.said
        self.url = self.said.split("ready on ")[1].split(",")[0]
        return self

    def metrics(self) -> str:
        return fetch(f"{self.url}/metrics")[1]

    def rows(self) -> int:
        """How many rows it has counted, as of its last picture."""
        return int(value(samples(self.metrics()), "fraud_sidecar_rows_total"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENT)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENT)


@contextmanager
def sidecar_process(
    log: Path,
    folder: Path,
    *options: str,
    before: Callable[[], object] | None = None,
    forked: bool = False,
) -> Iterator[SidecarProcess]:
    """A process that is gone at the end."""
    made = SidecarProcess(log, folder, *options, before=before, forked=forked)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.kill()


def await_that(holds: Callable[[], bool], what: str) -> None:
    """Return as soon as `holds`; fail with `what` if it never does."""
    until = time.monotonic() + PATIENT
    while True:
        try:
            if holds():
                return
        except (URLError, ConnectionError):
            pass
        assert time.monotonic() < until, f"in vain: {what}"
        time.sleep(0.02)
