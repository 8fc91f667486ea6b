"""Single calls of AsyncFraudClient.score from many asyncio tasks, which share requests.

{"url", "rows": FILE.npy, "callers", "warm_s", "seconds"}
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import numpy as np

from fraud_bench.generators.outcome import Tally, closed_loop, finish, settle, specification
from fraud_client import AsyncFraudClient, FraudClientError, Token, Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DEADLINE_S = 2.0


async def main() -> None:
    asked = specification()
    transactions = [transaction(row) for row in np.load(asked["rows"]).tolist()]
    async with AsyncFraudClient(asked["url"], deadline=_DEADLINE_S) as client:
        await client.ready()
        settle()
        tally = Tally(1, asked["warm_s"], asked["seconds"])
        await closed_loop(
            lambda number: client.score(transactions[number]),
            len(transactions),
            asked["callers"],
            tally,
            FraudClientError,
        )
    finish(tally.outcome())


def transaction(row: list[int]) -> Transaction:
    """A row of the default schema as the client takes it."""
    identifier, time_us, customer, terminal, amount = row
    return Transaction.from_minor_units(
        identifier, _EPOCH + timedelta(microseconds=time_us), Token(customer), Token(terminal), amount
    )


if __name__ == "__main__":
    asyncio.run(main())
