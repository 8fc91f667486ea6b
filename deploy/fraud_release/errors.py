"""What can stop a release from being made, or from being opened.

FraudError
└── ReleaseRefused        a gate was not passed, or a release's files are not what its manifest says
    └── ArtifactRefused   a file of a release is not what was signed, or the signature is not to be trusted
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
