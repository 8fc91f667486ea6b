"""Train, validation and test by time, with the label delay between them.

    … train … | delay | validation | delay | test |   (end of the data)

What is learned from one part was known before the next part began: the delay is as long as labels take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from fraud_scoring.windows import Int64

Mask = npt.NDArray[np.bool_]
MINIMUM_TRAIN_DAYS = 7


@dataclass(frozen=True)
class SplitDays:
    """Lengths in whole days; train is at most `train` days, less where the data begins later."""

    train: int = 84
    validation: int = 14
    test: int = 14
    delay: int = 7

    def __post_init__(self) -> None:
        if self.train < MINIMUM_TRAIN_DAYS or min(self.validation, self.test) < 1 or self.delay < 0:
            raise InvalidInput(
                f"split: train takes {MINIMUM_TRAIN_DAYS} days or more, validation and test 1 or more, delay 0 or more"
            )


class Split(NamedTuple):
    """Masks bool [N] of the parts, and the UTC microsecond at which the test part begins."""

    train: Mask
    validation: Mask
    test: Mask
    test_from_us: int


def split_by_time(times_us: Int64, days: SplitDays) -> Split:
    """Split by event time, backwards from midnight after the last event; InvalidInput if the data is too short."""
    end = -(-int(times_us.max() + 1) // MICROSECONDS_PER_DAY)
    test = end - days.test
    validation = test - days.delay - days.validation
    train_end = validation - days.delay
    first = int(times_us.min()) // MICROSECONDS_PER_DAY
    train = max(first, train_end - days.train)
    if train_end - train < MINIMUM_TRAIN_DAYS:
        needed = days.test + days.validation + 2 * days.delay + MINIMUM_TRAIN_DAYS
        raise InvalidInput(
            f"event time: the data spans {end - first} days; {needed} are needed "
            f"({MINIMUM_TRAIN_DAYS} train, {days.validation} validation, {days.test} test, twice {days.delay} delay)"
        )
    day = times_us // MICROSECONDS_PER_DAY
    return Split(
        train=(day >= train) & (day < train_end),
        validation=(day >= validation) & (day < test - days.delay),
        test=day >= test,
        test_from_us=test * MICROSECONDS_PER_DAY,
    )
