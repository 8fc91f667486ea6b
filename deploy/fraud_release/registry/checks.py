"""What the registry asks before a release rises: are its files what was signed, and do the gates let it pass?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fraud_release.assembly import verify_release


class GateResult(Protocol):
    """What a gate said."""

    @property
    def name(self) -> str: ...

    @property
    def passed(self) -> bool: ...

    @property
    def detail(self) -> str: ...


class Checks(Protocol):
    """Both see releases in a model repository; a champion of None is one that does not exist yet."""

    def verify(self, repository: Path, release: int) -> None:
        """ReleaseRefused names the file that is not what was signed."""
        ...

    def judge(self, repository: Path, candidate: int, champion: int | None) -> Sequence[GateResult]:
        """Every gate's answer."""
        ...


@dataclass(frozen=True)
class Said:
    """A gate's answer."""

    name: str
    passed: bool
    detail: str


class ManifestChecks:
    """The files against the manifest, and no gate beside."""

    def verify(self, repository: Path, release: int) -> None:
        verify_release(repository, release)

    def judge(self, repository: Path, candidate: int, champion: int | None) -> Sequence[GateResult]:
        return (Said("artifacts", True, "every file is what the manifest says"),)
