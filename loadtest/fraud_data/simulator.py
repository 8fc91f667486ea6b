"""Card transactions and frauds, simulated as in the Fraud Detection Handbook.

The model is the one published by Le Borgne, Siblini, Lebichot and Bontempi (Reproducible Machine Learning for Credit
Card Fraud Detection, 2022, chapter 3, "Transaction data simulator"), drawn here in whole arrays: the same settings
give the same transactions, bit for bit, with one version of NumPy. Three fraud scenarios are laid over the
transactions in this order, a later one overwriting the code of an earlier one:

1. every amount over 220;
2. each day, two random terminals are compromised: all their transactions of the next 28 days;
3. each day, the cards of three random customers leak: a random third of their transactions of the next 14 days, at
   five times the amount.

Cost: about 2 transactions a customer and day; under 1 µs and, at the peak, 150 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fraud_data.transactions import Transactions
from fraud_scoring.errors import InvalidInput

Progress = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""

SECONDS_PER_DAY: Final = 86_400
GRID: Final = 100.0
MEAN_AMOUNT: Final = (5.0, 100.0)
MAX_DAILY_RATE: Final = 4.0
SD_OF_TIME: Final = 20_000.0
SUSPICIOUS_AMOUNT_MINOR: Final = 22_000
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS, LEAKED_FACTOR = 3, 14, 5
CUSTOMERS_A_BLOCK: Final = 1_000
"""Customers drawn at once: bounds the memory for terminals in range. A change changes every simulation."""

_LIMITS: Final = {
    "customers": (CUSTOMERS_A_DAY, 10_000_000),
    "terminals": (TERMINALS_A_DAY, 10_000_000),
    "days": (1, 3_650),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class SimulatorSettings:
    """What to simulate; the defaults are those of the published data set (its seed excepted)."""

    customers: int = 5_000
    terminals: int = 10_000
    days: int = 183
    start: date = date(2018, 4, 1)
    seed: int = 7
    radius: float = 5.0
    """Distance on the 100 × 100 grid within which a customer uses terminals."""

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise InvalidInput(f"{name} is {value!r}; write a whole number from {least:,} to {most:,}")
        if not isinstance(self.radius, int | float) or not 0 < self.radius <= 2 * GRID:
            raise InvalidInput(f"radius is {self.radius!r}; write a number above 0 and up to {2 * GRID:g}")
        if isinstance(self.start, datetime) or not date(2000, 1, 1) <= self.start <= date(2089, 12, 31):
            raise InvalidInput(f"start is {self.start}; write a day from 2000-01-01 to 2089-12-31")


class _Draws(NamedTuple):
    """Transactions as columns; `second` counts from the start of the first day."""

    second: NDArray[np.int64]
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    amount: NDArray[np.int64]


def simulate(settings: SimulatorSettings | None = None, *, progress: Progress | None = None) -> Transactions:
    """Labelled transactions in the default schema's columns and event order, numbered from 0.

    Customers and terminals are numbered from 0 too. InvalidInput where the settings give no transaction at all.
    """
    settings = settings or SimulatorSettings()
    report = progress or (lambda _fraction, _text: None)
    rng = np.random.default_rng(settings.seed)
    blocks = []
    for done, block in _blocks(settings, rng):
        blocks.append(block)
        report(0.8 * done, "drawing transactions")
    second, customer, terminal, amount = (np.concatenate(columns) for columns in zip(*blocks, strict=True))
    del blocks
    if not len(second):
        raise InvalidInput(
            "the simulation has no transaction: no customer has a terminal in range; "
            "write more customers, terminals or days, or a larger radius"
        )
    order = np.argsort(second, kind="stable")
    draws = _Draws(second[order], customer[order], terminal[order], amount[order])
    report(0.9, "committing frauds")
    scenario = _commit_frauds(draws, settings, rng)
    midnight = datetime.combine(settings.start, datetime.min.time(), timezone.utc)
    start_us = (midnight - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)
    rows = np.empty((len(order), 5), np.int64)
    rows[:, 0] = np.arange(len(order))
    rows[:, 1] = start_us + draws.second * 1_000_000
    rows[:, 2], rows[:, 3], rows[:, 4] = draws.customer, draws.terminal, draws.amount
    report(1.0, "simulated")
    return Transactions(rows, (scenario > 0).astype(np.int8), scenario)


def _blocks(settings: SimulatorSettings, rng: np.random.Generator) -> Iterator[tuple[float, _Draws]]:
    """The share of customers done, and the transactions of the next block of customers."""
    customers = rng.uniform(0, GRID, (settings.customers, 2))
    tree = cKDTree(rng.uniform(0, GRID, (settings.terminals, 2)))
    means = rng.uniform(*MEAN_AMOUNT, settings.customers)
    rates = rng.uniform(0, MAX_DAILY_RATE, settings.customers)
    # A block's lists of terminals in range stay within some millions of entries, however large the radius is.
    in_range = settings.terminals * min(1.0, np.pi * (settings.radius / GRID) ** 2)
    size = int(np.clip(5_000_000 / max(in_range, 1.0), 1, CUSTOMERS_A_BLOCK))
    for first in range(0, settings.customers, size):
        block = slice(first, min(first + size, settings.customers))
        lists = tree.query_ball_point(customers[block], settings.radius, return_sorted=True)
        reach = np.array([len(one) for one in lists])
        nearby = np.concatenate([np.asarray(one, np.int64) for one in lists])
        draws = _draw(means[block], np.where(reach > 0, rates[block], 0.0), reach, nearby, settings.days, rng)
        yield block.stop / settings.customers, draws._replace(customer=draws.customer + first)


def _draw(
    means: NDArray[np.float64],
    rates: NDArray[np.float64],
    reach: NDArray[np.int64],
    nearby: NDArray[np.int64],
    days: int,
    rng: np.random.Generator,
) -> _Draws:
    """All transactions of some customers; customer i's terminals are the next reach[i] entries of `nearby`."""
    counts = rng.poisson(np.broadcast_to(rates[:, None], (len(rates), days)))
    customer = np.repeat(np.arange(len(rates)), counts.sum(axis=1))
    day = np.repeat(np.tile(np.arange(days), len(rates)), counts.ravel())
    second = rng.normal(SECONDS_PER_DAY / 2, SD_OF_TIME, len(customer)).astype(np.int64)
    inside = (second > 0) & (second < SECONDS_PER_DAY)
    customer, second = customer[inside], day[inside] * SECONDS_PER_DAY + second[inside]
    mean = means[customer]
    amount = rng.normal(mean, mean / 2)
    negative = amount < 0
    amount[negative] = rng.uniform(0, 2 * mean[negative])
    minor = np.maximum(np.rint(amount * 100), 1).astype(np.int64)
    start = np.cumsum(reach) - reach
    pick = (rng.random(len(customer)) * reach[customer]).astype(np.int64)
    return _Draws(second, customer, nearby[start[customer] + pick], minor)


