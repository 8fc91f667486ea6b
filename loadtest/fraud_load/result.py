"""What a run leaves behind: one folder, three files, which reports and comparisons read and nothing else.

    run.json       what was asked, where, what the generator itself was like, totals, verdicts (`Run`)
    requests.npz   one entry an arrival: when it was meant, taken up, sent and answered, and how (`Requests`)
    server.json    the server side once a second: Triton's metrics and the processes (`ServerSeries`)

Times are float64 seconds since the run's start, on a monotonic clock that all generator processes share. Latency runs
from the intended time, so that a stall of the server, or of the generator, shows in every arrival that it delayed.
`run.json` is written last: a folder without it is a run that did not end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import InvalidInput

Floats = npt.NDArray[np.float64]

FORMAT: Final = 1
RUN_FILE: Final = "run.json"
REQUESTS_FILE: Final = "requests.npz"
SERVER_FILE: Final = "server.json"
WHOLE_MACHINE: Final = "whole machine"
"""The name in `ServerSeries.processes` of everything that ran on the machine, other people's work too."""
NO_SOURCE: Final = -1
"""`Requests.source` of what got no answer."""


class Status(IntEnum):
    """How an arrival ended."""

    OK = 0
    REFUSED = 1
    """INVALID_ARGUMENT: right for a bad request, an error for any other."""
    UNAVAILABLE = 2
    TIMEOUT = 3
    """No answer within the scenario's `give_up_s`; its latency is that of giving up."""
    OTHER = 4
    UNSENT = 5
    """The run was stopped before it went out."""


class Kind(IntEnum):
    """What the workload made of an arrival."""

    ORDINARY = 0
    DUPLICATE = 1
    """A transaction that was sent before, sent again unchanged."""
    BAD = 2
    """Breaks a rule of the schema on purpose: to refuse it is right, to answer it an error."""


class Outcome(str, Enum):
    """How one SLO, or the whole gate, was judged; only PASS is a pass."""

    PASS = "pass"  # noqa: S105 - the word
    MISS = "miss"
    NOT_ENOUGH_DATA = "not enough data"
    NO_VERDICT = "no verdict"
    """The generator was the bottleneck: what was measured says little about the server."""


