"""One tritonserver process: started, watched, drained or killed, with nothing left behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from fraud_scoring.releases import ensemble_name
from fraud_scoring.settings import (
    LOG_KEY_VARIABLE,
    LOG_MODE_VARIABLE,
    LOG_VARIABLE,
    MODELS_VARIABLE,
    STORE_IDS_VARIABLE,
    STORE_VARIABLE,
)
from fraud_scoring.wire import FEEDBACK_MODEL, FRONT_DOOR_MODEL, SCORE_MODEL
from fraud_server.allocator import allocator_environment
from fraud_server.errors import CannotServe
from fraud_server.repository_calls import ADMIN_HEADER, RepositoryCalls
from fraud_server.settings import LOOPBACK, ServeSettings
from fraud_server.tether import tethered
from fraud_server.wheel import TritonWheel

STUB: Final = "triton_python_backend_stub"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where Triton's python backend keeps its regions
_SHM_PREFIX: Final = re.compile(r"fraudserve_\d+_")
DRAIN_SECONDS: Final = 10
LOAD_SECONDS: Final = 60
# Open only to who knows a key that is never told: known weaknesses of this Triton sit behind these calls.
RESTRICTED: Final = "shared-memory,model-repository,trace,logging"
GRPC_REQUESTS_KEPT: Final = 256
"""Request objects that Triton keeps for the next ones; its default of 8 allocates anew from the ninth caller on."""
PROCESS_FILE: Final = "server.json"
"""In the run folder while a server runs: its process id and address."""


OWN_MODELS: Final = (SCORE_MODEL, FRONT_DOOR_MODEL, FEEDBACK_MODEL)
"""What is served beside releases."""


def served_models(releases: Sequence[int]) -> list[str]:
    """The releases' ensembles, the front door and the feedback model."""
    return [*(ensemble_name(number) for number in releases), *OWN_MODELS]


