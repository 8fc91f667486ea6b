"""What a run of the checks found, for people and as one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fraud_deploy.coverage import Covered
from fraud_deploy.runner import Result


def as_json(results: Sequence[Result], covered: Sequence[Covered], seconds: float) -> dict[str, Any]:
    """Checks with outcome and seconds, files with level, and the sums of both."""
    return {
        "passed": not any(result.outcome == "failed" for result in results),
        "seconds": round(seconds, 1),
        "outcomes": dict(Counter(result.outcome for result in results)),
        "levels": dict(Counter(one.level for one in covered)),
        "checks": [
            {
                "name": result.check.name,
                "level": result.check.level,
                "outcome": result.outcome,
                "said": result.said,
                "seconds": round(result.seconds, 2),
            }
            for result in results
        ],
        "files": [
            {"path": one.path, "level": one.level, "passed": list(one.passed), "other": list(one.other)}
            for one in covered
        ],
    }


def as_text(results: Sequence[Result], covered: Sequence[Covered], seconds: float) -> str:
    """A line for each check and each file; then what failed and what was skipped, with why; then the sums."""
    wide = max((len(result.check.name) for result in results), default=0)
    lines = ["checks"]
    lines += [
        f"  {result.outcome:<8} {result.check.level:<7} {result.check.name:<{wide}} {result.seconds:6.1f} s"
        for result in results
    ]
    lines += ["", "files under deploy/"]
    lines += [f"  {one.level:<7} {one.path}{_why(one)}" for one in covered]
    for outcome in ("skipped", "failed"):
        told = [result for result in results if result.outcome == outcome]
        lines += ["", outcome] if told else []
        lines += [f"  {result.check.name}: {_indented(result.said)}" for result in told]
    levels = Counter(one.level for one in covered)
    outcomes = Counter(result.outcome for result in results)
    lines += [
        "",
        f"{len(results)} checks in {seconds:.0f} s: "
        + ", ".join(f"{outcomes[name]} {name}" for name in ("passed", "failed", "skipped")),
        f"{len(covered)} files: " + ", ".join(f"{levels[name]} {name}" for name in ("run", "schema", "lint", "none")),
    ]
    return "\n".join(lines)


def _why(one: Covered) -> str:
    if one.level != "none":
        return ""
    return f"   ({', '.join(one.other)})" if one.other else "   (no check)"


def _indented(said: str) -> str:
    return said.replace("\n", "\n      ")
