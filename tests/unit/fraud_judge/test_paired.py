"""A shadow compared with who answered: figures counted by hand, and intervals that hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from fraud_judge.paired import NAMES, Pairs, compare, distance, share

APPROVE, REVIEW, DECLINE = range(3)


def pairs(
    champion: list[int], challenger: list[int], amount: list[int] | None = None, customer: list[int] | None = None
) -> Pairs:
    n = len(champion)
    return Pairs(
        at_us=np.arange(n, dtype=np.int64) * 1_000_000,
        identifier=np.arange(n, dtype=np.int64) + 100,
        customer=np.array(range(n) if customer is None else customer, np.int64),
        amount=np.array([100] * n if amount is None else amount, np.int64),
        champion_score=np.array(champion) / 4 + 0.1,
        score=np.array(challenger) / 4 + 0.1,
        champion=np.array(champion, np.int64),
        challenger=np.array(challenger, np.int64),
    )


def drawn(rng: np.random.Generator, customers: int, rows: int, flip: float, spread: float) -> Pairs:
    """Customers of `rows` transactions; a customer's own share of flips lies around `flip` the wider, the `spread`."""
    own = rng.beta(flip * spread, (1 - flip) * spread, customers)
    flipped = (rng.random((customers, rows)) < own[:, None]).ravel()
    n = customers * rows
    return pairs([0] * n, flipped.astype(int).tolist(), customer=np.repeat(np.arange(customers), rows).tolist())


def test_every_decision_is_counted_in_its_cell_with_its_amount() -> None:
    found = compare(pairs([0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 0, 2], [10, 20, 30, 40, 50, 60]))
    counts = [[cell["transactions"] for cell in row] for row in found["matrix"]]
    amounts = [[cell["amount_minor"] for cell in row] for row in found["matrix"]]
    assert counts == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]
    assert amounts == [[10, 50, 0], [0, 40, 0], [50, 0, 60]]
    assert [found[name]["value"] for name in ("agreement", "stricter", "milder")] == [3 / 6, 2 / 6, 1 / 6]
    assert found["decisions"]["review"]["champion"]["value"] == 1 / 6
    assert found["decisions"]["review"]["challenger"]["value"] == 3 / 6
    assert found["decisions"]["review"]["difference"]["value"] == pytest.approx(2 / 6)
    assert (found["transactions"], found["customers"], found["amount_minor"]) == (6, 6, 210)


def test_flips_come_with_their_amounts_and_the_largest_as_examples() -> None:
    found = compare(pairs([0, 0, 0, 0, 2], [2, 2, 2, 0, 1], [10, 30, 20, 500, 7]), examples=2)
    first, second = found["flips"]
    assert (first["champion"], first["challenger"], first["transactions"]) == ("approve", "decline", 3)
    assert first["amount_minor"] == 60
    assert first["amount_share"]["value"] == pytest.approx(60 / 567)
    assert [one["transaction"] for one in first["examples"]] == [101, 102]
    assert first["examples"][0] == {
        "transaction": 101,
        "amount_minor": 30,
        "champion_score": 0.1,
        "challenger_score": 0.6,
    }
    assert (second["champion"], second["challenger"], second["transactions"]) == ("decline", "review", 1)
    assert NAMES == ("approve", "review", "decline")


def test_equal_releases_differ_in_nothing() -> None:
    same = [APPROVE] * 50 + [REVIEW] * 5 + [DECLINE] * 5
    found = compare(pairs(same, same))
    assert found["flips"] == []
    assert found["agreement"]["value"] == 1.0
    assert 0.9 < found["agreement"]["low"] < 1.0, "sixty customers prove no more than that"
    assert found["scores"]["ks_distance"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["scores"]["mean_difference"]["value"] == 0.0


def test_few_customers_give_no_interval() -> None:
    found = compare(pairs([0] * 400, [0, 1] * 200, customer=list(range(20)) * 20))
    for figure in (found["agreement"], found["scores"]["ks_distance"], found["flips"][0]["amount_share"]):
        assert (figure["low"], figure["high"]) == (None, None)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(1)
    for n in (1, 7, 1_000):
        one, other = rng.random(n).round(2), (rng.random(n) ** 1.3).round(2)
        assert distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)


@pytest.mark.parametrize(("flip", "spread"), [(0.02, 1e6), (0.02, 5.0), (0.3, 2.0)])
def test_the_interval_of_a_share_holds_it_nineteen_times_in_twenty(flip: float, spread: float) -> None:
    """Rows of a customer go together where the spread is small; an interval over rows would miss far more often."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        made = drawn(rng, 200, 10, flip, spread)
        figure = share(made.champion != made.challenger, made.customer)
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= flip <= figure.high
    assert held >= 276, held  # 285 on average where an interval is exact


def test_an_interval_over_customers_is_wider_where_their_transactions_go_together() -> None:
    rng = np.random.default_rng(6)
    widths = []
    for spread in (1e6, 1.0):
        made = drawn(rng, 200, 20, 0.1, spread)
        figure = share(made.champion != made.challenger, made.customer)
        assert figure.low is not None
        assert figure.high is not None
        widths.append(figure.high - figure.low)
    assert widths[1] > 2 * widths[0]


def test_a_share_of_none_is_bounded_by_the_number_of_customers() -> None:
    figure = share(np.zeros(10_000, np.bool_), np.arange(10_000) % 100)
    assert (figure.value, figure.low) == (0.0, 0.0)
    assert figure.high == pytest.approx(1 - 0.025 ** (1 / 100), rel=1e-6)
