"""What two arms' counts say against a hypothesis, at any time and however often one looks.

All of it rests on one fact: which arm a customer is in follows from a hash, and from nothing else. Of the customers
who show an event, each is one of the canary's with probability s (the canary's share of the buckets) if the releases
behave alike: whatever the hour, the level of fraud, or what customers have in common. Where the canary shows the event
r times as often, it is π(r) = s·r / (s·r + 1 − s).

A bet on r' against r pays π(r')/π(r) when the canary shows the event and (1 − π(r'))/(1 − π(r)) when the champion does.
Under the hypothesis, and under every one beyond it, the wealth has mean at most 1 after each event, so that by Ville's
inequality it ever reaches 1/α with probability at most α (Ville, 1939; Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic
statistics and safe anytime-valid inference", Statistical Science 38, 2023). A mixture of bets is a bet. The wealth
depends on the events through their counts alone.

Everything is in natural logarithms and works on arrays of counts of any shape.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

BETS: Final = np.exp(np.linspace(np.log(1.15), np.log(40.0), 14))
"""Alternatives: so many times beyond the hypothesis. All get the same part of the stake."""
SAFE: Final = np.array([0.87, 1.0, 1.15])
"""Alternatives to "harmful": the canary about as the champion."""


def share_of(ratio: Float64 | float, share: Float64 | float) -> Float64:
    """π(r): which part of the events is the canary's where it shows them `ratio` times as often."""
    odds = np.asarray(ratio) * share / (1.0 - np.asarray(share))
    return np.asarray(odds / (1.0 + odds))


def mixed(logs: Float64) -> Float64:
    """ln of the mean over the last axis of exp(logs)."""
    top = logs.max(axis=-1, keepdims=True)
    found: Float64 = np.log(np.exp(logs - top).sum(axis=-1)) + (top[..., 0] - np.log(logs.shape[-1]))
    return found


class RatioBets:
    """Bets on E events' ratios, canary to champion, where the canary has `share` of the customers.

    `fair` [S, E] are the hypotheses, `bets` [S, E, J] the alternatives that the stake is spread over.
    """

    def __init__(self, share: float, fair: Float64, bets: Float64) -> None:
        null, bet = share_of(fair, share)[..., None], share_of(bets, share)
        self._won, self._lost = np.log(bet / null), np.log((1.0 - bet) / (1.0 - null))

    def log_wealth(self, canary: Int64, champion: Int64) -> Float64:
        """ln wealth [..., S, E] after so many customers of either arm [..., E] showed each event."""
        return mixed(canary[..., None, :, None] * self._won + champion[..., None, :, None] * self._lost)


def band_bets(share: float, ratios: Float64) -> RatioBets:
    """Bets against "within 1/ratio to ratio" of E events: [2, E], too often and too seldom."""
    fair = np.stack([ratios, 1.0 / ratios])
    return RatioBets(share, fair, fair[..., None] * np.stack([BETS, 1.0 / BETS])[:, None, :])


def harm_bets(share: float, ratio: float) -> RatioBets:
    """Bets against harm, of one event: [2, 1], at least `ratio` times as often and at most 1/`ratio` times."""
    fair = np.array([[ratio], [1.0 / ratio]])
    return RatioBets(share, fair, np.broadcast_to(SAFE, (2, 1, len(SAFE))))


class ShareBets:
    """Bets against "each row shows the event with probability at most `most`, whatever went before", of E events."""

    def __init__(self, most: Float64) -> None:
        odds = BETS * (most / (1.0 - most))[:, None]
        bet = odds / (1.0 + odds)
        self._won, self._lost = np.log(bet / most[:, None]), np.log((1.0 - bet) / (1.0 - most[:, None]))

    def log_wealth(self, events: Int64, rows: Int64) -> Float64:
        """ln wealth [..., E] after so many events [..., E] among so many rows [...]."""
        others = rows[..., None] - events
        return mixed(events[..., None] * self._won + others[..., None] * self._lost)
