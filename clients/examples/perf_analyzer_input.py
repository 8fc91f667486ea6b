"""Write transactions for Triton's perf_analyzer (its `--input-data` file).

    python perf_analyzer_input.py --count 200000 --seed 7 --out transactions.json
    perf_analyzer -m fraud_score -i grpc -u localhost:8001 --async --concurrency-range 16 \\
        --measurement-interval 3000 --shape transaction:5 --input-data transactions.json

perf_analyzer takes the requests in order and starts again at the end. A transaction that comes a second time is
answered from what is known of it, which is less work: write more requests than the run will send. For requests of 8
rows, give `--rows 8` here and `-b 8` there. The seed fixes customers, terminals and amounts; ids and times follow the
clock, so that two runs never send the same transaction.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

CUSTOMERS = 5_000
TERMINALS = 10_000
SPREAD_US = 60 * 60 * 1_000_000  # event times lie in the hour before now, in order


def transactions(count: int, seed: int, now_us: int) -> npt.NDArray[np.int64]:
    """[count, 5]: transaction_id, event_time_us, customer_key, terminal_key, amount_minor."""
    random = np.random.default_rng(seed)
    # below 0: a key that passes for a card number is refused, and none of these does
    customer_keys, terminal_keys = (random.integers(-(2**63), 0, size) for size in (CUSTOMERS, TERMINALS))
    mean_minor = random.uniform(500, 10_000, CUSTOMERS)  # each customer's own, 5.00 to 100.00
    customer = random.integers(0, CUSTOMERS, count)
    amount = np.abs(random.normal(mean_minor[customer], mean_minor[customer] / 2))
    return np.column_stack(
        [
            now_us + np.arange(count),
            now_us - np.linspace(SPREAD_US, 0, count).astype(np.int64),
            customer_keys[customer],
            terminal_keys[random.integers(0, TERMINALS, count)],
            np.maximum(amount.astype(np.int64), 1),
        ]
    )


def document(rows: npt.NDArray[np.int64]) -> dict[str, object]:
    """perf_analyzer's JSON: one entry a row; the shape leaves out the batch dimension."""
    shape = [rows.shape[1]]
    return {"data": [{"transaction": {"content": row, "shape": shape}} for row in rows.tolist()]}


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description="Write transactions for perf_analyzer's --input-data.")
    parser.add_argument("--rows", type=positive, default=1, help="rows a request: perf_analyzer's -b (default: 1)")
    parser.add_argument("--count", type=positive, default=1000, help="requests (default: 1000)")
    parser.add_argument("--seed", type=int, default=7, help="of customers, terminals and amounts (default: 7)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    args = parser.parse_args()

    rows = transactions(args.rows * args.count, args.seed, now_us=time.time_ns() // 1_000)
    try:
        args.out.write_text(json.dumps(document(rows)), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"cannot write {args.out}: {error.strerror}\n")
        return 1
    sys.stdout.write(f"{args.out}: {args.count} requests of {args.rows} rows; use -b {args.rows}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
