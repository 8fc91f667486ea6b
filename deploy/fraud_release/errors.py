"""What can stop a release from being made, from being opened, or from rising.

FraudError
├── ReleaseRefused           a gate was not passed, or a release's files are not what its manifest says
│   ├── ArtifactRefused      a file of a release is not what was signed, or the signature is not to be trusted
│   └── PromotionRefused     a rule of the stages, a gate, or a person stands against it; nothing was changed
├── RegistryUnavailable      the registry does not answer, or cannot be used; nothing was changed
├── RegistryDamaged          its audit, or its aliases, are not what was written
└── RegistryConflict         somebody else changed the registry at the same moment; nothing was changed
"""

from __future__ import annotations

from fraud_scoring.errors import FraudError


class ReleaseRefused(FraudError):
    """A release did not pass a check; nothing was written, or nothing is served."""


class ArtifactRefused(ReleaseRefused):
    """`file` of `release` breaks `rule`; nothing of the release was opened."""

    def __init__(self, release: str, file: str, rule: str, remedy: str = "restore the release") -> None:
        super().__init__(f"release {release}: {file} {rule}; {remedy}")
        self.release, self.file, self.rule = release, file, rule


class PromotionRefused(ReleaseRefused):
    """A release may not rise; the message names the rule or the gate."""


class RegistryUnavailable(FraudError):
    """The registry cannot be used now; nothing was changed."""


class RegistryDamaged(FraudError):
    """The registry is not what was written into it; nothing is promoted until that is cleared up."""


class RegistryConflict(FraudError):
    """Somebody else wrote into the registry first; ask again."""
