"""The transports against a real gRPC server on a Unix socket: what goes over the wire, and how failures come back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fraud_client import (
    AsyncFraudClient,
    AsyncGrpcTransport,
    DeadlineExceeded,
    FraudClient,
    FraudClientError,
    GrpcTransport,
    InvalidRequest,
    ServerFailed,
    Transaction,
    Unavailable,
)
from fraud_client._transport import failure

Make = Callable[..., Transaction]


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with fixed tensors, a status, or not before `released`; remembers the last request."""

    def __init__(self) -> None:
        self.status: tuple[grpc.StatusCode, str] | None = None
        self.released = threading.Event()
        self.released.set()
        self.empty = False
        self.request: Any = None
        self.metadata: dict[str, Any] = {}

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.request = request
        self.metadata = dict(context.invocation_metadata())
        self.released.wait(timeout=10)
        if self.status:
            context.abort(*self.status)
        rows = request.inputs[0].shape[0]
        tensors = {
            "score": ("FP32", np.full((rows, 1), 0.25, dtype=np.float32)),
            "verdict": ("INT32", np.tile(np.array([2, 1, 0, 0, 12, 1], dtype=np.int32), (rows, 1))),
            "features": ("FP32", np.ones((rows, 3), dtype=np.float32)),
            "accepted": ("INT32", np.full((rows, 1), 2, dtype=np.int32)),
        }
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        for wanted in request.outputs:
            datatype, tensor = tensors[wanted.name]
            response.outputs.add(name=wanted.name, datatype=datatype, shape=tensor.shape)
            response.raw_output_contents.append(b"" if self.empty else tensor.tobytes())
        return response

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        if self.status:
            context.abort(*self.status)
        return service_pb2.ModelReadyResponse(ready=request.name == "fraud_score")


@contextmanager
def slow_to_connect(path: Path, url: str, delay: float) -> Iterator[str]:
    """One connection to `url` through another socket, whose first bytes wait `delay` seconds, as over TLS far away."""

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(ConnectionError):
            while block := source.recv(1 << 16):
                target.sendall(block)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def relay() -> None:
        near = listener.accept()[0]
        with near, socket.socket(socket.AF_UNIX) as far, ThreadPoolExecutor(1) as back:
            far.connect(url.removeprefix("unix:"))
            time.sleep(delay)
            answers = back.submit(carry, far, near)
            carry(near, far)
            answers.result()

    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(str(path))
        listener.listen()
        relayed = pool.submit(relay)
        yield f"unix:{path}"
        relayed.result()


@pytest.fixture(scope="module")
def server_and_url() -> Iterator[tuple[FakeServer, str]]:
    with TemporaryDirectory(prefix="fc") as folder, ThreadPoolExecutor(4) as pool:  # a socket's path must be short
        servicer = FakeServer()
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        url = f"unix:{Path(folder) / 's'}"
        server.add_insecure_port(url)
        server.start()
        yield servicer, url
        server.stop(None).wait()


@pytest.fixture
def server(server_and_url: tuple[FakeServer, str]) -> Iterator[FakeServer]:
    servicer, _ = server_and_url
    servicer.__init__()  # type: ignore[misc]
    yield servicer
    servicer.released.set()


@pytest.fixture(params=["blocking", "asyncio"])
def score(request: pytest.FixtureRequest, server: FakeServer, server_and_url: Any) -> Callable[..., Any]:
    """Scores over a real connection with either client."""
    url = server_and_url[1]

    def blocking(transaction: Transaction, **options: Any) -> Any:
        with FraudClient(transport=GrpcTransport(url, headers={"x-api-key": "k"})) as client:
            return client.score(transaction, **{"deadline": 10, **options})

    def in_a_loop(transaction: Transaction, **options: Any) -> Any:
        async def main() -> Any:
            async with AsyncFraudClient(transport=AsyncGrpcTransport(url, headers={"x-api-key": "k"})) as client:
                return await client.score(transaction, **{"deadline": 10, **options})

        return asyncio.run(main())

    return blocking if request.param == "blocking" else in_a_loop


def test_a_decision_comes_back_over_grpc(score: Any, transaction: Make) -> None:
    decision = score(transaction(17), with_features=True)
    assert repr(decision) == (
        "Decision(DECLINE, transaction_id=17, score=0.250000, reasons=[the amount is high], release=r0012, "
        "source=CANARY, features=(1.0, 1.0, 1.0))"
    )


