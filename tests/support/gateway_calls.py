"""Callers of a gateway: our client, calls by path, a handshake, and callers that go on while something happens."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from fraud_client import Access, AsyncFraudClient, FraudClient, FraudClientError, Policy
from support.gateway import Authority, RunningGateway
from support.redis import RedisServer
from support.server import START_SECONDS, Server

if TYPE_CHECKING:
    from conftest import Fresh

PATIENT: Final = 20.0
INFER: Final = "/inference.GRPCInferenceService/ModelInfer"


def request_of(model: str, rows: np.ndarray, **parameters: int | str) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="transaction", datatype="INT64", shape=rows.shape)
    request.raw_input_contents.append(rows.astype(np.int64).tobytes())
    return request


def named(model: str) -> bytes:
    data: bytes = service_pb2.ModelInferRequest(model_name=model).SerializeToString()
    return data


@contextmanager
def two_servers(repository: Path, redis: RedisServer, folder: Path) -> Iterator[list[Server]]:
    """Two servers over one store, started and ended side by side."""
    with ExitStack() as stack:
        homes = [folder / name for name in "ab"]
        started = [stack.enter_context(Server(repository, home, "--store", redis.url, wait=False)) for home in homes]
        for server in started:
            server.said.wait_for("ready on", 2 * START_SECONDS)  # both compile their kernels at once
        yield started
        for server in started:
            server.send(signal.SIGTERM)


def client_of(gateway: RunningGateway, access: Access) -> FraudClient:
    """A client that repeats nothing: what it sees is what the gateway did."""
    return FraudClient(gateway.url, deadline=PATIENT, access=access, policy=Policy.plain())


class Raw:
    """Calls by their path, of a caller with `token`."""

    def __init__(self, gateway: RunningGateway, authority: Authority, token: str | None = None) -> None:
        self._channel = grpc.secure_channel(gateway.url, grpc.ssl_channel_credentials(authority.certificate))
        self._token = token

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *ended: object) -> None:
        self._channel.close()

    def __call__(self, path: str, message: bytes = b"", **headers: str) -> bytes:
        answer: bytes
        answer, _ = self._call(path, message, headers)
        return answer

    def request_id(self, path: str, message: bytes, **headers: str) -> str:
        """What the gateway calls the request, which must be answered."""
        _, call = self._call(path, message, headers)
        return str(dict(call.initial_metadata())["x-request-id"])

    def _call(self, path: str, message: bytes, headers: dict[str, str]) -> Any:
        metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if self._token:
            metadata.append(("authorization", f"Bearer {self._token}"))
        call = self._channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        return call.with_call(message, metadata=metadata, timeout=PATIENT)

    def refusal(self, path: str, message: bytes = b"", **headers: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as refused:
            self(path, message, **headers)
        return refused.value.code(), refused.value.details()


def handshake(url: str, ca: Path, version: ssl.TLSVersion) -> str:
    """The version that a client which speaks only `version` ends up with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    host, port = url.split(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        return str(tls.version())


class Calls:
    """Callers that score payments one after the other, and what became of each call; a client repeats nothing."""

    def __init__(self, gateway: RunningGateway, access: Access, fresh: Fresh, *, deadline: float) -> None:
        self._url, self._access, self._fresh, self._deadline = gateway.url, access, fresh, deadline
        self.answered = 0
        self.failures: list[FraudClientError] = []
        self.slowest = 0.0
        self._going = True

    async def during(self, scene: Callable[[], Any], callers: int = 8) -> None:
        """`scene` runs in a thread beside the callers, once a hundred calls were answered."""
        tasks = [asyncio.create_task(self._call_on()) for _ in range(callers)]
        try:
            while self.answered < 100:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(scene)
        finally:
            self._going = False
            await asyncio.gather(*tasks)

    async def _call_on(self) -> None:
        """A connection of its own, as a process has."""
        options = {"deadline": self._deadline, "access": self._access, "policy": Policy.plain()}
        async with AsyncFraudClient(self._url, **options) as client:  # type: ignore[arg-type]
            while self._going:
                began = time.monotonic()
                try:
                    await client.score(self._fresh.transaction())
                except FraudClientError as error:
                    self.failures.append(error)
                else:
                    self.answered += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
