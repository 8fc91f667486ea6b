"""How far the ceiling is: the posterior of one who knows how the Handbook's frauds were made (`fraud_data.simulator`).

It knows the three scenarios' rates, lengths and amounts, every customer's mean amount, and the scenario of each payment
whose label is known by then; nothing else of the labels. What it does not know, it weighs:

1. an amount over 220 is fraud;
2. a terminal may be compromised: begun between its last known genuine payment and its first known fraud, for 28 days;
3. a card may have leaked on any of the last 14 days: a third of its payments since are drawn at five times the mean.

Each scenario is weighed alone and the three are combined as independent, so that this is a bound for practice and not
for mathematics: a model may pass it on a few rows by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from fraud_data import Transactions
from fraud_data.simulator import (
    CUSTOMER_DAYS,
    CUSTOMERS_A_DAY,
    LEAKED_FACTOR,
    SUSPICIOUS_AMOUNT_MINOR,
    TERMINAL_DAYS,
    TERMINALS_A_DAY,
)
from fraud_release.evaluation import quality
from fraud_release.protocol import Protocol, cards, make_fold
from fraud_release.splits import Mask
from fraud_scoring.errors import InvalidInput
from fraud_scoring.features import Float64
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.windows import Int64

BELOW_ZERO: Final = 0.022750131948179195
"""Share of a normal N(m, m/2) below 0, which the simulator draws again, evenly from 0 to 2m."""
LEAKED_SHARE: Final = 1 / 3
MEAN_OF_DRAWN: Final = 1.026995615
"""Mean of such an amount over m: Φ(2) + φ(2)/2 of the normal above 0, and Φ(−2) of what is drawn again."""


@dataclass(frozen=True)
class Ceiling:
    """What the oracle reaches on the test folds of a protocol: means over folds."""

    average_precision: float
    auc: float
    card_precision_100: float
    unforeseen: float
    """Share of all frauds that are scenario 2's at terminals of which no fraud of the last 28 days was known."""
    unforeseen_of_scenario_2: float


def ceiling(data: Transactions, schema: Schema, protocol: Protocol) -> Ceiling:
    """The oracle on the same test rows as a study."""
    of, found = cards(data, schema), []
    for start in protocol.starts:
        test = make_fold(protocol, start, of).test
        told = consult(data, schema, test, protocol.delay_days)
        assert data.scenario is not None
        ranked = quality(told.probability, of.is_fraud[test], of.customer[test], data.rows[test, schema.time_index])
        hidden = float(told.unforeseen.sum())
        second = max(int((data.scenario[test] == 2).sum()), 1)
        share = hidden / ranked.frauds, hidden / second
        found.append((ranked.average_precision, ranked.auc, ranked.card_precision_100, *share))
    return Ceiling(*(float(value) for value in np.mean(found, axis=0)))


class Known(NamedTuple):
    """What the oracle looks at, a value a row, and the label delay."""

    day: Int64
    times_us: Int64
    customer: Int64
    terminal: Int64
    amount: Float64
    """Major units."""
    scenario: Int64
    delay_us: int


@dataclass(frozen=True)
class Oracle:
    """The posterior of fraud for some rows, and which of them no label could have told."""

    rows: Int64
    probability: Float64
    unforeseen: Mask
    """Scenario-2 frauds at terminals of which no fraud of the last 28 days was known by then."""


def consult(data: Transactions, schema: Schema, which: Mask, delay_days: int) -> Oracle:
    """The posterior for the rows of mask `which` bool [N]; InvalidInput where the data is not the simulator's."""
    if data.scenario is None or len(schema.entities) < 2:
        raise InvalidInput(
            "fraud_scenario: the oracle knows simulated data only; give a file that has the scenarios' codes"
        )
    times = data.rows[:, schema.time_index]
    known = Known(
        times // MICROSECONDS_PER_DAY,
        times,
        data.rows[:, schema.entities[0][0]],
        data.rows[:, schema.entities[1][0]],
        data.rows[:, schema.amount_index] / schema.columns[schema.amount_index].minor_units,
        data.scenario.astype(np.int64),
        delay_days * MICROSECONDS_PER_DAY,
    )
    rows = np.flatnonzero(which)
    compromised, signal = _compromised(known, rows)
    genuine = (1 - compromised) * (1 - _leaked(known, rows))
    # a sure sign, but for the amounts at the edge; kept below 1 so that equals stay ranked by the rest
    genuine *= np.where(known.amount[rows] > SUSPICIOUS_AMOUNT_MINOR / 100, 1e-4, 1.0)
    fraud: Float64 = 1.0 - genuine
    return Oracle(rows, fraud, (known.scenario[rows] == 2) & ~signal)


