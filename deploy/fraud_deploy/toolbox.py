"""What a check works with: the tree, the programs of this machine, a folder for what it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TOOLS: Final = ROOT / ".venv-deploy"
TOLD_LINES: Final = 25
"""How much of what a failed program said is repeated."""

DEBIAN: Final = {
    "amtool": "prometheus-alertmanager",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "npm": "npm",
    "podman": "podman",
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "redis-server": "redis-server",
    "runc": "runc",
}
"""Programs that Debian packages bring, and which."""


class ProgramMissing(Exception):
    """A program is not on this machine; the message says how to get it."""


class ProgramFailed(Exception):
    """A program ended with another code than 0; the message holds the end of what it said."""


@dataclass(frozen=True)
class Toolbox:
    """`tools` is the environment that `make deploy-tools` makes; `scratch` is this check's own empty folder."""

    scratch: Path
    root: Path = ROOT
    tools: Path = TOOLS

    @property
    def deploy(self) -> Path:
        return self.root / "deploy"

    def find(self, name: str) -> Path | None:
        """Program `name` of the tools environment, or else of this machine; None if it is in neither."""
        ours = self.tools / "bin" / name
        if ours.exists():
            return ours
        found = shutil.which(name)
        return None if found is None else Path(found)

    def program(self, name: str) -> Path:
        """The same; ProgramMissing if it is in neither."""
        found = self.find(name)
        if found is None:
            raise ProgramMissing(f"{name} is not here: {how_to_get(name)}")
        return found

    def run(
        self,
        program: str | Path,
        *arguments: str | Path,
        cwd: Path | None = None,
        given: str | None = None,
        timeout: float = 240,
        environment: Mapping[str, str] | None = None,
        good: Sequence[int] = (0,),
    ) -> str:
        """What the program wrote on standard output.

        `program` is found by name, unless it is a path; `given` is its standard input, `environment` is added to this
        process's. ProgramFailed if it ends with none of the codes in `good`, or not within `timeout` seconds.
        """
        path = self.program(program) if isinstance(program, str) else program
        command = [str(path), *map(str, arguments)]
        told = " ".join([path.name, *map(str, arguments)])
        try:
            done = subprocess.run(
                command,
                cwd=cwd or self.root,
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env={**os.environ, **(environment or {})},
            )
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{told} did not end within {timeout:g} s") from None
        if done.returncode not in good:
            lines = (done.stdout + done.stderr).strip().splitlines()[-TOLD_LINES:]
            raise ProgramFailed("\n".join([f"{told} ended with code {done.returncode}", *lines]))
        return done.stdout


def how_to_get(name: str) -> str:
    """The command that brings a program."""
    return f"apt-get install {DEBIAN[name]}" if name in DEBIAN else "make deploy-tools"
