"""The evidence of one step: counts of events by arm, and the tests that read them.

Rows of one customer belong together, so in each window a customer counts once for each event: the n-th customer who
shows the event is the canary's with probability s, exactly, as the hash says. Windows overlap: each begins later and
runs to the end of the step, so that a release that goes bad late meets evidence that is not diluted for long; each
window has its own part of the error budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_judge import betting
from fraud_judge.settings import MOST_WINDOWS, WHOLE, JudgeSettings
from fraud_judge.signs import DECLINED, EVENTS, FALLBACK, FEWER, FLAGGED, MORE, SEEN, SLOW, Baseline, Bits, Int64, Rows
from fraud_scoring import wire

CANARY: Final = 0
CHAMPION: Final = 1
TESTS: Final = ("fallback", "latency", "declines", "reviews", "scores")
RARE: Final = 0.2
_PLACES: Final = np.arange(len(EVENTS), dtype=np.uint16)
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Finding:
    """A test of a window: its ln wealth and the ln wealth at which it decides, and what it saw, in words."""

    test: str
    window: int
    log_wealth: float
    threshold: float
    reason: str

    @property
    def crossed(self) -> bool:
        return self.log_wealth >= self.threshold

    @property
    def room(self) -> float:
        """How much evidence is missing."""
        return self.threshold - self.log_wealth


class Arm(NamedTuple):
    """Sums of an arm in a step."""

    rows: int
    answers: int
    """Rows that the arm's own release answered."""


