"""The rows of the table: which load goes to which server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from fraud_bench import floor
from fraud_bench.feed import Feed, Int64
from fraud_bench.loads import WARM_S, Measured, by_generator, by_perf_analyzer
from fraud_bench.rivals import RIVALS
from fraud_bench.servers import CannotMeasure, Server
from fraud_load.perf_analyzer import Load
from fraud_scoring.wire import SCORE_MODEL

LMDB: Final = "lmdb"
REDIS: Final = "redis"
FLOOR: Final = "floor"
THIN: Final = "thin"
THICK: Final = "thick"
IN_PROCESS: Final = "in_process"
TURNS: Final = 3
"""Of two rows whose throughput is compared: a host is not the same for two seconds and for the next two."""
EVEN_ROWS: Final = 100_000
"""A round of few customers: each has a payment in twelve hours, so that many more of them would reach the present."""


@dataclass
class Stage:
    """What stands ready while rows are measured: servers, and the feeds of their stores, by name."""

    folder: Path
    seconds: float
    repository: Path
    ensemble: str
    """The release, to be asked directly."""
    perf_analyzer: Path | None
    servers: dict[str, Server] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a server is not there, by its name."""
    job: Mapping[str, str] = field(default_factory=dict)
    """Store, log and key of the job that runs without a server."""

    def server(self, name: str) -> Server:
        """A server by its name; CannotMeasure says why it is not there."""
        if name not in self.servers:
            raise CannotMeasure(self.missing.get(name, f"there is no server {name}"))
        return self.servers[name]

    def fresh(self, feed: str, count: int, load: Callable[[Int64], Measured]) -> Measured:
        """Make a load with `count` transactions that nobody scored before."""
        found = load(self.feeds[feed].take(count))
        self.feeds[feed].used(found.sent)
        if found.sent > count:
            raise CannotMeasure(f"{found.sent:,} transactions were sent and only {count:,} were new; give it more")
        return found

    def rows_for(self, most_per_second: int, sent_before: int) -> int:
        """How many transactions a load may need; what it sent in the round before is the better guess.

        Some callers are answered twice as often as others, and each goes through a share of its own.
        """
        guess = round(most_per_second * (self.seconds + 2 * WARM_S))
        return min(guess, max(3 * sent_before, guess // 4)) if sent_before else guess


class Kind(Protocol):
    """A kind of load."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Servers and stores by name."""

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        """Make the load once; `sent_before` is what it sent in the round before, 0 in the first."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    key: str
    title: str
    kind: Kind
    turns: int = 1
    """How often it is measured in a round, in turn with its neighbours that have as many."""


@dataclass(frozen=True)
class Coalesced:
    """Single calls of the asyncio client, which share requests."""

    callers: int
    needs: tuple[str, ...] = (LMDB,)

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        server = stage.server(LMDB)
        asked = {"url": server.url, "callers": self.callers, "seconds": stage.seconds}
        count = stage.rows_for(120_000, sent_before)
        return stage.fresh(LMDB, count, lambda rows: by_generator("coalesced", asked, rows, stage.folder, server))


@dataclass(frozen=True)
class OneCaller:
    """One caller of the blocking client, who waits for each answer."""

    needs: tuple[str, ...] = (LMDB,)

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        server = stage.server(LMDB)
        asked = {"url": server.url, "seconds": stage.seconds}
        count = stage.rows_for(4_000, sent_before)
        return stage.fresh(LMDB, count, lambda rows: by_generator("one_caller", asked, rows, stage.folder, server))


@dataclass(frozen=True)
class Batches:
    """Requests of many rows, encoded beforehand, to the front door of a server."""

    rows_each: int
    callers: int
    server: str = LMDB
    feed: str = LMDB
    most_per_second: int = 400_000
    most_rows: int = 10**9

    @property
    def needs(self) -> tuple[str, ...]:
        return self.server, self.feed

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        server = stage.server(self.server)
        asked = {
            "url": server.url,
            "model": SCORE_MODEL,
            "rows_each": self.rows_each,
            "callers": self.callers,
            "seconds": stage.seconds,
        }
        count = min(stage.rows_for(self.most_per_second, sent_before), self.most_rows)
        count -= count % self.rows_each
        return stage.fresh(self.feed, count, lambda rows: by_generator("batches", asked, rows, stage.folder, server))


@dataclass(frozen=True)
class PerfAnalyzer:
    """perf_analyzer on one model; `model` None is the release's ensemble."""

    concurrency: int
    rows_each: int = 1
    server: str = LMDB
    model: str | None = SCORE_MODEL
    most_per_second: int = 40_000

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.server,)

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        server = stage.server(self.server)
        if stage.perf_analyzer is None:
            raise CannotMeasure(stage.missing["perf_analyzer"])
        program = stage.perf_analyzer
        # Its three windows hold the warm-up, too.
        window_ms = round((stage.seconds + WARM_S) * 1000 / 3)
        load = Load(self.model or stage.ensemble, self.concurrency, self.rows_each, window_ms)

        def measure(rows: Int64) -> Measured:
            return by_perf_analyzer(program, load, server.url, rows, stage.folder, server)

        # Also where rows could come again: a client that walks through less memory is a faster one.
        count = stage.rows_for(self.most_per_second, sent_before)
        if self.model == SCORE_MODEL:
            return stage.fresh(self.server, count, measure)
        return measure(stage.feeds[LMDB].take(count))


@dataclass(frozen=True)
class InProcess:
    """The whole job called in a process, without a server."""

    rows_each: int
    needs: tuple[str, ...] = (IN_PROCESS,)

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        asked = {**stage.job, "rows_each": self.rows_each, "seconds": stage.seconds}
        count = stage.rows_for(400_000, sent_before)
        return stage.fresh(IN_PROCESS, count, lambda rows: by_generator("in_process", asked, rows, stage.folder, None))


@dataclass(frozen=True)
class HttpCalls:
    """Single rows over HTTP as JSON, 64 connections: to a rival, or to our own front door."""

    server: str
    path: str
    shape: str
    connections: int = 64
    most_per_second: int = 40_000

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.server,)

    def measure(self, stage: Stage, sent_before: int) -> Measured:
        server = stage.server(self.server)
        host, _, port = server.http_url.rpartition(":")
        asked = {
            "host": host,
            "port": int(port),
            "path": self.path,
            "shape": self.shape,
            "callers": self.connections,
            "seconds": stage.seconds,
        }
        count = stage.rows_for(self.most_per_second, sent_before)
        return stage.fresh(
            self.server, count, lambda rows: by_generator("http_calls", asked, rows, stage.folder, server)
        )


