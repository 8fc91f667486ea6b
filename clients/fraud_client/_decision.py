"""What the server decided, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fraud_scoring.wire import Decision as Action
from fraud_scoring.wire import Source


class Reason(NamedTuple):
    """One reason for a score, the strongest first."""

    code: int
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Decision:
    """The answer to one transaction."""

    transaction_id: int
    score: float
    """Calibrated probability of fraud, 0 to 1."""
    action: Action
    """What to do with the payment: approve, review or decline."""
    reasons: tuple[Reason, ...]
    """Up to three."""
    release: str
    """The release that decided: `r0007`."""
    source: Source | int
    """Who decided: the primary or the canary release, or a fallback; a plain number where the server is newer."""
    features: tuple[float, ...] | None = None
    """What the model saw, in the order of the release's schema; only when asked for."""

    @property
    def source_name(self) -> str:
        """`primary`, `canary` and so on; `source 9` for a code that this client does not know."""
        return self.source.name.lower() if isinstance(self.source, Source) else f"source {self.source}"

    @property
    def degraded(self) -> bool:
        """Whether a fallback decided because the release that should have was late or failed."""
        return self.source not in (Source.PRIMARY, Source.CANARY)

    def __repr__(self) -> str:
        reasons = "; ".join(reason.text for reason in self.reasons) or "none"
        features = "" if self.features is None else f", features={self.features!r}"
        return (
            f"Decision({self.action.name}, transaction_id={self.transaction_id}, score={self.score:.6f}, "
            f"reasons=[{reasons}], release={self.release}, source={self.source_name.upper()}{features})"
        )
