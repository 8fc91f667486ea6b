"""Triton's perf_analyzer as a load generator: found, fed with transactions, run within a limit, read.

It sends the entries of its input file in order and begins again at the end. A transaction that comes a second time is
answered from what is known of it, which is less work: give it more rows than it will send, and look at `Run.rows`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_scoring.errors import FraudError, InvalidInput
from fraud_scoring.wire import TRANSACTION

VARIABLE: Final = "FRAUD_PERF_ANALYZER"
PROGRAM: Final = "perf_analyzer"
STARTING_S: Final = 60.0
"""How long it may take to read its input and to connect."""
_WINDOWS: Final = 3
"""It judges stability over three windows; with every deviation allowed it measures three and ends."""

Int64 = NDArray[np.int64]


class PerfAnalyzerMissing(FraudError):
    """The program is not there."""


class PerfAnalyzerFailed(FraudError):
    """The program did not measure."""


@dataclass(frozen=True)
class Load:
    """Requests of `rows` transactions each, for three windows of `window_ms`.

    A closed loop of `concurrency` requests; or `rate` a second, `constant` or `poisson`; or, after each of the gaps in
    the file `intervals` (a line each, whole microseconds; again from the beginning at its end), the next one.
    """

    model: str
    concurrency: int
    rows: int = 1
    window_ms: int = 1_000
    protocol: str = "grpc"
    rate: float | None = None
    distribution: str = "poisson"
    intervals: Path | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Request parameters by name."""

    @property
    def seconds(self) -> float:
        """How long requests are sent, roughly."""
        return _WINDOWS * self.window_ms / 1000


@dataclass(frozen=True)
class Run:
    """What was measured: each request's `sent_ns` and `answered_ns` int64 [N] (`time.time_ns`); the CSV's figures."""

    load: Load
    sent_ns: Int64
    answered_ns: Int64
    report: Mapping[str, float]
    """Its CSV by column: `Inferences/Second`; in microseconds `Server Queue`, `p99 latency` and so on."""

    @property
    def rows(self) -> int:
        """Rows that were measured; a little less than what was sent."""
        return len(self.sent_ns) * self.load.rows

    @property
    def latency_ms(self) -> NDArray[np.float64]:
        """[N] of each request, as the caller saw it."""
        return (self.answered_ns - self.sent_ns) / 1e6


def find_perf_analyzer(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """The program: as given, else as FRAUD_PERF_ANALYZER says, else on the PATH; PerfAnalyzerMissing."""
    named = given or (Path(environment[VARIABLE]) if environment.get(VARIABLE) else None)
    if named is not None:
        if not os.access(named, os.X_OK) or named.is_dir():
            raise InvalidInput(f"{named.name} is no program that can be run; give the path of {PROGRAM}")
        return named.absolute()
    on_path = shutil.which(PROGRAM, path=environment.get("PATH"))
    if on_path is None:
        raise PerfAnalyzerMissing(
            f"{PROGRAM} is not here; give --perf-analyzer PATH, set {VARIABLE}, or put it on PATH"
        )
    return Path(on_path)


def write_input(path: Path, rows: Int64, tensor: str = TRANSACTION) -> None:
    """`rows` int64 [N, C] as its input file: an entry a row, whatever the rows of a request."""
    shape = [rows.shape[1]]
    entries = [{tensor: {"content": row, "shape": shape}} for row in rows.tolist()]
    path.write_text(json.dumps({"data": entries}, separators=(",", ":")), encoding="utf-8")


def run(
    program: Path,
    load: Load,
    url: str,
    data: Path,
    *,
    columns: int = 5,
    limit_s: float | None = None,
    started: Callable[[int], None] = lambda _: None,
) -> Run:
    """Measure `load` on the server at `url` with the transactions in `data`; PerfAnalyzerFailed says why not.

    `started` gets its process id. It runs in a session of its own and is ended whole if it takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="perf-analyzer-") as name:
        folder = Path(name)
        report, export, output = folder / "report.csv", folder / "profile.json", folder / "output"
        with output.open("wb") as out:
            process = subprocess.Popen(
                [os.fspath(program), *_arguments(load, url, data, columns, report, export)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started(process.pid)
        limit = STARTING_S + 10 * load.seconds if limit_s is None else limit_s
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise PerfAnalyzerFailed(f"{PROGRAM} did not end within {limit:.0f} s; it was ended") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0 or not export.exists() or not report.exists():
            raise PerfAnalyzerFailed(
                f"{PROGRAM} ended with code {code}: {_complaint(output.read_text(errors='replace'))}"
            )
        sent_ns, answered_ns = read_export(export)
        return Run(load, sent_ns, answered_ns, read_report(report))


def read_report(path: Path) -> dict[str, float]:
    """The figures of its CSV (`-f`) for one load, by column."""
    with path.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    if len(found) != 1:
        raise PerfAnalyzerFailed(f"{PROGRAM} reported {len(found)} loads; it was asked for one")
    return {name: float(text) for name, text in found[0].items() if name and text}


def read_export(path: Path) -> tuple[Int64, Int64]:
    """(sent, answered), int64 [N] in nanoseconds since 1970, of its profile export, in the order of sending."""
    (experiment,) = json.loads(path.read_bytes())["experiments"]
    # A request that was still out at the end has no response.
    times = [
        (one["timestamp"], one["response_timestamps"][-1])
        for one in experiment["requests"]
        if one["response_timestamps"]
    ]
    if not times:
        raise PerfAnalyzerFailed(f"{PROGRAM} measured no request; give it longer windows")
    sent, answered = np.array(sorted(times), np.int64).T
    return sent, answered


def _arguments(load: Load, url: str, data: Path, columns: int, report: Path, export: Path) -> list[str]:
    settings = {
        "-m": load.model,
        "-i": load.protocol,
        "-u": url,
        "-b": load.rows,
        "--shape": f"{TRANSACTION}:{columns}",
        "--input-data": data,
        "--measurement-interval": load.window_ms,
        "--max-trials": _WINDOWS,
        "--stability-percentage": 999,
        "-f": report,
        "--profile-export-file": export,
    }
    arguments = ["--async", *(str(part) for pair in settings.items() for part in pair), *_mode(load)]
    for name, value in load.parameters.items():
        arguments += ["--request-parameter", f"{name}:{value}:int"]
    return arguments


def _mode(load: Load) -> list[str]:
    if load.intervals is not None:
        return ["--request-intervals", str(load.intervals)]
    if load.rate is not None:
        return ["--request-rate-range", f"{load.rate:g}", "--request-distribution", load.distribution]
    return ["--concurrency-range", str(load.concurrency)]


def _complaint(output: str) -> str:
    """The line of its output that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wanted = [line for line in lines if "rror" in line or "ailed" in line]
    return (wanted or lines or ["it said nothing"])[-1][:300]
