"""CPU per transaction of window store and features, by how long the histories are: run as a module, prints JSON.

In one process, without a server: read, compute, record, batches of 64 rows in turn on every store, medians of rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from fraud_scoring.features import FeatureSet
from fraud_scoring.stores import Answers
from fraud_scoring.stores.embedded import LmdbStore
from support.rows import DAY_US, DEFAULT_SCHEMA, MONDAY_US, Int64

TERMINALS, CUSTOMERS, DAYS, BATCH = 200, 100, 40, 64
HOT = 10**6


class Side:
    """A store with `times` transactions a day for each terminal, 40 days of them, and `hot` more of one terminal."""

    def __init__(self, folder: Path, times: int, hot: int) -> None:
        self._random = np.random.default_rng(1)
        self._store, self._features = LmdbStore(folder, DEFAULT_SCHEMA), FeatureSet(DEFAULT_SCHEMA)
        self._a_day, self._now, self._next = TERMINALS * times, MONDAY_US, 0
        history = self._rows(self._a_day * DAYS)
        if hot:
            extra = history[np.sort(self._random.integers(0, len(history), hot))]
            extra[:, 0] = 2**40 + np.arange(hot)
            extra[:, 2] = self._random.integers(HOT, 2 * HOT, hot)
            extra[:, 3] = HOT
            history = np.concatenate([history, extra])
            history = history[np.argsort(history[:, 1], kind="stable")]
        for start in range(0, len(history), 8_192):
            self._store.record(np.ascontiguousarray(history[start : start + 8_192]))

    def cpu_us(self, n: int, *, on_the_hot: bool = False) -> float:
        """CPU microseconds per transaction, over `n` new ones."""
        rows = self._rows(n)
        if on_the_hot:
            rows[:, 3] = HOT
        began = time.process_time()
        for start in range(0, n, BATCH):
            batch = rows[start : start + BATCH]
            features = self._features.compute(batch, self._store.read(batch))
            verdict = np.zeros((len(batch), 6), np.int32)
            self._store.record(batch, Answers(np.zeros((len(batch), 1), np.float32), verdict, features))
        return (time.process_time() - began) / n * 1e6

    def close(self) -> None:
        self._store.close()

    def _rows(self, n: int) -> Int64:
        times = self._now + np.sort(self._random.integers(0, n * DAY_US // self._a_day, n))
        self._now, self._next = int(times[-1]) + 1, self._next + n
        keys = (self._random.integers(0, many, n) for many in (CUSTOMERS, TERMINALS))
        return np.stack(
            [np.arange(self._next - n, self._next), times, *keys, self._random.integers(1, 9_999, n)], axis=1
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hot", type=int, default=1_000_000, help="events of the hot terminal")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=3_200, help="transactions in each round")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sides = {name: Side(Path(folder) / name, times, 0) for name, times in (("1x", 1), ("10x", 10), ("100x", 100))}
        hot = Side(Path(folder) / "hot", 1, given.hot)
        found: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for name, side in sides.items():
                found.setdefault(name, []).append(side.cpu_us(given.rows))
            found.setdefault("others beside a hot terminal", []).append(hot.cpu_us(given.rows))
            found.setdefault("on the hot terminal", []).append(hot.cpu_us(given.rows, on_the_hot=True))
        for side in (*sides.values(), hot):
            side.close()
    medians = {name: round(float(np.median(values[1:])), 1) for name, values in found.items()}
    ratios = {name: round(value / medians["1x"], 2) for name, value in medians.items()}
    print(json.dumps({"cpu_us_per_transaction": medians, "against_1x": ratios}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
