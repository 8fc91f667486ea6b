"""The reference that a release carries: what its features, scores and decisions were on the validation part."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from fraud_data import Transactions
from fraud_release.learning import Costs
from fraud_release.splits import Mask
from fraud_scoring.binning import ValidationPart, make_reference
from fraud_scoring.features import Float32
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers


def reference_file(
    release: int, schema: Schema, data: Transactions, features: Float32, answers: Answers, part: Mask, costs: Costs
) -> bytes:
    """reference.json; `features` FP32 [N, F] of all rows, `answers` those of the rows that are in `part`."""
    assert data.is_fraud is not None
    validation = ValidationPart(
        features=features[part],
        score=answers.score[:, 0],
        decision=answers.verdict[:, 0],
        amount_minor=data.rows[part, schema.amount_index],
        time_us=data.rows[part, schema.time_index],
        is_fraud=data.is_fraud[part].astype(np.int8),
    )
    return make_reference(release, schema, validation, asdict(costs)).to_json().encode()
