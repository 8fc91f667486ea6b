"""How many of each, and what a million predictions cost. Every rule of thumb is a field of `Rules`, with its reason."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fraud_capacity.model import Model
from fraud_capacity.prices import Prices
from fraud_capacity.sizes import Sizes, predicted_log_bytes
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import Schema
from fraud_scoring.stores.records import RETENTION_DAYS

_DAY_S: Final = 86_400
_GIB: Final = 2**30


@dataclass(frozen=True)
class Rules:
    """What is decided and not measured."""

    utilisation: float = 0.6
    """Of the servers' cores at the rate that is planned for: what a burst, a restart and a backup need is the rest."""
    spare_servers: int = 1
    """Servers more than the rate needs: one may die, or be drained for a release."""
    least_servers: int = 2
    redis_utilisation: float = 0.5
    """Of the one core that a Redis primary works with."""
    redis_memory: float = 0.6
    """Of a primary's memory: a fork for a snapshot, and buffers of replicas, need the rest."""
    replicas: int = 1
    """Of each Redis primary."""
    generator_utilisation: float = 0.7
    average_share: float = 0.5
    """The rate over a day, of the rate that is planned for: by it the cost is spread."""


RULES: Final = Rules()


@dataclass(frozen=True)
class Wanted:
    """What is asked: transactions a second at the peak, the p99 in milliseconds, days of history in the windows."""

    rate: float
    p99_ms: float
    history_days: float


@dataclass(frozen=True)
class Plan:
    """What to buy; bytes are of all, before replicas. None: without a Redis nothing was measured of it."""

    servers: int
    server_cores: float
    server_us: float
    in_flight: float
    p99_ms: float
    redis_shards: int | None
    redis_gib: float | None
    redis_gib_of_records: float | None
    """The part that is not windows: what was answered, kept for repeats and labels."""
    redis_by: str
    lmdb_gib: float
    """On one machine, in place of a Redis."""
    log_gib_a_day: float
    log_bytes_a_transaction: float
    generators: int
    cost_per_million: float
    cost_parts: dict[str, float]
    currency: str


def make(
    wanted: Wanted,
    model: Model,
    sizes: Sizes,
    redis_us: float | None,
    schema: Schema,
    prices: Prices,
    rules: Rules = RULES,
) -> Plan:
    """The plan; InvalidInput where the p99 was not reached at any concurrency that was measured."""
    most = model.most_in_flight(wanted.p99_ms)
    if most is None:
        least = model.points[0]
        raise InvalidInput(
            f"a p99 of {wanted.p99_ms:g} ms was not reached: {least.p99_ms:.1f} ms with {least.in_flight} in flight; "
            "ask for more, or measure on a machine with more cores"
        )
    in_flight = max(float(model.points[0].in_flight), most * rules.utilisation)
    server_us = model.server_us(in_flight) / prices.server.speed
    cores = wanted.rate * server_us / 1e6
    servers = max(
        rules.least_servers, math.ceil(cores / (prices.server.cores * rules.utilisation)) + rules.spare_servers
    )
    shards, gib, why = _redis(wanted, sizes, redis_us, prices, rules)
    a_day = wanted.rate * rules.average_share * _DAY_S
    log_bytes = predicted_log_bytes(schema, sizes.rows_a_frame)
    parts = {
        "servers": servers * prices.server.per_hour,
        "redis": (shards or 0) * (1 + rules.replicas) * prices.redis.per_hour,
        "log": a_day * log_bytes / _GIB * prices.log_gib_month * prices.log_months / 24,
    }
    millions_an_hour = a_day / 24 / 1e6
    return Plan(
        servers=servers,
        server_cores=round(cores, 2),
        server_us=round(server_us, 1),
        in_flight=round(in_flight),
        p99_ms=round(model.p99_ms(in_flight), 1),
        redis_shards=shards,
        redis_gib=None if gib is None else round(gib, 1),
        redis_gib_of_records=None
        if gib is None or sizes.redis is None
        else round(_gib(wanted, sizes.redis.record, 0, rules), 1),
        redis_by=why,
        lmdb_gib=round(_gib(wanted, sizes.lmdb.record, sizes.lmdb.events, rules), 1),
        log_gib_a_day=round(a_day * log_bytes / _GIB, 2),
        log_bytes_a_transaction=round(log_bytes, 1),
        generators=max(
            1,
            math.ceil(
                wanted.rate
                * model.client_us(in_flight)
                / 1e6
                / (prices.generator.cores * prices.generator.speed * rules.generator_utilisation)
            ),
        ),
        cost_per_million=round(sum(parts.values()) / millions_an_hour, 4),
        cost_parts={name: round(value / millions_an_hour, 4) for name, value in parts.items()},
        currency=prices.currency,
    )


def _gib(wanted: Wanted, record: float, events: float, rules: Rules) -> float:
    """Of a store that holds all records of their time and all events of the windows."""
    a_day = wanted.rate * rules.average_share * _DAY_S
    return a_day * (record * max(RETENTION_DAYS, wanted.history_days) + events * wanted.history_days) / _GIB


def _redis(
    wanted: Wanted, sizes: Sizes, redis_us: float | None, prices: Prices, rules: Rules
) -> tuple[int | None, float | None, str]:
    """(primaries, GiB of data, what decides their number)."""
    if sizes.redis is None:
        return None, None, sizes.trouble
    gib = _gib(wanted, sizes.redis.record, sizes.redis.events, rules)
    by_memory = math.ceil(gib / (prices.redis.memory_gib * rules.redis_memory))
    if redis_us is None:
        return by_memory, gib, "memory (its processor time was not measured: run fraudctl bench with redis_64)"
    by_time = math.ceil(wanted.rate * redis_us / 1e6 / rules.redis_utilisation)
    return max(by_memory, by_time, 1), gib, "memory" if by_memory >= by_time else "processor time"
