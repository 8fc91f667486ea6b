"""What the gates look at: the same test rows, scored by the candidate and by the champion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud_data import Transactions
from fraud_data.labels import fraud_known_at
from fraud_release.learning import Costs, Labels
from fraud_release.signing import Verified
from fraud_scoring.decision import DecisionRule
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float32, replay
from fraud_scoring.pipeline import Pipeline, in_this_process
from fraud_scoring.releases import DECISION_FILE, MODEL_FILE, SCHEMA_FILE, part_name
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.stores import Answers
from fraud_scoring.windows import Int64


@dataclass(frozen=True)
class Opened:
    """A release that was verified, in this process: made of the bytes that the signature vouches for."""

    number: int
    manifest: Mapping[str, Any]
    contents: Mapping[str, bytes]
    pipeline: Pipeline

    @classmethod
    def of(cls, verified: Verified, contents: Mapping[str, bytes]) -> Opened:
        number = verified.statement.release
        schema = Schema.parse(json.loads(contents[f"{part_name('features', number)}/1/{SCHEMA_FILE}"]))
        rule = DecisionRule.from_json(contents[f"{part_name('decision', number)}/1/{DECISION_FILE}"].decode())
        graph = contents[f"{part_name('model', number)}/1/{MODEL_FILE}"]
        return cls(number, verified.manifest, contents, Pipeline(schema, rule, in_this_process(graph)))

    @property
    def test_from_us(self) -> int:
        return int(self.manifest["test_from_us"])

    @property
    def costs(self) -> Costs:
        return Costs(**self.manifest["plan"]["costs"])


@dataclass(frozen=True)
class Evidence:
    """N test rows, with what the candidate and (if there is one) the champion answered.

    `age_days` [N]: days since the customer's first transaction in the data; `terminal_volume` [N]: transactions of the
    terminal before the test part.
    """

    is_fraud: Labels
    customer: Int64
    amount_minor: Int64
    amount: NDArray[np.float64]
    """In major units."""
    age_days: NDArray[np.float64]
    terminal_volume: Int64
    features: Float32
    """FP32 [N, F], of the candidate's schema."""
    candidate: Answers
    champion: Answers | None
    rows: Transactions

    def __len__(self) -> int:
        return len(self.is_fraud)

    @property
    def frauds(self) -> int:
        return int(self.is_fraud.sum())


def gather(data: Transactions, candidate: Opened, champion: Opened | None) -> Evidence:
    """Score the rows that neither release was trained, calibrated or tuned on; InvalidInput where there are none."""
    if data.is_fraud is None:
        raise InvalidInput("is_fraud: the data has no labels; the gates need to know which transactions were fraud")
    schema = candidate.pipeline.schema
    times = data.rows[:, schema.time_index]
    since = max(one.test_from_us for one in (candidate, champion) if one is not None)
    test = times >= since
    if not test.any():
        raise InvalidInput(
            "event_time: the data ends before the test part of these releases begins; give the data that the candidate "
            "was trained with, or newer"
        )
    candidate_features = _features(data, candidate)[test]
    answered = None
    if champion is not None:
        same = champion.pipeline.schema == schema and _label_days(champion) == _label_days(candidate)
        answered = champion.pipeline.decide(candidate_features if same else _features(data, champion)[test])
    customer, terminal = (data.rows[:, schema.entities[min(i, len(schema.entities) - 1)][0]] for i in (0, 1))
    return Evidence(
        is_fraud=data.is_fraud[test],
        customer=customer[test],
        amount_minor=data.rows[test, schema.amount_index],
        amount=data.rows[test, schema.amount_index] / schema.columns[schema.amount_index].minor_units,
        age_days=_age_days(customer, times)[test],
        terminal_volume=_volume_before(terminal, test)[test],
        features=candidate_features,
        candidate=candidate.pipeline.decide(candidate_features),
        champion=answered,
        rows=data.select(test),
    )


def _features(data: Transactions, release: Opened) -> Float32:
    known_at = fraud_known_at(data, release.pipeline.schema, _label_days(release))
    return np.ascontiguousarray(replay(release.pipeline.schema, data.rows, known_at))


def _label_days(release: Opened) -> float:
    return float(release.manifest["plan"]["label_days"])


def _age_days(customer: Int64, times: Int64) -> NDArray[np.float64]:
    _, first, index = np.unique(customer, return_index=True, return_inverse=True)  # rows are in event order
    return (times - times[first][index]) / MICROSECONDS_PER_DAY


def _volume_before(terminal: Int64, test: NDArray[np.bool_]) -> Int64:
    _, index = np.unique(terminal, return_inverse=True)
    return np.bincount(index[~test], minlength=int(index.max()) + 1)[index].astype(np.int64)
