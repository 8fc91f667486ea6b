"""Golden vectors: a request whose answer a release must give to the bit, whatever the window store holds.

The transactions belong to customers and terminals that exist nowhere else, and are sent as a dry run: their features
come from the request alone (rows of one request see each other), so that one call proves features, model and decision.
"""

from __future__ import annotations

import io

import numpy as np

from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.windows import Int64

ROWS = 64
_FROM_US = 1_577_836_800_000_000  # 2020-01-01
_SPAN_DAYS = 45


def golden_transactions(schema: Schema, seed: int) -> Int64:
    """Transactions int64 [64, C] of few entities over 45 days, so that the windows fill; amounts small to large."""
    random = np.random.default_rng(seed)
    rows = np.empty((ROWS, schema.width), np.int64)
    for index, column in enumerate(schema.columns):
        if column.role == "entity":
            keys = random.integers(max(column.minimum, column.maximum // 2), column.maximum, 5, endpoint=True)
            rows[:, index] = random.choice(keys, ROWS)
        elif column.role == "id":
            rows[:, index] = column.maximum - ROWS + 1 + np.arange(ROWS)
        elif column.role == "time":
            rows[:, index] = _FROM_US + np.sort(random.integers(0, _SPAN_DAYS * MICROSECONDS_PER_DAY, ROWS))
        elif column.role == "amount":
            amounts = np.exp(random.uniform(0, np.log(2_000), ROWS)) * column.minor_units
            rows[:, index] = np.clip(amounts, column.minimum, column.maximum)
        else:
            low = min(max(column.minimum, 0), column.maximum)
            rows[:, index] = random.integers(low, min(low + 100, column.maximum), ROWS, endpoint=True)
    return rows


def golden_file(pipeline: Pipeline, seed: int) -> bytes:
    """The golden vectors as an .npz: transaction, features, score, verdict."""
    rows = golden_transactions(pipeline.schema, seed)
    answers = pipeline.answer_alone(rows)
    buffer = io.BytesIO()
    np.savez(buffer, transaction=rows, features=answers.features, score=answers.score, verdict=answers.verdict)
    return buffer.getvalue()
