"""What a release must keep to leave a stage: every tolerance in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fraud_data import Transactions
from fraud_release.trust import TrustSettings


@dataclass(frozen=True)
class ServerFigures:
    """How a candidate did on a server of its own.

    `latency_ms` [N] from the moment that each transaction was due to its answer; infinite where none came.
    """

    latency_ms: NDArray[np.float64]
    memory_mib: float
    answered: int


Measure = Callable[[Path, int, Transactions], ServerFigures]
"""(repository, release, transactions to ask) → how the release did on a server of its own."""


@dataclass(frozen=True)
class Tolerances:
    """Bounds of the gates; each is asked with a 95% interval, and doubt is no pass unless it says so."""

    ap_margin: float = 0.02
    """Average precision may be this much below the champion's, absolute."""
    cost_margin: float = 0.05
    """Cost by the candidate's cost table may be this share above the champion's."""
    calibration_error: float = 0.2
    """Expected calibration error over ten bins of equal size, as a share of the fraud rate."""
    fraud_ratio: float = 1.25
    """Frauds that the scores expect over frauds that happened, or the other way round."""
    false_positive_ratio: float = 1.5
    """A segment's false-positive rate over what is expected of it (see `segments`): proven to be higher fails."""
    recall_ratio: float = 0.75
    """A segment's recall over what is expected of it: proven to be lower fails."""
    latency_ms: float = 60.0
    """p99 from the moment that a transaction was due, at `rate` transactions a second."""
    memory_mib: float = 2_048.0
    """Memory of the whole server: Triton and its python processes; shared pages are counted once."""
    least_frauds: int = 30
    """With fewer in the test part, or in a segment, nothing is judged."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"{name} is {value}; write a number from 0 on")


@dataclass(frozen=True)
class GateSettings:
    """`data` holds labelled transactions with the test part in it; `measure` starts a server and asks it."""

    trust: TrustSettings
    data: Transactions | None = None
    measure: Measure | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)
    resamples: int = 400
    seed: int = 7
    server_rows: int = 1_500
    """How many transactions of the test part the server is asked."""
