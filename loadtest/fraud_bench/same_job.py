"""The whole job without a server: validation, window store, release, record, durable decision log.

The ceiling of the benchmark calls it in a loop; peers call it from the endpoints of their frameworks. It is the code
that the served front door runs, so that who serves it is the only difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from fraud_scoring.decision_log import Context, open_writer
from fraud_scoring.errors import FraudError
from fraud_scoring.features import replay
from fraud_scoring.front_door import FrontDoor, Reply, Request
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import decision_rule
from fraud_scoring.routes import Routes
from fraud_scoring.scorecard import Scorecard
from fraud_scoring.settings import LogSettings, Settings
from fraud_scoring.stores import Answers, open_store
from fraud_scoring.windows import Int64

REPOSITORY_VARIABLE: Final = "FRAUD_REPOSITORY"


class Job:
    """Answers rows int64 [N, C] as the routed release of a repository does; for one thread."""

    def __init__(self, repository: Path, store_url: str, log: LogSettings | None, writer: str) -> None:
        release = Routes.read(repository).production
        pipeline = Pipeline.load(repository, release)
        self._store = open_store(store_url, pipeline.schema)
        self._log = open_writer(log, writer, Context(release, pipeline.schema.document))
        self._front_door = FrontDoor(
            pipeline.schema,
            self._store,
            lambda rows: pipeline.answer(rows, self._store.read(rows)),
            log=self._log,
            last_resort=Scorecard(pipeline.schema, decision_rule(repository, release)),
        )
        replay(pipeline.schema, np.ones((2, pipeline.schema.width), np.int64))  # loads the compiled kernel

    def answer(self, rows: Int64) -> Answers:
        """The answers to one request, as safe as the log makes them; raises what the front door refuses with."""
        (reply,) = self.answer_all([rows])
        if isinstance(reply, FraudError):
            raise reply
        return reply

    def answer_all(self, requests: Sequence[Int64]) -> list[Reply]:
        """The answers to several requests as one batch, each its own or its own error."""
        return self._front_door.answer([Request(rows) for rows in requests])

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
        self._store.close()


@contextmanager
def open_job(repository: Path, store_url: str, log: LogSettings | None, writer: str) -> Iterator[Job]:
    """A job that is closed at the end."""
    job = Job(repository, store_url, log, writer)
    try:
        yield job
    finally:
        job.close()


def job_from_environment() -> Job:
    """A worker's own job on the store and log of all workers: FRAUD_REPOSITORY, and what the model processes read."""
    settings = Settings.read()
    return Job(Path(os.environ[REPOSITORY_VARIABLE]), settings.store_url, settings.log, f"worker-{os.getpid()}")
