"""Is the candidate fast and small enough: judged on a real server that serves nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from fraud_release.gates.result import GateResult
from fraud_release.gates.settings import ServerFigures, Tolerances

QUANTILE = 0.99


def server_gates(found: ServerFigures, tolerances: Tolerances) -> list[GateResult]:
    """p99 with its interval against the budget, memory, and an answer for every transaction."""
    latency, asked = np.sort(found.latency_ms), len(found.latency_ms)
    span, p99 = quantile_interval(latency), float(np.quantile(latency, QUANTILE, method="higher"))
    text = f"p99 in ms from when it was due, {asked:,} transactions; the interval must lie below the bound"
    return [
        GateResult("latency", span[1] <= tolerances.latency_ms, p99, tolerances.latency_ms, text, span),
        GateResult(
            "memory",
            found.memory_mib <= tolerances.memory_mib,
            found.memory_mib,
            tolerances.memory_mib,
            "MiB of Triton and its python processes after these transactions, shared pages counted once",
        ),
        GateResult("answers", found.answered == asked, asked - found.answered, 0, f"of {asked:,} without an answer"),
    ]


def quantile_interval(rising: NDArray[np.float64], quantile: float = QUANTILE) -> tuple[float, float]:
    """95% interval of a quantile from order statistics: no assumption on the distribution; ∞ where rows are too few."""
    low, high = (int(binom.ppf(share, len(rising), quantile)) for share in (0.025, 0.975))
    upper = float(rising[high]) if high < len(rising) else float("inf")
    return float(rising[max(low - 1, 0)]), upper
