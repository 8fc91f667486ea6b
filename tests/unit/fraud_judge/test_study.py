"""The study, small: the judge's own code on simulated traffic; the full one is `fraudctl judge simulate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraud_judge import worlds
from fraud_judge.page import markdown, page
from fraud_judge.settings import JudgeSettings
from fraud_judge.study import SCENARIOS, documents, interval, run_rollout, run_study
from support.rollouts import pool

POOL = pool()
SETTINGS = replace(JudgeSettings(), slots=1 << 16)
BAD = [one.name for one in SCENARIOS if not one.good and "threshold" not in one.name and "other" not in one.name]


def scenario(name: str) -> object:
    return next(one for one in SCENARIOS if one.name == name)


def test_an_identical_release_is_promoted() -> None:
    outcome = run_rollout(POOL, SCENARIOS[0], SETTINGS, 100.0, 1)
    assert (outcome.action, outcome.share) == ("promote", 5_000)
    assert outcome.seconds >= sum(step.least_s for step in SETTINGS.steps)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_is_rolled_back_at_the_first_step(name: str) -> None:
    outcome = run_rollout(POOL, next(one for one in SCENARIOS if one.name == name), SETTINGS, 100.0, 1)
    assert (outcome.action, outcome.share) == ("roll back", 500)


def test_the_same_seed_gives_the_same_study_on_a_page() -> None:
    runs = {"scores shifted: declines doubled": 3, "50 ms slower": 2}
    studies = [documents(run_study(POOL, SETTINGS, runs, processes=1), SETTINGS, 100.0) for _ in range(2)]
    assert studies[0] == studies[1]
    assert studies[0]["missed"] == []
    assert [one["rolled_back"] for one in studies[0]["scenarios"]] == [3, 2]
    html = page(studies[0])
    assert "scores shifted: declines doubled" in html
    assert "http" not in html.replace("http-equiv", "")
    assert markdown(studies[0]).count("\n") == 4


def test_a_study_that_misses_a_target_says_so() -> None:
    hasty = replace(SETTINGS, budget=0.2, shares=SETTINGS.shares)
    results = run_study(POOL, hasty, {"scores shifted: declines doubled": 1}, processes=1)
    slow = replace(results[0], scenario=replace(results[0].scenario, most_median_s=0.5))
    assert "median delay" in slow.missed[0]


def test_the_simulated_split_is_the_hash_and_the_rate_is_kept() -> None:
    blocks = worlds.traffic(POOL, np.random.default_rng(1), 43_200, 100.0)
    block = next(blocks)
    seconds = (block.rows.at_us[-1] - block.rows.at_us[0]) / 1e6
    assert len(block.rows.at_us) / seconds == pytest.approx(100.0, rel=0.05)
    assert len(np.unique(block.rows.customer)) < len(block.rows.customer)
    assert (np.diff(block.rows.at_us) >= 0).all()


def test_a_shift_doubles_the_declines() -> None:
    by = worlds.shift_for(POOL, 2.0, lambda by: worlds.shifted_scores(POOL.score, by))
    shifted = worlds.shifted_scores(POOL.score, by) >= np.float32(POOL.thresholds[1])
    assert shifted.mean() == pytest.approx(2 * (POOL.decision == 2).mean(), rel=0.05)


def test_intervals_are_clopper_and_pearsons() -> None:
    assert interval(0, 1_000) == (0.0, pytest.approx(0.003682, abs=1e-5))
    assert interval(1_000, 1_000)[0] == pytest.approx(0.996318, abs=1e-5)
