"""The whole job without a server: validation, window store, release, record, durable decision log.

The ceiling of the benchmark calls it in a loop; peers call it from the endpoints of their frameworks. It is the code
that the served front door runs, so that who serves it is the only difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from fraud_scoring.errors import FraudError
from fraud_scoring.requests import Reply, Request
from fraud_scoring.serving import Serving, inline_model
from fraud_scoring.settings import LogSettings, Settings
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64

REPOSITORY_VARIABLE: Final = "FRAUD_REPOSITORY"


class Job:
    """Answers rows int64 [N, C] as the routed release of a repository does; for one thread."""

    def __init__(self, repository: Path, store_url: str, log: LogSettings | None, writer: str) -> None:
        self._serving = Serving(Settings(store_url, log), repository, partial(inline_model, repository), writer)

    def answer(self, rows: Int64) -> Answers:
        """The answers to one request, as safe as the log makes them; raises what the front door refuses with."""
        (reply,) = self.answer_all([rows])
        if isinstance(reply, FraudError):
            raise reply
        return reply

    def answer_all(self, requests: Sequence[Int64]) -> Sequence[Reply]:
        """The answers to several requests as one batch, each its own or its own error."""
        return self._serving.answer([Request(rows) for rows in requests])

    def close(self) -> None:
        self._serving.close()


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