@dataclass(frozen=True, eq=False)
class Requests:
    """N arrivals in the order of their intended times. What shares a `call` went out in one request."""

    intended_s: Floats
    """[N] when it should have been sent."""
    taken_s: Floats
    """[N] when the generator took it up: `taken_s - intended_s` is the generator's own lag."""
    sent_s: Floats
    """[N] when its request went out; above `taken_s` where coalescing let it wait for a free request."""
    done_s: Floats
    """[N] when it was answered, refused or given up."""
    rows: npt.NDArray[np.int16]
    """[N] transactions in it, 1 to 1,024."""
    status: npt.NDArray[np.int8]
    """[N] `Status`."""
    source: npt.NDArray[np.int8]
    """[N] the highest `wire.Source` of its rows, NO_SOURCE without an answer; above CANARY is degraded."""
    kind: npt.NDArray[np.int8]
    """[N] `Kind`."""
    call: npt.NDArray[np.int32]
    """[N] which request carried it, numbered from 0 over all generator processes; -1 where none did."""

    def __post_init__(self) -> None:
        for part in fields(self):
            shape = getattr(self, part.name).shape
            if shape != self.intended_s.shape or len(shape) != 1:
                raise ValueError(
                    f"{part.name} has the shape {shape}; give one value an arrival: {self.intended_s.shape}"
                )

    def __len__(self) -> int:
        return len(self.intended_s)

    @property
    def latency_s(self) -> Floats:
        """[N] from the intended time to the end."""
        return self.done_s - self.intended_s

    @property
    def lag_s(self) -> Floats:
        """[N] how late the generator itself was."""
        return self.taken_s - self.intended_s

    @property
    def degraded(self) -> npt.NDArray[np.bool_]:
        """[N] answered, but by a fallback."""
        return self.source > 1

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """[N] what counts as an error: no answer where one was due, an answer where a refusal was due."""
        due = np.where(self.kind == Kind.BAD, Status.REFUSED, Status.OK)
        wrong: npt.NDArray[np.bool_] = (self.status != due) & (self.status != Status.UNSENT)
        return wrong

    def select(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Requests:
        """The arrivals where a mask is true, or at the given positions."""
        return Requests(*(getattr(self, part.name)[which] for part in fields(self)))

    def between(self, start_s: float, stop_s: float) -> Requests:
        """Those intended in [start_s, stop_s) that were sent."""
        inside = (self.intended_s >= start_s) & (self.intended_s < stop_s) & (self.status != Status.UNSENT)
        return self.select(inside)

    @staticmethod
    def merged(parts: Sequence[Requests]) -> Requests:
        """The arrivals of several generator processes in one order; their calls are numbered anew."""
        columns = {part.name: [getattr(one, part.name) for one in parts] for part in fields(Requests)}
        first = 0
        for i, calls in enumerate(columns["call"]):
            columns["call"][i] = np.where(calls < 0, calls, calls + first).astype(np.int32)
            first += int(calls.max(initial=-1)) + 1
        whole = Requests(**{name: np.concatenate(arrays) for name, arrays in columns.items()})
        return whole.select(np.argsort(whole.intended_s, kind="stable"))


@dataclass(frozen=True)
class ModelSeries:
    """One model over the T intervals of a `ServerSeries`; NaN where it ran nothing in an interval."""

    requests_per_s: list[float]
    executions_per_s: list[float]
    batch_rows: list[float]
    """Rows an execution, on average."""
    queue_ms: list[float]
    """Time in Triton's queue, a request's average."""
    compute_ms: list[float]
    """Time in the model (input, inference, output), a request's average."""
    failures_per_s: list[float]


@dataclass(frozen=True)
class ProcessSeries:
    """One process, or a tree of them, over the same intervals."""

    cpu: list[float]
    """Cores used: 1.0 is one core the whole time."""
    rss_bytes: list[float]
    """Resident memory at the interval's end."""
    private_bytes: list[float]
    """The part of it that is neither shared nor a mapped file (as a window store is): what a leak would grow."""


@dataclass(frozen=True)
class ServerSeries:
    """What the server's metrics endpoint said, and its processes where they are on this machine.

    Interval i ends at `at_s[i]` (seconds since the run's start) and begins where the one before ended. Empty lists
    where there was nothing to scrape; `note` says why.
    """

    at_s: list[float] = field(default_factory=list)
    models: dict[str, ModelSeries] = field(default_factory=dict)
    """By model name, as Triton reports them."""
    processes: dict[str, ProcessSeries] = field(default_factory=dict)
    """By a name to show: `tritonserver`, `fraud_score`, `generator 0`, WHOLE_MACHINE; empty for a server elsewhere."""
    note: str = ""


@dataclass(frozen=True)
class GeneratorFacts:
    """What the generator was like: whether to believe the rest."""

    processes: int
    lag_ms: dict[str, float]
    """p50, p99, p99.9 and max of `Requests.lag_s` in the judged window, milliseconds."""
    cpu: list[float]
    """Cores used by each generator process, from start to end."""
    intended_per_s: float
    """Arrivals a second, in the judged window."""
    achieved_per_s: float
    """Arrivals a second that were sent, over the time that sending them took."""
    bottleneck: str | None = None
    """Why no verdict is given, in words; None where the generator kept up."""


@dataclass(frozen=True)
class SloVerdict:
    """One SLO of the scenario, judged."""

    slo: str
    """Its name in the scenario: `p99_ms`."""
    limit: float
    measured: float | None
    """In the SLO's own unit; None where there was nothing to measure."""
    samples: int
    needed: int
    """Samples below which the outcome is NOT_ENOUGH_DATA."""
    outcome: Outcome
    text: str
    """The verdict as a sentence for people."""


@dataclass(frozen=True)
class Run:
    """Everything but the series: see the fields."""

    scenario: dict[str, Any]
    """As resolved: every default filled in, every option of the command line applied."""
    runner: str
    """`asyncio`, `locust` or `perf_analyzer`."""
    url: str
    seed: int
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    """From the start to the last answer."""
    window_s: tuple[float, float]
    """The judged part, by intended time: warm-up left out."""
    machine: dict[str, Any]
    """Of the generator: processor, cores, memory_bytes, system, python."""
    generator: GeneratorFacts
    totals: dict[str, int]
    """Whole run: arrivals, calls, rows, duplicates, bad, degraded, failed, and each `Status` by lower-case name."""
    latency_ms: dict[str, float]
    """Judged window: p50, p90, p99, p99.9, max, from the intended time; arrivals that failed included."""
    outcome: Outcome
    slos: list[SloVerdict]
    findings: dict[str, Any] = field(default_factory=dict)
    """What a kind of scenario is run for: `knee`, `recovery`, `drift` (see `fraud_load.findings`)."""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in `run.json`."""
        return {"format": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class Result:
    """A run and its series."""

    run: Run
    requests: Requests
    server: ServerSeries


def save(result: Result, folder: Path) -> None:
    """Write the three files into `folder`, which is made; what was there of an earlier run is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).unlink(missing_ok=True)
    arrays = {part.name: getattr(result.requests, part.name) for part in fields(Requests)}
    np.savez_compressed(folder / REQUESTS_FILE, **arrays)
    (folder / SERVER_FILE).write_text(_json(asdict(result.server)), encoding="utf-8")
    (folder / RUN_FILE).write_text(_json(result.run.as_dict()), encoding="utf-8")


