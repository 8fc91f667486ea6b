"""A/B figures: right sums, and intervals that know that a customer's transactions belong together."""

from __future__ import annotations

import numpy as np
import pytest

from fraud_judge.business import Costs, Decided, Figure, compare, difference, figures, ratio
from fraud_scoring.wire import Decision


def decided(arm: list[int], customer: list[int], amount: list[int], decision: list[int], fraud: list[int]) -> Decided:
    columns = [np.array(one, np.int64) for one in (arm, customer, amount, decision)]
    return Decided(*columns, is_fraud=np.array(fraud, np.bool_))


def test_the_figures_of_an_arm_by_hand() -> None:
    one = decided(
        arm=[0] * 5,
        customer=[1, 2, 3, 4, 5],
        amount=[10_000, 20_000, 30_000, 1_000, 1_000],
        decision=[Decision.DECLINE, Decision.APPROVE, Decision.REVIEW, Decision.DECLINE, Decision.APPROVE],
        fraud=[1, 1, 1, 0, 0],
    )
    found = {name: figure.value for name, figure in figures(one, Costs(2_000, 3_000, 400, 0.2)).items()}
    assert found["frauds_caught_share"] == pytest.approx(2 / 3)
    assert found["fraud_amount_caught_share"] == pytest.approx(40_000 / 60_000)
    assert found["good_declined_per_1000"] == pytest.approx(500)
    assert found["reviews_per_1000"] == pytest.approx(200)
    # approved fraud 22,000; review 400 and a fifth of 32,000; good customer declined 3,000
    assert found["cost_per_1000"] == pytest.approx(1_000 * (22_000 + 400 + 6_400 + 3_000) / 5)


def test_few_customers_get_no_interval() -> None:
    assert not ratio(np.ones(20), np.ones(20), np.arange(20)).known


def test_the_interval_covers_the_truth_where_customers_differ() -> None:
    """400 draws of 300 customers, each with a rate of its own: 95% cover; without clusters, far fewer would."""
    rng = np.random.default_rng(8)
    covered = naive = 0
    for _ in range(400):
        rate = rng.beta(1, 9, 300)
        customer = np.repeat(np.arange(300), 20)
        hit = (rng.random(6_000) < rate[customer]).astype(np.float64)
        found = ratio(hit, np.ones(6_000), customer)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.1 <= found.high
        alone = ratio(hit, np.ones(6_000), np.arange(6_000))
        assert alone.low is not None
        assert alone.high is not None
        naive += alone.low <= 0.1 <= alone.high
    assert covered / 400 > 0.92
    assert naive / 400 < 0.85


def test_a_difference_adds_the_variances() -> None:
    found = difference(Figure(5.0, 4.0, 6.0, 0.09), Figure(3.0, 2.0, 4.0, 0.16))
    assert found.value == 2.0
    assert found.variance == pytest.approx(0.25)


def test_arms_are_compared_with_the_base() -> None:
    n = 4_000
    rng = np.random.default_rng(2)
    arm = rng.integers(1, 3, n)
    fraud = rng.random(n) < 0.2
    decision = np.where(fraud & (rng.random(n) < np.where(arm == 2, 0.9, 0.5)), int(Decision.DECLINE), 0)
    drawn = Decided(arm, rng.integers(0, 2_000, n) * 2 + arm, np.full(n, 5_000), decision, fraud)
    found = compare(drawn, {1: "r0001", 2: "r0002"}, 1, Costs())
    gained = found["differences"]["r0002"]["frauds_caught_share"]
    assert gained["low"] < 0.4 < gained["high"]
    assert gained["low"] > 0.2
    assert found["differences"]["r0002"]["cost_per_1000"]["high"] < 0
