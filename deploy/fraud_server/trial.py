"""A release on a server of its own, for as long as it takes to measure it: free ports, a scratch home and store."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

from fraud_client import AsyncFraudClient, FraudClientError
from fraud_data import Transactions
from fraud_release.gates import ServerFigures
from fraud_release.serving_copy import copy_release
from fraud_release.trust import TrustSettings
from fraud_scoring.releases import release_name
from fraud_scoring.routes import Routes
from fraud_scoring.windows import Int64
from fraud_scoring.wire import VERDICT_SOURCE, Source
from fraud_server.errors import CannotServe
from fraud_server.ports import free_ports
from fraud_server.process import OWN_MODELS, PROCESS_FILE
from fraud_server.settings import Ports, ServeSettings
from fraud_server.supervisor import supervised

RATE: Final = 100.0
"""Transactions a second, each sent when it is due and not when the one before was answered."""
WARM_UP: Final = 50
PATIENCE_S: Final = 5.0
"""An answer that takes longer is none."""


def measure(
    repository: Path,
    release: int,
    transactions: Transactions,
    trust: TrustSettings,
    report: Callable[[str], None] = lambda line: None,
    rate: float = RATE,
) -> ServerFigures:
    """Ask a server that serves only `release` for each of `transactions`, after a warm-up with the first ones.

    ArtifactRefused or CannotServe where it does not come to serving.
    """
    with tempfile.TemporaryDirectory(prefix="fraud-trial-") as folder:
        settings = _prepare(repository, release, trust, Path(folder))
        with _running(settings, report):
            with _without_collections():
                asyncio.run(_ask(settings.url, transactions.rows[:WARM_UP], rate))
                latency = asyncio.run(_ask(settings.url, transactions.rows[WARM_UP:], rate))
            return ServerFigures(latency, _memory_mib(settings), int(np.isfinite(latency).sum()))


def _prepare(repository: Path, release: int, trust: TrustSettings, folder: Path) -> ServeSettings:
    models, home = folder / "models", folder / "home"
    models.mkdir()
    for name in OWN_MODELS:
        shutil.copytree(repository / name, models / name, ignore=shutil.ignore_patterns("__pycache__"))
    copy_release(repository, release, trust, models)
    Routes(release).write(models)
    keys = folder / "trusted.pub"
    keys.write_text("".join(f"{key}\n" for key in trust.public_keys), encoding="utf-8")
    return ServeSettings(models, home, Ports(*free_ports(3)), f"lmdb://{home / 'store'}", release_key=keys)


@contextmanager
def _running(settings: ServeSettings, report: Callable[[str], None]) -> Iterator[None]:
    """Until the block ends a server is ready; CannotServe where it does not become ready."""
    with ExitStack() as stack:
        try:
            stack.enter_context(supervised(settings, report))
        except CannotServe as failure:
            release = release_name(Routes.read(settings.repository).production)
            raise CannotServe(f"release {release} does not come to serving: {failure}") from None
        yield


@contextmanager
def _without_collections() -> Iterator[None]:
    """Nothing is looked through for garbage meanwhile: in a process that holds a registry and data that takes 0.2 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


async def _ask(url: str, rows: Int64, rate: float) -> NDArray[np.float64]:
    """Milliseconds [N] from when each row was due to its answer; ∞ where none of its own came."""
    latency = np.full(len(rows), np.inf)
    async with AsyncFraudClient(url) as client:
        await client.ready()
        began = time.perf_counter() + 0.05

        async def one(index: int) -> None:
            due = began + index / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            with suppress(FraudClientError):
                answer = await client.score_rows(rows[index : index + 1], deadline=PATIENCE_S)
                if answer.verdict[0, VERDICT_SOURCE] == Source.PRIMARY:  # another's answer is none of the release's
                    latency[index] = 1e3 * (time.perf_counter() - due)

        await asyncio.gather(*(one(index) for index in range(len(rows))))
    return latency


def _memory_mib(settings: ServeSettings) -> float:
    """Proportional set size of the server and all under it."""
    pid = json.loads((settings.run_folder / PROCESS_FILE).read_text(encoding="utf-8"))["pid"]
    server = psutil.Process(pid)
    return float(sum(one.memory_full_info().pss for one in (server, *server.children(recursive=True)))) / 2**20
