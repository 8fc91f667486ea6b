"""Rates that are too low to be counted, where they can be counted or computed all the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from drift_sidecar import rare_alarms, worlds
from drift_sidecar.evidence import EvidenceDetector
from drift_sidecar.rare_alarms import (
    GAUSSIAN_TILTS,
    SKEWED_TILTS,
    Rate,
    Tilt,
    alarm_rate,
    crossing_rates,
    per_month,
    setting_at,
)
from fraud_scoring.reference import Float64

SPAN = 200


def first_above(limit: float, scores: Float64) -> int:
    above = np.flatnonzero(scores > limit)
    return int(above[0]) + 1 if len(above) else 0


@pytest.mark.parametrize("tilts", [GAUSSIAN_TILTS, SKEWED_TILTS])
def test_the_rate_of_a_value_six_standard_deviations_out_is_the_normal_distributions(tilts: tuple[Tilt, ...]) -> None:
    tilts = (*tilts, Tilt(6.0, 1))
    found = alarm_rate(lambda scores: first_above(6.0, scores), tilts, SPAN, 3_000, np.random.default_rng(1))
    exact = float(stats.norm.sf(6.0))
    assert found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(exact, rel=0.35)


def test_the_rate_of_a_high_mean_of_ten_rows_is_that_which_is_counted() -> None:
    def mean_above(scores: Float64) -> int:
        means = np.convolve(scores, np.ones(10) / 10, "valid")
        above = np.flatnonzero(means > 1.0)
        return int(above[0]) + 10 if len(above) else 0

    rng = np.random.default_rng(2)
    counted = np.mean([mean_above(rng.normal(size=SPAN)) > 0 for _ in range(8_000)]) / SPAN
    found = alarm_rate(mean_above, GAUSSIAN_TILTS, SPAN, 2_000, rng)
    assert found.estimate == pytest.approx(float(counted), rel=0.2)


def test_a_rule_that_never_alarms_has_rate_0() -> None:
    assert alarm_rate(lambda scores: 0, GAUSSIAN_TILTS, SPAN, 5, np.random.default_rng(3)) == Rate(0.0, 0.0, 0.0)


def test_the_setting_at_a_rate_is_found() -> None:
    log_setting, found = setting_at(lambda at: Rate(*[2.0 * np.exp(1.2 * at)] * 3), 1e-9, 0.0)
    assert found.estimate == pytest.approx(1e-9, rel=0.5)
    assert log_setting == pytest.approx(np.log(0.5e-9) / 1.2, abs=0.4)


def test_the_sidecars_rate_is_what_is_counted_at_a_threshold_that_can_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few minutes instead of months: crossings of the Gaussian series in an hour of looks, counted and sampled."""
    real = EvidenceDetector.__init__

    def low(self: EvidenceDetector, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        self.threshold = 0.4

    monkeypatch.setattr(EvidenceDetector, "__init__", low)
    (found, *_) = crossing_rates(1, 36, 100.0, 400)
    world = rare_alarms.World(1, day_sd=0.0)
    shares = world.truth[36]
    detector, crossings, looks = world.monitor.detector, 0, 20_000
    detector.enter(36)
    rng = np.random.default_rng(5)
    places = world.reference.layout.of(worlds.GAUSSIAN)
    for _ in range(looks):
        vector = world.reference.empty()
        vector[places] = rng.poisson(100.0 * shares[worlds.GAUSSIAN, : places.stop - places.start])
        crossings += bool(detector.look(36, vector, 1 / 60)[worlds.GAUSSIAN])
    counted = stats.chi2.ppf([0.001, 0.999], [2 * crossings, 2 * crossings + 2]) / 2 / looks
    assert crossings > 3
    assert found.low < counted[1]
    assert found.high > counted[0]


def test_series_add_up_to_a_month() -> None:
    total = per_month((Rate(1e-9, 0.5e-9, 2e-9), Rate(3e-9, 3e-9, 3e-9)), 1.0)
    seconds = 365.2425 / 12 * 86_400
    assert total.estimate == pytest.approx(4e-9 * seconds)
    assert total.low == pytest.approx(3.5e-9 * seconds)
    assert total.high == pytest.approx(5e-9 * seconds)
