"""Score one transaction with nothing but tritonclient and NumPy: the wire contract, spelled out.

    pip install "tritonclient[grpc]" "numpy<2"
    python plain_tritonclient.py --url localhost:8001 --amount-minor 1250

Prints the decision and exits with 0; exits with 1 and one line on standard error when there is none. Any other KServe
v2 client sends the same. Keys must be tokens or surrogate numbers of your own, never card numbers.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

DECISIONS = ("approve", "review", "decline")
SOURCES = ("primary", "canary", "fallback_release", "scorecard")
DEADLINE_US = 80_000  # the server answers from a fallback rather than later than this
FIRST_CALL_S = 5.0  # the client's own limit; generous, because the first call also opens the connection


def score(url: str, row: list[int]) -> tuple[float, list[int]]:
    """The score and the verdict (decision, three reasons, release, source) of one transaction."""
    matrix = np.array([row], dtype=np.int64)  # [1, 5]: up to 1,024 rows a request
    transaction = triton.InferInput("transaction", matrix.shape, "INT64")
    transaction.set_data_from_numpy(matrix)
    with triton.InferenceServerClient(url) as client:
        answer = client.infer(
            "fraud_score",
            [transaction],
            outputs=[triton.InferRequestedOutput("score"), triton.InferRequestedOutput("verdict")],
            parameters={"deadline_us": DEADLINE_US},
            client_timeout=FIRST_CALL_S,
        )
    return float(answer.as_numpy("score")[0, 0]), answer.as_numpy("verdict")[0].tolist()


def main() -> int:
    parser = argparse.ArgumentParser(description="Score one transaction with plain tritonclient.")
    parser.add_argument("--url", default="localhost:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--customer-key", type=int, default=1, help="token or surrogate number of the customer")
    parser.add_argument("--terminal-key", type=int, default=1, help="token or surrogate number of the terminal")
    parser.add_argument("--amount-minor", type=int, default=1250, help="minor units: 1250 for 12.50")
    args = parser.parse_args()

    now_us = time.time_ns() // 1_000
    row = [
        now_us,  # transaction_id: unique; here the time will do
        now_us,  # event_time_us: UTC microseconds since 1970-01-01
        args.customer_key,
        args.terminal_key,
        args.amount_minor,
    ]
    try:
        probability, (decision, *reasons, release, source) = score(args.url, row)
    except InferenceServerException as error:
        sys.stderr.write(f"no decision from {args.url}: {error.status() or 'error'}: {error.message()}\n")
        return 1
    sys.stdout.write(
        f"transaction {row[0]}: score {probability:.6f}, {DECISIONS[decision]}, "
        f"reasons {[code for code in reasons if code]}, release r{release:04d}, source {SOURCES[source]}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
