"""Runs the checks of all areas, one after the other, and says how each ended."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fraud_deploy import checks as areas
from fraud_deploy.check import Check, CheckFailed, CheckSkipped
from fraud_deploy.toolbox import ProgramFailed, ProgramMissing, Toolbox

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """How one check ended; `said` is why, if it did not pass."""

    check: Check
    outcome: Outcome
    said: str
    seconds: float


def all_checks() -> list[Check]:
    """Those of every module in `fraud_deploy.checks`; ValueError if two have one name, or one names another area."""
    found: list[Check] = []
    for module in sorted(one.name for one in pkgutil.iter_modules(areas.__path__)):
        its = importlib.import_module(f"{areas.__name__}.{module}").checks()
        strangers = [check.name for check in its if check.area != module]
        if strangers:
            raise ValueError(f"checks of {module} must be named {module}.something, not {', '.join(strangers)}")
        found += its
    names = [check.name for check in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"more than one check is named {', '.join(sorted(twice))}")
    return found


def chosen(every: Sequence[Check], only: Iterable[str]) -> list[Check]:
    """The checks of these names or areas; all without `only`. ValueError for one that is neither."""
    wanted = list(only)
    for name in wanted:
        if not any(name in (check.name, check.area) for check in every):
            areas_here = ", ".join(sorted({check.area for check in every}))
            raise ValueError(f"no check and no area is named {name}; areas: {areas_here}")
    return [check for check in every if not wanted or check.name in wanted or check.area in wanted]


def run_all(every: Sequence[Check], toolbox: Toolbox, report: Callable[[str], None]) -> list[Result]:
    """Run each in a folder of its own below the toolbox's; one line to `report` for each."""
    results = []
    for number, check in enumerate(every, 1):
        with tempfile.TemporaryDirectory(dir=toolbox.scratch, prefix="check-") as folder:
            results.append(run_one(check, replace(toolbox, scratch=Path(folder))))
        report(f"{number}/{len(every)} {check.name} {results[-1].outcome} in {results[-1].seconds:.1f} s")
    return results


def run_one(check: Check, toolbox: Toolbox) -> Result:
    """Passed, failed or skipped; a check that matches no file has failed, for it looks at nothing."""
    began = time.monotonic()

    def ended(outcome: Outcome, said: str = "") -> Result:
        return Result(check, outcome, said, time.monotonic() - began)

    empty = [pattern for pattern in check.files if not any(toolbox.deploy.glob(pattern))]
    if empty:
        return ended("failed", f"deploy/{empty[0]} matches no file; the check looks at nothing: mend its globs")
    try:
        for name in check.needs:
            toolbox.program(name)
        check.run(toolbox)
    except (CheckSkipped, ProgramMissing) as skipped:
        return ended("skipped", str(skipped))
    except (CheckFailed, ProgramFailed) as failed:
        return ended("failed", str(failed))
    return ended("passed")
