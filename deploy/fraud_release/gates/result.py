"""What a gate says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class GateResult:
    """`figure` was measured, `bound` is what it must keep, `interval` is of 95%; None where there is no such number.

    `explanation` says in one line what was compared, and what decided.
    """

    name: str
    passed: bool
    figure: float | None
    bound: float | None
    explanation: str
    interval: tuple[float, float] | None = None

    @property
    def detail(self) -> str:
        """Figure, interval, bound and explanation in one line."""
        parts = []
        if self.figure is not None:
            parts.append(f"{self.figure:.4g}")
        if self.interval is not None:
            parts.append("[{:.4g}, {:.4g}]".format(*self.interval))
        if self.bound is not None:
            parts.append(f"bound {self.bound:.4g}")
        return ": ".join(part for part in (" ".join(parts), self.explanation) if part)

    def as_dict(self) -> Mapping[str, Any]:
        return asdict(self)


def not_run(name: str, why: str) -> GateResult:
    """A gate that could not be asked does not pass."""
    return GateResult(name, False, None, None, f"not measured: {why}")
