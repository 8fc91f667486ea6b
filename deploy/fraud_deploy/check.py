"""What a check of deploy/ is, and the ways in which it ends other than well.

An area (a module of `fraud_deploy.checks`) has a function `checks()` that gives its checks. A check raises:

    CheckFailed     the file is wrong: what, the rule, the remedy
    CheckSkipped    it cannot be asked on this machine: what is not there, and how to get it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fraud_deploy.toolbox import Toolbox

Level = Literal["run", "schema", "lint"]
"""run: what the file describes was executed; schema: whoever consumes it, or its schema, took it; lint: it was read."""

LEVELS: Final[tuple[Level, ...]] = ("run", "schema", "lint")
"""Best first."""


class CheckFailed(Exception):
    """What is wrong, the rule that it breaks, the remedy."""


class CheckSkipped(Exception):
    """What is not on this machine, and how to get it."""


@dataclass(frozen=True)
class Check:
    """One question about some files; `run` returns if they pass."""

    name: str
    """area.what, as helm.values-cpu."""
    files: tuple[str, ...]
    """Globs below deploy/ of what the check covers; each must match something."""
    level: Level
    needs: tuple[str, ...]
    """Programs without which it is skipped."""
    run: Callable[[Toolbox], None]

    @property
    def area(self) -> str:
        return self.name.split(".")[0]
