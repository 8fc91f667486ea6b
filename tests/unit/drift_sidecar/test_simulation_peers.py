"""The rules that the sidecar is compared with: true to river's, and set to the same false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from drift_sidecar import peer_delays
from drift_sidecar.peer_delays import (
    Effort,
    adwin_alarms,
    adwin_rate,
    gumbel_level,
    lowest_gumbel_level,
    psi_limit,
    time_adwin,
    time_cusum,
    time_kswin,
    time_page_hinkley,
    time_psi_rule,
)
from drift_sidecar.peers import (
    KSWIN_RECENT,
    PH_LEAST_ROWS,
    Kswin,
    PageHinkley,
    Stream,
    cusum,
    cusum_threshold,
    ks_distance,
    kswin_alpha,
    kswin_distance,
)

river = pytest.importorskip("river.drift", reason="river is a development dependency")
TEXTBOOK = Stream("all alike", 100.0)
EFFORT = Effort(
    adwin_rows=60_000, adwin_samples=40, adwin_runs=3, page_hinkley_days=3, runs=3, kswin_runs=1, limit_s=120.0
)


@pytest.mark.parametrize("threshold", [5.0, 20.0, 50.0])
def test_the_compiled_page_hinkley_alarms_where_rivers_does(threshold: float) -> None:
    rows = np.random.default_rng(1).normal(size=8_000)
    rows[6_000:] += 0.4
    theirs = river.PageHinkley(threshold=threshold)
    first = next((i for i, row in enumerate(rows.tolist()) if theirs.update(row) or theirs.drift_detected), None)
    statistic = PageHinkley().statistic(rows)
    hits = np.flatnonzero(statistic > threshold)
    assert (int(hits[0]) if len(hits) else None) == first
    assert not statistic[: PH_LEAST_ROWS - 1].any()


def test_the_compiled_page_hinkley_goes_on_from_call_to_call() -> None:
    rows = np.random.default_rng(2).normal(size=3_000)
    rule = PageHinkley()
    pieces = np.concatenate([rule.statistic(part) for part in np.split(rows, [7, 1_000])])
    assert pieces.tobytes() == PageHinkley().statistic(rows).tobytes()


def test_the_compiled_ks_distance_is_scipys() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        first, second = np.sort(rng.integers(0, 20, 30) / 2.0), np.sort(rng.integers(0, 22, 30) / 2.0)
        assert ks_distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic)


def test_the_p_value_is_scipys_exact_one() -> None:
    grid = np.arange(30.0)
    for steps in (2, 5, 13, 20, 30):
        expected = stats.ks_2samp(grid, grid + steps - 0.5, method="exact")
        assert expected.statistic == pytest.approx(steps / 30)
        assert kswin_alpha(steps / 30) == pytest.approx(expected.pvalue, rel=1e-9)
    assert kswin_alpha(1.1) == 0.0
    assert kswin_alpha(0.0) == 1.0


def test_kswin_as_published_alarms_from_14_of_30_on() -> None:
    distance = kswin_distance(0.005)
    assert distance == pytest.approx(14 / KSWIN_RECENT)
    assert kswin_alpha(distance) <= 0.005 < kswin_alpha(distance - 1 / 30)


def test_the_compiled_kswin_alarms_as_often_as_rivers() -> None:
    """Which rows of the window are drawn is a matter of luck: the rates are compared, not the rows."""
    rows = np.random.default_rng(4).normal(size=6_000)
    theirs = river.KSWIN(alpha=0.02, seed=1)
    alarms = 0
    for row in rows.tolist():
        theirs.update(row)
        alarms += theirs.drift_detected
    above = np.flatnonzero(Kswin().statistic(rows) >= kswin_distance(0.02))
    last, mine = -70, 0
    for row in above.tolist():  # after an alarm river's window must fill again
        if row - last >= 70:
            last, mine = row, mine + 1
    assert mine == pytest.approx(alarms, rel=0.5)
    assert alarms > 5


def test_kswin_goes_on_from_call_to_call() -> None:
    rule = Kswin()
    assert not rule.statistic(np.zeros(60)).any()
    later = rule.statistic(np.ones(60))
    assert later.argmax() < 50
    assert later.max() > 0.8
    assert len(later) == 60


def test_the_gumbel_level_is_exceeded_once_in_so_many_blocks() -> None:
    rng = np.random.default_rng(5)
    maxima = rng.exponential(size=(4_000, 500)).max(axis=1)
    level = gumbel_level(maxima[:200], 100.0)
    assert (maxima > level).mean() == pytest.approx(0.01, abs=0.006)


def test_the_lowest_gumbel_level_is_below_the_likeliest() -> None:
    maxima = np.random.default_rng(5).gumbel(size=40)
    assert gumbel_level(maxima, 500.0) - 5.0 < lowest_gumbel_level(maxima, 500.0) < gumbel_level(maxima, 500.0)


def test_page_hinkley_at_a_months_budget_is_calm_and_still_sees_a_large_shift() -> None:
    found = time_page_hinkley(TEXTBOOK, 18.0, (0.5,), EFFORT, 1)
    assert found.setting is not None
    assert found.setting > 300.0  # published: 50
    assert found.published_alarms_per_day > 1.0
    assert 2.0 < found.median_s[0.5] < 30.0


def test_kswin_at_a_months_budget_does_not_see_a_quarter_of_a_standard_deviation() -> None:
    found = time_kswin(TEXTBOOK, 18.0, (0.25,), EFFORT, 1)
    assert math.isinf(found.median_s[0.25])
    assert found.setting is not None
    assert found.setting < 1e-6


def test_adwins_rate_by_importance_sampling_is_the_rate_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_delays, "ADWIN_WARM_ROWS", 20_000)
    rows = 400_000
    alarms = adwin_alarms([np.random.default_rng(1).normal(size=rows)], 0.1)
    counted = stats.chi2.ppf([0.001, 0.999], [2 * alarms, 2 * alarms + 2]) / 2 / rows
    found = adwin_rate(TEXTBOOK, 0.1, 60, 2)
    assert found.low < counted[1]
    assert found.high > counted[0]
    assert alarms > 5


def test_adwin_at_a_months_budget_sees_a_shift_soon_where_all_rows_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_delays, "ADWIN_WARM_ROWS", 20_000)
    found = time_adwin(TEXTBOOK, 18.0, (0.5,), EFFORT, 1)
    assert found.setting is not None
    assert 1e-8 < found.setting < 1e-4  # published: 0.002
    assert found.alarms_per_month is not None
    assert found.alarms_per_month.estimate == pytest.approx(1 / 18, rel=0.6)
    assert 0.5 < found.median_s[0.5] < 10.0


def test_the_cusum_alarms_as_often_as_siegmund_says() -> None:
    out, state = np.empty(400_000), np.zeros(1)
    cusum(np.random.default_rng(1).normal(size=len(out)), 0.5, state, out)
    threshold = cusum_threshold(0.5, 2_000.0)
    alarms, at = 0, 0
    while at < len(out):
        state[:] = 0.0
        rest = out[at:].copy()
        cusum(np.random.default_rng(at + 2).normal(size=len(rest)), 0.5, state, rest)
        above = np.flatnonzero(rest >= threshold)
        if not len(above):
            break
        alarms, at = alarms + 1, at + int(above[0]) + 1
    assert len(out) / alarms == pytest.approx(2_000.0, rel=0.3)


def test_no_rule_is_sooner_than_a_cusum_that_is_told_the_shift() -> None:
    found = time_cusum(TEXTBOOK, 18.0, (0.25, 1.0), EFFORT, 1)
    assert 4.0 < found.median_s[0.25] < 8.0
    assert found.median_s[1.0] < 1.0
    assert not found.judged


def test_the_limit_of_psi_leaves_room_for_the_cycle() -> None:
    calm, restless = psi_limit(TEXTBOOK, 18.0), psi_limit(Stream("cycle", 100.0, cycle=0.1, day_sd=0.01), 18.0)
    assert 0.0005 < calm < 0.002
    assert 0.01 < restless < 0.04


def test_adwin_has_no_setting_that_lives_with_a_daily_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day of a strong cycle, in few rows; the smallest δ that there is alarms all the same."""
    cycle = Stream("cycle", 4.0, cycle=1.0)
    found = time_adwin(cycle, 18.0, (0.5,), EFFORT, 1)
    assert found.setting is None
    assert math.isinf(found.median_s[0.5])


