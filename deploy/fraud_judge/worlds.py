"""Simulated traffic for the study: a pool of scored transactions, customers drawn from it again and again.

The pool is days of real or simulated cardholders with the champion's scores. What one customer did within half an hour
of one day stays together under a new customer's key, so that rows of a customer are alike as they are in the pool (a
leaked card shows up several times); the hour of the day decides how many there are and how much of it is fraud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from fraud_judge.betting import Float64
from fraud_judge.signs import Float32, Int64, Rows
from fraud_scoring import wire

DAY_S: Final = 86_400
BLOCK_S: Final = 1_800
START_US: Final = 1_700_000_000_000_000
PRODUCTION: Final = 1
CANARY: Final = 2
PAUSES_A_MINUTE: Final = 0.1
"""How often everybody waits: 2 s in which each answer takes 30 ms more."""
OUTAGES_A_MINUTE: Final = 0.05
"""How often the store is away for 5 s: a fifth of all answers are the fallback's."""
FALLBACK_SHARE: Final = 1e-4


@dataclass(frozen=True)
class Pool:
    """Scored transactions, all [N]: customer, seconds since some midnight, the champion's score and decision, truth."""

    customer: Int64
    second: Int64
    score: Float32
    decision: Int64
    is_fraud: Int64
    thresholds: tuple[float, float]
    """Scores from which the champion reviews and declines."""
    challenger: tuple[Float32, Int64] | None = None
    """Another release's scores and decisions of the same rows."""

    def __len__(self) -> int:
        return len(self.customer)


class Traffic(NamedTuple):
    """Rows of some time, in its order, and their truth."""

    rows: Rows
    is_fraud: Int64
    place: Int64
    """Where each row is in the pool."""


Model = Callable[[Rows, Int64, Pool, np.random.Generator], Rows]
"""What a canary answers to rows, which have places in a pool, where the champion's answers are given."""


def traffic(
    pool: Pool,
    rng: np.random.Generator,
    start_s: int,
    rate: float,
    *,
    regulars: bool = False,
    level: bool = True,
    block_s: int = BLOCK_S,
) -> Iterator[Traffic]:
    """Blocks of traffic without end from the second `start_s` of the day on, `rate` rows a second.

    `regulars`: the pool's own customers, again and again, so that few customers make all of it. `level`: the rate is
    that of every block; else it is the day's mean and follows the pool's daily cycle.
    """
    of_day = pool.second % DAY_S
    order = np.argsort(of_day, kind="stable")
    sorted_s = of_day[order]
    visit = pool.customer * 100_000 + pool.second // DAY_S
    at_s, identifier = 0, 1
    while True:
        first = (start_s + at_s) % DAY_S
        chosen = order[np.searchsorted(sorted_s, first) : np.searchsorted(sorted_s, first + block_s)]
        if len(chosen) == 0:
            at_s += block_s
            continue
        _, group = np.unique(visit[chosen], return_inverse=True)
        wanted = rate * (block_s if level else DAY_S * len(chosen) / len(pool))
        copies = rng.poisson(wanted / len(chosen), group.max() + 1)
        by_group = chosen[np.argsort(group, kind="stable")]
        sizes = np.bincount(group)
        copied = np.repeat(copies, sizes)
        picked = np.repeat(by_group, copied)
        # each copy of a group gets a key and a shift of its own
        rank = np.arange(len(picked)) - np.repeat(np.cumsum(copied) - copied, copied)
        owner = np.repeat(np.repeat(np.arange(len(sizes)), sizes), copied) * (int(copies.max()) + 1) + rank
        _, owner = np.unique(owner, return_inverse=True)
        shift = rng.uniform(0, block_s, int(owner.max()) + 1 if len(owner) else 0)[owner]
        seconds = (of_day[picked] - first + shift) % block_s
        key = pool.customer[picked] if regulars else rng.integers(1, 2**62, int(owner.max()) + 1)[owner]
        now = np.argsort(seconds, kind="stable")
        picked, seconds, key = picked[now], seconds[now], key[now]
        n = len(picked)
        latency, source = _weather(rng, seconds, block_s)
        yield Traffic(
            Rows(
                at_us=START_US + np.round((at_s + seconds) * 1e6).astype(np.int64),
                identifier=np.arange(identifier, identifier + n),
                customer=key,
                bucket=np.zeros(n, np.int64),
                score=pool.score[picked],
                decision=pool.decision[picked],
                release=np.full(n, PRODUCTION),
                source=source,
                latency_us=latency,
            ),
            pool.is_fraud[picked],
            picked,
        )
        identifier += n
        at_s += block_s


def _weather(rng: np.random.Generator, seconds: Float64, block_s: int) -> tuple[Int64, Int64]:
    """(latency, source) of rows: what pauses and outages do to both arms alike."""
    latency = rng.lognormal(np.log(4_000.0), 0.4, len(seconds))
    source = np.where(rng.random(len(seconds)) < FALLBACK_SHARE, int(wire.Source.SCORECARD), 0)
    for start in rng.uniform(0, block_s, rng.poisson(PAUSES_A_MINUTE * block_s / 60)):
        latency[np.searchsorted(seconds, start) : np.searchsorted(seconds, start + 2)] += 30_000
    for start in rng.uniform(0, block_s, rng.poisson(OUTAGES_A_MINUTE * block_s / 60)):
        hit = slice(np.searchsorted(seconds, start), np.searchsorted(seconds, start + 5))
        source[hit][rng.random(len(source[hit])) < 0.2] = int(wire.Source.SCORECARD)
    return latency.astype(np.int64), source.astype(np.int64)


