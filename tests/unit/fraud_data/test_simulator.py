"""The simulator: the published process, its three frauds, and the same transactions for the same seed."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_scoring.errors import InvalidInput

ID, TIME, CUSTOMER, TERMINAL, AMOUNT = range(5)
DAY_US = 86_400_000_000
START_US = 1_522_540_800_000_000  # 2018-04-01
SMALL = SimulatorSettings(customers=300, terminals=600, days=60)


@pytest.fixture(scope="module")
def simulated() -> Transactions:
    return simulate(SMALL)


def days_of(transactions: Transactions) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (transactions.rows[:, TIME] - START_US) // DAY_US


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**63 - 2), customers=st.integers(30, 80), days=st.integers(1, 20))
def test_a_seed_gives_the_same_transactions_and_another_seed_gives_others(seed: int, customers: int, days: int) -> None:
    one = SimulatorSettings(customers=customers, terminals=500, days=days, seed=seed)
    other = SimulatorSettings(customers=customers, terminals=500, days=days, seed=seed + 1)
    first, again, different = simulate(one), simulate(one), simulate(other)
    np.testing.assert_array_equal(first.rows, again.rows)
    assert first.scenario is not None
    assert again.scenario is not None
    np.testing.assert_array_equal(first.scenario, again.scenario)
    assert not np.array_equal(first.rows, different.rows)


def test_transactions_are_numbered_in_event_order(simulated: Transactions) -> None:
    np.testing.assert_array_equal(simulated.rows[:, ID], np.arange(len(simulated)))
    assert (np.diff(simulated.rows[:, TIME]) >= 0).all()


def test_times_are_whole_seconds_inside_the_days_asked_for(simulated: Transactions) -> None:
    times = simulated.rows[:, TIME]
    assert (times % 1_000_000 == 0).all()
    assert times.min() >= START_US
    assert times.max() < START_US + SMALL.days * DAY_US
    assert set(days_of(simulated)) == set(range(SMALL.days))


def test_the_start_moves_the_times_and_nothing_else(simulated: Transactions) -> None:
    moved = simulate(SimulatorSettings(customers=300, terminals=600, days=60, start=date(2018, 4, 3)))
    np.testing.assert_array_equal(moved.rows[:, TIME], simulated.rows[:, TIME] + 2 * DAY_US)
    np.testing.assert_array_equal(moved.rows[:, CUSTOMER:], simulated.rows[:, CUSTOMER:])


def test_no_amount_is_below_one_minor_unit(simulated: Transactions) -> None:
    assert simulated.rows[:, AMOUNT].min() >= 1


def test_customers_and_terminals_are_numbered_within_their_counts(simulated: Transactions) -> None:
    assert 0 <= simulated.rows[:, CUSTOMER].min() <= simulated.rows[:, CUSTOMER].max() < SMALL.customers
    assert 0 <= simulated.rows[:, TERMINAL].min() <= simulated.rows[:, TERMINAL].max() < SMALL.terminals


def test_a_customer_uses_only_the_terminals_in_range(simulated: Transactions) -> None:
    pairs = np.unique(simulated.rows[:, [CUSTOMER, TERMINAL]], axis=0)
    used = np.bincount(pairs[:, 0])
    # 600 terminals, radius 5 on the 100 × 100 grid: 4.7 in range on average; no customer reaches 5 times as many.
    assert 1 < used[used > 0].mean() < 5.5
    assert used.max() < 24


def test_a_radius_over_the_whole_grid_reaches_all_terminals() -> None:
    everywhere = simulate(SimulatorSettings(customers=50, terminals=20, days=60, radius=150))
    assert len(np.unique(everywhere.rows[everywhere.rows[:, CUSTOMER] == 7][:, TERMINAL])) > 10


def test_a_customer_with_no_terminal_in_range_makes_no_transaction() -> None:
    sparse = simulate(SimulatorSettings(customers=300, terminals=5, days=20))
    assert 0 < len(np.unique(sparse.rows[:, CUSTOMER])) < 100


def test_frauds_are_the_transactions_with_a_scenario_and_all_three_occur(simulated: Transactions) -> None:
    assert simulated.is_fraud is not None
    assert simulated.scenario is not None
    np.testing.assert_array_equal(simulated.is_fraud == 1, simulated.scenario > 0)
    assert set(simulated.scenario) == {0, 1, 2, 3}


def test_every_amount_over_220_is_fraud(simulated: Transactions) -> None:
    assert simulated.is_fraud is not None
    assert simulated.scenario is not None
    assert (simulated.is_fraud[simulated.rows[:, AMOUNT] > 22_000] == 1).all()
    assert (simulated.rows[simulated.scenario == 1, AMOUNT] > 22_000).all()


def test_a_compromised_terminal_has_only_frauds_for_28_days(simulated: Transactions) -> None:
    assert simulated.scenario is not None
    days, terminals = days_of(simulated), simulated.rows[:, TERMINAL]
    hit = np.unique(terminals[simulated.scenario == 2])
    for terminal in hit:
        here = terminals == terminal
        bad_days = days[here & (simulated.scenario == 2)]
        # One compromise leaves no honest transaction between its first and its last fraud, if they are so close.
        if bad_days.max() - bad_days.min() < 28:
            between = here & (days > bad_days.min()) & (days < bad_days.max())
            assert (simulated.scenario[between] > 0).all()
    assert 60 < len(hit) <= 120


def test_a_third_of_the_transactions_of_leaked_cards_is_abused() -> None:
    # Of three customers, three leak: the day's transactions are all theirs.
    leaky = simulate(SimulatorSettings(customers=3, terminals=2_000, days=1, seed=3))
    assert leaky.scenario is not None
    assert len(leaky) >= 6
    assert (leaky.scenario == 3).sum() == len(leaky) // 3


def test_a_leak_lasts_some_days_and_not_the_whole_time(simulated: Transactions) -> None:
    assert simulated.scenario is not None
    days, customers = days_of(simulated), simulated.rows[:, CUSTOMER]
    abused = simulated.scenario == 3
    spans = [np.ptp(days[abused & (customers == who)]) for who in np.unique(customers[abused])]
    # 180 leaks among 300 customers: most of those who leak do so once or twice, none all the time.
    assert np.median(spans) < 14 <= max(spans) < SMALL.days


def test_abused_amounts_are_five_times_what_the_customer_spends(simulated: Transactions) -> None:
    assert simulated.scenario is not None
    amounts = simulated.rows[:, AMOUNT]
    assert (amounts[simulated.scenario == 3] % 5 == 0).all()
    ratio = amounts[simulated.scenario == 3].mean() / amounts[simulated.scenario == 0].mean()
    assert 3.5 < ratio < 7.5


def test_the_default_settings_give_the_published_size_and_share_of_fraud() -> None:
    full = simulate()
    assert full.is_fraud is not None
    assert len(full) == pytest.approx(1_754_155, rel=0.02)
    assert 0.0070 < full.is_fraud.mean() < 0.0100


def test_progress_rises_from_the_first_block_to_the_end() -> None:
    seen: list[tuple[float, str]] = []
    simulate(
        SimulatorSettings(customers=2_500, terminals=50, days=3),
        progress=lambda done, text: seen.append((done, text)),
    )
    shares = [done for done, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 5
    assert all(text for _, text in seen)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"customers": 2}, "customers is 2; write a whole number from 3 to 10,000,000"),
        ({"customers": 5.0}, "customers is 5.0; write a whole number"),
        ({"terminals": 1}, "terminals is 1; write a whole number from 2"),
        ({"days": 0}, "days is 0; write a whole number from 1 to 3,650"),
        ({"days": True}, "days is True; write a whole number"),
        ({"seed": -1}, "seed is -1; write a whole number from 0"),
        ({"radius": 0}, "radius is 0; write a number above 0"),
        ({"radius": float("nan")}, "radius is nan; write a number above 0"),
        ({"start": date(1999, 12, 31)}, "start is 1999-12-31; write a day from 2000-01-01"),
        ({"start": datetime(2018, 4, 1, 12)}, "start is 2018-04-01 12:00:00; write a day"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_what_to_write(setting: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        SimulatorSettings(**setting)
    assert says in str(refused.value)


def test_settings_that_give_no_transaction_are_refused_with_what_to_write() -> None:
    with pytest.raises(InvalidInput, match=r"no transaction.*write more customers, terminals or days"):
        simulate(SimulatorSettings(customers=3, terminals=2, days=1, radius=1e-6))
