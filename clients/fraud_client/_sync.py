"""The blocking client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType

import numpy as np
import numpy.typing as npt

from fraud_client import _protocol
from fraud_client._access import Access, maker
from fraud_client._coalescing import REQUESTS_IN_FLIGHT, Options
from fraud_client._decision import Decision
from fraud_client._endpoints import named_transports
from fraud_client._errors import InvalidRequest
from fraud_client._fields import utc_now
from fraud_client._policy import Policy
from fraud_client._protocol import DEFAULT_DEADLINE, LABEL_DEADLINE, READY_DEADLINE, Label, Rows, Scored
from fraud_client._stats import Stats
from fraud_client._thread_coalescing import ThreadCoalescer
from fraud_client._thread_sending import ThreadSender
from fraud_client._tokens import tokenizer_from
from fraud_client._transaction import Transaction
from fraud_client._transport import DEFAULT_URL, GrpcTransport, Transport
from fraud_scoring.wire import Accepted


class FraudClient:
    """Scores transactions and sends labels; may be shared by threads.

    Calls of `score` that threads make at the same time share requests, of which `in_flight` (3 a server) are out at
    most; the other methods send requests of their own, at once.

    `url` names a server, or several: "a:8001,b:8001" or a sequence. A request goes to the one with the fewest in
    flight. Servers beside each other must share one store (Redis): else each knows a part of the history, and a
    transaction that is sent to a second one is counted and decided twice.

    A request that got UNAVAILABLE is sent once more, to another server where there is one; one that is slow is sent to
    another as well, and the first answer counts; a server that fails gets no requests for a while. All of it stays
    within the caller's deadline and within budgets (`policy`), and repeats are safe: a transaction_id counts once, and
    its first answer is given again.

    `token_key` (or the variable FRAUD_TOKEN_KEY) makes tokens of identifiers that are text. `deadline`, in seconds, is
    what a scoring request may take: the server answers from a fallback rather than be late, and the client gives up
    when it has passed. `access` is for a gateway: TLS, and who calls. Call `ready()` once at the start: it opens the
    connection, so that no payment pays for it.
    Every method raises FraudClientError, and nothing else on purpose.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        token_key: bytes | str | None = None,
        deadline: float = DEFAULT_DEADLINE,
        in_flight: int | None = None,
        policy: Policy | None = None,
        access: Access | None = None,
        transport: Transport | Sequence[Transport] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if in_flight is not None and in_flight < 1:
            raise InvalidRequest("in_flight must be 1 or more")
        policy = Policy() if policy is None else policy
        self._tokenizer = tokenizer_from(token_key, os.environ)
        self._deadline = _protocol.checked_deadline(deadline)
        names, transports = named_transports(url, transport, maker(GrpcTransport, access, transport))
        self._sender = ThreadSender(names, transports, policy)
        self._clock = clock
        self._coalescer = ThreadCoalescer(
            self._send, in_flight or REQUESTS_IN_FLIGHT * len(transports), policy.max_waiting
        )

    def __enter__(self) -> FraudClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the client cannot be used afterwards."""
        self._sender.close()

    def ready(self, deadline: float = READY_DEADLINE) -> bool:
        """Whether a server is there and serves scores."""
        timeout = _protocol.checked_deadline(deadline)
        return self._sender.ready(timeout)

    def stats(self) -> Stats:
        """What was sent, retried, hedged and refused, and how the servers are: for metrics."""
        return self._sender.stats(waiting=self._coalescer.waiting, overloaded=self._coalescer.overloaded)

    def score(
        self,
        transaction: Transaction,
        *,
        deadline: float | None = None,
        dry_run: bool = False,
        with_features: bool = False,
    ) -> Decision:
        """The decision on one transaction; a `dry_run` is neither recorded nor logged."""
        left = _protocol.checked_deadline(self._deadline if deadline is None else deadline)
        row = _protocol.transaction_rows([transaction], self._tokenizer)
        answer = self._coalescer.score(row, Options(left, dry_run, with_features))
        return _protocol.decisions([transaction], answer)[0]

    def score_many(
        self,
        transactions: Iterable[Transaction],
        *,
        deadline: float | None = None,
        dry_run: bool = False,
        with_features: bool = False,
    ) -> list[Decision]:
        """Decisions in the order of the transactions; each transaction sees the ones before it.

        Sent one request of at most 1,024 after the other; the deadline is for each request. After an error, the
        requests before it stay recorded: send all of it again.
        """
        decisions: list[Decision] = []
        for chunk in _protocol.chunks(transactions):
            rows = _protocol.transaction_rows(chunk, self._tokenizer)
            answer = self.score_rows(rows, deadline=deadline, dry_run=dry_run, with_features=with_features)
            decisions += _protocol.decisions(chunk, answer)
        return decisions

    def score_rows(
        self,
        rows: Rows,
        *,
        deadline: float | None = None,
        dry_run: bool = False,
        with_features: bool = False,
    ) -> Scored:
        """Score an int64 matrix [N, C], 1 ≤ N ≤ 1,024, with the columns of the server's schema.

        Keys go out as they are: they must be tokens or surrogate keys, and are not checked for card numbers.
        """
        left = self._deadline if deadline is None else deadline
        return self._send(rows, left, Options(left, dry_run, with_features))

    def _send(self, rows: Rows, left: float, options: Options) -> Scored:
        call = _protocol.score_call(rows, left, dry_run=options.dry_run, with_features=options.with_features)
        return _protocol.scored(call, self._sender.infer(call, hedged=True))

    def label(self, transaction_id: int, is_fraud: bool, known_at: datetime | None = None) -> Accepted:
        """Say what a transaction turned out to be, known since `known_at` (None: now)."""
        return self.label_many([Label(transaction_id, is_fraud, known_at)])[0]

    def label_many(self, labels: Iterable[Label]) -> list[Accepted]:
        """What became of each label, in order. To send a label twice is safe."""
        now = self._clock()
        results: list[Accepted] = []
        for chunk in _protocol.chunks(labels):
            results += _protocol.label_results(self.label_rows(_protocol.label_rows(chunk, now)))
        return results

    def label_rows(self, labels: Rows, *, deadline: float = LABEL_DEADLINE) -> npt.NDArray[np.int32]:
        """Send an int64 matrix [N, 3] of transaction_id, is_fraud, known_at_us; answers [N] codes of Accepted."""
        call = _protocol.label_call(labels, deadline)
        return _protocol.accepted(call, self._sender.infer(call, hedged=False))
