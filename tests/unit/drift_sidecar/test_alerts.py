"""What people are told: evidence and size together, at most one page an episode, and an end."""

from __future__ import annotations

import numpy as np
import pytest

from drift_sidecar import worlds
from drift_sidecar.alerts import Materiality, Page, State, rate_shift
from drift_sidecar.monitor import DriftMonitor, MonitorSettings
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reference import Float64, Int64

REFERENCE = worlds.draw_reference(np.random.default_rng(1), 500_000, 0.0)
NOON = 36
SECOND = 1.0 / 60.0
SHARES = [series.shares(NOON) for series in worlds.SERIES]


class Stream:
    """Looks at noon, a second each, of 100 rows; `changed` gives some series other shares."""

    def __init__(self, seed: int, settings: MonitorSettings | None = None) -> None:
        self.monitor = DriftMonitor(REFERENCE, settings)
        self._rng = np.random.default_rng(seed)

    def look(self, changed: dict[str, Float64] | None = None, seconds: int = 1) -> list[Page]:
        pages: list[Page] = []
        for _ in range(seconds):
            vector = REFERENCE.empty()
            for k, series in enumerate(worlds.SERIES):
                shares = (changed or {}).get(series.name, SHARES[k])
                vector[REFERENCE.layout.of(k)] = self._rng.multinomial(100, shares)
            pages += self.monitor.look(NOON, vector, SECOND)
        return pages

    def state(self, series: str) -> State:
        return next(found.state for found in self.monitor.findings() if found.series == series)


def shifted(name: str, sd: float) -> dict[str, Float64]:
    series = next(series for series in worlds.SERIES if series.name == name)
    return {name: series.shares(NOON, sd)}


def test_a_calm_stream_is_ok_in_every_series() -> None:
    stream = Stream(1)
    assert stream.look(seconds=300) == []
    assert {found.state for found in stream.monitor.findings()} == {State.OK}
    assert all(found.effect is None for found in stream.monitor.findings())


def test_a_change_that_matters_pages_once_and_says_what_and_since_when() -> None:
    stream = Stream(2)
    stream.look(seconds=120)
    pages = stream.look(shifted("amount", 0.3), seconds=300)
    assert [page.series for page in pages] == ["amount"]
    assert pages[0].since_minutes < 1.0
    assert "PSI" in pages[0].reason
    assert pages[0].effect.psi > 0.02
    assert stream.state("amount") == State.ALERT


def test_evidence_of_a_change_that_does_not_matter_is_no_alert() -> None:
    """A shift of three tenths of a standard deviation is beyond doubt; here it is said not to matter."""
    stream = Stream(3, MonitorSettings(materiality=Materiality(psi=0.2)))
    assert stream.look(shifted("gaussian", 0.3), seconds=300) == []
    assert stream.state("gaussian") == State.EVIDENCE


def test_an_alert_ends_when_the_stream_is_as_it_was_and_a_new_one_pages_again() -> None:
    stream = Stream(4)
    assert len(stream.look(shifted("gaussian", 0.5), seconds=120)) == 1
    stream.look(seconds=120)
    assert stream.state("gaussian") == State.OK
    assert len(stream.look(shifted("gaussian", 0.5), seconds=120)) == 1


def test_an_alert_stays_while_the_drift_does() -> None:
    stream = Stream(5)
    pages = stream.look(shifted("gaussian", 0.4), seconds=900)
    assert len(pages) == 1
    assert stream.state("gaussian") == State.ALERT
    finding = next(found for found in stream.monitor.findings() if found.series == "gaussian")
    assert finding.since_minutes == pytest.approx(15.0, abs=0.5)
    assert finding.effect is not None
    assert finding.effect.rows == pytest.approx(90_000, rel=0.05)
    assert finding.reason