ROWS: Final = (
    *(Row(f"coalesced_{n}", f"single calls, asyncio client, {n:,} concurrent", Coalesced(n)) for n in (64, 256, 1000)),
    *(Row(f"single_{n}", f"single rows, perf_analyzer, {n} concurrent", PerfAnalyzer(n)) for n in (1, 16, 256)),
    Row("single_64", "single rows, perf_analyzer, 64 concurrent", PerfAnalyzer(64), TURNS),
    Row(
        "floor_1_hop",
        "floor: one identity model, 64 concurrent",
        PerfAnalyzer(64, server=FLOOR, model=floor.ONE_HOP),
        TURNS,
    ),
    Row("floor_3_hops", "floor: three of them, 64 concurrent", PerfAnalyzer(64, server=FLOOR, model=floor.THREE_HOPS)),
    *(
        Row(
            f"direct_{n}",
            f"single rows on the release itself, without front door and record, {n} concurrent",
            PerfAnalyzer(n, model=None),
        )
        for n in (1, 16, 64, 256)
    ),
    Row("rows_8", "8 rows a request, 16 concurrent", PerfAnalyzer(16, 8, most_per_second=160_000)),
    Row("rows_512", "512 rows a request, 4 concurrent", Batches(512, 4)),
    Row("redis_64", "64 rows a request, 8 concurrent, on Redis", Batches(64, 8, server=REDIS, feed=REDIS)),
    Row("rows_64", "64 rows a request, 8 concurrent", Batches(64, 8)),
    *(Row(f"ceiling_{n}", f"ceiling: the job in-process, {n} rows a call", InProcess(n)) for n in (64, 1, 512)),
    Row("history_1", "64 rows a request, 1 concurrent, 64 customers", Batches(64, 1, feed=THIN, most_rows=EVEN_ROWS)),
    Row("history_100", "the same with 100 times their history", Batches(64, 1, feed=THICK, most_rows=EVEN_ROWS)),
    Row("idle", "one caller, one row, blocking client", OneCaller()),
    Row(
        "http_64",
        "single rows over HTTP and JSON, 64 concurrent",
        HttpCalls(LMDB, f"/v2/models/{SCORE_MODEL}/infer", "kserve"),
    ),
)
"""In the order of measuring: what is compared stands side by side, so that the machine is the same for both."""
RIVAL_ROWS: Final = tuple(
    Row(rival.name, f"peer: {rival.title}, 64 concurrent", HttpCalls(rival.name, rival.path, rival.shape))
    for rival in RIVALS
)
"""With --peers."""
