"""One caller of the blocking FraudClient, one transaction after the other.

{"url", "rows": FILE.npy, "warm_s", "seconds"}
"""

from __future__ import annotations

import time

import numpy as np

from fraud_bench.generators.coalesced import transaction
from fraud_bench.generators.outcome import Tally, finish, settle, specification
from fraud_client import FraudClient, FraudClientError

_DEADLINE_S = 2.0


def main() -> None:
    asked = specification()
    transactions = [transaction(row) for row in np.load(asked["rows"]).tolist()]
    with FraudClient(asked["url"], deadline=_DEADLINE_S) as client:
        client.ready()
        settle()
        tally = Tally(1, asked["warm_s"], asked["seconds"])
        for one in transactions:
            sent = time.time_ns()
            try:
                client.score(one)
                go_on = tally.answered(sent)
            except FraudClientError as error:
                go_on = tally.failed(error)
            if not go_on:
                break
    finish(tally.outcome())


if __name__ == "__main__":
    main()
