"""One release under watch: what the sidecar feeds with counts, asks for findings, and checkpoints."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from drift_sidecar.alerts import AlertBook, Finding, Materiality, Page
from drift_sidecar.evidence import EvidenceDetector
from drift_sidecar.null_set import NullSet, Tolerance, make_null_set
from drift_sidecar.statistics import Effect, effect
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import HOURS, Int64, Reference


@dataclass(frozen=True)
class MonitorSettings:
    """How much may change, what matters, and how many false pages a month are accepted, all series of a release
    together."""

    tolerance: Tolerance = field(default_factory=Tolerance)
    materiality: Materiality = field(default_factory=Materiality)
    false_pages_per_month: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.false_pages_per_month <= 1000.0:
            raise InvalidDefinition("drift: false_pages_per_month is a number above 0 and at most 1,000")


class DriftMonitor:
    """Evidence, alerts and effect sizes of one release. Feed it looks; the order within a look does not matter."""

    def __init__(
        self, reference: Reference, settings: MonitorSettings | None = None, null: NullSet | None = None
    ) -> None:
        self.settings = settings or MonitorSettings()
        self.reference = reference
        self.null = null or make_null_set(reference, self.settings.tolerance)
        self.detector = EvidenceDetector(reference, self.null, self.settings.false_pages_per_month)
        self.alerts = AlertBook(reference, self.detector, self.settings.materiality)

    def look(self, hour: int, counts: Int64, minutes: float) -> tuple[Page, ...]:
        """Take in the counts of some rows, all of one hour of the week; the alerts that begin now.

        `minutes` is how much time passed since the look before (event time). Any length is valid; a second sees
        soonest.
        """
        crossed = self.detector.look(hour, counts, minutes)
        if crossed.any() or self.alerts.state.any():
            return self.alerts.update()
        return ()

    def findings(self) -> tuple[Finding, ...]:
        """Every series as it stands, in the order of the layout."""
        return self.alerts.findings()

    def window_effects(self, by_hour: Mapping[int, Int64]) -> tuple[Effect, ...]:
        """Effect sizes of a window for every series; `by_hour` holds its counts by hour of the week.

        The window is compared with what the reference foresees for these hours at this volume.
        """
        layout = self.reference.layout
        out = []
        for number in range(len(layout.names)):
            places = layout.of(number)
            hours = np.zeros(HOURS, np.int64)
            counts = np.zeros(places.stop - places.start, np.int64)
            for hour, vector in by_hour.items():
                hours[hour] = vector[places].sum()
                counts += vector[places]
            shares, rows = self.null.expected(number, hours)
            binned = self.reference.binned[number] if number < len(self.reference.binned) else None
            wanted = self.settings.materiality
            out.append(effect(shares, rows, counts, binned, tolerance=wanted.psi, level=wanted.level))
        return tuple(out)

    def dump(self) -> bytes:
        """Everything that is remembered, for a checkpoint; some 100 kB."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, evidence=self.detector.state.vector(), alerts=self.alerts.vector())
        return buffer.getvalue()

    def restore(self, checkpoint: bytes) -> None:
        """What `dump` gave; InvalidDefinition if it is of another reference, or none."""
        try:
            with np.load(io.BytesIO(checkpoint), allow_pickle=False) as found:
                evidence, alerts = found["evidence"], found["alerts"]
        except (OSError, ValueError, KeyError, EOFError):
            raise InvalidDefinition("drift checkpoint: it cannot be read; begin without it") from None
        self.detector.state.load(evidence)
        self.alerts.load(alerts)
