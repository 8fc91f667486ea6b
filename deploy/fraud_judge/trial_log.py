"""The decisions of an A/B test out of the decision log, joined with the labels that came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fraud_judge.business import Decided
from fraud_judge.log_rows import labels_of
from fraud_judge.signs import Int64
from fraud_scoring.decision_log.batches import Batch
from fraud_scoring.decision_log.tail import Tail
from fraud_scoring.errors import InvalidInput
from fraud_scoring.releases import release_name
from fraud_scoring.routes import Routes, bucket_of
from fraud_scoring.schema import Schema

ROWS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Arms:
    """Who is in which arm: `of(customer, release)` gives arms int64 [N], −1 for none; `names` by arm; `base` among
    them."""

    of: Callable[[Int64, Int64], Int64]
    names: dict[int, str]
    base: int


def arms_of_routes(routes: Routes) -> Arms:
    """Arms as customers were assigned, by the table that is in force; whoever answered."""
    if not routes.slices:
        raise InvalidInput(
            "the routes name neither canary nor experiment; compare releases by who answered, with --by-release"
        )
    names = {release: release_name(release) for release in (routes.production, *(one for one, _, _ in routes.slices))}
    return Arms(
        lambda customer, _release: routes.release_of(bucket_of(routes.salt, customer)), names, routes.production
    )


def arms_of_releases(releases: tuple[int, ...]) -> Arms:
    """Arms by the release that answered; the first is the one that others are compared with."""
    return Arms(
        lambda _customer, release: np.where(np.isin(release, releases), release, -1),
        {release: release_name(release) for release in releases},
        releases[0],
    )


def decided(logs: Sequence[Path], schema: Schema, arms: Arms, since_us: int, until_us: int) -> Decided:
    """Decisions that any of the `logs` has in [since, until), in the arms; fraud where a label says so, in any log."""
    parts: list[tuple[Int64, Decided]] = []
    frauds: list[Int64] = []
    for log in logs:
        tail = Tail(log, {}, lambda: 2**62, lambda _line: None, settle_us=0)
        while (taken := tail.take(ROWS_AT_ONCE)).frames:
            parts += [_part(batch, schema, arms, since_us, until_us) for batch in taken.batches]
            identifier, is_fraud = labels_of(taken.labels)
            frauds.append(identifier[is_fraud > 0])
    if not any(len(identifier) for identifier, _ in parts):
        raise InvalidInput("the log holds no decision of these arms in that time; look at --from, --to and --log")
    identifiers = np.concatenate([identifier for identifier, _ in parts])
    columns = [np.concatenate(column) for column in zip(*(part for _, part in parts), strict=True)]
    return Decided(*columns)._replace(is_fraud=np.isin(identifiers, np.concatenate(frauds)))


def _part(batch: Batch, schema: Schema, arms: Arms, since_us: int, until_us: int) -> tuple[Int64, Decided]:
    rows = batch.decisions
    at_us = np.repeat(batch.written_at_us, batch.rows)
    customer = np.ascontiguousarray(rows.transaction[:, schema.entities[0][0]])
    arm = arms.of(customer, rows.verdict[:, 4].astype(np.int64))
    kept = ~rows.repeat & (at_us >= since_us) & (at_us < until_us) & (arm >= 0)
    found = Decided(
        arm=arm[kept],
        customer=customer[kept],
        amount=rows.transaction[kept, schema.amount_index],
        decision=rows.verdict[kept, 0].astype(np.int64),
        is_fraud=np.zeros(int(kept.sum()), np.bool_),
    )
    return rows.transaction[kept, batch.id_column], found
