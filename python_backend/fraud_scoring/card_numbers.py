"""Whole numbers that pass for the number of a payment card: a caller's mistake that must not be kept.

A number counts where its length, its first digits and its check digit (ISO/IEC 7812-1, annex B) are a card's: 16 digits
of Visa, Mastercard, Discover, UnionPay or JCB, 15 of American Express, 14 of Diners Club. Of tokens, which are 64 bits,
one in 70,000 would count; the client library makes none that does. Longer numbers are let be: there one token in some
hundred would count.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring.windows import Int64

SMALLEST: Final = 30 * 10**12
"""Of 14 digits, as a card's number begins."""
BEYOND: Final = 10**16
_FIRST_FOUR: Final = {
    14: ((3000, 3059), (3600, 3699), (3800, 3899)),
    15: ((3400, 3499), (3700, 3799)),
    16: ((2221, 2720), (3528, 3589), (4000, 4999), (5100, 5599), (6011, 6011), (6200, 6299), (6440, 6599)),
}
"""By length, the ranges of the first four digits."""


def any_near(values: Int64) -> bool:
    """Whether any of `values` has a card number's length: the question that is asked of every batch."""
    return bool(((values >= SMALLEST) & (values < BEYOND)).any())


def pass_for_card_numbers(values: Int64) -> npt.NDArray[np.bool_]:
    """Which of `values`, int64 of any shape, pass for card numbers; bool of the same shape."""
    found = np.zeros(values.shape, np.bool_)
    for digits, ranges in _FIRST_FOUR.items():
        begin = values // 10 ** (digits - 4)
        for first, last in ranges:
            found |= (begin >= first) & (begin <= last)
    for place in zip(*np.nonzero(found), strict=True):
        found[place] = _has_check_digit(int(values[place]))
    return found


def _has_check_digit(number: int) -> bool:
    digits = str(number)
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0
