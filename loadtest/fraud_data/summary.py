"""What a set of transactions holds, in a few figures."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np

from fraud_data.transactions import Transactions
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema, default_schema


def describe(transactions: Transactions, schema: Schema | None = None) -> dict[str, Any]:
    """Rows, span, entities, amounts and, where labelled, frauds; ready for JSON. Amounts are in major units."""
    schema = schema or default_schema()
    rows, columns = transactions.rows, schema.columns
    times = rows[:, schema.time_index]
    amounts = rows[:, schema.amount_index] / columns[schema.amount_index].minor_units
    result: dict[str, Any] = {"transactions": len(transactions)}
    if len(transactions):
        first, last = int(times.min()), int(times.max())
        result |= {
            "first_event": _iso(first),
            "last_event": _iso(last),
            "days": round((last - first) / MICROSECONDS_PER_DAY, 2),
            "entities": {columns[i].file_name: len(np.unique(rows[:, i])) for i, _ in schema.entities},
            "amount": {
                "least": float(amounts.min()),
                "median": float(np.median(amounts)),
                "mean": round(float(amounts.mean()), 2),
                "greatest": float(amounts.max()),
            },
        }
    return result | frauds(transactions) | {"labels_dated": transactions.label_known_at_us is not None}


def frauds(transactions: Transactions) -> dict[str, Any]:
    """Frauds, their share and their number by scenario; None where the data does not say."""
    known, scenario = transactions.is_fraud, transactions.scenario
    by_scenario = None
    if scenario is not None:
        codes, counts = np.unique(scenario[scenario > 0], return_counts=True)
        by_scenario = {str(code): int(count) for code, count in zip(codes, counts, strict=True)}
    return {
        "frauds": None if known is None else int(known.sum()),
        "fraud_share": None if known is None else round(float(known.mean()), 6),
        "frauds_by_scenario": by_scenario,
    }


def _iso(time_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_us)).isoformat()
