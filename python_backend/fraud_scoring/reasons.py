"""Reason codes: what a reviewed or declined customer, or an analyst, is told.

A feature definition names one of these codes; codes from 1000 on are free for a schema's own reasons.
"""

from __future__ import annotations

from typing import Final

NO_REASON: Final = 0
OWN_REASONS_FROM: Final = 1000
NOT_WORKED_OUT: Final = 999
"""In place of reasons: the decision stands, and the decision log holds what `fraudctl log explain` needs for them."""

REASONS: Final[dict[int, str]] = {
    1: "the amount is high",
    2: "the amount is far from what this customer usually spends",
    3: "the customer's recent spending is unusual",
    4: "the customer's number of recent transactions is unusual",
    5: "the terminal has recent confirmed fraud",
    6: "the terminal's number of recent transactions is unusual",
    7: "the time of day or week is unusual",
}


def reason_text(code: int) -> str:
    """The words for a reason code; `reason 1234` for a code that a schema defined for itself."""
    if code == NOT_WORKED_OUT:
        return "the reasons were not worked out in time"
    return REASONS.get(code, f"reason {code}")
