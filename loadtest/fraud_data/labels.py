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


def label_known_at(
    transactions: Transactions, schema: Schema, after_days: float = DEFAULT_LABEL_DAYS
) -> NDArray[np.int64]:
    """UTC microseconds [N] at which each label became known: as the data says, or `after_days` after the event."""
    if after_days < 0:
        raise InvalidInput(f"label delay is {after_days:g} days; write 0 or more")
    if transactions.label_known_at_us is not None:
        return transactions.label_known_at_us
    times: NDArray[np.int64] = transactions.rows[:, schema.time_index]
    return times + round(after_days * MICROSECONDS_PER_DAY)


def fraud_known_at(
    transactions: Transactions, schema: Schema, after_days: float = DEFAULT_LABEL_DAYS
) -> NDArray[np.int64]:
    """The same for frauds; NEVER for genuine transactions, and for all where the data has no labels."""
    if transactions.is_fraud is None:
        return np.full(len(transactions), NEVER, np.int64)
    return np.where(transactions.is_fraud == 1, label_known_at(transactions, schema, after_days), NEVER)
