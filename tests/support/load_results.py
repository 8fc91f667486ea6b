"""Results of load runs for tests: synthetic, seeded, shaped like a real run of two generator processes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud_load.result import (
    NO_SOURCE,
    WHOLE_MACHINE,
    GeneratorFacts,
    Kind,
    ModelSeries,
    Outcome,
    ProcessSeries,
    Requests,
    Result,
    Run,
    ServerSeries,
    SloVerdict,
    Status,
)

MODELS = ("fraud_score", "fraud_r0001", "fraud_features_r0001", "fraud_model_r0001", "fraud_decision_r0001")


def synthetic_requests(
    rng: np.random.Generator,
    *,
    rate: float = 300.0,
    seconds: float = 20.0,
    median_ms: float = 6.0,
    sigma: float = 0.4,
    stall: tuple[float, float] | None = None,
    error_share: float = 0.0,
    degraded_share: float = 0.0,
    bad_share: float = 0.0,
) -> Requests:
    """Poisson arrivals with lognormal latency; in `stall` (from, until; seconds) nothing is answered before its end."""
    n = int(rng.poisson(rate * seconds))
    intended = np.sort(rng.uniform(0.0, seconds, n))
    taken = intended + rng.gamma(1.0, 0.0002, n)
    sent = taken + rng.gamma(1.0, 0.0005, n)
    done = sent + rng.lognormal(np.log(median_ms / 1e3), sigma, n)
    if stall is not None:
        late = (done >= stall[0]) & (intended < stall[1])
        done[late] = np.maximum(done[late], stall[1] + rng.gamma(2.0, 0.02, int(late.sum())))
    kind = np.where(rng.random(n) < bad_share, Kind.BAD, Kind.ORDINARY).astype(np.int8)
    status = np.where(kind == Kind.BAD, Status.REFUSED, Status.OK).astype(np.int8)
    failed = rng.random(n) < error_share
    status[failed] = rng.choice([Status.UNAVAILABLE, Status.TIMEOUT, Status.OTHER], int(failed.sum()))
    source = np.where(rng.random(n) < degraded_share, 3, 0)
    source = np.where(status == Status.OK, source, NO_SOURCE).astype(np.int8)
    return Requests(
        intended, taken, sent, done, np.ones(n, np.int16), status, source, kind, np.arange(n, dtype=np.int32)
    )


def synthetic_server(rng: np.random.Generator, seconds: float = 20.0, rate: float = 300.0) -> ServerSeries:
    """One value a second for the models of a release, the server's processes and two generators."""
    at = np.arange(1.0, seconds + 1.0)

    def around(value: float, spread: float = 0.1) -> list[float]:
        drawn: list[float] = (value * rng.lognormal(0.0, spread, len(at))).tolist()
        return drawn

    models = {
        name: ModelSeries(around(rate), around(rate / 2), around(2.0), around(0.3), around(1.5), [0.0] * len(at))
        for name in MODELS
    }
    names = ("tritonserver", *MODELS[:1], "generator 0", "generator 1", WHOLE_MACHINE)
    processes = {name: ProcessSeries(around(0.3), around(2e8, 0.01), around(1e8, 0.01)) for name in names}
    return ServerSeries(at.tolist(), models, processes)


def synthetic_result(
    seed: int = 7,
    *,
    rate: float = 300.0,
    seconds: float = 20.0,
    warmup_s: float = 3.0,
    p99_limit_ms: float = 100.0,
    bottleneck: str | None = None,
    findings: dict[str, Any] | None = None,
    **traffic: Any,
) -> Result:
    """A whole result; `traffic` goes to `synthetic_requests`. One SLO, p99, is judged."""
    rng = np.random.default_rng(seed)
    requests = synthetic_requests(rng, rate=rate, seconds=seconds, **traffic)
    judged = requests.between(warmup_s, seconds)
    levels = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    latency = {name: float(np.percentile(judged.latency_s * 1e3, level)) for name, level in levels.items()}
    lag = {name: float(np.percentile(judged.lag_s * 1e3, level)) for name, level in levels.items() if name != "p90"}
    outcome = Outcome.PASS if latency["p99"] <= p99_limit_ms else Outcome.MISS
    if bottleneck is not None:
        outcome = Outcome.NO_VERDICT
    text = f"p99 is {latency['p99']:.1f} ms, the limit is {p99_limit_ms:g} ms"
    totals = {"arrivals": len(requests), "calls": len(requests), "rows": int(requests.rows.sum())}
    totals |= {status.name.lower(): int((requests.status == status).sum()) for status in Status}
    totals |= {"duplicates": 0, "bad": int((requests.kind == Kind.BAD).sum())}
    totals |= {"degraded": int(requests.degraded.sum()), "failed": int(requests.failed.sum())}
    run = Run(
        scenario={
            "name": "synthetic",
            "about": "Made for a test.",
            "seed": seed,
            "warmup_s": warmup_s,
            "arrivals": {"kind": "poisson", "rate": rate, "duration_s": seconds},
            "slo": {"p99_ms": p99_limit_ms},
        },
        runner="asyncio",
        url="localhost:8001",
        seed=seed,
        started_at="2026-03-02T00:00:00Z",
        seconds=float(requests.done_s.max()),
        window_s=(warmup_s, seconds),
        machine={
            "processor": "a processor",
            "cores": 2,
            "memory_bytes": 16 << 30,
            "system": "Linux 6",
            "python": "3.11",
        },
        generator=GeneratorFacts(2, lag, [0.11, 0.12], rate, len(requests) / seconds, bottleneck),
        totals=totals,
        latency_ms=latency,
        outcome=outcome,
        slos=[SloVerdict("p99_ms", p99_limit_ms, latency["p99"], len(judged), 2_000, outcome, text)],
        findings=findings or {},
    )
    return Result(run, requests, synthetic_server(rng, seconds, rate))