class TritonProcess:
    """A running tritonserver that serves `models`, which `served_models` names for everybody but a benchmark."""

    def __init__(self, settings: ServeSettings, models: Sequence[str]) -> None:
        run = settings.run_folder
        run.mkdir(parents=True, exist_ok=True)
        wheel = TritonWheel.find()
        wheel.make_backends(run / "backends")
        self._log = run / "triton.log"
        self._shm_prefix = f"fraudserve_{os.getpid()}_"
        self._stubs: dict[str, psutil.Process] = {}
        self._repository = RepositoryCalls(settings.ports.http, secrets.token_urlsafe(24))
        command = _command(settings, wheel, models, self._shm_prefix, self._repository.key)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                tethered(command),
                env=_environment(settings, wheel),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._file = run / PROCESS_FILE
        self._file.write_text(json.dumps({"pid": self._process.pid, "url": settings.url}), encoding="utf-8")

    @property
    def pid(self) -> int:
        """Of tritonserver; its stubs are under it."""
        return self._process.pid

    def note_stubs(self) -> None:
        """Remember the python stubs that are there now."""
        self._stubs = self._running_stubs()

    def what_died(self) -> str | None:
        """What cannot be mended in a running server and is no longer there, in words; None while all of it is.

        That is the server, the front door, and the model that takes labels; one of those that stands still is ended.
        """
        if self._process.poll() is not None:
            return f"tritonserver ended ({_exit_reason(self._process.returncode)})"
        lost = [
            model for model in (FRONT_DOOR_MODEL, FEEDBACK_MODEL) if model in self._stubs and self._trouble_of(model)
        ]
        return f"the python process of {' and '.join(lost)} died or stood still" if lost else None

    def still_stubs(self) -> dict[str, str]:
        """Models whose python process is gone, or stands still and is ended here; each with what it was."""
        if self._process.poll() is not None:
            return {}
        found = {model: self._trouble_of(model) for model in list(self._stubs)}
        return {model: trouble for model, trouble in found.items() if trouble is not None}

    def load(self, model: str) -> None:
        """Load a model and what it is made of, and watch over the python stubs that are there then."""
        trouble = self._repository.load(model, LOAD_SECONDS)
        if trouble is not None:
            raise CannotServe(f"Triton does not load {model}: {trouble}")
        self._stubs |= self._running_stubs()

    def unload(self, models: Sequence[str]) -> None:
        """Let models go, and watch over them no more."""
        for model in models:
            self._stubs.pop(model, None)
        self._repository.let_go(models)

    def last_error(self) -> str:
        """The last error that Triton logged, shortened to one line."""
        with suppress(OSError):
            lines = self._log.read_text(errors="replace").splitlines()
            errors = [line for line in lines if line.startswith("E") or "error:" in line]
            wanted = [line for line in errors if "NVML" not in line and "Cuda" not in line]
            if wanted:
                text = wanted[-1].split("] ", 1)[-1].strip().strip('"')
                return text[:300]
        return "no error was logged"

    def drain(self) -> None:
        """Take no new requests, finish those in flight, end.

        From its SIGTERM on Triton refuses the front door's own calls to the release, and with them what waits in the
        front door's queue. So the front door goes first: an unloaded model answers what it has taken, and nothing more.
        """
        if self._process.poll() is None:
            for models in ((SCORE_MODEL, FEEDBACK_MODEL), (FRONT_DOOR_MODEL,)):
                self._repository.unload(models, DRAIN_SECONDS)
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(DRAIN_SECONDS + 2)
        self.kill()

    def kill(self) -> None:
        """End the server and its stubs at once and remove their shared memory."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        _remove_regions(self._shm_prefix)
        self._file.unlink(missing_ok=True)

    def _trouble_of(self, model: str) -> str | None:
        """What is wrong with the python process of a model, which ends here if it stands still; None: nothing."""
        stub = self._stubs[model]
        try:
            status = stub.status() if stub.is_running() else psutil.STATUS_DEAD
        except psutil.NoSuchProcess:
            status = psutil.STATUS_DEAD
        if status in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE):
            return "its process died"
        if status == psutil.STATUS_STOPPED:
            with suppress(psutil.NoSuchProcess):
                stub.kill()
            return "its process stood still"
        return None

    def _running_stubs(self) -> dict[str, psutil.Process]:
        """The python process of each model."""
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return {}
        found = {}
        for child in children:
            with suppress(psutil.NoSuchProcess):
                if child.name().startswith(STUB[:15]) and child.status() != psutil.STATUS_ZOMBIE:
                    found[_model_of(child)] = child
        return found


def _model_of(stub: psutil.Process) -> str:
    """The model that a python stub serves: its first argument is …/<model>/<version>/<file>."""
    arguments = stub.cmdline()
    return Path(arguments[1]).parent.parent.name if len(arguments) > 1 else ""


def end_orphans(settings: ServeSettings) -> None:
    """End python stubs of this home whose server is gone; only the owner of the home may call it.

    A supervisor that is killed while its server starts leaves some, which would hold the decision log for ever.
    """
    stub = str((settings.run_folder / "backends" / "python" / STUB).absolute())
    orphans, prefixes = [], set()
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or [""]
        with suppress(psutil.NoSuchProcess):
            parent = process.parent()
            if arguments[0] == stub and (parent is None or parent.name() != "tritonserver"):
                process.kill()
                orphans.append(process)
                prefixes |= {match.group() for one in arguments if (match := _SHM_PREFIX.match(one))}
    psutil.wait_procs(orphans, timeout=DRAIN_SECONDS)
    for prefix in prefixes:
        _remove_regions(prefix)


def _remove_regions(prefix: str) -> None:
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def _command(
    settings: ServeSettings, wheel: TritonWheel, models: Sequence[str], shm_prefix: str, key: str
) -> list[str]:
    return [
        str(wheel.server),
        f"--model-repository={settings.repository.absolute()}",
        f"--backend-directory={(settings.run_folder / 'backends').absolute()}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--disable-auto-complete-config",
        f"--grpc-address={settings.listen}",
        f"--grpc-infer-allocation-pool-size={GRPC_REQUESTS_KEPT}",
        f"--http-address={LOOPBACK}",
        f"--metrics-address={settings.listen}",
        f"--grpc-port={settings.ports.grpc}",
        f"--http-port={settings.ports.http}",
        f"--metrics-port={settings.ports.metrics}",
        f"--grpc-restricted-protocol={RESTRICTED}:{ADMIN_HEADER}={key}",
        f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}={key}",
        "--allow-gpu-metrics=false",
        "--log-info=false",
        f"--exit-timeout-secs={DRAIN_SECONDS}",
    ]


def _environment(settings: ServeSettings, wheel: TritonWheel) -> dict[str, str]:
    return {
        **os.environ,
        "LD_LIBRARY_PATH": wheel.library_path,
        # the stub takes its packages from the first python3 on the path
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        **allocator_environment(os.environ),
        STORE_VARIABLE: settings.store_url,
        STORE_IDS_VARIABLE: str(settings.store_ids.absolute()),
        MODELS_VARIABLE: settings.models,
        **_log_environment(settings),
    }


def _log_environment(settings: ServeSettings) -> dict[str, str]:
    if settings.log_mode == "off":
        return {LOG_VARIABLE: ""}
    return {
        LOG_VARIABLE: str(settings.log_folder.absolute()),
        LOG_KEY_VARIABLE: str(settings.log_key.absolute()),
        LOG_MODE_VARIABLE: settings.log_mode,
    }


def _exit_reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
