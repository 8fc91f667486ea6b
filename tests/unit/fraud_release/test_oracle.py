"""The oracle: what one reaches who knows how the simulator makes frauds."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fraud_data import SimulatorSettings, Transactions, simulate
from fraud_release.oracle import MEAN_OF_DRAWN, Oracle, ceiling, consult
from fraud_release.protocol import Protocol
from fraud_scoring.errors import InvalidInput
from support.rows import DEFAULT_SCHEMA

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def data() -> Transactions:
    """56 days of 400 cards: enough for a leak to end and for a terminal to be compromised and found."""
    return simulate(SimulatorSettings(customers=400, terminals=700, days=56, radius=12.0, seed=5))


@pytest.fixture(scope="module")
def told(data: Transactions) -> Oracle:
    times = data.rows[:, DEFAULT_SCHEMA.time_index]
    return consult(data, DEFAULT_SCHEMA, times >= times.min() + 35 * DAY_US, 7)


def test_its_probabilities_rank_frauds_and_add_up_to_as_many_as_there_are(data: Transactions, told: Oracle) -> None:
    assert data.is_fraud is not None
    frauds = data.is_fraud[told.rows]
    assert average_precision_score(frauds, told.probability) > 2 * frauds.mean()
    assert told.probability.sum() == pytest.approx(frauds.sum(), rel=0.25)


def test_an_amount_over_220_is_all_but_sure(data: Transactions, told: Oracle) -> None:
    high = data.rows[told.rows, DEFAULT_SCHEMA.amount_index] > 22_000
    assert high.any()
    assert told.probability[high].min() > 0.999


def test_what_is_labelled_later_is_not_looked_at(data: Transactions, told: Oracle) -> None:
    """The last week's scenarios may be anything: nothing of them is known before the data ends."""
    assert data.scenario is not None
    times = data.rows[:, DEFAULT_SCHEMA.time_index]
    unknown = times > times.max() - 7 * DAY_US
    # scenario 3 stays: customers' true means are among what an oracle knows, and come from the others' amounts
    changed = np.where(unknown & (data.scenario != 3), 2 - np.minimum(data.scenario, 2), data.scenario).astype(np.int8)
    other = consult(replace(data, scenario=changed), DEFAULT_SCHEMA, np.isin(np.arange(len(data)), told.rows), 7)
    assert other.probability == pytest.approx(told.probability)
    assert not np.array_equal(other.unforeseen, told.unforeseen)


def test_a_terminals_first_week_is_unforeseen(data: Transactions, told: Oracle) -> None:
    """Every unforeseen fraud is scenario 2's, and nothing of its terminal from 7 to 27 days back was."""
    assert data.scenario is not None
    assert told.unforeseen.any()
    times, terminal = data.rows[:, DEFAULT_SCHEMA.time_index], data.rows[:, DEFAULT_SCHEMA.entities[1][0]]
    for row in told.rows[told.unforeseen][:50]:
        age = times[row] - times
        known = (terminal == terminal[row]) & (age >= 7 * DAY_US) & (age < 27 * DAY_US)
        assert data.scenario[row] == 2
        assert (data.scenario[known] != 2).all()


def test_the_mean_of_a_drawn_amount() -> None:
    drawn = np.random.default_rng(1)
    amount = drawn.normal(1, 0.5, 1_000_000)
    amount = np.where(amount < 0, drawn.uniform(0, 2, len(amount)), amount)
    assert amount.mean() == pytest.approx(MEAN_OF_DRAWN, abs=0.002)


def test_the_ceiling_is_measured_on_the_rows_of_a_protocol(data: Transactions) -> None:
    found = ceiling(data, DEFAULT_SCHEMA, Protocol(first_day=date(2018, 5, 1), folds=1))
    assert 0.5 < found.auc < 1
    assert 0 < found.unforeseen < found.unforeseen_of_scenario_2 < 1


def test_data_without_scenarios_has_no_oracle(data: Transactions) -> None:
    with pytest.raises(InvalidInput, match="simulated data only"):
        consult(replace(data, scenario=None), DEFAULT_SCHEMA, np.ones(len(data), bool), 7)
