"""Steps, tolerances, and how the error budget is shared: small frozen objects, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np

from fraud_scoring.errors import InvalidInput

WHOLE: Final = 10_000
"""Buckets: the share of a canary that takes everything."""
MOST_WINDOWS: Final = 8


@dataclass(frozen=True)
class Step:
    """A share of the customers, in buckets of 10,000, and what is needed at least before the next one."""

    share: int
    least_s: float
    least_answers: int
    """Answers that the canary itself gave."""


@dataclass(frozen=True)
class Tolerances:
    """What a canary may do and still be good. Ratios are to the champion in the same minutes; 1.25 means 0.8 to 1.25.

    Fallback answers and slow answers count against a canary if they are beyond their ratio AND beyond their share.
    """

    fallback_ratio: float = 2.0
    fallback_share: float = 0.005
    slow_ratio: float = 2.0
    slow_share: float = 0.03
    """Of the answers that are slower than the champion's p99 before the rollout."""
    decline_ratio: float = 1.25
    flagged_ratio: float = 1.6
    """Reviews and declines together."""
    score_log_odds: float = 0.25
    """By so much a canary's score may lie elsewhere: a quarter more, or less, of the odds."""
    half_score_ratio: float = 1.6
    """Share of scores on either side of the champion's median."""
    quarter_score_ratio: float = 2.0
    """Share of scores outside the champion's quartiles."""
    tail_score_ratio: float = 2.0
    """Share of scores above the champion's 95% and 99% quantiles."""
    calibration_ratio: float = 1.25
    harmful_ratio: float = 2.0
    """Declines so many times, or one so manieth, must be ruled out before a step up."""


@dataclass(frozen=True)
class Shares:
    """How the error budget of a step is shared by the tests; they add up to 1."""

    fallback: float = 0.15
    latency: float = 0.15
    declines: float = 0.25
    reviews: float = 0.10
    scores: float = 0.25
    calibration: float = 0.10


@dataclass(frozen=True)
class JudgeSettings:
    """All that a judgement depends on beside the log."""

    steps: tuple[Step, ...] = (Step(500, 600.0, 1_000), Step(2_500, 600.0, 2_000), Step(5_000, 600.0, 4_000))
    budget: float = 0.01
    """Most probability of rolling back a canary that is within all tolerances, over a whole rollout."""
    step_shares: tuple[float, ...] = (0.5, 0.25, 0.25)
    window_s: float = 600.0
    """The evidence of a step is gathered anew, beside the old one, from this time on, from 3 times of it, from 7 …"""
    doubt: float = 20.0
    """Harm is ruled out, and held to be possible, with odds of so many to one."""
    settle_s: float = 3.0
    """Rows of the first seconds of a step do not count: front doors take up a route table within a second."""
    baseline_rows: int = 2_000
    """Answers of the champion that give the score levels and the p99 to compare with."""
    patience_s: float = 86_400.0
    """A step that is undecided for longer is told to the operator."""
    slots: int = 1 << 20
    """Places to remember customers in; where two share one, the later one is not counted."""
    tolerances: Tolerances = field(default_factory=Tolerances)
    shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        shares = [step.share for step in self.steps]
        ratios = [(one.name, getattr(self.tolerances, one.name)) for one in fields(Tolerances)]
        rules = (
            (bool(shares), "steps: there is none; write one at least"),
            (
                all(0 < share < WHOLE for share in shares) and shares == sorted(set(shares)),
                f"steps {shares}: shares must rise and lie within 1 to {WHOLE - 1:,} buckets",
            ),
            (all(step.least_s > self.settle_s for step in self.steps), "steps: each must last longer than settle_s"),
            (0 < self.budget <= 0.2, f"budget is {self.budget:g}; write a probability above 0, to 0.2"),
            (
                len(self.step_shares) == len(self.steps) and sum(self.step_shares) <= 1 + 1e-9,
                "step_shares: give each step its part of the budget, 1 together at most",
            ),
            (self.slots & (self.slots - 1) == 0, f"slots is {self.slots}; write a power of two"),
            (self.window_s > 0, f"window_s is {self.window_s:g}; write seconds above 0"),
            (self.baseline_rows >= 100, f"baseline_rows is {self.baseline_rows}; write 100 or more"),
            *(
                (value > 1 if name.endswith("ratio") else 0 < value < 1, f"{name} is {value:g}; it is out of range")
                for name, value in ratios
            ),
        )
        for holds, message in rules:
            if not holds:
                raise InvalidInput(message)

    def threshold(self, step: int, test: str, window: int) -> float:
        """ln wealth at which a test of a window of a step decides: ln of 1 over its part of the budget."""
        part = self.budget * self.step_shares[step] * float(getattr(self.shares, test))
        return float(-np.log(part / ((window + 1) * (window + 2))))

    def window_start_s(self, window: int) -> float:
        """When a step's window begins, from the step's start on: 0, 1, 3, 7 … times `window_s`."""
        return self.window_s * float(2**window - 1)

    def next_share(self, share: int) -> int:
        """The share after `share`; WHOLE after the last."""
        return next((step.share for step in self.steps if step.share > share), WHOLE)

    def step_of(self, share: int) -> int:
        """Which step a share belongs to: the first that is not smaller, or the last."""
        return next((i for i, step in enumerate(self.steps) if step.share >= share), len(self.steps) - 1)
