"""The canonical in-memory form of labelled card transactions: a handful of NumPy arrays of one length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Which = slice | NDArray[np.bool_] | NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Transactions:
    """N transactions in event order (event_time, transaction_id), as read or simulated.

    What comes from `read_transactions` or `simulate` keeps every rule of the schema, so nobody checks it again.
    """

    rows: NDArray[np.int64]
    """[N, C], columns in the schema's order; event time in UTC microseconds, amount in minor units."""
    is_fraud: NDArray[np.int8] | None = None
    """[N] of 0 and 1; None where the data has no labels."""
    scenario: NDArray[np.int8] | None = None
    """[N] code of the simulated fraud scenario, 0 for none; None where the data is not simulated."""
    label_known_at_us: NDArray[np.int64] | None = None
    """[N] UTC microseconds at which each label became known; None where the data does not say."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.dtype != np.int64:
            raise ValueError(f"rows is {self.rows.dtype} {self.rows.shape}; give an int64 matrix [N, columns]")
        for name in ("is_fraud", "scenario", "label_known_at_us"):
            array = getattr(self, name)
            if array is not None and array.shape != (len(self.rows),):
                raise ValueError(f"{name} has the shape {array.shape}; give one value a row: {len(self.rows)}")

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, start: int, stop: int | None = None) -> Transactions:
        """Rows [start, stop); shares memory with this object."""
        return self._take(slice(start, stop))

    def select(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Transactions:
        """The rows where a boolean mask is true, or those at the given positions; copies."""
        return self._take(which)

    def _take(self, which: _Which) -> Transactions:
        return Transactions(
            self.rows[which],
            None if self.is_fraud is None else self.is_fraud[which],
            None if self.scenario is None else self.scenario[which],
            None if self.label_known_at_us is None else self.label_known_at_us[which],
        )
