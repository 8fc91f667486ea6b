"""The whole benchmark: stores with a history, servers, rounds, judgement, one JSON document."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Final

from fraud_bench import servers
from fraud_bench.feed import Feed, History, even_history, simulated_history
from fraud_bench.log_check import logged
from fraud_bench.machine import describe
from fraud_bench.report import document
from fraud_bench.rivals import RIVALS, Rival, rival_server
from fraud_bench.rounds import measure, warm_up
from fraud_bench.rows import FLOOR, IN_PROCESS, LMDB, REDIS, ROWS, THICK, THIN, Row, Stage
from fraud_bench.servers import Server
from fraud_data.labels import DEFAULT_LABEL_DAYS
from fraud_load.perf_analyzer import PerfAnalyzerMissing, find_perf_analyzer
from fraud_load.preload import preload
from fraud_scoring.errors import FraudError, InvalidDefinition
from fraud_scoring.releases import ensemble_name, pinned_schema
from fraud_scoring.routes import Routes
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema, default_schema
from fraud_scoring.stores import open_store

Progress = Callable[[float, str], None]
THICKER: Final = 100
"""Times the history of the thick entities, against the thin ones."""
EVEN: Final = (64, 128)
"""Customers and terminals of both: a request of 64 rows names each customer once."""
EVEN_BEFORE_US: Final = 17 * 365 * MICROSECONDS_PER_DAY
"""Their time begins so long before the portfolio's: a payment of theirs stands for minutes, and a round for years."""


@dataclass(frozen=True)
class Plan:
    """How much is measured. `seconds` is the window of one load; a round makes each once, or as its row has turns."""

    rounds: int = 5
    seconds: float = 4.0
    customers: int = 5_000
    terminals: int = 10_000
    seed: int = 7
    perf_analyzer: Path | None = None
    peers: bool = False
    quick: bool = False
    budget_s: float = math.inf
    """No round is begun that would end later than this after the start; the first always is."""

    @classmethod
    def short(cls) -> Plan:
        """The same shape in under three minutes."""
        return cls(rounds=2, seconds=0.7, customers=1_000, terminals=2_000, quick=True, budget_s=172.0)


def run(repository: Path, home: Path, plan: Plan, progress: Progress, rows: Sequence[Row] = ROWS) -> dict[str, Any]:
    """Measure and judge; what the benchmark writes under `home` is removed at the end."""
    began, deadline = datetime.now(timezone.utc), time.monotonic() + plan.budget_s
    if plan.quick:
        rows = [replace(row, turns=1) for row in rows]
    release = Routes.read(repository).production
    schema = pinned_schema(repository, release)
    if schema.column_names != default_schema().column_names:
        raise InvalidDefinition("the benchmark's transactions have the default schema's columns; route a release of it")
    machine = describe()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=home.absolute()) as name:
        stage = Stage(Path(name), plan.seconds, repository.absolute(), ensemble_name(release), None)
        needs = {name for row in rows for name in row.kind.needs}
        with standing(stage, schema, plan, needs, home.absolute() / "peers", progress):
            warm_up(rows, stage, progress)
            found = measure(rows, stage, plan.rounds, progress, deadline=deadline)
            idle = {name: round(server.idle_cores, 4) for name, server in stage.servers.items()}
        progress(1.0, "reading the decision logs")
        logs = {name: logged(server.log) for name, server in stage.servers.items() if server.log is not None}
    settings = {
        "release": ensemble_name(release),
        "quick": plan.quick,
        "rounds": found.rounds,
        "seconds": plan.seconds,
        "customers": plan.customers,
        "terminals": plan.terminals,
        "started_at": began.isoformat(timespec="seconds"),
        "minutes": round((datetime.now(timezone.utc) - began).total_seconds() / 60, 1),
        "idle_cores": idle,
    }
    return document(found, rows, machine, settings, logs)


