"""What people are told: a series is in alert when there is evidence that it moved AND it moved by enough to matter.

    ok ──crossing──▶ evidence ──material──▶ alert
     ◀──recovered──     ◀──less than half──

Evidence alone, at a hundred rows a second, would name changes that nobody would act on; size alone would name chance.
An episode begins when a series' evidence crosses its threshold and ends when the likelihood ratio since the change is
all but gone; it pages at most once, so that pages are no more than crossings, whose rate evidence.py bounds for all
series together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from drift_sidecar.evidence import EvidenceDetector
from drift_sidecar.statistics import Effect, degrees, effect, psi, psi_expected, psi_threshold
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import DECISION_SERIES, SCORE_SERIES, Float64, Reference

RATE_SD: Final = 3.0
"""A rate is off when it is so many standard deviations of chance from what was foreseen, and by the ratio that
matters."""


class State(IntEnum):
    OK = 0
    EVIDENCE = 1
    ALERT = 2


@dataclass(frozen=True)
class Materiality:
    """From when on a change matters.

    `psi`: 0.02 is what a shift of a Gaussian feature's mean by 0.14 standard deviations gives. `rate_ratio`: for the
    decision and the score, how many times more (or fewer) rows lie in an upper tail (declines; reviews and declines;
    the highest scores), where PSI, which weighs by share, is blind; `rate_points`: and by how much at least.
    """

    psi: float = 0.02
    rate_ratio: float = 1.25
    rate_points: float = 0.001
    level: float = 0.95


@dataclass(frozen=True)
class Finding:
    """A series as it stands. `log10_evidence` is log10 V, V in minutes; the series crosses at `log10_threshold`.

    While there is evidence: `since_minutes` ago the change began, as far as can be told; `effect` is its size since
    then; `reason` says what makes it matter, empty where it does not.
    """

    series: str
    state: State
    log10_evidence: float
    log10_threshold: float
    since_minutes: float = 0.0
    effect: Effect | None = None
    reason: str = ""


@dataclass(frozen=True)
class Page:
    """An alert that began."""

    series: str
    since_minutes: float
    effect: Effect
    reason: str


class AlertBook:
    """The alerts of one release's detector."""

    def __init__(self, reference: Reference, detector: EvidenceDetector, materiality: Materiality) -> None:
        self._reference = reference
        self._detector = detector
        self._materiality = materiality
        self.state: Float64 = np.zeros(detector.null.series)
        self._paged: Float64 = np.zeros(detector.null.series)

    def vector(self) -> Float64:
        """What is remembered, for a checkpoint."""
        return np.concatenate([self.state, self._paged])

    def load(self, vector: Float64) -> None:
        """What `vector` gave; InvalidDefinition if it is of another reference."""
        if len(vector) != 2 * len(self.state):
            raise InvalidDefinition("drift checkpoint: it does not fit the release's reference; begin without it")
        self.state, self._paged = vector[: len(self.state)].copy(), vector[len(self.state) :].copy()

    def update(self) -> tuple[Page, ...]:
        """Take in what the detector found at its last look; the alerts that begin now."""
        evident = self._detector.state.evident > 0
        self.state[~evident] = State.OK
        self._paged[~evident] = 0.0
        pages = []
        for series in np.flatnonzero(evident):
            reason, excess = self._judge(series)
            if reason:
                self.state[series] = State.ALERT
                if not self._paged[series]:
                    self._paged[series] = 1.0
                    found, since = self.size(series)
                    pages.append(Page(self._name(series), since, found, reason))
            elif self.state[series] != State.ALERT or excess < self._materiality.psi / 2.0:
                self.state[series] = State.EVIDENCE
        return tuple(pages)

    def findings(self) -> tuple[Finding, ...]:
        """Every series as it stands, in the order of the layout."""
        value, threshold = self._detector.value, float(np.log10(self._detector.threshold))
        out = []
        for series in range(len(self.state)):
            base = (self._name(series), State(int(self.state[series])), float(np.log10(max(value[series], 1e-9))))
            if self._detector.state.evident[series] > 0:
                found, since = self.size(series)
                out.append(Finding(*base, threshold, since, found, self._judge(series)[0]))
            else:
                out.append(Finding(*base, threshold))
        return tuple(out)

    def size(self, series: int) -> tuple[Effect, float]:
        """(effect since the change, minutes since the change) of a series that is evident."""
        counts, shares, rows = self._since(series)
        binned = self._reference.binned[series] if series < len(self._reference.binned) else None
        wanted = self._materiality
        found = effect(shares, rows, counts, binned, tolerance=wanted.psi, level=wanted.level)
        state = self._detector.state
        return found, float(state.age[series, int(state.lead[series])])

    def _since(self, series: int) -> tuple[Float64, Float64, float]:
        """(counts since the change, shares that were foreseen for them, rows that these rest on) of an evident
        series."""
        state, null = self._detector.state, self._detector.null
        bet, cells, hour = int(state.lead[series]), null.size(series), int(state.clock[0])
        foreseen = state.foreseen[series, bet, :cells]
        total = foreseen.sum()
        shares = foreseen / total if total > 0 else null.shares[hour, series, :cells]
        return state.rows[series, bet, :cells], shares, float(null.rows[hour, series])

    def _judge(self, series: int) -> tuple[str, float]:
        """(why the change of an evident series matters, in words, empty if it does not; PSI beyond chance)."""
        counts, shares, reference_rows = self._since(series)
        wanted, rows = self._materiality, float(counts.sum())
        bins = degrees(shares, rows) + 1
        found = psi(shares, counts) if rows else 0.0
        limit = psi_threshold(bins, rows, reference_rows, wanted.psi, wanted.level)
        excess = max(found - psi_expected(bins, rows, reference_rows), 0.0)
        if found > limit:
            return f"PSI {found:.3f} since the change, more than {wanted.psi:g} would explain ({limit:.3f})", excess
        if self._name(series) in (SCORE_SERIES, DECISION_SERIES):
            binned = self._reference.binned
            regular = binned[series].bins if series < len(binned) else len(shares)
            return rate_shift(counts[:regular], shares[:regular], wanted), excess
        return "", excess

    def _name(self, series: int) -> str:
        return self._reference.layout.names[series]


def rate_shift(counts: Float64, shares: Float64, wanted: Materiality) -> str:
    """The upper tail of ordered cells whose share moved by enough, and by more than chance, in words; else empty.

    Of all tails the one that is furthest off in standard deviations of a Poisson number.
    """
    rows = counts.sum()
    if rows <= 0:
        return ""
    seen, foreseen = np.cumsum(counts[::-1])[::-1][1:], np.cumsum(shares[::-1])[::-1][1:] * rows
    off: npt.NDArray[np.bool_] = np.abs(seen - foreseen) >= RATE_SD * np.sqrt(np.maximum(foreseen, 1.0))
    off &= np.abs(seen - foreseen) >= wanted.rate_points * rows
    off &= (seen >= wanted.rate_ratio * foreseen) | (seen * wanted.rate_ratio <= foreseen)
    if not off.any():
        return ""
    distance = np.where(off, np.abs(seen - foreseen) / np.sqrt(np.maximum(foreseen, 1.0)), 0.0)
    tail = int(distance.argmax())
    return (
        f"{seen[tail] / rows:.2%} of the rows in the upper {len(shares) - 1 - tail} of {len(shares)} bins, "
        f"{foreseen[tail] / rows:.2%} foreseen"
    )