class StepEvidence:
    """What the rows of a step say. `take` in the order of the log; `findings` at any time."""

    def __init__(self, settings: JudgeSettings, step: int, share: int, start_us: int, baseline: Baseline) -> None:
        self.settings = settings
        self.step = step
        self.share = share
        self.start_us = start_us
        self.baseline = baseline
        self.last_us = start_us
        windows = MOST_WINDOWS
        self.events = np.zeros((windows, 2, len(EVENTS)), np.int64)
        """Customers who showed an event, by window and arm."""
        self.shown = np.zeros((windows, 2, len(EVENTS)), np.int64)
        """Rows that showed it."""
        self.rows = np.zeros((windows, 2), np.int64)
        self.answers = np.zeros(2, np.int64)
        """Rows that the arm's own release answered, over the step."""
        self._seen: list[Bits] = []
        of = settings.tolerances
        halves, quarters = (of.half_score_ratio,) * 2, of.quarter_score_ratio
        upper = (quarters, of.tail_score_ratio, of.tail_score_ratio)
        scores = (quarters, *halves, *upper, *upper)
        limits = np.array([of.fallback_ratio, of.slow_ratio, of.decline_ratio, of.flagged_ratio, *scores])
        self._bands = betting.band_bets(share / WHOLE, limits)
        """Of each event but SEEN."""
        self._harm = betting.harm_bets(share / WHOLE, of.harmful_ratio)
        self._too_many = betting.ShareBets(np.array([of.fallback_share, of.slow_share]))
        self._limits = np.array([[settings.threshold(step, test, k) for k in range(windows)] for test in TESTS])
        starts = [settings.window_start_s(window) for window in range(windows)]
        self._starts_us = start_us + np.round(1e6 * (np.array(starts) + settings.settle_s)).astype(np.int64)

    @property
    def seconds(self) -> float:
        """How long the step has lasted, by the log's last row."""
        return (self.last_us - self.start_us) / 1e6

    @property
    def windows(self) -> int:
        """How many windows have begun."""
        return max(1, int((self._starts_us <= self.last_us).sum()))

    def take(self, rows: Rows, canary: int, bits: Bits | None = None) -> None:
        """Count rows of the step; those before its start do not count. `bits`: their events, if they are known."""
        if not len(rows.at_us):
            return
        self.last_us = max(self.last_us, int(rows.at_us.max()))
        bits = self.events_of(rows) if bits is None else bits
        arm = np.where(rows.bucket < self.share, CANARY, CHAMPION)
        slots = slots_of(rows.customer, self.settings.slots)
        own = np.where(arm == CANARY, rows.release == canary, rows.release != canary) & (
            rows.source <= wire.Source.CANARY
        )
        for window in range(self.windows):
            # rows come nearly in the order of time: mostly all of them or none are in the window
            inside = rows.at_us >= self._starts_us[window]
            if not inside.any():
                break
            if window == len(self._seen):
                self._seen.append(np.zeros(self.settings.slots, np.uint16))
            if inside.all():
                self._count(window, bits, arm, slots)
            else:
                self._count(window, bits[inside], arm[inside], slots[inside])
            if window == 0:
                self.answers += np.bincount(arm[inside & own], minlength=2)

    def events_of(self, rows: Rows) -> Bits:
        """What rows of the step show."""
        return self.baseline.events(rows, self.share, self.settings.tolerances.score_log_odds)

    def _count(self, window: int, bits: Bits, arm: Int64, slots: Int64) -> None:
        new = first_shown(self._seen[window], slots, bits)
        of_arm = np.stack([arm == CANARY, arm == CHAMPION]).astype(np.float64)
        self.rows[window] += of_arm.sum(axis=1).astype(np.int64)
        self.shown[window] += np.rint(of_arm @ _unpacked(bits)).astype(np.int64)
        self.events[window] += np.rint(of_arm @ _unpacked(new)).astype(np.int64)

    def wealth(self) -> npt.NDArray[np.float64]:
        """ln wealth of each test in each window that has begun [TESTS, W]."""
        begun = self.windows
        both = self._bands.log_wealth(self.events[:begun, CANARY, :SEEN], self.events[:begun, CHAMPION, :SEEN])
        bands = betting.mixed(both[:, :, DECLINED : FLAGGED + 1].swapaxes(1, 2))
        many = self._too_many.log_wealth(self.shown[:begun, CANARY, FALLBACK : SLOW + 1], self.rows[:begun, CANARY])
        # [W, 2, E]: too often, too seldom
        scores = betting.mixed(np.concatenate([both[:, 0, MORE], both[:, 1, FEWER]], axis=1))
        return np.stack([*np.minimum(both[:, 0, FALLBACK : SLOW + 1], many).T, *bands.T, scores])

    def findings(self) -> list[Finding]:
        """Each test in the window where it is nearest to its threshold."""
        found = []
        for test, wealth in zip(TESTS, self.wealth(), strict=True):
            thresholds = self._limits[TESTS.index(test), : len(wealth)]
            window = int(np.argmax(wealth - thresholds))
            found.append(
                Finding(test, window, float(wealth[window]), float(thresholds[window]), self._reason(test, window))
            )
        return found

    def rollback_due(self) -> bool:
        """Whether any test has crossed: the same as looking at all findings, and quicker."""
        wealth = self.wealth()
        return bool((wealth >= self._limits[:, : wealth.shape[1]]).any())

    def harm_ruled_out(self) -> bool:
        """Whether declines a harmful ratio above and below the champion's are ruled out."""
        counts = self.events[: self.windows, :, DECLINED]
        wealth = self._harm.log_wealth(counts[:, CANARY, None], counts[:, CHAMPION, None])[..., 0]
        window = np.arange(len(wealth))
        needed = np.log(self.settings.doubt * (window + 1) * (window + 2) / 2)
        # where most customers have been declined once, who comes next says little about how often
        rare = counts[:, CANARY] <= RARE * self.events[: self.windows, CANARY, SEEN]
        return bool(((wealth >= needed[:, None]).all(axis=1) & rare).any())

    def doubts(self) -> list[str]:
        """Tests that hold harm possible, with less certainty than a rollback needs."""
        limit = float(np.log(self.settings.doubt))
        return [one.reason for one in self.findings() if one.log_wealth >= limit]

    def counts(self) -> dict[str, Any]:
        """The counts of the windows that have begun, for the journal."""
        return {
            "rows": self.rows[0].tolist(),
            "answers": self.answers.tolist(),
            "events": self.events[: self.windows].tolist(),
        }

    def _reason(self, test: str, window: int) -> str:
        places = {"fallback": (FALLBACK,), "latency": (SLOW,), "declines": (DECLINED,), "reviews": (FLAGGED,)}
        chosen = np.array(places.get(test) or (*_PLACES[MORE], *_PLACES[FEWER]))
        rates = self.shown[window] / np.maximum(self.rows[window], 1)[:, None]
        gap = np.log((rates[CANARY, chosen] + 1e-4) / (rates[CHAMPION, chosen] + 1e-4))
        gap = np.where(chosen >= FEWER.start, -gap, gap if test == "scores" else np.abs(gap))
        event = int(chosen[int(np.argmax(gap))])
        name = EVENTS[event] if event != SLOW else f"slower than {self.baseline.slow_us / 1000:.1f} ms"
        mine, theirs = (f"{rates[arm, event]:.2%}" for arm in (CANARY, CHAMPION))
        return f"{name}: {mine} of the canary's {self.rows[window, CANARY]:,} answers, {theirs} of the champion's"


def _unpacked(bits: Bits) -> npt.NDArray[np.float64]:
    """The bits of rows [N, EVENTS] as 0 and 1."""
    return ((bits[:, None] >> _PLACES) & 1).astype(np.float64)


def slots_of(customer: Int64, slots: int) -> Int64:
    """Where customers are remembered: by another hash than the one that puts them into buckets (Fibonacci hashing)."""
    mixed = (customer.view(np.uint64) ^ (customer.view(np.uint64) >> np.uint64(32))) * _GOLDEN
    return (mixed >> np.uint64(64 - int(slots).bit_length() + 1)).astype(np.int64)


def first_shown(seen: Bits, slots: Int64, bits: Bits) -> Bits:
    """The bits of each row that none of its slot's rows had before; `seen` takes them in."""
    new = np.zeros_like(bits)
    left = np.arange(len(slots))
    while len(left):
        # one row of each slot at a time, in their order
        _, first = np.unique(slots[left], return_index=True)
        now = left[first]
        before = seen[slots[now]]
        new[now] = bits[now] & ~before
        seen[slots[now]] = before | bits[now]
        left = np.delete(left, first)
    return new
