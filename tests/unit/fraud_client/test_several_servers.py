"""Both clients and real gRPC servers that refuse, hang, are slow, die in the middle and come back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fraud_client import (
    Accepted,
    AsyncFraudClient,
    BreakerState,
    DeadlineExceeded,
    Decision,
    FraudClient,
    InvalidRequest,
    Policy,
    Stats,
    Transaction,
    Unavailable,
)

Make = Callable[..., Transaction]
PATIENT = 10.0
"""Seconds: whether a call is answered at all; how fast is not asked here."""
MANY_HEDGES = Policy(hedge_share=0.4)
"""With a twentieth, some hundred requests of half a millisecond each may have spent it by chance."""
WARM = 80
"""Answers after which the client knows its p95."""


class KServe(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers at once, unless told: to refuse with a status, or to hold what comes until it may go."""

    def __init__(self, release: int) -> None:
        self.release = release
        self.status: grpc.StatusCode | None = None
        self.refused = -1
        """The id of a transaction; a request that has it in its first row is refused."""
        self.may_go = threading.Event()
        self.may_go.set()
        self.entered = threading.Semaphore(0)
        self._changed = threading.Condition()
        self._open = 0
        self.requests: list[Any] = []

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.requests.append(request)
        self._count(1)
        if not context.add_callback(lambda: self._count(-1)):  # it has ended already
            self._count(-1)
        self.entered.release()
        self.may_go.wait(PATIENT)
        if self.status is not None:
            context.abort(self.status, "not now")
        if np.frombuffer(request.raw_input_contents[0], np.int64)[0] == self.refused:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not this one")
        rows = request.inputs[0].shape[0]
        tensors = {
            "score": ("FP32", np.full((rows, 1), 0.25, dtype=np.float32)),
            "verdict": ("INT32", np.tile(np.array([0, 0, 0, 0, self.release, 0], dtype=np.int32), (rows, 1))),
            "accepted": ("INT32", np.ones((rows, 1), dtype=np.int32)),
        }
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for wanted in request.outputs:
            datatype, tensor = tensors[wanted.name]
            response.outputs.add(name=wanted.name, datatype=datatype, shape=tensor.shape)
            response.raw_output_contents.append(tensor.tobytes())
        return response

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()

    def is_free(self) -> bool:
        """Whether all requests have ended, be it that their callers gave them up; it is waited for."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, PATIENT)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.status is not None:
            context.abort(self.status, "not now")
        return service_pb2.ModelReadyResponse(ready=True)


class RealServer:
    """A gRPC server on a socket; it can die and come back."""

    def __init__(self, socket: Path, release: int, pool: ThreadPoolExecutor) -> None:
        self.url = f"unix:{socket}"
        self.kserve = KServe(release)
        self._pool = pool
        self.start()

    def start(self) -> None:
        self._server = grpc.server(self._pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self.kserve, self._server)
        self._server.add_insecure_port(self.url)
        self._server.start()

    def die(self) -> None:
        """Its connections are cut, whatever is on its way."""
        ended = self._server.stop(None)
        self.kserve.may_go.set()
        ended.wait()


@pytest.fixture
def pair() -> Iterator[tuple[RealServer, RealServer]]:
    """Two servers: releases r0001 and r0002 say who answered."""
    with TemporaryDirectory(prefix="fc") as folder, ThreadPoolExecutor(32) as pool:  # a socket's path must be short
        servers = RealServer(Path(folder) / "a", 1, pool), RealServer(Path(folder) / "b", 2, pool)
        yield servers
        for server in servers:
            server.die()


class Session:
    """Either client with the same blocking methods."""

    def __init__(self, kind: str, *servers: RealServer, url: str = "", **options: Any) -> None:
        url = url or ",".join(server.url for server in servers)
        options = {"deadline": PATIENT, **options}
        self._loop = asyncio.new_event_loop() if kind == "asyncio" else None
        self._client: Any = AsyncFraudClient(url, **options) if self._loop else FraudClient(url, **options)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._loop:
            self._loop.close()

    def close(self) -> None:
        closing = self._client.close()
        if self._loop:
            self._loop.run_until_complete(closing)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(self._client, method)(*arguments, **options)
        return self._loop.run_until_complete(found) if self._loop else found

    def score(self, transaction: Transaction, **options: Any) -> Decision:
        return self.call("score", transaction, **options)  # type: ignore[no-any-return]

    def warm(self, transaction: Make) -> None:
        for i in range(WARM):
            self.score(transaction(i))

    def together(
        self, transactions: list[Transaction], meanwhile: Callable[[], None] = lambda: None, *, joined: bool = True
    ) -> list[Decision | BaseException]:
        """All at the same time, and `meanwhile` beside them, in a thread; not `joined`: a request each."""
        score = self._client.score if joined else self._client.score_many
        arguments: list[Any] = transactions if joined else [[one] for one in transactions]
        with ThreadPoolExecutor(len(transactions) + 1) as pool:
            beside = pool.submit(meanwhile)
            if self._loop:

                async def run() -> list[Any]:
                    calls = (score(one) for one in arguments)
                    return await asyncio.gather(*calls, return_exceptions=True)

                found = self._loop.run_until_complete(run())
            else:
                sent = [pool.submit(score, one) for one in arguments]
                found = [one.exception() or one.result() for one in sent]
            beside.result()
        return [one[0] if isinstance(one, list) else one for one in found]

    @property
    def stats(self) -> Stats:
        return self._client.stats()  # type: ignore[no-any-return]


@pytest.fixture(params=["blocking", "asyncio"])
def session(request: pytest.FixtureRequest) -> Callable[..., Session]:
    return lambda *servers, **options: Session(request.param, *servers, **options)


def requests(*servers: RealServer) -> int:
    return sum(len(server.kserve.requests) for server in servers)


# Refused


def test_calls_are_shared_among_servers(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair) as client:
        assert {client.score(transaction(i)).release for i in range(6)} == {"r0001", "r0002"}
        assert [one.requests for one in client.stats.endpoints] == [3, 3]
        assert [one.name for one in client.stats.endpoints] == [server.url for server in pair]


def test_a_server_that_refuses_costs_a_retry_and_then_gets_no_more_requests(
    session: Any, pair: Any, transaction: Make
) -> None:
    refuses, serves = pair
    refuses.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair, policy=Policy(breaker_open=60, breaker_open_most=60)) as client:
        assert {client.score(transaction(i)).release for i in range(30)} == {"r0002"}
        assert client.stats.retries == len(refuses.kserve.requests) == 5
        assert client.stats.endpoints[0].breaker is BreakerState.OPEN
        assert len(serves.kserve.requests) == 30


def test_a_server_that_is_not_there_is_done_without(session: Any, pair: Any, transaction: Make) -> None:
    gone, _ = pair
    gone.die()
    with session(*pair) as client:
        assert client.call("ready")
        assert {client.score(transaction(i)).release for i in range(20)} == {"r0002"}


def test_a_server_that_comes_back_gets_requests_again(session: Any, pair: Any, transaction: Make) -> None:
    away, _ = pair
    away.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair, policy=Policy(breaker_open=0.01, breaker_open_most=0.01)) as client:
        for i in range(20):
            client.score(transaction(i))
        assert client.stats.endpoints[0].opened >= 1
        away.kserve.status = None
        releases = (client.score(transaction(i)).release for i in range(100_000))
        assert "r0001" in releases
        assert client.stats.endpoints[0].breaker is BreakerState.CLOSED


def test_one_server_is_asked_once_more_and_no_more_than_that(session: Any, pair: Any, transaction: Make) -> None:
    alone, _ = pair
    alone.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(alone) as client:
        with pytest.raises(Unavailable, match="not now"):
            client.score(transaction())
        assert requests(alone) == 2


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_only_unavailable_is_tried_again(session: Any, pair: Any, transaction: Make, status: str) -> None:
    for server in pair:
        server.kserve.status = grpc.StatusCode[status]
    with session(*pair) as client:
        with pytest.raises(Exception, match=r"not now|no answer within"):
            client.score(transaction())
        assert requests(*pair) == 1


def test_a_retry_has_what_is_left_of_the_deadline_and_says_so(session: Any, pair: Any, transaction: Make) -> None:
    for server in pair:
        server.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair) as client, pytest.raises(Unavailable):
        client.score(transaction())
    first, second = (
        server.kserve.requests[0].parameters["deadline_us"].int64_param
        for server in sorted(pair, key=lambda server: -server.kserve.requests[0].parameters["deadline_us"].int64_param)
    )
    assert 0 < second < first <= PATIENT * 1e6


def test_when_both_fail_calls_are_soon_refused_without_being_sent(session: Any, pair: Any, transaction: Make) -> None:
    for server in pair:
        server.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair, policy=Policy(breaker_open=60, breaker_open_most=60)) as client:
        for _ in range(20):
            with pytest.raises(Unavailable, match="takes no requests now"):
                client.score(transaction())
        assert requests(*pair) == 10
        assert client.stats.refused > 10


def test_who_asks_whether_a_server_is_ready_need_not_wait_for_its_breaker(
    session: Any, pair: Any, transaction: Make
) -> None:
    alone, _ = pair
    alone.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(alone, policy=Policy(breaker_open=60, breaker_open_most=60)) as client:
        for _ in range(5):
            with pytest.raises(Unavailable):
                client.score(transaction())
        assert client.stats.endpoints[0].breaker is BreakerState.OPEN
        alone.kserve.status = None
        assert client.call("ready")
        assert client.score(transaction(17)).transaction_id == 17
        assert client.stats.endpoints[0].breaker is BreakerState.CLOSED


def test_labels_are_sent_again_too(session: Any, pair: Any) -> None:
    pair[0].kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair) as client:
        assert [client.call("label", 17, True) for _ in range(4)] == [Accepted.APPLIED] * 4
        assert client.stats.hedges == 0


def test_a_joined_request_is_sent_again_as_one(session: Any, pair: Any, transaction: Make) -> None:
    refuses, serves = pair
    refuses.kserve.status = grpc.StatusCode.UNAVAILABLE
    with session(*pair, in_flight=1) as client:
        found = client.together([transaction(i) for i in range(24)])
        assert [one.transaction_id for one in found] == list(range(24))
        assert client.stats.requests <= len(serves.kserve.requests) <= 24
        assert client.stats.retries == len(refuses.kserve.requests)
        sizes = [request.inputs[0].shape[0] for request in serves.kserve.requests]
        assert sum(sizes) == 24


def test_a_request_that_fails_twice_fails_its_own_rows_alone(session: Any, pair: Any, transaction: Make) -> None:
    for server in pair:
        server.kserve.refused = 2
    with session(*pair) as client:
        found = client.together([transaction(i) for i in range(5)], joined=False)
        assert [type(one) for one in found] == [Unavailable if i == 2 else Decision for i in range(5)]
        assert requests(*pair) == 6


# Slow


def test_a_request_that_hangs_is_hedged_and_given_up(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair, policy=MANY_HEDGES) as client:
        client.warm(transaction)
        hangs = pair[0].kserve
        assert hangs.is_free()
        before = client.stats
        hangs.may_go.clear()
        answers = [client.score(transaction(i)) for i in range(4)]
        assert {answer.release for answer in answers} == {"r0002"}
        assert client.stats.hedges_won > before.hedges_won
        assert hangs.is_free()
        assert client.stats.endpoints[0].in_flight == 0


def test_a_server_that_hangs_for_good_gets_no_more_requests(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair, policy=replace(MANY_HEDGES, breaker_open=60, breaker_open_most=60)) as client:
        client.warm(transaction)
        pair[0].kserve.may_go.clear()
        assert {client.score(transaction(i)).release for i in range(30)} == {"r0002"}
        assert client.stats.endpoints[0].breaker is BreakerState.OPEN
        assert client.stats.hedges <= MANY_HEDGES.hedge_share * client.stats.requests


def test_hedges_are_a_twentieth_of_the_requests_at_most(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair) as client:
        for i in range(400):
            client.score(transaction(i))
        stats = client.stats
        assert stats.requests == 400
        assert stats.hedges <= 20
        assert requests(*pair) <= 420
        assert stats.hedge_delay is not None


def test_one_server_is_never_hedged(session: Any, pair: Any, transaction: Make) -> None:
    alone, _ = pair
    with session(alone) as client:
        client.warm(transaction)
        alone.kserve.may_go.clear()
        with pytest.raises(DeadlineExceeded):
            client.score(transaction(), deadline=0.05)
        assert (client.stats.hedges, client.stats.hedge_delay) == (0, None)
        assert requests(alone) == WARM + 1


def test_a_hedged_request_that_is_wrong_fails_at_once(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair) as client:
        client.warm(transaction)
        for server in pair:
            server.kserve.status = grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(InvalidRequest, match="not now"):
            client.score(transaction())


# Dead


def test_a_server_that_dies_in_the_middle_loses_no_call(session: Any, pair: Any, transaction: Make) -> None:
    dies, _ = pair
    with session(*pair, in_flight=6, policy=Policy(hedge_share=0, retry_reserve=24)) as client:
        client.call("ready")
        dies.kserve.may_go.clear()

        def cut() -> None:
            assert dies.kserve.entered.acquire(timeout=PATIENT)
            dies.die()

        found = client.together([transaction(i) for i in range(24)], cut, joined=False)
        assert [one.transaction_id for one in found if isinstance(one, Decision)] == list(range(24))
        assert {client.score(transaction(i)).release for i in range(10)} == {"r0002"}
        dies.start()
        assert client.stats.retries >= 1


def test_a_client_that_was_closed_says_so(session: Any, pair: Any, transaction: Make) -> None:
    with session(*pair) as client:
        client.warm(transaction)
        client.call("ready")
        client.close()
        with pytest.raises(Unavailable, match="was closed; make another"):
            client.score(transaction())


def test_readiness_asks_every_server_and_needs_one(session: Any, pair: Any) -> None:
    with session(*pair) as client:
        assert client.call("ready")
        pair[0].kserve.status = grpc.StatusCode.UNAVAILABLE
        assert client.call("ready")
        pair[1].kserve.status = grpc.StatusCode.UNAVAILABLE
        assert not client.call("ready")