def same(rows: Rows, _place: Int64, _pool: Pool, _rng: np.random.Generator) -> Rows:
    """An identical model."""
    return rows


def shifted(log_odds: float) -> Model:
    """Every score moved by so much on the scale of log odds; the champion's thresholds."""

    def answer(rows: Rows, _place: Int64, pool: Pool, _rng: np.random.Generator) -> Rows:
        score = shifted_scores(rows.score, log_odds)
        return _decided(rows, score, pool.thresholds)

    return answer


def decline_share(share_factor: float) -> Callable[[Pool], Model]:
    """The champion's scores, but thresholds that decline so many times as often."""

    def for_pool(pool: Pool) -> Model:
        declined = float((pool.decision == wire.Decision.DECLINE).mean()) * share_factor
        at = float(np.quantile(pool.score, 1.0 - declined))
        return lambda rows, _place, own, _rng: _decided(rows, rows.score, (min(own.thresholds[0], at), at))

    return for_pool


def stuck(rows: Rows, _place: Int64, pool: Pool, _rng: np.random.Generator) -> Rows:
    """One score for all: the champion's median."""
    score = np.full(len(rows.score), np.median(pool.score), np.float32)
    return _decided(rows, score, pool.thresholds)


def falling_back(share: float) -> Model:
    """So many answers are the fallback's: the model gave no number."""

    def answer(rows: Rows, _place: Int64, _pool: Pool, rng: np.random.Generator) -> Rows:
        hit = rng.random(len(rows.score)) < share
        return rows._replace(source=np.where(hit, int(wire.Source.SCORECARD), rows.source))

    return answer


def slower(by_us: int) -> Model:
    """Each answer takes so much longer."""
    return lambda rows, _place, _pool, _rng: rows._replace(latency_us=rows.latency_us + by_us)


def inflated(factor: float) -> Model:
    """Scores so many times too high, up to 1; the champion's thresholds."""

    def answer(rows: Rows, _place: Int64, pool: Pool, _rng: np.random.Generator) -> Rows:
        score = np.minimum(rows.score * np.float32(factor), np.float32(1.0))
        return _decided(rows, score, pool.thresholds)

    return answer


def tail_shifted(log_odds: float) -> Model:
    """The highest 5% of the champion's scores moved on the scale of log odds, the others as they were."""

    def answer(rows: Rows, _place: Int64, pool: Pool, _rng: np.random.Generator) -> Rows:
        return _decided(rows, tail_shifted_scores(rows.score, pool, log_odds), pool.thresholds)

    return answer


def mixed_up(rows: Rows, _place: Int64, pool: Pool, rng: np.random.Generator) -> Rows:
    """The scores of other transactions: distributed as the champion's, and they know nothing of fraud."""
    other = rng.integers(0, len(pool), len(rows.score))
    return rows._replace(score=pool.score[other], decision=pool.decision[other])


def challenger(rows: Rows, place: Int64, pool: Pool, _rng: np.random.Generator) -> Rows:
    """Another release's answers."""
    assert pool.challenger is not None
    score, decision = pool.challenger
    return rows._replace(score=score[place], decision=decision[place])


def tail_shifted_scores(score: Float32, pool: Pool, log_odds: float) -> Float32:
    """Scores of which those above the pool's 95% quantile are moved."""
    tail = score >= np.quantile(pool.score, 0.95)
    moved: Float32 = np.where(tail, shifted_scores(score, log_odds), score).astype(np.float32, copy=False)
    return moved


def shifted_scores(score: Float32, log_odds: float) -> Float32:
    """Scores moved on the scale of log odds."""
    p = np.clip(score.astype(np.float64), 1e-9, 1 - 1e-9)
    odds = p / (1.0 - p) * np.exp(log_odds)
    moved: Float32 = (odds / (1.0 + odds)).astype(np.float32)
    return moved


def shift_for(pool: Pool, decline_factor: float, move: Callable[[float], Float32]) -> float:
    """The shift of log odds that makes declines so many times as frequent; `move` gives the pool's scores."""
    target = float((pool.decision == wire.Decision.DECLINE).mean()) * decline_factor
    low, high = -12.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        share = float((move(middle) >= np.float32(pool.thresholds[1])).mean())
        low, high = (low, middle) if share > target else (middle, high)
    return (low + high) / 2


def canary_answers(traffic: Traffic, share: int, model: Model, pool: Pool, rng: np.random.Generator) -> Rows:
    """Rows with the canary's answers in its buckets."""
    rows = traffic.rows
    mine = np.flatnonzero(rows.bucket < share)
    if not len(mine):
        return rows
    own = rows.pick(mine)
    own = model(own._replace(release=np.full(len(mine), CANARY)), traffic.place[mine], pool, rng)
    answered: list[Any] = [column.copy() for column in rows]
    for column, changed in zip(answered, own, strict=True):
        column[mine] = changed
    return Rows(*answered)


def _decided(rows: Rows, score: Float32, thresholds: tuple[float, float]) -> Rows:
    review, decline = (np.float32(one) for one in thresholds)
    decision = (score >= review).astype(np.int64) + (score >= decline)
    return rows._replace(score=score, decision=decision)
