"""The environment of the checks themselves is what its lock file says."""

from __future__ import annotations

from functools import partial

from fraud_deploy.check import Check, CheckFailed, CheckSkipped
from fraud_deploy.toolbox import Toolbox

_AS_LOCKED = "Would make no changes"


def checks() -> list[Check]:
    return [
        Check("tools.environment", ("deploy-tools*.in", "deploy-tools*.txt"), "run", (), _environment_is_as_locked),
        *(
            Check(f"tools.{name}", (f"{name}.in", f"{name}.txt"), "lint", (), partial(_everything_is_pinned, name))
            for name in ("tensorrt-rtx", "envoy")
        ),
    ]


def _environment_is_as_locked(toolbox: Toolbox) -> None:
    if not toolbox.tools.is_dir():
        raise CheckSkipped(f"there is no {toolbox.tools.name}: make deploy-tools")
    locks = [word for lock in sorted(toolbox.deploy.glob("deploy-tools*.txt")) for word in ("-r", str(lock))]
    uv = toolbox.root / ".venv" / "bin" / "uv"
    wanted = ("--dry-run", "--offline", "--no-deps", "--require-hashes", *locks)
    python = toolbox.tools / "bin" / "python"
    done = toolbox.run("sh", "-c", '"$0" "$@" 2>&1', uv, "pip", "install", "--python", python, *wanted)
    if _AS_LOCKED not in done:
        raise CheckFailed(
            f"{toolbox.tools.name} is not what deploy-tools.txt says: remove it and run make deploy-tools"
        )


def _everything_is_pinned(name: str, toolbox: Toolbox) -> None:
    text = (toolbox.deploy / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    loose = [line for line in text.splitlines() if line.strip() and not ("==" in line and "--hash=sha256:" in line)]
    if loose:
        raise CheckFailed(f"{name}.txt: '{loose[0][:60]}' is not pinned by version and hash: make lock")
