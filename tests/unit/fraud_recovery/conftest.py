"""A home and a repository as a server leaves them, made by the real parts in this process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from fraud_recovery.backup import Source
from fraud_recovery.restore import Target
from fraud_scoring.decision_log import Context, Decisions, Labels, LogWriter, Signer
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, open_store
from support.release import empty_repository


@dataclass
class Kept:
    """What a server keeps: everything below `home` and `repository`, with an open log."""

    home: Path
    repository: Path
    schema: Schema
    pipeline: Pipeline
    next_id: int = 1
    writers: dict[str, LogWriter] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return Source(self.repository, self.home, self.store_url)

    @property
    def store_url(self) -> str:
        return f"lmdb://{self.home / 'store'}"

    def rows(self, count: int) -> np.ndarray:
        """New transactions int64 [count, 5] of a handful of customers, one a second."""
        ids = np.arange(self.next_id, self.next_id + count)
        self.next_id += count
        now_us = time.time_ns() // 1000 - 40 * 86_400_000_000
        columns = ids, now_us + ids * 1_000_000, ids % 7 + 1, ids % 5 + 1, 1_000 + ids
        return np.ascontiguousarray(np.column_stack(columns).astype(np.int64))

    def decide(self, rows: np.ndarray, writer: LogWriter, *, record: bool = True) -> Answers:
        """Answer, record and log rows as the front door does; without `record` as one whose store was lost."""
        answers = self.pipeline.answer_alone(rows)
        if record:
            store = open_store(self.store_url, self.schema)
            store.record(rows, answers)
            store.close()
        n = len(rows)
        zeros = np.zeros(n, np.int64)
        writer.append(
            Decisions(
                rows,
                answers.features,
                answers.score.reshape(-1),
                answers.verdict,
                zeros > 0,
                zeros,
                np.zeros(4, np.int64),
            )
        )
        return answers

    def writer(self, name: str = "front-door-0") -> LogWriter:
        """A writer of the log that lives as long as the test."""
        if name not in self.writers:
            signer = Signer.open(self.home / "keys" / "decision-log.key")
            context = Context(1, self.schema.document)
            self.writers[name] = LogWriter(self.home / "log" / name, context, signer, segment_bytes=20_000)
        return self.writers[name]


@pytest.fixture
def kept(served_repository: Path, served_pipeline: Pipeline, tmp_path: Path) -> Iterator[Kept]:
    """60 transactions answered, ten of them labelled; the log's last segment is open."""
    repository = Path(shutil.copytree(served_repository, tmp_path / "repository"))
    made = Kept(tmp_path / "home", repository, served_pipeline.schema, served_pipeline)
    front_door, feedback = made.writer(), made.writer("feedback-0")
    rows = made.rows(60)
    for start in range(0, 60, 12):
        made.decide(rows[start : start + 12], front_door)
    labels = np.column_stack([rows[:10, 0], np.ones(10, np.int64), rows[:10, 1] + 1])
    feedback.append(Labels(labels))
    store = open_store(made.store_url, made.schema)
    store.label(labels)
    store.close()
    (made.home / "judge").mkdir()
    (made.home / "judge" / "judge.jsonl").write_text("")
    yield made
    for writer in made.writers.values():
        writer.close()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A new machine: the code, and nothing else."""
    home = tmp_path / "new-home"
    return Target(empty_repository(tmp_path / "new-models"), home, f"lmdb://{home / 'store'}")
