"""The asyncio client: the methods of FraudClient, to be awaited."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from types import TracebackType

import numpy as np
import numpy.typing as npt

from fraud_client import _protocol
from fraud_client._access import Access, maker
from fraud_client._coalescing import REQUESTS_IN_FLIGHT, Coalescer, Options
from fraud_client._decision import Decision
from fraud_client._endpoints import named_transports
from fraud_client._errors import InvalidRequest
from fraud_client._fields import utc_now
from fraud_client._policy import Policy
from fraud_client._protocol import DEFAULT_DEADLINE, LABEL_DEADLINE, READY_DEADLINE, Label, Rows, Scored
from fraud_client._sending import Sender
from fraud_client._stats import Stats
from fraud_client._tokens import tokenizer_from
from fraud_client._transaction import Transaction
from fraud_client._transport import DEFAULT_URL, AsyncGrpcTransport, AsyncTransport
from fraud_scoring.wire import Accepted


class AsyncFraudClient:
    """FraudClient for one event loop.

    Calls of `score` that wait at the same time share requests, of which `in_flight` (3 a server) are out at most; the
    other methods send requests of their own, at once.
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
        transport: AsyncTransport | Sequence[AsyncTransport] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if in_flight is not None and in_flight < 1:
            raise InvalidRequest("in_flight must be 1 or more")
        policy = Policy() if policy is None else policy
        self._tokenizer = tokenizer_from(token_key, os.environ)
        self._deadline = _protocol.checked_deadline(deadline)
        names, transports = named_transports(url, transport, maker(AsyncGrpcTransport, access, transport))
        self._sender = Sender(names, transports, policy)
        self._clock = clock
        self._coalescer = Coalescer(self._send, in_flight or REQUESTS_IN_FLIGHT * len(transports), policy.max_waiting)

    async def __aenter__(self) -> AsyncFraudClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let calls of `score` that are under way have their answers, then close the connection."""
        await self._coalescer.drain()
        await self._sender.close()

    async def ready(self, deadline: float = READY_DEADLINE) -> bool:
        """Whether a server is there and serves scores."""
        timeout = _protocol.checked_deadline(deadline)
        return await self._sender.ready(timeout)

    def stats(self) -> Stats:
        """What was sent, retried, hedged and refused, and how the servers are: for metrics."""
        return self._sender.stats(waiting=self._coalescer.waiting, overloaded=self._coalescer.overloaded)

    async def score(
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
        answer = await self._coalescer.score(row, Options(left, dry_run, with_features))
        return _protocol.decisions([transaction], answer)[0]

    async def score_many(
        self,
        transactions: Iterable[Transaction],
        *,
        deadline: float | None = None,
        dry_run: bool = False,
        with_features: bool = False,
    ) -> list[Decision]:
        """Like FraudClient.score_many: one request after the other, so that later rows see the earlier ones."""
        decisions: list[Decision] = []
        for chunk in _protocol.chunks(transactions):
            rows = _protocol.transaction_rows(chunk, self._tokenizer)
            answer = await self.score_rows(rows, deadline=deadline, dry_run=dry_run, with_features=with_features)
            decisions += _protocol.decisions(chunk, answer)
        return decisions

    async def score_rows(
        self,
        rows: Rows,
        *,
        deadline: float | None = None,
        dry_run: bool = False,
        with_features: bool = False,
    ) -> Scored:
        """Like FraudClient.score_rows."""
        left = self._deadline if deadline is None else deadline
        return await self._send(rows, left, Options(left, dry_run, with_features))

    async def _send(self, rows: Rows, left: float, options: Options) -> Scored:
        call = _protocol.score_call(rows, left, dry_run=options.dry_run, with_features=options.with_features)
        return _protocol.scored(call, await self._sender.infer(call, hedged=True))

    async def label(self, transaction_id: int, is_fraud: bool, known_at: datetime | None = None) -> Accepted:
        """Say what a transaction turned out to be, known since `known_at` (None: now)."""
        return (await self.label_many([Label(transaction_id, is_fraud, known_at)]))[0]

    async def label_many(self, labels: Iterable[Label]) -> list[Accepted]:
        """What became of each label, in order. To send a label twice is safe."""
        now = self._clock()
        results: list[Accepted] = []
        for chunk in _protocol.chunks(labels):
            results += _protocol.label_results(await self.label_rows(_protocol.label_rows(chunk, now)))
        return results

    async def label_rows(self, labels: Rows, *, deadline: float = LABEL_DEADLINE) -> npt.NDArray[np.int32]:
        """Like FraudClient.label_rows."""
        call = _protocol.label_call(labels, deadline)
        return _protocol.accepted(call, await self._sender.infer(call, hedged=False))
