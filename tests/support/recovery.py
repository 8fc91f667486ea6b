"""A rehearsal of losing a machine: a real server under traffic, a backup made meanwhile, more traffic, everything
killed and the state folder gone; then what was kept is put back, and every window is compared bit by bit."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from fraud_client import FraudClient, FraudClientError
from fraud_data import Transactions
from fraud_data.labels import DEFAULT_LABEL_DAYS
from fraud_load.stream import label_rows, steps
from fraud_scoring.decision_log import Decisions, Labels, segments, writers
from fraud_scoring.decision_log.segments import frames_of
from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.schema import Schema
from fraud_scoring.stores import open_store
from fraud_scoring.windows import NEVER
from support.server import Server, json_of, regions_of, until

BATCH: Final = 16
PATIENT: Final = 20.0
WITHIN: Final = 120.0


class Traffic:
    """Streams a history to a server in order, labels as they became known, up to a row that may be moved on."""

    def __init__(self, url: str, data: Transactions, schema: Schema) -> None:
        self._url = url
        labels = label_rows(data, schema, DEFAULT_LABEL_DAYS)
        self._rows = data.rows
        self._steps = list(steps(data.rows[:, schema.time_index], labels, BATCH))
        self._limit = 0
        self._changed = threading.Condition()
        self.acknowledged: list[tuple[int, float]] = []
        """(rows that were answered so far, when)."""
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    @property
    def rows(self) -> int:
        return self.acknowledged[-1][0] if self.acknowledged else 0

    def go_on(self, until_row: int) -> None:
        with self._changed:
            self._limit = until_row
            self._changed.notify_all()

    def wait_for(self, row: int) -> None:
        until(lambda: self.rows >= row or not self._thread.is_alive(), WITHIN)
        assert self.rows >= row, "the traffic ended before"

    def end(self) -> None:
        """The server is gone, or the last row was answered."""
        self.go_on(0)
        self._thread.join(WITHIN)

    def _run(self) -> None:
        with suppress(FraudClientError), FraudClient(self._url, deadline=PATIENT) as client:
            for step in self._steps:
                with self._changed:
                    self._changed.wait_for(lambda step=step: self._limit >= step.stop or self._limit < self.rows)
                    if self._limit < self.rows:
                        return
                if len(step.labels):
                    client.label_rows(step.labels)
                client.score_rows(np.ascontiguousarray(self._rows[step.start : step.stop]))
                self.acknowledged.append((step.stop, time.monotonic()))


@dataclass
class Loss:
    """What a rehearsal measured: seconds, rows."""

    rows_at_backup: int = 0
    acknowledged: int = 0
    backup: dict[str, Any] = field(default_factory=dict)
    killed_at: float = 0.0


def lose_a_machine(
    server: Server, data: Transactions, schema: Schema, archives: Path, rows: int, store: str = ""
) -> Loss:
    """Traffic, a backup while it goes on, more traffic, SIGKILL of everything, and the home folder removed.

    The home's log is a link to another disk, and survives.
    """
    loss = Loss()
    traffic = Traffic(server.url, data, schema)
    traffic.go_on(rows * 6 // 10)
    traffic.wait_for(rows * 2 // 10)
    arguments = ("--repository", server.repository, "--home", server.home, "--out", archives, "--with-keys")
    loss.rows_at_backup = traffic.rows
    loss.backup = json_of("backup", *arguments, *(("--store", store) if store else ()))
    traffic.go_on(rows)
    traffic.wait_for(rows * 8 // 10)
    loss.killed_at = time.monotonic()
    kill_all(server)
    traffic.end()
    loss.acknowledged = traffic.rows
    shutil.rmtree(server.home)
    return loss


def kill_all(server: Server) -> None:
    """SIGKILL of everything; a machine that is gone has no memory either."""
    parts = server.parts()
    for process in parts:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop(signal.SIGKILL)
    psutil.wait_procs(parts, timeout=PATIENT)
    for region in regions_of(server.pid):
        region.unlink()


@dataclass(frozen=True)
class Comparison:
    """What a restored store holds: `kept` and `lost` rows of those that were acknowledged; `compared` feature rows of
    the stream as it goes on, and how many of them differ in any bit from the replay of what was kept."""

    kept: int
    lost: int
    compared: int
    different: int


def compare_windows(
    store_url: str, log: Path, data: Transactions, schema: Schema, acknowledged: int, more: int
) -> Comparison:
    """Go on with the stream on a restored store, and compare with the offline replay of what was kept."""
    sent = data.rows[: acknowledged + BATCH]  # one request may have been recorded, and its answer lost
    rest = data.rows[len(sent) : len(sent) + more]
    store = open_store(store_url, schema)
    try:
        known = np.array([one is not None for one in store.recall(sent[:, schema.id_index])])
        rows = np.concatenate([sent[known], rest])
        features, found = FeatureSet(schema), []
        for start in range(0, len(rest), BATCH):
            part = np.ascontiguousarray(rest[start : start + BATCH])
            found.append(features.compute(part, store.read(part)))
            store.record(part)
    finally:
        store.close()
    expected = replay(schema, np.ascontiguousarray(rows), frauds_told(log, rows[:, schema.id_index]))[known.sum() :]
    differ = (np.concatenate(found).view(np.uint32) != np.ascontiguousarray(expected).view(np.uint32)).any(axis=1)
    return Comparison(
        kept=int(known.sum()),
        lost=int((~known[:acknowledged]).sum()),
        compared=len(rest),
        different=int(differ.sum()),
    )


def frauds_told(log: Path, ids: np.ndarray) -> np.ndarray:
    """When each transaction was told to be a fraud, by the log; NEVER."""
    known: dict[int, int] = {}
    for frame in frames(log):
        content = frame.content()
        if isinstance(content, Labels):
            known |= {identifier: at_us for identifier, is_fraud, at_us in content.label.tolist() if is_fraud}
    return np.array([known.get(identifier, NEVER) for identifier in ids.tolist()], np.int64)


def answered(log: Path, schema: Schema) -> set[int]:
    """Ids of all transactions that a log has an answer of."""
    found: set[int] = set()
    for frame in frames(log):
        content = frame.content()
        if isinstance(content, Decisions):
            found |= set(content.transaction[:, schema.id_index].tolist())
    return found


def frames(log: Path) -> list[Any]:
    return [
        frame for name in writers(log) for number in segments(log / name) for frame in frames_of(log / name, number)
    ]
