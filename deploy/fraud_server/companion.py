"""A program that runs beside the server: started, started again when it ends, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from fraud_server.settings import ServeSettings
from fraud_server.tether import tethered

STOP_SECONDS: Final = 10.0
_BACK_OFF_S: Final = (0.2, 10.0)
_LOOK_EVERY_S: Final = 0.2


class Companion:
    """Keeps `command` running from `with` to its end; what it prints goes to `log`, what happens to `report`."""

    def __init__(self, name: str, command: Sequence[str], log: Path, report: Callable[[str], None]) -> None:
        self._name = name
        self._command = command
        self._log = log
        self._report = report
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Companion:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        back_off, most = _BACK_OFF_S
        while not self._stop.is_set():
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    tethered(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            while process.poll() is None and not self._stop.wait(_LOOK_EVERY_S):
                pass
            if process.returncode is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
                process.kill()
                process.wait()
                return
            self._report(
                f"{self._name} ended (code {process.returncode}): {self._last_line()}; again in {back_off:g} s"
            )
            self._stop.wait(back_off)
            back_off = min(2 * back_off, most)

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return lines[-1][-300:] if lines else "it said nothing"


def sidecar(settings: ServeSettings, report: Callable[[str], None]) -> Companion:
    """The drift sidecar on the log of this server; its status page is on the sidecar's port."""
    command = [sys.executable, "-m", "drift_sidecar", "--port", str(settings.ports.sidecar)]
    folders = {"--log": settings.log_folder, "--repository": settings.repository, "--home": settings.home / "sidecar"}
    for option, folder in folders.items():
        command += [option, os.fspath(folder.absolute())]
    return Companion("sidecar", command, settings.run_folder / "sidecar.log", report)
