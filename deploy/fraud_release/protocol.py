"""The Fraud Detection Handbook's folds, day by day, as it publishes them (ch. 5, "Validation strategies").

    … train, 7 days … | delay, 7 days | test, 7 days |   each fold a week after the one before

A fraud of day d is known when day d + delay + 1 begins. On each day of the test, the cards that are known by then as
compromised, in the training days or since, are taken out: they have been blocked. `history` trains on all days before
the delay, as one would in production; what is tested stays the same, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, NamedTuple

import numpy as np

from fraud_data import Transactions
from fraud_release.learning import Labels
from fraud_release.splits import Mask
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.windows import Int64

PUBLISHED_FIRST_DAY: Final = date(2018, 7, 25)
"""The first day of the first fold's training, for the published data set."""
VALIDATION_WEEKS: Final = 5
"""How much earlier the folds lie on which settings are chosen: the last of their test days comes before the first test
fold's training ends, so that nothing of a test is ever used to choose."""
_EPOCH: Final = date(1970, 1, 1)


@dataclass(frozen=True)
class Protocol:
    """Which folds there are; days in UTC."""

    first_day: date = PUBLISHED_FIRST_DAY
    folds: int = 4
    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7
    history: bool = False

    @property
    def starts(self) -> tuple[int, ...]:
        """The day (since 1970) on which each fold's training days begin."""
        first = (self.first_day - _EPOCH).days
        return tuple(first + fold * self.test_days for fold in range(self.folds))

    def for_validation(self) -> Protocol:
        """The folds on which settings are chosen, all of whose labels are older than the first test."""
        return replace(self, first_day=self.first_day - timedelta(weeks=VALIDATION_WEEKS))


class Fold(NamedTuple):
    """Masks bool [N] of one fold, and the day on which its training days begin."""

    start: int
    train: Mask
    test: Mask


class Cards(NamedTuple):
    """What the protocol looks at, a value a row: the day since 1970, the card, whether it was fraud."""

    day: Int64
    customer: Int64
    is_fraud: Labels


def cards(data: Transactions, schema: Schema) -> Cards:
    """The first entity is the card; InvalidInput where the data has no labels."""
    if data.is_fraud is None:
        raise InvalidInput("is_fraud: the data has no labels; map the column that says which transactions were fraud")
    day = data.rows[:, schema.time_index] // MICROSECONDS_PER_DAY
    return Cards(day, data.rows[:, schema.entities[0][0]], data.is_fraud)


def make_fold(protocol: Protocol, start: int, of: Cards) -> Fold:
    """The fold whose training days begin on day `start`; InvalidInput where a part of it lacks a class."""
    trained = (of.day >= start) & (of.day < start + protocol.train_days)
    train = of.day < start + protocol.train_days if protocol.history else trained
    test = np.zeros(len(of.day), bool)
    for day, rows in _kept(protocol, start, of, trained):
        test |= (of.day == day) & rows
    for name, mask in (("training", train), ("test", test)):
        frauds = int(of.is_fraud[mask].sum())
        if frauds in (0, int(mask.sum())):
            raise InvalidInput(
                f"protocol: the {name} days of the fold that begins on {_EPOCH + timedelta(days=start)} hold "
                f"{frauds:,} frauds of {int(mask.sum()):,} transactions; both are needed: give longer data, or "
                "--first-day"
            )
    return Fold(start, train, test)


def _kept(protocol: Protocol, start: int, of: Cards, trained: Mask) -> Iterator[tuple[int, Mask]]:
    """Each test day, and the rows [N] of cards that are not known as compromised when it begins."""
    fraud = of.is_fraud == 1
    known = np.unique(of.customer[trained & fraud])
    for number in range(protocol.test_days):
        day = start + protocol.train_days + protocol.delay_days + number
        since = fraud & (of.day == day - protocol.delay_days - 1)
        known = np.union1d(known, of.customer[since])
        yield day, ~np.isin(of.customer, known)
