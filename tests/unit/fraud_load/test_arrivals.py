"""Intended times follow the profile's rate, lie in order, and come again with the seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_load import arrivals
from fraud_load.arrivals import Profile
from support.rows import SEEDED

PROFILES = {
    "constant": arrivals.constant(200, 30),
    "ramp": arrivals.ramp(0, 400, 30),
    "ramp down": arrivals.ramp(400, 0, 30),
    "steps": arrivals.steps([50, 100, 200, 400], 8),
    "spike": arrivals.spike(100, 10, 10, 5, 30),
    "day": arrivals.day(300, 0.1, 48),
}


@pytest.mark.parametrize("name", PROFILES)
def test_regular_times_follow_the_integral_of_the_rate_within_one(name: str) -> None:
    profile = PROFILES[name]
    times = profile.regular()
    fine = np.linspace(0, profile.duration_s, 200_001)
    expected = np.concatenate([[0], np.cumsum(profile.rate_at((fine[:-1] + fine[1:]) / 2)) * (fine[1] - fine[0])])
    sent = np.searchsorted(times, fine, side="right")
    assert np.abs(sent - expected).max() <= 1.0
    assert abs(len(times) - profile.expected) <= 0.5
    assert (np.diff(times) > 0).all()
    assert 0 <= times[0] <= times[-1] < profile.duration_s


@pytest.mark.parametrize("name", PROFILES)
def test_poisson_times_are_exponential_once_the_rate_is_taken_out(name: str) -> None:
    profile = PROFILES[name]
    times = profile.poisson(np.random.default_rng(5))
    fine = np.linspace(0, profile.duration_s, 400_001)
    integral = np.concatenate([[0], np.cumsum(profile.rate_at((fine[:-1] + fine[1:]) / 2)) * (fine[1] - fine[0])])
    gaps = np.diff(np.interp(times, fine, integral))
    assert abs(len(times) - profile.expected) < 5 * np.sqrt(profile.expected)
    assert gaps.mean() == pytest.approx(1.0, abs=5 / np.sqrt(len(gaps)))
    assert (gaps > 1).mean() == pytest.approx(np.exp(-1), abs=5 / np.sqrt(len(gaps)))
    assert (np.diff(times) >= 0).all()


def test_the_seed_fixes_every_bit_of_poisson_times() -> None:
    profile = PROFILES["spike"]
    once, again, other = (profile.poisson(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once.tobytes() == again.tobytes() != other.tobytes()


def test_a_spike_is_as_high_and_long_as_asked_for() -> None:
    times = arrivals.spike(100, 10, 10, 5, 30).regular()
    counted = [int(((times >= a) & (times < b)).sum()) for a, b in ((0, 10), (10, 15), (15, 30))]
    assert counted == [1_000, 5_000, 1_500]


def test_steps_to_the_knee_rise_by_a_factor_and_end_at_the_last() -> None:
    rates = arrivals.geometric_rates(1_000, 8_000, 2)
    assert rates.tolist() == [1_000, 2_000, 4_000, 8_000]
    profile = arrivals.steps(rates, 2)
    assert profile.rate_at([0, 1.9, 2, 7.9, 8]).tolist() == [1_000, 1_000, 2_000, 8_000, 0]


def test_a_day_is_busiest_at_noon_and_never_below_its_floor() -> None:
    profile = arrivals.day(300, 0.1, 24)
    assert profile.rate_at(12.0) == pytest.approx(300)
    assert profile.rate.min() >= 30
    assert profile.rate_at(6.0) == pytest.approx(profile.rate_at(18.0))


def test_a_recording_is_replayed_at_its_own_gaps_times_faster() -> None:
    recorded = 1_522_540_800_000_000 + np.array([5_000_000, 0, 1_000_000, 60_000_000])
    assert arrivals.replayed(recorded, 10, 6.0).tolist() == [0.0, 0.1, 0.5]


def test_the_profile_of_a_recording_has_its_rate() -> None:
    times = arrivals.constant(100, 10).regular()
    assert arrivals.profile_of(times, 10.0, 5).rate_at([0.0, 5.0, 9.9]).tolist() == [100, 100, 100]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 500)), min_size=1, max_size=6), st.integers(0, 99))
@settings(SEEDED, max_examples=60)
def test_any_profile_yields_times_in_order_within_its_duration(parts: list[tuple[float, float]], seed: int) -> None:
    at = np.cumsum([0.0] + [width for width, _ in parts])
    profile = Profile(at, np.array([parts[0][1]] + [rate for _, rate in parts]))
    for times in (profile.regular(), profile.poisson(np.random.default_rng(seed))):
        assert (np.diff(times) >= 0).all()
        assert ((times >= 0) & (times <= profile.duration_s)).all()


@pytest.mark.parametrize(("at", "rate"), [([0, 1], [1, -1]), ([1, 2], [1, 1]), ([0, 2, 1], [1, 1, 1]), ([0], [1])])
def test_what_is_no_profile_is_refused(at: list[float], rate: list[float]) -> None:
    with pytest.raises(ValueError, match="a profile"):
        Profile(np.array(at, float), np.array(rate, float))
