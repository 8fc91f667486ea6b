"""The generator sends when it was meant to, whatever the server does, and measures from then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fraud_client import Call, DeadlineExceeded, InvalidRequest, ServerFailed, Unavailable
from fraud_load.generator import Generator
from fraud_load.result import Kind, Requests, Status
from fraud_load.scenario import Sending
from fraud_load.workload import Plan
from fraud_scoring import wire
from support.rows import row


class Server:
    """A transport that answers as `behave` says, and remembers how many rows each call had."""

    def __init__(self, behave: Callable[[Call, int], Any] = lambda call, number: None) -> None:
        self._behave = behave
        self.calls: list[Call] = []
        self.out = self.most_out = 0

    async def infer(self, call: Call) -> dict[str, np.ndarray[Any, Any]]:
        self.calls.append(call)
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            waiting = self._behave(call, len(self.calls) - 1)
            if waiting is not None:
                await waiting
        finally:
            self.out -= 1
        verdict = np.zeros((len(call.rows), wire.VERDICT_WIDTH), np.int32)
        verdict[:, 5] = call.rows[:, 4] % 4  # the source is that of the amount
        return {wire.SCORE: np.zeros((len(call.rows), 1), np.float32), wire.VERDICT: verdict}

    async def ready(self, model: str, timeout: float) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is held."""


def plan(times: list[float], sizes: list[int] | None = None) -> Plan:
    sizes = sizes or [1] * len(times)
    first = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.array([row(i, amount=4 * i) for i in range(first[-1])], np.int64)
    kind = np.full(len(times), Kind.ORDINARY, np.int8)
    return Plan(np.array(times, np.float64), rows, first, kind, np.full(len(times), -1, np.int8))


def send(asked: Plan, server: Server, *, coalesce: bool = False, give_up_s: float = 10.0, **more: Any) -> Requests:
    sending = Sending(1, coalesce, more.pop("in_flight", 3), 80.0, give_up_s, 0)

    async def run() -> Requests:
        generator = Generator(asked, asked.rows, sending, server, **more)
        return await generator.run(time.monotonic())

    return asyncio.run(run())


def test_a_server_that_answers_nothing_for_a_while_delays_no_sending() -> None:
    """The heart of an open loop: what is sent while the server stands still is sent in time and measured from then."""
    times = [i * 0.005 for i in range(100)]
    stands_until = 0.4

    async def stand(started: float) -> None:
        await asyncio.sleep(max(0.0, started + stands_until - time.monotonic()))

    started = time.monotonic()
    server = Server(lambda call, number: stand(started))
    found = send(plan(times), server)
    assert server.most_out > 50
    assert (found.taken_s < 0.9).all()
    early = found.intended_s < 0.3
    assert (found.latency_s[early] >= stands_until - 0.05 - found.intended_s[early]).all()


def test_nothing_goes_out_before_its_time_and_each_alone_is_one_call() -> None:
    found = send(plan([0.0, 0.01, 0.01, 0.05]), Server())
    assert (found.taken_s >= found.intended_s).all()
    assert (found.sent_s >= found.taken_s).all()
    assert (found.done_s >= found.sent_s).all()
    assert found.call.tolist() == [0, 1, 2, 3]
    assert (found.status == Status.OK).all()


def test_joined_calls_keep_to_the_number_in_flight_and_hold_what_waited() -> None:
    server = Server(lambda call, number: asyncio.sleep(0.15) if number < 2 else None)
    found = send(plan([i * 0.001 for i in range(60)], [2] * 60), server, coalesce=True, in_flight=2)
    assert server.most_out == 2
    assert len(server.calls) < 40
    assert sum(len(call.rows) for call in server.calls) == 120
    assert (np.diff(found.call) >= 0).all()
    sent = np.concatenate([call.rows[:, 0] for call in server.calls])
    assert sent.tolist() == list(range(120))


def test_a_joined_call_never_has_more_rows_than_a_request_may() -> None:
    server = Server()
    found = send(plan([0.0] * 40, [100] * 40), server, coalesce=True)
    assert [len(call.rows) for call in server.calls] == [1_000, 1_000, 1_000, 1_000]
    assert found.rows.tolist() == [100] * 40


def test_a_source_is_told_for_each_arrival_of_a_joined_call() -> None:
    asked = plan([0.0] * 4, [2] * 4)
    asked.rows[:, 4] = [0, 0, 0, 3, 1, 0, 2, 1]
    found = send(asked, Server(), coalesce=True)
    assert found.source.tolist() == [0, 3, 1, 2]
    assert found.degraded.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest, Status.REFUSED),
        (DeadlineExceeded, Status.TIMEOUT),
        (Unavailable, Status.UNAVAILABLE),
        (ServerFailed, Status.OTHER),
    ],
)
def test_what_a_call_ends_with_is_its_status(error: type[Exception], status: Status) -> None:
    def fail(call: Call, number: int) -> None:
        raise error("no")

    found = send(plan([0.0, 0.01]), Server(fail))
    assert found.status.tolist() == [status, status]
    assert found.source.tolist() == [-1, -1]
    assert (found.done_s >= found.sent_s).all()


def test_what_waits_longer_than_a_caller_would_is_given_up() -> None:
    async def hang_for_ever() -> None:
        await asyncio.sleep(0.2)
        raise DeadlineExceeded("no")

    server = Server(lambda call, number: hang_for_ever())
    found = send(plan([i * 0.002 for i in range(100)]), server, coalesce=True, in_flight=1, give_up_s=0.1)
    assert set(found.status.tolist()) == {Status.TIMEOUT}
    assert (found.call[found.sent_s == found.done_s] == -1).all()
    assert (found.call == -1).any()


def test_a_stop_leaves_the_rest_unsent() -> None:
    asked = plan([i * 0.01 for i in range(500)])
    sending = Sending(1, False, 3, 80.0, 10.0, 0)

    async def run() -> tuple[Requests, int]:
        server = Server()
        generator = Generator(asked, asked.rows, sending, server)
        running = asyncio.create_task(generator.run(time.monotonic()))
        while generator.taken < 3:
            await asyncio.sleep(0.005)
        generator.stop()
        return await running, len(server.calls)

    found, calls = asyncio.run(run())
    assert int((found.status == Status.OK).sum()) == calls < 500
    assert np.isnan(found.taken_s[-1])


def test_what_ended_is_told_once() -> None:
    asked = plan([0.0, 0.0, 0.01])

    async def run() -> list[int]:
        generator = Generator(asked, asked.rows, Sending(1, False, 3, 80.0, 10.0, 0), Server())
        await generator.run(time.monotonic())
        return [len(generator.ended().position), len(generator.ended().position)]

    assert asyncio.run(run()) == [3, 0]


def test_the_deadline_and_the_purpose_travel_with_every_call() -> None:
    server = Server()
    send(plan([0.0]), server, purpose=wire.PURPOSE_DRY_RUN)
    assert server.calls[0].parameters == {"deadline_us": 80_000, "purpose": "dry_run"}
    assert server.calls[0].timeout == 10.0


def test_a_fault_of_the_generator_itself_is_no_result() -> None:
    def fail(call: Call, number: int) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        send(plan([0.0, 0.01]), Server(fail))
