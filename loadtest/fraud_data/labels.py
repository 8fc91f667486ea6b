"""When each label became known: what a feed of labels would have told, and when."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_data.transactions import Transactions
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.windows import NEVER

DEFAULT_LABEL_DAYS: Final = 6.0
"""Days from a transaction to its label where the data does not say: a day before the terminal windows need it."""
MOST_LABEL_DAYS: Final = 3_650


def label_known_at(
    transactions: Transactions, schema: Schema, after_days: float = DEFAULT_LABEL_DAYS
) -> NDArray[np.int64]:
    """UTC microseconds [N] at which each label became known: as the data says, or `after_days` after the event.

    Always after the event, by a microsecond at the least: nobody can tell a label before its transaction.
    """
    if not 0 <= after_days <= MOST_LABEL_DAYS:
        raise InvalidInput(f"label delay is {after_days:g} days; write a number of days from 0 to {MOST_LABEL_DAYS:,}")
    times: NDArray[np.int64] = transactions.rows[:, schema.time_index]
    if transactions.label_known_at_us is not None:
        return np.maximum(transactions.label_known_at_us, times + 1)
    return times + max(1, round(after_days * MICROSECONDS_PER_DAY))


def fraud_known_at(
    transactions: Transactions, schema: Schema, after_days: float = DEFAULT_LABEL_DAYS
) -> NDArray[np.int64]:
    """The same for frauds; NEVER for genuine transactions, and for all where the data has no labels."""
    if transactions.is_fraud is None:
        return np.full(len(transactions), NEVER, np.int64)
    return np.where(transactions.is_fraud == 1, label_known_at(transactions, schema, after_days), NEVER)