def test_the_request_is_the_one_of_the_wire_contract(score: Any, server: FakeServer, transaction: Make) -> None:
    score(transaction(17, "12.50"), dry_run=True)
    request = server.request
    assert request.model_name == "fraud_score"
    assert [(i.name, i.datatype, list(i.shape)) for i in request.inputs] == [("transaction", "INT64", [1, 5])]
    assert np.frombuffer(request.raw_input_contents[0], dtype=np.int64)[[0, 4]].tolist() == [17, 1250]
    assert [output.name for output in request.outputs] == ["score", "verdict"]
    assert 9_000_000 < request.parameters["deadline_us"].int64_param <= 10_000_000
    assert request.parameters["purpose"].string_param == "dry_run"
    assert server.metadata["x-api-key"] == "k"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.INTERNAL, ServerFailed),
        (grpc.StatusCode.NOT_FOUND, Unavailable),
    ],
)
def test_a_status_becomes_an_error_of_the_tree_without_grpcs_own_beside_it(
    score: Any, server: FakeServer, transaction: Make, code: grpc.StatusCode, error: type[FraudClientError]
) -> None:
    server.status = (code, "row 0: amount_minor must be above 0")
    with pytest.raises(error) as caught:
        score(transaction())
    assert type(caught.value) is error
    assert caught.value.__cause__ is None


def test_a_server_that_is_late_is_given_up_at_the_deadline(score: Any, server: FakeServer, transaction: Make) -> None:
    server.released.clear()
    with pytest.raises(DeadlineExceeded, match="no answer within"):
        score(transaction(), deadline=0.05)


def test_a_connection_that_takes_longer_than_the_first_back_off_is_waited_for(
    server: FakeServer, server_and_url: Any, transaction: Make
) -> None:
    with (
        TemporaryDirectory(prefix="fc") as folder,
        slow_to_connect(Path(folder) / "s", server_and_url[1], delay=0.4) as url,
        FraudClient(url) as client,
    ):
        assert client.score(transaction(17), deadline=10).transaction_id == 17
        assert client.stats().retries == 0


def test_tensors_that_arrive_empty_are_a_failure_of_the_server(
    score: Any, server: FakeServer, transaction: Make
) -> None:
    server.empty = True
    with pytest.raises(ServerFailed, match="content does not fill their shape"):
        score(transaction())


def test_labels_go_to_the_feedback_model(server: FakeServer, server_and_url: Any) -> None:
    with FraudClient(server_and_url[1]) as client:
        assert client.label(17, True).name == "ALREADY_KNOWN"
    assert server.request.model_name == "fraud_feedback"
    assert server.request.inputs[0].name == "label"


def test_readiness_is_asked_of_the_front_door(server: FakeServer, server_and_url: Any) -> None:
    url = server_and_url[1]

    async def ready() -> bool:
        async with AsyncFraudClient(url) as client:
            return await client.ready()

    with FraudClient(url) as client:
        assert client.ready()
        assert asyncio.run(ready())
        server.status = (grpc.StatusCode.NOT_FOUND, "unknown model")
        assert not client.ready()
        assert not asyncio.run(ready())


def test_a_server_that_is_not_there_is_unavailable(transaction: Make, tmp_path: Path) -> None:
    with FraudClient(f"unix:{tmp_path / 'nobody'}") as client:
        assert not client.ready()
        with pytest.raises(Unavailable, match=r"takes no requests now .*; is the server up"):
            client.score(transaction(), deadline=10)


def test_a_client_that_was_never_used_closes_in_silence(tmp_path: Path) -> None:
    asyncio.run(AsyncFraudClient(f"unix:{tmp_path / 'nobody'}").close())
    FraudClient(f"unix:{tmp_path / 'nobody'}").close()


def test_a_failure_without_a_status_is_a_failure_of_the_server() -> None:
    assert isinstance(failure(None, None, "here", 0.08), ServerFailed)


def test_grpcs_list_of_addresses_does_not_reach_the_caller() -> None:
    said = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.7:8001: refused"
    assert "10.0.0.7" not in str(failure("StatusCode.UNAVAILABLE", said, "fraud:8001", 0.08))
