"""Simulated streams: drawn as they should be, calm where nothing moves, and the study's verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from drift_sidecar import drifts, study, worlds
from drift_sidecar.drifts import DRIFTS, NOON, Delay, Drift, delays, label_delays, shifted
from drift_sidecar.peer_delays import Effort, PeerDelay
from drift_sidecar.rare_alarms import Rate
from drift_sidecar.simulation import GUIDE, LONGEST, World, draw, fill_tables, stationary
from drift_sidecar.study import Duel, Pages, Plan, Study, run_study
from fraud_scoring.reference import Float64


@pytest.mark.parametrize("mean", [0.0, 0.003, 0.7, 12.0, 180.0, 299.0, 4000.0])
def test_counts_are_poisson_numbers(mean: float) -> None:
    below, guide = np.zeros((1, 1, LONGEST)), np.zeros((1, 1, GUIDE), np.int16)
    fill_tables(np.array([[mean]]), below, guide)
    state = np.array([12345, 67890], np.uint64)
    counts, drawn = np.zeros((1, 1)), np.empty(20_000)
    for number in range(len(drawn)):
        draw(state, below, guide, counts)
        drawn[number] = counts[0, 0]
    assert drawn.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / len(drawn)) + 1e-12)
    if mean > 0.5:
        assert drawn.var() == pytest.approx(mean, rel=0.06)
        if mean < 300:
            levels = stats.poisson.ppf([0.1, 0.5, 0.9], mean)
            shares = [(drawn <= level).mean() for level in levels]
            assert shares == pytest.approx(stats.poisson.cdf(levels, mean), abs=0.012)


def test_every_series_of_a_world_has_shares_that_add_up_to_one_in_every_hour() -> None:
    for series in worlds.SERIES:
        for hour in (0, 36, 130):
            assert series.shares(hour).sum() == pytest.approx(1.0)
    assert len(worlds.FEATURES) == 15


def test_a_worlds_reference_is_drawn_from_its_truth() -> None:
    reference = worlds.draw_reference(np.random.default_rng(1), 100_000, 0.0)
    seen = reference.features[0].counts[:10] / reference.rows
    assert seen == pytest.approx(np.full(10, 0.1), abs=0.006)
    assert np.array_equal(reference.by_day.sum(axis=0), reference.cells)


def test_a_stationary_week_raises_no_page() -> None:
    found = stationary(World(1, look_seconds=10.0), 7)
    assert (found.pages, found.crossings) == (0, 0)
    assert found.months == pytest.approx(7 / 30.44, rel=0.01)
    assert found.highest < 0.01


def test_at_the_edge_of_the_tolerance_a_stationary_day_raises_no_page() -> None:
    assert stationary(World(2, look_seconds=10.0, edge=True), 1).pages == 0


def test_the_same_seed_gives_the_same_stream() -> None:
    drift = Drift("x", partial(shifted, name="gaussian", sd=0.25))
    found = [delays(World(3), drift, 3, rows_per_second=100.0, limit_s=120.0) for _ in range(2)]
    assert found[0] == found[1]


def test_a_quarter_of_a_standard_deviation_pages_within_ten_minutes() -> None:
    drift = Drift("x", partial(shifted, name="gaussian", sd=0.25))
    found = delays(World(4), drift, 10, rows_per_second=100.0, limit_s=600.0)
    assert found.median_s < 60.0
    assert found.without_page == 0
    assert found.first_series == "gaussian"


def test_a_shift_within_the_tolerance_does_not_page() -> None:
    drift = Drift("x", partial(shifted, name="gaussian", sd=0.05))
    found = delays(World(5), drift, 2, rows_per_second=100.0, limit_s=120.0)
    assert found.without_page == 2
    assert math.isinf(found.median_s)


@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.name)
def test_every_injected_drift_changes_shares_into_shares(drift: Drift) -> None:
    world = World(6, reference_rows=50_000)
    before = world.shares(NOON)
    after = drift.change(before)
    assert np.allclose(after.sum(axis=1), 1.0)
    assert (after >= 0).all()
    assert 1 <= (np.abs(after - before).max(axis=1) > 1e-3).sum() <= 5


def test_a_change_of_the_labels_is_told_within_the_hour_after_they_come() -> None:
    for found in label_delays(7, 3):
        assert found.median_s <= 3600.0
        assert found.without_page == 0


QUIET = Pages(60.0, 10.0, 0, 0.0, 0.0, 0.03, 0, 0.001)
SEEN = Delay("mean of one feature + 0.25 sd", 10, 12.0, 15.0, 0, "gaussian")
SHIFTS = {0.25: 12.0, 0.5: 3.0}
SLOW = PeerDelay("PageHinkley", study.CYCLE, 700.0, {0.25: 90.0, 0.5: 30.0}, 12.0)
ALIKE = (Rate(3e-4, 2e-4, 4e-4), Rate(3e-5, 2e-5, 4e-5))
GOOD = Study(17, 100.0, QUIET, QUIET, QUIET, ALIKE, (SEEN,), (Duel(study.CYCLE, 1.0, SHIFTS, (SLOW,)),), 1.0)


def test_a_study_that_meets_its_targets_misses_none() -> None:
    assert GOOD.missed == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"stationary": replace(QUIET, pages=200, pages_per_month=1.7)},
            "1.70 false pages a month, looked at every 60 s, at most 1 wanted",
        ),
        ({"delays": (replace(SEEN, median_s=math.inf),)}, "seen after inf s, sooner than 600 s wanted"),
        (
            {"duels": (Duel(study.CYCLE, 1.0, SHIFTS, (replace(SLOW, median_s={0.25: 12.0}),)),)},
            "PageHinkley sees the shift after 12.0 s, the sidecar 12.0 s",
        ),
    ],
)
def test_a_target_that_is_missed_is_named(changed: dict[str, Any], says: str) -> None:
    (line,) = replace(GOOD, **changed).missed
    assert says in line


def test_what_is_only_shown_may_be_sooner() -> None:
    faster = replace(SLOW, stream=study.TEXTBOOK, median_s={0.25: 6.0, 0.5: 1.0}, judged=False)
    assert replace(GOOD, duels=(Duel(study.TEXTBOOK, 1.0, SHIFTS, (faster,)),)).missed == ()


def test_the_study_as_json_has_no_infinity() -> None:
    document = replace(GOOD, delays=(replace(SEEN, median_s=math.inf),)).as_dict()
    assert document["delays"][0]["median_s"] is None
    json.dumps(document, allow_nan=False)


def test_a_small_study_runs_all_its_parts() -> None:
    told: list[float] = []
    plan = Plan(years=0.006, second_years=0.001, edge_years=0.003, runs=2, peers=False, effort=Effort.quick(), seed=3)
    found = run_study(plan, lambda done, text: told.append(done))
    assert found.stationary.pages == 0
    assert found.stationary.pages_per_month_high == pytest.approx(
        stats.chi2.ppf(0.975, 2) / 2 / (12 * found.stationary.years)
    )
    names = [delay.name for delay in found.delays]
    assert set(names) == {
        *(drift.name for drift in DRIFTS),
        *(name for name, _, _ in drifts.LABEL_DRIFTS),
        f"looked at once a minute: {study.MINUTE_DRIFT}",
    }
    assert found.duels == ()
    assert told[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("result", "code"), [(GOOD, 0), (replace(GOOD, delays=(replace(SEEN, median_s=900.0),)), 1)])
def test_the_command_ends_with_1_where_a_target_is_missed(
    result: Study, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fraudctl.drift import drift

    plans: list[Plan] = []
    monkeypatch.setattr(study, "run_study", lambda plan, progress: plans.append(plan) or result)
    found = CliRunner().invoke(drift, ["simulate", "--quick", "--json", "--seed", "11"])
    assert found.exit_code == code
    assert json.loads(found.stdout)["missed"] == list(result.missed)
    assert (plans[0].seed, plans[0].years, plans[0].peers) == (11, 1.0, True)
    (tmp_path / "study.json").write_text(found.stdout)
    told = CliRunner().invoke(drift, ["table", str(tmp_path / "study.json")])
    assert "| **drift sidecar** | as shipped | 12.0 s | 3.0 s |" in told.stdout
    assert "| mean of one feature + 0.25 sd |" in told.stdout
    table = CliRunner().invoke(drift, ["simulate", "--years", "2", "--no-peers"])
    assert "False pages, 17 series together" in table.stdout
    assert plans[1] == Plan(years=2.0, peers=False)


@pytest.mark.parametrize(("written", "says"), [("no", "is no JSON"), ('{"series": 17}', "this is no study")])
def test_what_is_no_study_has_no_table(written: str, says: str, tmp_path: Path) -> None:
    from fraudctl.drift import drift

    (tmp_path / "study.json").write_text(written)
    found = CliRunner().invoke(drift, ["table", str(tmp_path / "study.json")])
    assert says in str(found.exception)


def test_days_of_a_world_differ_but_flags_do_not() -> None:
    world = World(8, reference_rows=50_000, day_sd=0.05)
    before: Float64 = world.shares(NOON)
    world.new_day()
    after = world.shares(NOON)
    flag = next(k for k, series in enumerate(worlds.SERIES) if series.name == "is_night")
    assert np.abs(after - before)[0].max() > 1e-3
    assert np.array_equal(after[flag], before[flag])
