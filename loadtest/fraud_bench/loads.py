"""What is measured of a load: transactions, latency, and what server and client used for them in the same window."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_bench.feed import Int64
from fraud_bench.generators.outcome import PERCENTILES, Outcome
from fraud_bench.servers import CannotMeasure, Server
from fraud_load import perf_analyzer
from fraud_load.processes import CpuMeter

WARM_S: Final = 0.5
STARTING_S: Final = 60.0
CLIENT: Final = "client"


@dataclass(frozen=True)
class Measured:
    """One load in one round."""

    transactions: int
    seconds: float
    latency_ms: tuple[float, ...]
    """p50, p99, p99.9 of a request, as its caller saw it."""
    cpu_us: Mapping[str, float]
    """CPU time a transaction by group of processes (`server`, `client`, …); the server's with what it put off."""
    put_off_us: float
    """The part of the server's CPU time a transaction that it used after the load had ended."""
    sent: int
    """Transactions that were sent, with those outside the window; of several turns the most."""
    errors: int
    first_error: str

    @property
    def per_second(self) -> float:
        return self.transactions / self.seconds

    @classmethod
    def together(cls, turns: Sequence[Measured]) -> Measured:
        """Several turns of one load as one: all transactions in all seconds; of latencies the middle of the turns."""
        transactions = sum(turn.transactions for turn in turns)

        def mean(figures: Iterable[float]) -> float:
            return sum(figure * turn.transactions for figure, turn in zip(figures, turns, strict=True)) / transactions

        return cls(
            transactions=transactions,
            seconds=sum(turn.seconds for turn in turns),
            latency_ms=tuple(np.median([turn.latency_ms for turn in turns], axis=0).tolist()),
            cpu_us={group: mean(turn.cpu_us[group] for turn in turns) for group in turns[0].cpu_us},
            put_off_us=mean(turn.put_off_us for turn in turns),
            sent=max(turn.sent for turn in turns),
            errors=sum(turn.errors for turn in turns),
            first_error=next((turn.first_error for turn in turns if turn.first_error), ""),
        )


def by_generator(
    name: str, specification: Mapping[str, Any], rows: Int64, folder: Path, server: Server | None
) -> Measured:
    """Run `fraud_bench.generators.<name>`; without a server the generator is itself what is measured."""
    path = folder / "rows.npy"
    np.save(path, rows)
    asked = json.dumps({**specification, "rows": str(path), "warm_s": WARM_S})
    command = [sys.executable, "-m", f"fraud_bench.generators.{name}", asked]
    with (
        (folder / f"{name}.txt").open("w+") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        late = threading.Timer(STARTING_S + 3 * specification["seconds"], process.kill)
        late.start()
        groups = {"server": (process.pid,)} if server is None else server.groups
        with CpuMeter({**groups, CLIENT: (process.pid,)}) as meter:
            assert process.stdout is not None
            text = process.stdout.readline()
            meter.stop()
        late.cancel()
        process.communicate()
        errors.seek(0)
        complaint = errors.read().strip().splitlines()
    if not text:
        raise CannotMeasure(f"generator {name} ended with code {process.returncode}: {' '.join(complaint[-1:])[:300]}")
    return _measured(Outcome.parse(text), meter, server)


def by_perf_analyzer(
    program: Path, load: perf_analyzer.Load, url: str, rows: Int64, folder: Path, server: Server
) -> Measured:
    """Run perf_analyzer with `rows`; the window begins WARM_S after its first request."""
    path = folder / "input.json"
    perf_analyzer.write_input(path, rows)
    meters: list[CpuMeter] = []

    def meter(pid: int) -> None:
        meters.append(CpuMeter({**server.groups, CLIENT: (pid,)}).__enter__())

    try:
        found = perf_analyzer.run(program, load, url, path, columns=rows.shape[1], started=meter)
    finally:
        for one in meters:
            one.stop()
    from_ns = int(found.sent_ns[0] + WARM_S * 1e9)
    to_ns = int(found.answered_ns.max())
    inside = found.answered_ns >= from_ns
    if to_ns <= from_ns or not inside.any():
        raise CannotMeasure(f"perf_analyzer measured for less than {WARM_S:g} s; give it longer windows")
    outcome = Outcome(
        from_ns=from_ns,
        to_ns=to_ns,
        rows=int(inside.sum()) * load.rows,
        sent_rows=found.rows + load.concurrency * load.rows * 2,  # what was out at the ends is not in its export
        errors=0,
        first_error="",
        latency_ms=tuple(np.percentile(found.latency_ms[inside], PERCENTILES).round(4).tolist()),
    )
    return _measured(outcome, meters[0], server)


def _measured(outcome: Outcome, meter: CpuMeter, server: Server | None) -> Measured:
    if not outcome.rows:
        raise CannotMeasure(f"no transaction was answered in the window; {outcome.first_error or 'it was too short'}")
    groups = ("server", CLIENT) if server is None else (*server.groups, CLIENT)
    window = outcome.from_ns, outcome.to_ns
    cpu_us = {group: 1e6 * meter.seconds(group, *window) / outcome.rows for group in groups}
    put_off_us = 0.0
    if server is not None:
        put_off_us = 1e6 * _put_off(outcome.to_ns, meter, server) / max(1, outcome.sent_rows)
        cpu_us["server"] += put_off_us
    return Measured(
        transactions=outcome.rows,
        seconds=(outcome.to_ns - outcome.from_ns) / 1e9,
        latency_ms=outcome.latency_ms,
        cpu_us=cpu_us,
        put_off_us=put_off_us,
        sent=outcome.sent_rows,
        errors=outcome.errors,
        first_error=outcome.first_error,
    )


def _put_off(ended_ns: int, meter: CpuMeter, server: Server) -> float:
    """CPU seconds that a server used after a load, until it was quiet again, beyond what it uses when idle."""
    already = meter.seconds("server", ended_ns, meter.last_ns) - server.idle_cores * (meter.last_ns - ended_ns) / 1e9
    return max(0.0, already + server.settle())
