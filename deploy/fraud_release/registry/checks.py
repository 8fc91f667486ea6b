"""What the registry asks before a release rises: are its files what was signed, and do the gates let it pass?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fraud_release.trust import TrustSettings


class GateResult(Protocol):
    """What a gate said."""

    @property
    def name(self) -> str: ...

    @property
    def passed(self) -> bool: ...

    @property
    def detail(self) -> str:
        """What was measured, what bound it, and why, in a line."""
        ...


class Checks(Protocol):
    """Both see releases in a model repository; a champion of None is one that does not exist yet."""

    def verify(self, repository: Path, release: int) -> None:
        """ReleaseRefused names the file that is not what was signed."""
        ...

    def admit(self, repository: Path, release: int) -> None:
        """The same, also for a release that is older than one that this host has seen."""
        ...

    def judge(self, repository: Path, candidate: int, champion: int | None) -> Sequence[GateResult]:
        """Every gate's answer."""
        ...


@dataclass(frozen=True)
class SignedChecks:
    """The signature, by the keys that the host pins, and the gates.

    `gates` asks them (repository, candidate, champion); without it they are asked without data and without a server,
    and a gate that was not asked does not pass.
    """

    home: Path
    release_key: Path | None = None
    gates: Callable[[Path, int, int | None], Sequence[GateResult]] | None = None

    @property
    def trust(self) -> TrustSettings:
        return TrustSettings.read(self.home, self.release_key, remember=False)

    def verify(self, repository: Path, release: int) -> None:
        from fraud_release.signing import verify_release  # scikit-learn and more; only for who asks

        verify_release(repository, release, self.trust)

    def admit(self, repository: Path, release: int) -> None:
        from fraud_release.signing import admit_release

        admit_release(repository, release, TrustSettings.read(self.home, self.release_key))

    def judge(self, repository: Path, candidate: int, champion: int | None) -> Sequence[GateResult]:
        if self.gates is not None:
            return self.gates(repository, candidate, champion)
        from fraud_release.gates import GateSettings, judge

        return judge(repository, candidate, champion, GateSettings(self.trust))
