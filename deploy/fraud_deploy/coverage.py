"""Which file under deploy/ was run, which was validated by a schema, which was only read, which by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fraud_deploy.check import LEVELS, Level
from fraud_deploy.runner import Result
from fraud_deploy.toolbox import Toolbox

Reached = Level | Literal["none"]
_PYTHON = (".py", ".pyc", ".pyi")


@dataclass(frozen=True)
class Covered:
    """One file (path below deploy/), the best level that a passed check gave it, and the checks that name it."""

    path: str
    level: Reached
    passed: tuple[str, ...]
    other: tuple[str, ...]
    """Checks that name it and failed or were skipped."""


def files(toolbox: Toolbox) -> list[Path]:
    """Every file below deploy/ that is no Python and that git would keep, relative to deploy/."""
    listed = toolbox.run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "deploy")
    paths = (Path(name).relative_to("deploy") for name in listed.split("\0") if name)
    there = (path for path in paths if path.suffix not in _PYTHON and path.name != "py.typed")
    return sorted(path for path in there if (toolbox.deploy / path).is_file())


def coverage(results: Sequence[Result], toolbox: Toolbox) -> list[Covered]:
    """Each file and the best that happened to it."""
    reached: dict[Path, list[Result]] = {path: [] for path in files(toolbox)}
    for result in results:
        matched = {found for pattern in result.check.files for found in toolbox.deploy.glob(pattern)}
        for found in matched:
            reached.get(found.relative_to(toolbox.deploy), []).append(result)
    return [_covered(path, its) for path, its in reached.items()]


def _covered(path: Path, results: Sequence[Result]) -> Covered:
    passed = [result.check for result in results if result.outcome == "passed"]
    level: Reached = min((check.level for check in passed), key=LEVELS.index) if passed else "none"
    other = tuple(f"{result.check.name} ({result.outcome})" for result in results if result.outcome != "passed")
    return Covered(path.as_posix(), level, tuple(check.name for check in passed), other)