def load(folder: Path) -> Result:
    """The run in `folder`; InvalidInput where it is none, is incomplete, or has another format."""
    return Result(load_run(folder), _load_requests(folder), _load_server(folder))


def load_run(folder: Path) -> Run:
    """`run.json` alone."""
    found = _read_json(folder, RUN_FILE)
    if found.pop("format", None) != FORMAT:
        raise InvalidInput(f"{folder.name}/{RUN_FILE} has another format than {FORMAT}; run the scenario again")
    try:
        slos = [SloVerdict(**{**one, "outcome": Outcome(one["outcome"])}) for one in found.pop("slos")]
        return Run(
            generator=GeneratorFacts(**found.pop("generator")),
            outcome=Outcome(found.pop("outcome")),
            window_s=tuple(found.pop("window_s")),
            slos=slos,
            **found,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder.name}/{RUN_FILE} is no run of this version ({error}); run it again") from None


def _load_requests(folder: Path) -> Requests:
    try:
        with np.load(folder / REQUESTS_FILE, allow_pickle=False) as arrays:
            return Requests(**{part.name: arrays[part.name] for part in fields(Requests)})
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InvalidInput(f"{folder.name}/{REQUESTS_FILE} cannot be read ({type(error).__name__})") from None


def _load_server(folder: Path) -> ServerSeries:
    found = _numbers(_read_json(folder, SERVER_FILE))
    models = {name: ModelSeries(**one) for name, one in found.pop("models").items()}
    processes = {name: ProcessSeries(**one) for name, one in found.pop("processes").items()}
    return ServerSeries(models=models, processes=processes, **found)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"{folder} holds no finished run: {name} is missing") from None
    except ValueError:
        raise InvalidInput(f"{folder.name}/{name} is no JSON") from None
    return found


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(plain(document), indent=1, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """As JSON can say it: names for enumerations, lists for arrays, null for NaN and infinities."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _numbers(value: Any) -> Any:
    """null in a list of numbers as NaN."""
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    return [float("nan") if one is None else one for one in value] if isinstance(value, list) else value
