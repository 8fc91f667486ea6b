"""What a score costs: processor time of features, model and decision in one process, on batches as they are served.

The store is filled with the history that the schema reaches back to, and read before the clock starts: what a read
costs is the store's, and shown beside it. Payments come in event order and are recorded after their answer, as served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud_scoring.errors import InvalidInput
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.stores.memory import MemoryStore
from fraud_scoring.windows import Int64

AT_MOST_US: Final = 25.0
"""Features, model and decision of one payment, microseconds of one core."""
WARM_BATCHES: Final = 20
_FILLED_AT_ONCE: Final = 2_000


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor time a payment, means over all batches; reasons are in `decision`."""

    batch: int
    batches: int
    read_us: float
    features_us: float
    model_us: float
    decision_us: float

    @property
    def score_us(self) -> float:
        """What is judged: all but the store's read."""
        return self.features_us + self.model_us + self.decision_us


def measure(
    pipeline: Pipeline,
    rows: Int64,
    *,
    batch: int,
    batches: int,
    progress: Callable[[float, str], None],
    clock: Callable[[], float] = time.process_time,
) -> Cost:
    """The last `batches` of `batch` of `rows` int64 [N, C] in event order, after WARM_BATCHES that do not count."""
    first = len(rows) - batch * (batches + WARM_BATCHES)
    if first < 0:
        raise InvalidInput(
            f"the data has {len(rows):,} rows; {batch * (batches + WARM_BATCHES):,} are needed for {batches:,} batches "
            f"of {batch}: give more, or fewer batches"
        )
    schema = pipeline.schema
    times = rows[:, schema.time_index]
    store = MemoryStore(schema, now_us=lambda: int(times[first]))
    since = int(np.searchsorted(times, times[first] - max(schema.keep_us.values(), default=0)))
    for at in range(since, first, _FILLED_AT_ONCE):
        progress(0.8 * (at - since) / (first - since), "filling the store")
        store.record(rows[at : min(at + _FILLED_AT_ONCE, first)])
    spent = dict.fromkeys(("read", "features", "model", "decision"), 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        begun = clock()
        yield
        spent[part] += clock() - begun

    for number in range(WARM_BATCHES + batches):
        if number == WARM_BATCHES:
            spent.update(dict.fromkeys(spent, 0.0))
            progress(0.85, "scoring")
        part = np.ascontiguousarray(rows[first + batch * number : first + batch * (number + 1)])
        with timed("read"):
            histories = store.read(part)
        with timed("features"):
            features = pipeline.features(part, histories)
        with timed("model"):
            margin = pipeline.margin(features)
        with timed("decision"):
            answers = pipeline.decide(features, lambda _, found=margin: found, pipeline.margin)  # type: ignore[misc]
        store.record(part, answers)
    progress(1.0, "measured")
    mean = {name: 1e6 * seconds / (batch * batches) for name, seconds in spent.items()}
    return Cost(batch, batches, mean["read"], mean["features"], mean["model"], mean["decision"])