def test_twice_as_many_declines_page_though_psi_hardly_moves() -> None:
    decision = np.array([0.98, 0.008, 0.012])
    stream = Stream(6)
    pages = stream.look({"decision": decision}, seconds=600)
    assert [page.series for page in pages] == ["decision"]
    assert pages[0].effect.psi < 0.02
    assert "of the rows in the upper 1 of 3 bins" in pages[0].reason


def test_more_high_scores_page_though_psi_hardly_moves() -> None:
    score = SHARES[worlds.SERIES.index(worlds.SCORE)].copy()
    score[12:15] *= 2.0
    score[0] -= score[12:15].sum() / 2.0
    pages = Stream(7).look({"score": score}, seconds=600)
    assert [page.series for page in pages] == ["score"]


WANTED = Materiality()


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([9_860, 80, 60], ""),  # as foreseen
        ([9_800, 80, 120], "1.20% of the rows in the upper 1 of 3 bins, 0.60% foreseen"),
        ([9_960, 20, 20], "0.40% of the rows in the upper 2 of 3 bins, 1.40% foreseen"),  # fewer matter as well
        ([98, 1, 1], ""),  # too few rows to tell
        ([0, 0, 0], ""),
    ],
)
def test_a_rate_is_off_when_it_is_beyond_chance_and_by_enough(counts: list[int], says: str) -> None:
    assert rate_shift(np.array(counts, np.float64), np.array([0.986, 0.008, 0.006]), WANTED) == says


def test_a_rate_that_is_off_by_less_than_matters_is_not_named() -> None:
    shares = np.array([0.9, 0.1])
    assert rate_shift(np.array([880_000.0, 120_000.0]), shares, WANTED) == ""  # 1.2 times
    assert rate_shift(np.array([870_000.0, 130_000.0]), shares, WANTED) != ""


def test_findings_come_in_the_order_of_the_layout_with_the_threshold() -> None:
    stream = Stream(8)
    stream.look()
    findings = stream.monitor.findings()
    assert tuple(found.series for found in findings) == REFERENCE.layout.names
    assert findings[0].log10_threshold == pytest.approx(np.log10(stream.monitor.detector.threshold))


def test_a_checkpoint_keeps_evidence_and_alerts() -> None:
    first, second = Stream(9), Stream(9)
    for stream in (first, second):
        stream.look(shifted("gaussian", 0.5), seconds=30)
    again = DriftMonitor(REFERENCE)
    again.restore(first.monitor.dump())
    assert again.findings() == second.monitor.findings()
    second.monitor, pages = again, second.look(shifted("gaussian", 0.5), seconds=30)
    assert pages == []  # the page of this episode was sent before


def test_a_checkpoint_of_another_reference_is_refused() -> None:
    other = worlds.draw_reference(np.random.default_rng(2), 50_000, 0.0)
    monitor = DriftMonitor(other)
    with pytest.raises(InvalidDefinition, match="it cannot be read; begin without it"):
        monitor.restore(b"nothing")
    monitor.alerts.load(monitor.alerts.vector())
    with pytest.raises(InvalidDefinition, match="does not fit"):
        monitor.alerts.load(np.zeros(3))


def test_the_budget_must_be_a_number_of_pages() -> None:
    with pytest.raises(InvalidDefinition, match="above 0 and at most 1,000"):
        MonitorSettings(false_pages_per_month=0.0)


def test_a_window_is_compared_with_the_reference_for_its_hours() -> None:
    monitor = DriftMonitor(REFERENCE)
    rng = np.random.default_rng(10)

    def counts(hour: int) -> Int64:
        vector = REFERENCE.empty()
        for k, series in enumerate(worlds.SERIES):
            vector[REFERENCE.layout.of(k)] = rng.multinomial(5_000, series.shares(hour))
        return vector

    found = monitor.window_effects({3: counts(3), 36: counts(36)})
    assert len(found) == len(REFERENCE.layout.names)
    assert all(effect.rows == 10_000 for effect in found)
    assert max(effect.psi_excess for effect in found) < 0.01  # night flags and cycles are no drift
