"""A rendered pod without a cluster: its containers' commands run as processes here, their mounts as folders.

What is kept of the pod: every command with its arguments, the environment of each container, mounts and sub-paths, the
order in which containers start and end, the probes. What is not: images, users, limits, networks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from fraud_deploy.check import CheckFailed
from fraud_deploy.manifests import Document
from fraud_deploy.toolbox import Toolbox

IMAGE_ROOT: Final = "/opt/fraudserve"
_THE_MACHINES_OWN: Final = ("/tmp", "/dev/shm")  # noqa: S108
_TOLD_LINES: Final = 12


class Pod:
    """`volumes` are folders for the volumes that the test fills itself, by name; every other one begins empty.

    `image` stands for the folder of ours in the images; `replaced` are texts of the commands that another machine needs
    otherwise, addresses first of all. Programs are those of this tree's environment.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        spec: Document,
        image: Path,
        volumes: Mapping[str, Path],
        replaced: Mapping[str, str],
    ) -> None:
        self._image = image
        self._toolbox = toolbox
        self._spec = spec
        self._replaced = replaced
        self._folder = toolbox.scratch / "pod"
        self._folder.mkdir()
        claims = [name for one in self._all() for name in (mount["name"] for mount in one["volumeMounts"])]
        self._volumes = {name: volumes.get(name) or self._made(name) for name in dict.fromkeys(claims)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run_to_its_end(self, name: str) -> None:
        """An init container; CheckFailed with its last words if it does not end with 0."""
        process = self._start(self._container(name), name)
        try:
            code = process.wait(180)
        except subprocess.TimeoutExpired:
            self._kill(process)
            raise CheckFailed(f"container {name} did not end within 180 s: {self.said(name)}") from None
        if code != 0:
            raise CheckFailed(f"container {name} ended with code {code}: {self.said(name)}")

    def start(self, name: str, *more: str) -> None:
        """A container that goes on; `more` are arguments that a machine with other servers needs."""
        self._running[name] = self._start(self._container(name), name, *more)

    def probe(self, name: str, kind: str) -> str | None:
        """None if a container's probe (startupProbe, readinessProbe, livenessProbe) passes now, else what it said."""
        container = self._container(name)
        words, environment = self._words(container, container[kind]["exec"]["command"]), self._environment(container)
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=60)
        return None if done.returncode == 0 else (done.stdout + done.stderr).strip()

    def until(self, name: str, kind: str, within: float) -> None:
        """Ask a probe until it passes; CheckFailed if a container ends, or time does."""
        give_up = time.monotonic() + within
        while (trouble := self.probe(name, kind)) is not None:
            for other, process in self._running.items():
                if process.poll() is not None:
                    raise CheckFailed(f"container {other} ended with code {process.returncode}: {self.said(other)}")
            if time.monotonic() > give_up:
                raise CheckFailed(f"{name}: {kind} does not pass within {within:g} s: {trouble}\n{self.said(name)}")
            time.sleep(0.5)

    def stop(self, name: str, within: float) -> None:
        """SIGTERM, as when a pod goes; CheckFailed if it does not end in time, or not with 0."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(within)
        except subprocess.TimeoutExpired:
            self._kill(process)
            raise CheckFailed(
                f"container {name} did not end within {within:g} s of SIGTERM: {self.said(name)}"
            ) from None
        if code != 0:
            raise CheckFailed(f"container {name} ended with code {code} after SIGTERM: {self.said(name)}")

    def folder(self, volume: str) -> Path:
        return self._volumes[volume]

    def said(self, name: str) -> str:
        """The end of what a container wrote."""
        with suppress(OSError):
            return "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-_TOLD_LINES:])
        return "nothing"

    def end(self) -> None:
        """End whatever still runs."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                self._kill(process)

    def _all(self) -> list[Document]:
        return [*self._spec.get("initContainers", ()), *self._spec["containers"]]

    def _container(self, name: str) -> Document:
        return next(one for one in self._all() if one["name"] == name)

    def _made(self, name: str) -> Path:
        folder = self._folder / "volumes" / name
        folder.mkdir(parents=True)
        return folder

    def _start(self, container: Document, name: str, *more: str) -> subprocess.Popen[bytes]:
        words = container.get("command") or self._entrypoint(container)
        words = [*self._words(container, [*words, *container.get("args", ())]), *more]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                words,
                env=self._environment(container),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @staticmethod
    def _entrypoint(container: Document) -> list[str]:
        """Of our images (deploy/docker): the drift sidecar's, and fraudctl for the others."""
        return ["python", "-m", "drift_sidecar"] if "/sidecar@" in container["image"] else ["fraudctl"]

    def _words(self, container: Document, words: list[str]) -> list[str]:
        places = {IMAGE_ROOT: str(self._image)}
        for mount in container["volumeMounts"]:
            if mount["mountPath"] in _THE_MACHINES_OWN:
                continue
            source = self._volumes[mount["name"]] / mount.get("subPath", "")
            source.mkdir(parents=True, exist_ok=True)
            places[mount["mountPath"]] = str(source)
        return [self._word(word, places) for word in words]

    def _word(self, word: str, places: Mapping[str, str]) -> str:
        for given, instead in self._replaced.items():
            word = word.replace(given, instead)
        return moved(word, places)

    def _environment(self, container: Document) -> dict[str, str]:
        variables: list[dict[str, Any]] = container.get("env", [])
        names = [variable["name"] for variable in variables]
        values = self._words(container, [str(variable.get("value", "")) for variable in variables])
        bin_folder = self._toolbox.root / ".venv" / "bin"
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = f"{bin_folder}:{os.environ.get('PATH', '')}"
        return {**kept, "PATH": path, **dict(zip(names, values, strict=True))}

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def moved(word: str, places: Mapping[str, str]) -> str:
    """`word` with the folder of each path that lies in one of `places`; /models2 and /x/models are no /models."""
    longest_first = sorted(places, key=len, reverse=True)
    pattern = rf"(?<![\w.-])({'|'.join(map(re.escape, longest_first))})(?=[/ &;]|$)"
    return re.sub(pattern, lambda match: places[match.group(1)], word)
