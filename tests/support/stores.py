"""Window stores for tests: where one can be opened, and answers to record in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_scoring import wire
from fraud_scoring.features import FeatureSet
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, WindowStore
from fraud_scoring.stores.embedded import LmdbStore
from fraud_scoring.stores.memory import MemoryStore
from support.rows import DEFAULT_SCHEMA, Clock, Int64

Open = Callable[[Path, Schema, Clock], WindowStore]


@dataclass(frozen=True)
class StoreKind:
    """An implementation: how to open it, and whether what it holds is there again after it is closed."""

    name: str
    open: Open
    durable: bool


STORE_KINDS = (
    StoreKind("memory", lambda _, schema, clock: MemoryStore(schema, now_us=clock), durable=False),
    StoreKind("lmdb", lambda folder, schema, clock: LmdbStore(folder, schema, now_us=clock), durable=True),
    StoreKind(
        "lmdb-commit",
        lambda folder, schema, clock: LmdbStore(folder, schema, power_safe=True, now_us=clock),
        durable=True,
    ),
)


class StorePlace:
    """A place where stores of one kind are opened, one at a time; closes what a test leaves open."""

    def __init__(self, kind: StoreKind, folder: Path) -> None:
        self.clock = Clock()
        self._kind = kind
        self._folder = folder
        self._opened: WindowStore | None = None

    def open(self, schema: Schema = DEFAULT_SCHEMA) -> WindowStore:
        """The place's store; one that was open before is closed first."""
        self.close()
        self._opened = self._kind.open(self._folder, schema, self.clock)
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def answers_for(rows: Int64, release: int = 7, features: int = 3) -> Answers:
    """Answers whose every number depends on the row's values, so that a mix-up is seen."""
    score = np.ascontiguousarray(((rows[:, 0] * 31 + rows[:, -1]) % 1009 / 1009).astype(np.float32))
    verdict = np.zeros((len(rows), wire.VERDICT_WIDTH), np.int32)
    verdict[:, 0] = rows[:, 0] % 3
    verdict[:, 1] = rows[:, -1] % 7
    verdict[:, 4] = release
    seen = np.stack([(rows[:, -1] + i) / (3 + i) for i in range(features)], axis=1).astype(np.float32)
    return Answers(score[:, None], verdict, seen)


class WindowRelease:
    """A release that sees what a real one sees, its features from the store, and counts its calls."""

    def __init__(self, store: WindowStore, schema: Schema = DEFAULT_SCHEMA) -> None:
        self.calls: list[Int64] = []
        self._store = store
        self._features = FeatureSet(schema)

    def __call__(self, rows: Int64) -> Answers:
        self.calls.append(rows)
        features = self._features.compute(rows, self._store.read(rows))
        verdict = np.zeros((len(rows), wire.VERDICT_WIDTH), np.int32)
        verdict[:, 0] = features[:, 0] > 100
        return Answers(1 / (1 + features[:, :1]), verdict, features)


def same_bits(one: Answers, other: Answers) -> bool:
    """Whether two batches of answers are equal, bit for bit."""
    return (
        one.score.tobytes() == other.score.tobytes()
        and one.verdict.tobytes() == other.verdict.tobytes()
        and one.features.shape == other.features.shape
        and one.features.tobytes() == other.features.tobytes()
    )
