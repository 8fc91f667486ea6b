"""The one place that does I/O: a `Call` in, named arrays out, over gRPC. Tests pass an object of their own instead.

`tritonclient` is imported when the first transport is made, not with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from fraud_client._errors import (
    DeadlineExceeded,
    FraudClientError,
    InvalidRequest,
    NotAllowed,
    Overloaded,
    ServerFailed,
    Unavailable,
)
from fraud_client._protocol import Answer, Call

DEFAULT_URL: Final = "localhost:8001"

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""What goes with every call; a function is asked before each."""

_CHANNEL: Final = [
    # gRPC would wait up to two minutes before it tries a server again that was away.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Its name aside, how long one attempt to connect may take, TLS handshake and all (grpc/grpc#33423).
    ("grpc.min_reconnect_backoff_ms", 5000),
]


class Transport(Protocol):
    """What FraudClient needs of one; every method raises FraudClientError and nothing else."""

    def infer(self, call: Call) -> Answer: ...

    def begin(self, call: Call, done: Callable[[Answer | FraudClientError], None]) -> Callable[[], None]:
        """Send and return at once; `done` gets the outcome, in any thread. The result cancels the call.

        Used for hedging, with several endpoints only.
        """
        ...

    def ready(self, model: str, timeout: float) -> bool: ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """What AsyncFraudClient needs of one."""

    async def infer(self, call: Call) -> Answer: ...

    async def ready(self, model: str, timeout: float) -> bool: ...

    async def close(self) -> None: ...


class GrpcTransport:
    """gRPC through `tritonclient`; safe to use from several threads.

    `credentials` are `grpc.ChannelCredentials` for TLS, `headers` go with every call (an API key of a gateway, say).
    """

    def __init__(self, url: str = DEFAULT_URL, *, credentials: Any = None, headers: Headers | None = None):
        import tritonclient.grpc as triton

        self.url = url
        self._headers = _asked(headers)
        self._client = triton.InferenceServerClient(url, creds=credentials, channel_args=_CHANNEL)

    def infer(self, call: Call) -> Answer:
        with _failures(self.url, call.timeout):
            return _arrays(call, self._client.infer(**_arguments(call), headers=self._headers()))

    def begin(self, call: Call, done: Callable[[Answer | FraudClientError], None]) -> Callable[[], None]:
        def ended(result: Any, error: Any) -> None:
            try:
                with _failures(self.url, call.timeout):
                    if error is not None:
                        raise error
                    outcome: Answer | FraudClientError = _arrays(call, result)
            except FraudClientError as failed:
                outcome = failed.with_traceback(None)
            done(outcome)

        with _failures(self.url, call.timeout):
            on_its_way = self._client.async_infer(**_arguments(call), callback=ended, headers=self._headers())
        return on_its_way.cancel  # type: ignore[no-any-return]

    def ready(self, model: str, timeout: float) -> bool:
        with _failures(self.url, timeout):
            return bool(self._client.is_model_ready(model, headers=self._headers(), client_timeout=timeout))

    def close(self) -> None:
        self._client.close()


class AsyncGrpcTransport:
    """The same for asyncio; belongs to the event loop that first uses it."""

    def __init__(self, url: str = DEFAULT_URL, *, credentials: Any = None, headers: Headers | None = None):
        self.url = url
        self._credentials = credentials
        self._headers = _asked(headers)
        self._client: Any = None

    async def infer(self, call: Call) -> Answer:
        with _failures(self.url, call.timeout):
            return _arrays(call, await self._connected().infer(**_arguments(call), headers=self._headers()))

    async def ready(self, model: str, timeout: float) -> bool:
        with _failures(self.url, timeout):
            return bool(await self._connected().is_model_ready(model, headers=self._headers(), client_timeout=timeout))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    def _connected(self) -> Any:
        """gRPC ties a channel to the running loop, so it is made in the first call and not in the constructor."""
        if self._client is None:
            import tritonclient.grpc.aio as triton

            self._client = triton.InferenceServerClient(self.url, creds=self._credentials, channel_args=_CHANNEL)
        return self._client


def _asked(headers: Headers | None) -> Callable[[], dict[str, str]]:
    if callable(headers):
        return lambda: dict(headers())
    fixed = dict(headers or {})
    return lambda: fixed


@contextmanager
def _failures(url: str, timeout: float) -> Iterator[None]:
    """Turns tritonclient's one exception, and gRPC's two for a channel that was closed, into an error of the tree."""
    from grpc.aio import UsageError
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise failure(error.status(), error.message(), url, timeout) from None
    except (ValueError, UsageError) as error:
        if "closed" not in str(error):
            raise
        raise Unavailable(f"this client of {url} was closed; make another") from None


def _arguments(call: Call) -> dict[str, Any]:
    from tritonclient.grpc import InferInput, InferRequestedOutput

    tensor = InferInput(call.tensor, call.rows.shape, "INT64")
    tensor.set_data_from_numpy(call.rows)
    return {
        "model_name": call.model,
        "inputs": [tensor],
        "outputs": [InferRequestedOutput(name) for name in call.outputs],
        "parameters": dict(call.parameters),
        "client_timeout": call.timeout,
    }


def _arrays(call: Call, result: Any) -> Answer:
    try:
        arrays = {name: result.as_numpy(name) for name in call.outputs}
    except ValueError:  # the content does not fill the shape, as from a server whose stub runs NumPy 2
        raise ServerFailed(f"{call.model} answered with tensors whose content does not fill their shape") from None
    return {name: array for name, array in arrays.items() if array is not None}


def failure(status: str | None, message: str | None, url: str, timeout: float) -> FraudClientError:
    """The error for a gRPC status, as tritonclient spells it (`StatusCode.UNAVAILABLE`)."""
    code = (status or "").rpartition(".")[2]
    said = (message or "").partition("; last error:")[0].strip() or "no reason given"
    if code == "INVALID_ARGUMENT":
        return InvalidRequest(said)
    if code == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(
            f"{url}: no answer within {timeout * 1e3:g} ms; send it again, or allow more with deadline="
        )
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return NotAllowed(f"{url} does not let this caller in ({said}): look at its token, certificate and rights")
    if code == "RESOURCE_EXHAUSTED":
        return Overloaded(f"{url}: {said}")
    if code in ("UNAVAILABLE", "CANCELLED", "NOT_FOUND"):  # a server that drains has put its front door away
        return Unavailable(f"{url} takes no requests now ({said}); is the server up, and is this its gRPC address?")
    return ServerFailed(f"{url}: the server failed with {code or 'an error'} ({said}); its log says more")
