"""The whole job in this process, without a server: the ceiling.

{"repository", "store", "log", "key", "rows": FILE.npy, "rows_each", "warm_s", "seconds"}
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from fraud_bench.generators.outcome import Tally, finish, settle, specification
from fraud_bench.same_job import open_job
from fraud_scoring.errors import FraudError
from fraud_scoring.settings import LogSettings


def main() -> None:
    asked = specification()
    each, rows = asked["rows_each"], np.load(asked["rows"])
    log = LogSettings(Path(asked["log"]), Path(asked["key"]), durable=True)
    with open_job(Path(asked["repository"]), asked["store"], log, "in-process") as job:
        settle()
        tally = Tally(each, asked["warm_s"], asked["seconds"])
        for start in range(0, len(rows) - each + 1, each):
            sent = time.time_ns()
            try:
                job.answer(rows[start : start + each])
                go_on = tally.answered(sent)
            except FraudError as error:
                go_on = tally.failed(error)
            if not go_on:
                break
        outcome = tally.outcome()
    finish(outcome)


if __name__ == "__main__":
    main()
