"""Keeps one Triton serving: starts it, waits for the golden vectors, watches, restarts, drains.

Noticed within a fraction of a second: a server that is gone, or the front door's process. Within a few: answers that
are errors or wrong. What happens to a release is mended while the others answer (`keeper`), unless that takes too long.
A server that is only late is given time: killing what is busy would make it worse.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from fraud_scoring.errors import FraudError
from fraud_scoring.routes import Routes
from fraud_server.errors import CannotServe
from fraud_server.keeper import ReleaseKeeper, admissible
from fraud_server.preflight import check, own_home
from fraud_server.probe import Degraded, GoldenProbe, Late, NotReady, StoreAway, WrongAnswer
from fraud_server.process import TritonProcess, end_orphans, served_models
from fraud_server.settings import ServeSettings

KERNELS_TOLD_S: Final = 3.0
"""From here on somebody may wonder what the start waits for."""


@dataclass(frozen=True)
class Patience:
    """Times in seconds."""

    start: float = 60.0
    look_every: float = 0.2
    probe_every: float = 0.5
    probe_timeout: float = 1.0
    late: float = 10.0
    """How long every probe may be late before the server counts as hung."""
    degraded: float = 3.0
    """How long others may answer for the release in production before it is loaded anew."""
    failures: int = 2
    """How many probes in a row must fail before the server counts as broken."""
    back_off_first: float = 0.1
    back_off_most: float = 10.0
    healthy_after: float = 30.0
    """A server that lived this long starts the back-off anew."""


@contextmanager
def supervised(settings: ServeSettings, report: Callable[[str], None]) -> Iterator[None]:
    """A supervised server in a thread: ready within the block, drained at its end. CannotServe if it does not come."""
    failure: list[Exception] = []
    supervisor = Supervisor(settings, report)

    def run() -> None:
        try:
            supervisor.run()
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread
            failure.append(error)
            supervisor.ready.set()

    thread = threading.Thread(target=run, name="supervisor")
    thread.start()
    try:
        supervisor.ready.wait()
        if failure:
            raise failure[0] if isinstance(failure[0], CannotServe) else CannotServe(str(failure[0]))
        yield
    finally:
        supervisor.stop()
        thread.join()


class Supervisor:
    """Runs until `stop` is called; `report` gets one line for each thing that happens.

    `when_ready` is called once, after the first start; `before_draining` before the last end: to whoever measures the
    server, one that is not there is an outage.
    """

    def __init__(
        self,
        settings: ServeSettings,
        report: Callable[[str], None],
        patience: Patience | None = None,
        *,
        when_ready: Callable[[], None] = lambda: None,
        before_draining: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._report = report
        self._patience = patience or Patience()
        self._stop = threading.Event()
        self._when_ready = when_ready
        self._before_draining = before_draining
        self.ready = threading.Event()
        """Set while the golden vectors come back right."""

    def stop(self) -> None:
        """Drain and return from `run`; for other threads (for signals: fraud_scoring.stopping)."""
        self._stop.set()

    def run(self) -> None:
        """Serve until stopped; CannotServe if the first start does not succeed."""
        check(self._settings)
        with own_home(self._settings):
            end_orphans(self._settings)
            self._compile_kernels()
            self._keep_serving()

    def _compile_kernels(self) -> None:
        """Compile once what each process of the server would, all at the same time, when it starts."""
        began = time.monotonic()
        command = [sys.executable, "-m", "fraud_scoring.kernels"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise CannotServe(f"the kernels cannot be compiled: {reason}")
        if (took := time.monotonic() - began) > KERNELS_TOLD_S:
            self._report(f"kernels compiled in {took:.0f} s, as after each change of the code")

    def _keep_serving(self) -> None:
        patience = self._patience
        probe = GoldenProbe(self._settings.repository, self._settings.url)
        back_off, first = patience.back_off_first, True
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                trouble = self._serve_once(probe, first)
                self.ready.clear()
                if trouble is None:
                    return
                first = False
                if time.monotonic() - began > patience.healthy_after:
                    back_off = patience.back_off_first
                self._report(f"{trouble}; starting again in {back_off:g} s")
                self._stop.wait(back_off)
                back_off = min(2 * back_off, patience.back_off_most)
        finally:
            probe.close()

    def _serve_once(self, probe: GoldenProbe, first: bool) -> str | None:
        """One life of the server: None if it was stopped on purpose, else what went wrong."""
        releases = admissible(self._settings, Routes.read(self._settings.repository), self._report)
        server = TritonProcess(self._settings, served_models(releases))
        keeper = ReleaseKeeper(self._settings, server, releases, self._report)
        trouble: str | None = "the supervisor failed"
        try:
            began = time.monotonic()
            trouble = self._wait_until_ready(server, probe)
            if trouble is None and not self._stop.is_set():
                server.note_stubs()
                self.ready.set()
                self._report(
                    f"ready on {self._settings.url}: {probe.rows} golden vectors right, "
                    f"{time.monotonic() - began:.1f} s after the start"
                )
                if first:
                    self._when_ready()
                keeper.start()
                trouble = self._watch(server, probe, keeper)
            elif trouble is not None and first:
                raise CannotServe(trouble)
        finally:
            keeper.stop()
            if trouble is None:
                self._before_draining()
                self._report("draining")
                server.drain()
            else:
                server.kill()
        return trouble

    def _wait_until_ready(self, server: TritonProcess, probe: GoldenProbe) -> str | None:
        """None once the golden vectors are right, or a stop was asked for; else why they will not be."""
        give_up = time.monotonic() + self._patience.start
        last: FraudError = NotReady("the server did not answer")
        while time.monotonic() < give_up and not self._stop.is_set():
            if (died := server.what_died()) is not None:
                return f"{died} while starting: {server.last_error()}"
            try:
                probe.check(self._patience.probe_timeout)
                return None
            except WrongAnswer as wrong:
                return str(wrong)
            except StoreAway:
                return None  # callers get answers that say so
            except NotReady as error:
                last = error
            self._stop.wait(self._patience.look_every / 2)
        return None if self._stop.is_set() else f"not ready after {self._patience.start:g} s: {last}"

    def _watch(self, server: TritonProcess, probe: GoldenProbe, keeper: ReleaseKeeper) -> str | None:
        """None when a stop was asked for; else what went wrong."""
        patience = self._patience
        failures = 0
        last_answer = last_right = next_probe = time.monotonic()
        while not self._stop.wait(patience.look_every):
            if (died := server.what_died()) is not None:
                return died
            if time.monotonic() < next_probe:
                continue
            next_probe = time.monotonic() + patience.probe_every
            try:
                probe.check(patience.probe_timeout)
                failures, last_answer = 0, time.monotonic()
                last_right = last_answer
            except StoreAway:
                failures = 0
                last_answer = last_right = time.monotonic()
            except Degraded as degraded:
                failures, last_answer = 0, time.monotonic()
                if last_answer - last_right > patience.late:
                    return f"{degraded}, nor for {patience.late:g} s before"
                if last_answer - last_right > patience.degraded:
                    keeper.suspect(probe.release)
            except Late as late:
                if time.monotonic() - last_answer > patience.late:
                    return f"{late}, nor for {patience.late:g} s before"
            except (NotReady, WrongAnswer) as error:
                failures += 1
                next_probe = 0.0
                if failures >= patience.failures:
                    return str(error)
        return None
