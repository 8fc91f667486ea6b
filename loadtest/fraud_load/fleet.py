"""Generator processes: started, made ready, started together, listened to, ended.

Each gets its share of the plan, opens its connection and waits; then all begin at one moment of the monotonic clock,
which Linux gives all processes alike. They are spawned, not forked: gRPC does not survive a fork.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from fraud_client import Access, AsyncGrpcTransport, FraudClientError, Unavailable
from fraud_load.access import for_transport
from fraud_load.generator import Generator
from fraud_load.result import Requests
from fraud_load.scenario import Sending
from fraud_load.workload import Plan
from fraud_scoring.errors import FraudError
from fraud_scoring.schema import default_schema
from fraud_scoring.wire import SCORE_MODEL

TICK_S: Final = 0.5
_READY_S: Final = 60.0
_CONNECT_S: Final = 10.0
_LEAD_S: Final = 0.2
"""Between the word to start and the start: every process must have heard it."""


class GeneratorFailed(FraudError):
    """A generator process died, or said nothing for too long: there is no result."""


class Go(NamedTuple):
    """The word to start."""

    start: float
    """Second 0, on the monotonic clock."""
    start_us: int
    """The same moment as UTC microseconds."""


class Tick(NamedTuple):
    """What a process says twice a second."""

    number: int
    taken: int
    arrival: npt.NDArray[np.int64]
    """Positions in the whole plan of what ended since the last tick."""
    latency_s: npt.NDArray[np.float64]


class Done(NamedTuple):
    """What a process says at its end."""

    number: int
    requests: Requests
    cpu_seconds: float


class _Ready(NamedTuple):
    number: int


class _Failed(NamedTuple):
    number: int
    error: Exception


class _Stop(NamedTuple):
    """Take up nothing more."""


@dataclass(frozen=True)
class _Orders:
    number: int
    of: int
    url: str
    plan: Plan
    sending: Sending
    purpose: str
    access: Access | None


class Fleet:
    """The generator processes of a run; `with` ends them."""

    def __init__(self, url: str, plan: Plan, sending: Sending, purpose: str, access: Access | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        count = sending.processes
        self._connections: dict[int, Connection] = {}
        self._processes = []
        for index in range(count):
            ours, theirs = context.Pipe()
            orders = _Orders(index, count, url, plan.share(index, count), sending, purpose, access)
            process = context.Process(target=_work, args=(theirs, orders), name=f"generator-{index}", daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections[index] = ours

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.join(0 if kind else 5)
            if process.is_alive():
                process.kill()
            process.join()
        for connection in self._connections.values():
            connection.close()

    def pids(self) -> dict[str, int]:
        """Process ids by a name to show."""
        return {f"generator {i}": process.pid or 0 for i, process in enumerate(self._processes)}

    def ready(self) -> None:
        """Return when every process has its connection; FraudClientError where there is no server."""
        waiting = set(self._connections)
        while waiting:
            waiting -= {message.number for message in self._receive(_READY_S)}

    def go(self) -> Go:
        """Start them all; returns the moment that is their second 0."""
        now = time.monotonic()
        word = Go(now + _LEAD_S, time.time_ns() // 1_000 + round(_LEAD_S * 1e6))
        self._tell(word)
        return word

    def stop(self) -> None:
        """Let them take up nothing more; their results come all the same."""
        self._tell(_Stop())

    def messages(self, silence_s: float) -> Iterator[Tick | Done]:
        """Ticks and, once from each process, its result; GeneratorFailed after so long without any."""
        while any(not one.closed for one in self._connections.values()):
            yield from self._receive(silence_s)

    def _tell(self, word: Go | _Stop) -> None:
        for connection in self._connections.values():
            try:
                connection.send(word)
            except OSError:  # it has ended, which its result or its silence says
                continue

    def _receive(self, within_s: float) -> list[Any]:
        open_connections = [one for one in self._connections.values() if not one.closed]
        found = []
        for connection in wait(open_connections, within_s):
            assert isinstance(connection, Connection)
            index = next(i for i, one in self._connections.items() if one is connection)
            try:
                message = connection.recv()
            except EOFError:
                connection.close()
                raise GeneratorFailed(f"generator process {index} ended before its result") from None
            if isinstance(message, _Failed):
                raise message.error
            if isinstance(message, Done):
                connection.close()
            found.append(message)
        if not found:
            raise GeneratorFailed(f"no generator process said anything for {within_s:g} s")
        return found


def _work(connection: Connection, orders: _Orders) -> None:
    """A generator process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear: it stops us and keeps the result
    try:
        connection.send(asyncio.run(_send(connection, orders)))
    except (FraudError, FraudClientError) as error:
        connection.send(_Failed(orders.number, error))
    except OSError:  # the parent is gone, and with it whom a result would be for
        return
    finally:
        connection.close()


async def _send(connection: Connection, orders: _Orders) -> Done:
    transport = AsyncGrpcTransport(orders.url, **for_transport(orders.access))
    try:
        await _connect(transport, orders.url)
        connection.send(_Ready(orders.number))
        word: Go = connection.recv()
        rows = orders.plan.stamped(word.start_us, default_schema())
        generator = Generator(orders.plan, rows, orders.sending, transport, purpose=orders.purpose)
        gc.collect()
        gc.freeze()  # the plan is nothing that a collection should look at while requests are out
        began = time.process_time()
        ticking = asyncio.create_task(_tick(connection, orders, generator))
        requests = await generator.run(word.start)
        used = time.process_time() - began
        ticking.cancel()
        return Done(orders.number, requests, used)
    finally:
        await transport.close()


async def _connect(transport: AsyncGrpcTransport, url: str) -> None:
    try:
        if await transport.ready(SCORE_MODEL, _CONNECT_S):
            return
    except FraudClientError as error:
        raise type(error)(*error.args) from None
    raise Unavailable(f"{url} does not serve {SCORE_MODEL}; is it ready?")


async def _tick(connection: Connection, orders: _Orders, generator: Generator) -> None:
    try:
        while True:
            await asyncio.sleep(TICK_S)
            if connection.poll() and isinstance(connection.recv(), _Stop):
                generator.stop()
            ended = generator.ended()
            arrival = ended.position * orders.of + orders.number
            connection.send(Tick(orders.number, generator.taken, arrival, ended.latency_s))
    except (OSError, EOFError):  # the parent is gone, and with it whom the load is for
        generator.stop()
