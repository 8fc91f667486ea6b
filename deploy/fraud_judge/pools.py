"""A pool for the study: the last days of a history, scored by releases as they would have scored them then."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fraud_judge.signs import Float32, Int64
from fraud_judge.worlds import Pool
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline

LEAST_ROWS = 10_000


def scored_pool(
    rows: Int64,
    is_fraud: Int64,
    fraud_known_at: Int64,
    repository: Path,
    release: int,
    challenger: int | None,
    days: int,
) -> Pool:
    """Rows int64 [N, C] of the last `days` days, in event order, scored by `release` and by `challenger`."""
    pipeline = Pipeline.load(repository, release)
    schema = pipeline.schema
    time_us = rows[:, schema.time_index]
    kept = time_us >= time_us.max() - days * 86_400_000_000
    if kept.sum() < LEAST_ROWS:
        raise InvalidInput(f"the last {days} days hold {int(kept.sum()):,} rows; give {LEAST_ROWS:,} or more")
    features = np.ascontiguousarray(replay(schema, rows, fraud_known_at)[kept])

    def answers(of: Pipeline) -> tuple[Float32, Int64]:
        if of.schema.document != schema.document:
            raise InvalidInput("the challenger has another schema; name a release with the same columns and features")
        found = of.decide(features)
        return found.score[:, 0], found.verdict[:, 0].astype(np.int64)

    score, decision = answers(pipeline)
    return Pool(
        customer=rows[kept, schema.entities[0][0]],
        second=time_us[kept] // 1_000_000,
        score=score,
        decision=decision,
        is_fraud=is_fraud[kept].astype(np.int64),
        thresholds=(pipeline.rule.review_at, pipeline.rule.decline_at),
        challenger=answers(Pipeline.load(repository, challenger)) if challenger is not None else None,
    )