def _commit_frauds(draws: _Draws, settings: SimulatorSettings, rng: np.random.Generator) -> NDArray[np.int8]:
    """The scenario code of each transaction; raises the amounts of leaked cards in place."""
    scenario = (draws.amount > SUSPICIOUS_AMOUNT_MINOR).astype(np.int8)
    day = draws.second // SECONDS_PER_DAY
    of_terminal = _Visits(draws.terminal, day)
    for today in range(settings.days):
        for terminal in rng.choice(settings.terminals, TERMINALS_A_DAY, replace=False):
            scenario[of_terminal.within(terminal, today, today + TERMINAL_DAYS)] = 2
    of_customer = _Visits(draws.customer, day)
    for today in range(settings.days):
        leaked = rng.choice(settings.customers, CUSTOMERS_A_DAY, replace=False)
        theirs = np.concatenate([of_customer.within(who, today, today + CUSTOMER_DAYS) for who in leaked])
        abused = rng.choice(theirs, len(theirs) // 3, replace=False)
        draws.amount[abused] *= LEAKED_FACTOR
        scenario[abused] = 3
    return scenario


class _Visits:
    """Finds the transactions of one customer or terminal within some days, without a scan over all."""

    def __init__(self, keys: NDArray[np.int64], day: NDArray[np.int64]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        self._day = day[self._order]

    def within(self, key: int, first_day: int, end_day: int) -> NDArray[np.intp]:
        """Positions of the transactions of `key` on the days [first_day, end_day)."""
        begin, end = np.searchsorted(self._keys, (key, key + 1))
        days = self._day[begin:end]
        since, until = np.searchsorted(days, (first_day, end_day))
        return self._order[begin + since : begin + until]
