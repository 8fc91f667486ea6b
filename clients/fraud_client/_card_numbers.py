"""Finds what looks like a card number: 13 to 19 digits, spaces or dashes between them allowed, that pass Luhn.

A guard against mistakes, not a proof: one in ten numbers of that length that are no card number passes Luhn as well.
Leading zeros do not count as digits, since no card number starts with one.
"""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 13
LONGEST: Final = 19

_GAP: Final = r"[\s\-\u2010-\u2015]"
_RUN: Final = re.compile(rf"\d(?:{_GAP}*\d){{{SHORTEST - 1},}}")
_GROUP: Final = re.compile(r"\d+")


def passes_luhn(digits: str) -> bool:
    """The check-digit rule of ISO/IEC 7812-1, annex B."""
    doubled = (2 * int(digit) for digit in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


def looks_like_card_number(token: int) -> bool:
    """Whether a server, or whoever finds it, may take a token for a card number: 13 to 16 digits that pass Luhn."""
    return 10 ** (SHORTEST - 1) <= token < 10**16 and passes_luhn(str(token))


def contains_card_number(text: str) -> bool:
    """Whether some neighbouring groups of digits, joined, look like a card number."""
    return any(_joins_to_card_number(_GROUP.findall(run)) for run in _RUN.findall(text))


def _joins_to_card_number(groups: list[str]) -> bool:
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits = (digits + group).lstrip("0")
            if len(digits) > LONGEST:
                break
            if len(digits) >= SHORTEST and passes_luhn(digits):
                return True
    return False