def _compromised(known: Known, rows: Int64) -> tuple[Float64, Mask]:
    """Chance [R] that the terminal is compromised now, and whether a fraud of the last 28 days is known of it."""
    order = np.lexsort((known.times_us, known.terminal))
    terminal, day, scenario = known.terminal[order], known.day[order], known.scenario[order]
    place = np.arange(len(order))
    starts = np.flatnonzero(np.concatenate([[True], terminal[1:] != terminal[:-1]]))
    first_of = np.repeat(starts, np.diff(np.append(starts, len(order))))
    # the last payment up to here that was not in a compromised terminal (a later scenario may hide the second)
    good = np.maximum(np.maximum.accumulate(np.where(scenario < 2, place, -1)), first_of - 1)
    told = np.minimum.accumulate(np.where(scenario == 2, place, len(order))[::-1])[::-1]
    told = np.append(told, len(order))
    mature = _last_mature(known, order, rows, first_of)
    there = mature >= 0
    at = np.maximum(mature, 0)
    begun, last_good = told[good[at] + 1], good[at]
    streak = there & (begun <= at)
    now = known.day[rows]
    none_good = (~there) | (last_good < first_of[at])
    good_day = np.where(none_good, now - 2 * TERMINAL_DAYS, day[np.maximum(last_good, 0)])
    begun_day = day[np.minimum(begun, len(order) - 1)]
    rate = TERMINALS_A_DAY / len(starts)
    since = 1 - (1 - rate) ** np.clip(now - good_day, 0, TERMINAL_DAYS)
    earliest = np.maximum(good_day + 1, begun_day - TERMINAL_DAYS + 1)
    still = np.maximum(begun_day - np.maximum(earliest, now - TERMINAL_DAYS + 1) + 1, 0)
    chance = np.where(streak, still / np.maximum(begun_day - earliest + 1, 1), since)
    newest = np.maximum.accumulate(np.where(scenario == 2, place, -1))[at]
    recent = there & (newest >= first_of[at]) & (day[np.maximum(newest, 0)] > now - TERMINAL_DAYS)
    return np.clip(chance, 1e-3 * streak, 1.0), recent


def _last_mature(known: Known, order: Int64, rows: Int64, first_of: Int64) -> Int64:
    """For each row the place in `order` of its terminal's last payment whose label is known then; −1 where none is."""
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    place = place_of[rows]
    lowest = first_of[place]
    limit = known.times_us[rows] - known.delay_us
    while (late := (place >= lowest) & (known.times_us[order[np.maximum(place, 0)]] > limit)).any():
        place = place - late
    return np.where(place >= lowest, place, -1)


def _leaked(known: Known, rows: Int64) -> Float64:
    """Chance [R] that this payment is one of a leaked card's: over the days on which the card may have leaked."""
    order = np.lexsort((known.times_us, known.customer))
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    customers, index = np.unique(known.customer, return_inverse=True)
    honest = known.scenario != 3
    mean = np.bincount(index, known.amount * honest) / np.maximum(np.bincount(index, honest), 1)
    mean = np.maximum(mean / MEAN_OF_DRAWN, 0.01)[index]
    usual = _density(known.amount, mean)
    raised = _density(known.amount / LEAKED_FACTOR, mean) / LEAKED_FACTOR
    ages = np.arange(CUSTOMER_DAYS)
    # log odds [R, 14] of what was paid in the last 14 days if the card leaked so many days ago, against never
    evidence = np.zeros((len(rows), CUSTOMER_DAYS))
    active, lag = np.arange(len(rows)), 0
    while len(active):
        lag += 1
        place = place_of[rows[active]] - lag
        earlier = order[np.maximum(place, 0)]
        now = rows[active]
        days = known.day[now] - known.day[earlier]
        inside = (place >= 0) & (known.customer[earlier] == known.customer[now]) & (days < CUSTOMER_DAYS)
        active, earlier, days, now = active[inside], earlier[inside], days[inside], now[inside]
        fraud, fair = LEAKED_SHARE * raised[earlier] / usual[earlier], 1 - LEAKED_SHARE
        # a labelled payment of scenario 3 could not be without a leak
        labelled = known.times_us[earlier] <= known.times_us[now] - known.delay_us
        told = np.where(known.scenario[earlier] == 3, np.log(fraud) + 50.0, np.log(fair))
        weight = np.where(labelled, told, np.log(fair + fraud))
        evidence[active] += np.where(days[:, None] <= ages, weight[:, None], 0.0)
    rate = CUSTOMERS_A_DAY / len(customers)
    most = np.maximum(evidence.max(axis=1), 0.0)
    leaked = rate * np.exp(evidence - most[:, None]).sum(axis=1)
    chance = leaked / (leaked + (1 - CUSTOMER_DAYS * rate) * np.exp(-most))
    fraud = chance * LEAKED_SHARE * raised[rows]
    genuine = chance * (1 - LEAKED_SHARE) * usual[rows] + (1 - chance) * usual[rows]
    posterior: Float64 = fraud / (fraud + genuine)
    return posterior


def _density(amount: Float64, mean: Float64) -> Float64:
    """Of a simulated amount: N(m, m/2) above 0, and what is drawn again."""
    spread = mean / 2
    bell = np.exp(-0.5 * ((amount - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    again = np.where(amount <= 2 * mean, BELOW_ZERO / (2 * mean), 0.0)
    density: Float64 = bell + again + 1e-12 / mean
    return density
