"""Labels that come late: whether frauds are as many as the canary's scores say, and as among the champion's rows.

Two tests, and both must object. Against the champion: of the customers with a fraud in one band of the score and one
step, each is the canary's with the canary's share of that band's rows, whatever share of the labels has come (a
log-rank test: Mantel, 1966; Schoenfeld, "The asymptotic properties of nonparametric tests for comparing survival
distributions", 1981). Against the scores themselves: the odds of fraud of a labelled row are the score's, times a
factor within the tolerance. The first alone would throw out a canary that corrects a champion; the second alone one
whose labels come for frauds first.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fraud_judge.betting import BETS, mixed, share_of
from fraud_judge.evidence import CANARY, CHAMPION, Finding, slots_of
from fraud_judge.settings import JudgeSettings
from fraud_judge.signs import Int64, Rows

BANDS: Final = np.array([0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 0.7, 0.9])
"""Bounds of the score's bands."""
STEPS: Final = 8
"""Steps that are told apart; the last one stands for all after it."""


class CalibrationEvidence:
    """The evidence of a rollout's labels, over all its steps. Rows are remembered in a table of `slots` places."""

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings
        ratio, sides = settings.tolerances.calibration_ratio, (1.0, -1.0)
        self._ratios = np.array([[ratio**side, *(ratio * BETS) ** side] for side in sides])
        """[2, 1 + J]: the hypothesis and the bets against it: too many frauds, too few."""
        bands = len(BANDS) + 1
        self._against_champion = np.zeros((bands, 2, len(BETS)))
        """Each band bets for itself: scores that know nothing have too few frauds above and too many below."""
        self._against_scores = np.zeros((bands, 2, len(BETS)))
        self._at_risk = np.zeros((STEPS, bands, 2), np.int64)
        self._identifier = np.full(settings.slots, -1, np.int64)
        self._row = np.zeros(settings.slots, np.int32)
        """Step, band and arm in one number."""
        self._score = np.zeros(settings.slots, np.float32)
        self._customer = np.zeros(settings.slots, np.int64)
        self._labelled: tuple[set[int], set[int]] = (set(), set())
        """Customers that counted: with a fraud, with any label of the canary's rows."""
        self.frauds = np.zeros(2, np.int64)
        self.expected = self.observed = 0.0
        self.labels = 0
        self._log_wealth = 0.0

    def take(self, rows: Rows, step: int, share: int) -> None:
        """Remember rows whose labels may come."""
        step = min(step, STEPS - 1)
        score = np.where(np.isnan(rows.score), np.float32(0.0), rows.score)
        band = np.searchsorted(BANDS, score, side="right")
        arm = np.where(rows.bucket < share, CANARY, CHAMPION)
        self._at_risk[step] += np.bincount(2 * band + arm, minlength=2 * len(self._at_risk[0])).reshape(-1, 2)
        slots = slots_of(rows.identifier, self.settings.slots)
        self._identifier[slots] = rows.identifier
        self._row[slots] = 2 * (len(BANDS) + 1) * step + 2 * band + arm
        self._score[slots] = score
        self._customer[slots] = rows.customer

    def label(self, identifier: Int64, is_fraud: Int64) -> None:
        """Take in labels as they come."""
        slots = slots_of(identifier, self.settings.slots)
        known = np.flatnonzero(self._identifier[slots] == identifier)
        with_fraud, with_label = self._labelled
        for place in known.tolist():
            slot, fraud = int(slots[place]), bool(is_fraud[place])
            rest, arm = divmod(int(self._row[slot]), 2)
            step, band = divmod(rest, len(BANDS) + 1)
            customer = int(self._customer[slot])
            self.labels += 1
            if fraud and customer not in with_fraud:
                with_fraud.add(customer)
                self._bet_on_arm(step, band, arm)
            if arm == CANARY and customer not in with_label:
                with_label.add(customer)
                self._bet_on_score(band, self._score[slot], fraud)
        if len(known):
            self._log_wealth = self._mixed()

    def _bet_on_arm(self, step: int, band: int, arm: int) -> None:
        at_risk = self._at_risk[step, band]
        self.frauds[arm] += 1
        if not at_risk.all():
            return
        parts = share_of(self._ratios, at_risk[CANARY] / at_risk.sum())
        parts = parts if arm == CANARY else 1.0 - parts
        self._against_champion[band] += np.log(parts[:, 1:] / parts[:, :1])

    def _bet_on_score(self, band: int, score: np.float32, fraud: bool) -> None:
        probability = float(np.clip(score, 1e-6, 1 - 1e-6))
        self.expected += probability
        self.observed += fraud
        odds = self._ratios * probability / (1.0 - probability)
        chances = odds / (1.0 + odds) if fraud else 1.0 / (1.0 + odds)
        self._against_scores[band] += np.log(chances[:, 1:] / chances[:, :1])

    def _mixed(self) -> float:
        """Half of the stake is on one factor for all bands, half on factors of single bands."""
        each = np.minimum(mixed(self._against_champion), mixed(self._against_scores))
        pooled = np.minimum(mixed(self._against_champion.sum(axis=0)), mixed(self._against_scores.sum(axis=0)))
        return float(mixed(np.stack([mixed(pooled), mixed(each.reshape(-1))])))

    @property
    def log_wealth(self) -> float:
        """Of all bands and both sides together: of each, what both tests agree on."""
        return self._log_wealth

    def finding(self, step: int) -> Finding:
        """The test, at a step's threshold."""
        reason = (
            f"calibration: {self.observed:,.0f} frauds among the canary's labelled rows, {self.expected:,.1f} by its "
            f"scores; the champion's rows had {self.frauds[CHAMPION]:,} in the same time"
        )
        threshold = self.settings.threshold(step, "calibration", 0)
        return Finding("calibration", 0, self.log_wealth, threshold, reason)

    def counts(self) -> dict[str, Any]:
        return {"labels": self.labels, "frauds": self.frauds.tolist(), "expected": round(self.expected, 2)}