@contextmanager
def standing(
    stage: Stage, schema: Schema, plan: Plan, needs: set[str], environments: Path, progress: Progress
) -> Iterator[None]:
    """The servers and stores that `needs` names, up and quiet; what cannot stand is named in `stage.missing`."""
    histories = _histories(schema, plan, needs)
    template = stage.folder / "template"
    with ExitStack() as stack:
        _find_perf_analyzer(stage, plan)
        _preload(f"lmdb://{template}", schema, histories, progress)
        for name in needs & {IN_PROCESS, LMDB, *(rival.name for rival in RIVALS)}:
            shutil.copytree(template, stage.folder / name / "store")
        stage.job = {
            "repository": str(stage.repository),
            "store": f"lmdb://{stage.folder / IN_PROCESS / 'store'}",
            "log": str(stage.folder / IN_PROCESS / "log"),
            "key": str(stage.folder / IN_PROCESS / "key"),
        }
        ways: dict[str, Callable[[], Server]] = {
            LMDB: lambda: _served(stage, stack, LMDB, f"lmdb://{stage.folder / LMDB / 'store'}", {}),
            FLOOR: lambda: stack.enter_context(servers.floor(stage.folder / FLOOR, schema.width)),
            REDIS: lambda: _on_redis(stage, stack, schema, histories[LMDB], progress),
        }
        ways |= {rival.name: partial(_rival, stage, stack, rival, environments) for rival in RIVALS}
        for name, start in ways.items():
            if name in needs:
                progress(0.0, f"starting {name}")
                _stand(stage, name, start)
        for number, name in enumerate((LMDB, THIN, THICK, IN_PROCESS, REDIS, *(rival.name for rival in RIVALS))):
            history = histories.get(name, histories[LMDB])
            stage.feeds[name] = Feed(history, schema, first_id=(number + 1) * 10**12, in_order=name in (THIN, THICK))
        yield


def _histories(schema: Schema, plan: Plan, needs: set[str]) -> dict[str, History]:
    """By store; the thin and the thick one lie in the store of the main one, under keys of their own."""
    main = simulated_history(plan.customers, plan.terminals, plan.seed, schema)
    found = {LMDB: main}
    for number, (name, times) in enumerate(((THIN, 1), (THICK, THICKER)), start=2):
        if name in needs:
            first = (number * 10**11, number * 10**9)
            found[name] = even_history(*EVEN, times, first, main.until_us - EVEN_BEFORE_US, schema)
    return found


def _preload(url: str, schema: Schema, histories: dict[str, History], progress: Progress) -> None:
    store = open_store(url, schema)
    try:
        for name, history in histories.items():
            report = partial(_tell, progress, name)
            preload(store, history.data, schema, history.until_us, DEFAULT_LABEL_DAYS, report)
    finally:
        store.close()


def _tell(progress: Progress, history: str, share: float, text: str) -> None:
    progress(share, f"history ({history}): {text}")


def _find_perf_analyzer(stage: Stage, plan: Plan) -> None:
    try:
        stage.perf_analyzer = find_perf_analyzer(plan.perf_analyzer)
    except PerfAnalyzerMissing as missing:
        stage.missing["perf_analyzer"] = str(missing)


def _stand(stage: Stage, name: str, start: Callable[[], Server]) -> None:
    try:
        stage.servers[name] = start()
    except FraudError as trouble:
        stage.missing[name] = str(trouble)


def _served(stage: Stage, stack: ExitStack, name: str, store_url: str, beside: dict[str, int]) -> Server:
    return stack.enter_context(servers.served(name, stage.repository, stage.folder / name, store_url, beside))


def _on_redis(stage: Stage, stack: ExitStack, schema: Schema, history: History, progress: Progress) -> Server:
    url, pid = stack.enter_context(servers.redis(stage.folder / "redis-server"))
    _preload(url, schema, {REDIS: history}, progress)
    return _served(stage, stack, REDIS, url, {"redis": pid})


def _rival(stage: Stage, stack: ExitStack, rival: Rival, environments: Path) -> Server:
    return stack.enter_context(rival_server(rival, environments, stage.repository, stage.folder / rival.name))
