"""Keys of entities that nobody used before, as a load or a check sends them."""

from __future__ import annotations

import numpy as np

from fraud_scoring.card_numbers import BEYOND, SMALLEST
from fraud_scoring.windows import Int64


def fresh_keys(random: np.random.Generator, count: int) -> Int64:
    """Keys int64 [count] from all of the 64 bits but those with a card number's length, which a server may refuse."""
    keys = random.integers(-(2**63), 2**63 - 1, count)
    return np.where((keys >= SMALLEST) & (keys < BEYOND), -keys, keys)
