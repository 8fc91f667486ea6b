"""What some scenarios are run for, read from their requests: the knee, the way back from a spike, the drift of a soak.

Pure functions of a result's arrays. A percentile here is of latency from the intended time, over callers that behave:
a bad request is refused early and would flatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fraud_load.arrivals import Floats
from fraud_load.result import WHOLE_MACHINE, Kind, Requests, ServerSeries, Status

BACK_FOR_S: Final = 3
"""So many seconds in a row must be good before a spike counts as over."""
_THIRD: Final = 3


def percentile_ms(requests: Requests, level: float) -> float:
    """A percentile of the latency of those who behave, in milliseconds; NaN without any."""
    latency = requests.latency_s[requests.kind != Kind.BAD]
    return float(np.percentile(latency, level) * 1e3) if len(latency) else float("nan")


def holds(latency_s: Floats, unanswered: int, limit_ms: float) -> bool:
    """Whether p99 is at or below the limit, when so many more have no answer yet: they count as late."""
    late = int((latency_s * 1e3 > limit_ms).sum()) + unanswered
    return late <= 0.01 * (len(latency_s) + unanswered)


def knee(requests: Requests, rates: Sequence[float], hold_s: float, leaves_ms: float, patience: int) -> dict[str, Any]:
    """The highest rate whose whole step kept p99, and every step that was sent.

    `patience` steps in a row must fail before the knee is behind us: a noisy machine fails one now and then.
    Returns `rate` (None if already the first step failed), `until_s` (the end of the last good step), `broke_at` (the
    first rate of the failing ones; None if none failed) and `steps`.
    """
    steps = []
    for i, rate in enumerate(rates):
        part = requests.between(i * hold_s, (i + 1) * hold_s)
        planned = int(((requests.intended_s >= i * hold_s) & (requests.intended_s < (i + 1) * hold_s)).sum())
        if len(part) < planned or not planned:  # the run was stopped in it, or before
            break
        p99 = percentile_ms(part, 99)
        steps.append(
            {
                "rate": float(rate),
                "p50_ms": percentile_ms(part, 50),
                "p99_ms": p99,
                "generator_lag_p99_ms": float(np.percentile(part.lag_s, 99) * 1e3),
                "failed": int(part.failed.sum()),
                "held": bool(p99 <= leaves_ms and part.failed.mean() <= 0.01),
            }
        )
    held = [bool(step["held"]) for step in steps]
    broke = next((i for i in range(len(held)) if not any(held[i : i + patience]) and i + patience <= len(held)), None)
    good = [i for i in range(len(held) if broke is None else broke) if held[i]]
    last = good[-1] if good else None
    return {
        "rate": None if last is None else steps[last]["rate"],
        "until_s": hold_s if last is None else (last + 1) * hold_s,
        "broke_at": None if broke is None else steps[broke]["rate"],
        "leaves_ms": leaves_ms,
        "steps": steps,
    }


def recovery(requests: Requests, warmup_s: float, begins_s: float, ends_s: float, limit_ms: float) -> dict[str, Any]:
    """How long after the spike's end p99 is back below the limit, for good: three seconds in a row.

    Returns `seconds` (0 if it never left; None if it was not back by the end), `worst_p99_ms` of any second from the
    spike on, `before_p99_ms` (warm-up left out).
    """
    last = float(requests.intended_s.max(initial=0.0))
    after = [percentile_ms(requests.between(s, s + 1), 99) for s in np.arange(ends_s, last - 1)]
    during = [percentile_ms(requests.between(s, s + 1), 99) for s in np.arange(begins_s, ends_s)]
    good = [p99 <= limit_ms for p99 in after]
    back = next((i for i in range(len(good) - BACK_FOR_S + 1) if all(good[i : i + BACK_FOR_S])), None)
    every = [p99 for p99 in (*during, *after) if np.isfinite(p99)]
    return {
        "seconds": None if back is None else float(back),
        "limit_ms": limit_ms,
        "worst_p99_ms": max(every, default=float("nan")),
        "before_p99_ms": percentile_ms(requests.between(warmup_s, begins_s), 99),
    }


def drift(requests: Requests, server: ServerSeries, start_s: float, stop_s: float) -> dict[str, Any]:
    """Growth of p99 and of the server's private memory from the first to the last third of the judged window.

    Shares: 0.1 is a tenth more. `memory_growth_share` is None where the server's processes were not seen.
    """
    third = (stop_s - start_s) / _THIRD
    first, last = requests.between(start_s, start_s + third), requests.between(stop_s - third, stop_s)
    p99 = percentile_ms(first, 99), percentile_ms(last, 99)
    at = np.array(server.at_s)
    ours = [one.private_bytes for name, one in server.processes.items() if _is_servers(name)]
    growth, memory = None, (float("nan"), float("nan"))
    if ours and len(at):
        total = np.sum(np.array(ours, np.float64), axis=0)
        early = total[(at >= start_s) & (at < start_s + third)]
        late = total[(at >= stop_s - third) & (at < stop_s)]
        if np.isfinite(early).any() and np.isfinite(late).any():
            memory = float(np.nanmedian(early)), float(np.nanmedian(late))
            growth = memory[1] / memory[0] - 1
    return {
        "p99_first_ms": p99[0],
        "p99_last_ms": p99[1],
        "p99_growth_share": p99[1] / p99[0] - 1 if p99[0] > 0 else None,
        "memory_first_bytes": memory[0],
        "memory_last_bytes": memory[1],
        "memory_growth_share": growth,
    }


def cores(server: ServerSeries, start_s: float, stop_s: float) -> dict[str, float] | None:
    """Cores used on average in the judged window: `machine` by all that ran, `server`, `generator`; None if not seen.

    What is left between `machine` and the other two was somebody else's work, and is in the latency.
    """
    at = np.array(server.at_s)
    inside = (at >= start_s) & (at < stop_s)
    if WHOLE_MACHINE not in server.processes or not inside.any():
        return None
    found = {"machine": 0.0, "server": 0.0, "generator": 0.0}
    for name, one in server.processes.items():
        used = np.array(one.cpu)[inside]
        part = "machine" if name == WHOLE_MACHINE else "server" if _is_servers(name) else "generator"
        found[part] += float(np.nanmean(used)) if np.isfinite(used).any() else 0.0
    return found


def _is_servers(name: str) -> bool:
    return name != WHOLE_MACHINE and not name.startswith("generator")


def throughput(requests: Requests, start_s: float) -> float:
    """Transactions a second that were answered, from `start_s` until the last of them."""
    answered = requests.select(requests.status == Status.OK)
    if not len(answered):
        return 0.0
    return float(answered.rows.sum() / max(float(answered.done_s.max()) - start_s, 1e-9))