def test_counting_alarms_stops_where_it_is_told_to() -> None:
    rows = np.concatenate([np.zeros(500), np.full(500, 9.0), np.zeros(500)])
    rows += np.random.default_rng(6).normal(size=1500)
    parts = np.split(rows, 3)
    assert adwin_alarms(parts, 0.002) == adwin_alarms([rows], 0.002) >= 2
    assert adwin_alarms(parts, 0.002, 1) == 1


def test_psi_above_a_fifth_misses_a_quarter_and_sees_a_whole_standard_deviation() -> None:
    found = time_psi_rule(TEXTBOOK, (0.25, 1.0), Effort(runs=2, limit_s=480.0), 1)
    assert math.isinf(found.median_s[0.25])
    assert 60.0 <= found.median_s[1.0] <= 300.0


def test_rows_of_a_stream_have_the_mean_and_spread_that_they_are_said_to_have() -> None:
    rng = np.random.default_rng(7)
    assert TEXTBOOK.rows(rng, 0, 100_000, 0.25).mean() == pytest.approx(0.25, abs=0.02)
    assert Stream("amount", 100.0, log_sd=0.8).rows(rng, 0, 400_000).std() == pytest.approx(1.0, rel=0.05)
    six_hours_on = Stream("cycle", 10.0, cycle=0.5).rows(rng, 6 * 36_000, 20_000)
    assert six_hours_on.mean() == pytest.approx(0.5, abs=0.05)
    restless = Stream("days", 1.0, day_sd=1.0)
    assert restless.rows(rng, 0, 80_000).mean() == pytest.approx(np.random.default_rng(0).normal(), abs=0.02)
