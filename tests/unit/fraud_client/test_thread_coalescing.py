"""Threads that score at the same time share requests, and each gets its own answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fraud_client import (
    Call,
    DeadlineExceeded,
    Decision,
    FraudClient,
    InvalidRequest,
    Overloaded,
    Policy,
    Transaction,
    Unavailable,
)

Make = Callable[..., Transaction]


class Gate:
    """A transport's answer that waits until the gate is open."""

    def __init__(self, answer: Callable[[Call], dict[str, np.ndarray]]) -> None:
        self.answer = answer
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, call: Call) -> dict[str, np.ndarray]:
        self.entered.release()
        assert self.open.wait(10)
        return self.answer(call)


@pytest.fixture
def gate(fake_transport: Any) -> Gate:
    return Gate(fake_transport().answer)


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(48) as pool:
        yield pool


def waiting(client: FraudClient, calls: int) -> None:
    """Until so many calls wait in the client."""
    tick = threading.Event()
    for _ in range(5_000):
        if client._coalescer.waiting == calls:
            return
        tick.wait(0.002)
    raise AssertionError(f"{client._coalescer.waiting} calls wait, and not {calls}")


def behind(
    client: FraudClient, gate: Gate, pool: ThreadPoolExecutor, first: Transaction, others: list[Transaction], **how: Any
) -> tuple[Future[Decision], list[Future[Decision]]]:
    """`first` is on its way and `others` wait behind it."""
    leader = pool.submit(client.score, first, **how)
    assert gate.entered.acquire(timeout=10)
    followers = [pool.submit(client.score, one, **how) for one in others]
    waiting(client, len(others))
    return leader, followers


def sizes(transport: Any) -> list[int]:
    return [len(call.rows) for call in transport.calls]


def test_calls_that_wait_leave_together_and_each_gets_its_own_answer(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=1, deadline=10)
    leader, followers = behind(
        client, gate, pool, transaction(0, "50.00"), [transaction(i, f"{i}.00") for i in range(1, 41)]
    )
    gate.open.set()
    assert leader.result().transaction_id == 0
    found = [one.result() for one in followers]
    assert [one.transaction_id for one in found] == list(range(1, 41))
    assert [one.score for one in found] == pytest.approx([i / 100 for i in range(1, 41)])
    assert sizes(transport) == [1, 40]


def test_a_lone_call_and_calls_while_requests_may_go_out_do_not_wait(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=3, deadline=10)
    calls = [pool.submit(client.score, transaction(i)) for i in range(3)]
    for _ in range(3):
        assert gate.entered.acquire(timeout=10)
    gate.open.set()
    assert sorted(call.result().transaction_id for call in calls) == [0, 1, 2]
    assert sizes(transport) == [1, 1, 1]


def test_calls_that_ask_for_different_things_are_not_joined(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=1, deadline=10)
    leader, _ = behind(client, gate, pool, transaction(0), [])
    plain, dry = pool.submit(client.score, transaction(1)), pool.submit(client.score, transaction(2), dry_run=True)
    waiting(client, 2)
    gate.open.set()
    assert [one.result().transaction_id for one in (leader, plain, dry)] == [0, 1, 2]
    assert sizes(transport) == [1, 1, 1]
    assert sorted(str(call.parameters.get("purpose")) for call in transport.calls) == ["None", "None", "dry_run"]


def test_a_refused_row_fails_its_own_call_alone(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    good = gate.answer

    def refusing(call: Call) -> dict[str, np.ndarray]:
        if 5 in call.rows[:, 0]:
            raise InvalidRequest("row: no")
        return good(call)

    gate.answer = refusing
    client = FraudClient(transport=fake_transport(gate), in_flight=1, deadline=10)
    _, followers = behind(client, gate, pool, transaction(0), [transaction(i) for i in range(1, 9)])
    gate.open.set()
    ended = [one.exception() for one in followers]
    assert [type(error) for error in ended] == [InvalidRequest if i == 5 else type(None) for i in range(1, 9)]


def test_a_failed_request_fails_every_call_in_it_with_an_error_of_its_own_and_the_next_is_sent(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    good, transport = gate.answer, fake_transport(gate)

    def failing(call: Call) -> dict[str, np.ndarray]:
        if len(call.rows) > 1:
            raise Unavailable("gone")
        return good(call)

    gate.answer = failing
    client = FraudClient(transport=transport, in_flight=1, deadline=10)
    _, followers = behind(client, gate, pool, transaction(0), [transaction(i) for i in range(1, 5)])
    gate.open.set()
    errors = [one.exception() for one in followers]
    assert all(isinstance(error, Unavailable) for error in errors)
    assert len({id(error) for error in errors}) == 4
    assert client.score(transaction(9)).transaction_id == 9


def test_a_call_ends_by_its_deadline_while_it_waits_and_is_not_sent(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=1)
    leader, _ = behind(client, gate, pool, transaction(0), [], deadline=10.0)
    with pytest.raises(DeadlineExceeded, match="no answer within 50 ms"):
        client.score(transaction(1), deadline=0.05)
    gate.open.set()
    assert leader.result().transaction_id == 0
    assert client.score(transaction(2)).transaction_id == 2
    assert [call.rows[:, 0].tolist() for call in transport.calls] == [[0], [2]]


def test_what_ends_the_sending_thread_does_not_keep_the_others_waiting(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    good = gate.answer

    def interrupted(call: Call) -> dict[str, np.ndarray]:
        if len(call.rows) > 1:
            raise KeyboardInterrupt
        return good(call)

    gate.answer = interrupted
    client = FraudClient(transport=fake_transport(gate), in_flight=1, deadline=10)
    _, followers = behind(client, gate, pool, transaction(0), [transaction(i) for i in range(1, 5)])
    gate.open.set()
    errors = [one.exception() for one in followers]
    assert sum(isinstance(error, KeyboardInterrupt) for error in errors) == 1
    assert sum(isinstance(error, Unavailable) for error in errors) == 3
    assert client.score(transaction(9)).transaction_id == 9


def test_many_threads_for_a_while_lose_no_call(fake_transport: Any, transaction: Make) -> None:
    transport = fake_transport()
    client = FraudClient(transport=transport, in_flight=2, deadline=10)

    def work(first: int) -> list[int]:
        return [client.score(transaction(first + i)).transaction_id for i in range(50)]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(work, range(0, 16_000, 1_000)))
    assert found == [[first + i for i in range(50)] for first in range(0, 16_000, 1_000)]
    assert sum(sizes(transport)) == 800


# Interrupted threads


@contextmanager
def interrupted(how: Callable[[], None]) -> Iterator[None]:
    """A signal that comes runs `how` in the main thread, wherever that is, and then ends what it does."""

    def handler(*_: object) -> None:
        how()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def when_waiting(client: FraudClient, calls: int) -> None:
    """Signal the main thread as soon as so many calls wait."""
    waiting(client, calls)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def test_a_thread_that_is_interrupted_while_it_waits_is_not_sent_and_leaves_no_gap(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=1, deadline=10)
    leader, _ = behind(client, gate, pool, transaction(0), [])
    signalled = pool.submit(when_waiting, client, 1)
    with interrupted(lambda: None):
        client.score(transaction(1))
    signalled.result()
    assert client.stats().waiting == 0
    gate.open.set()
    assert leader.result().transaction_id == 0
    assert client.score(transaction(2)).transaction_id == 2
    assert [call.rows[:, 0].tolist() for call in transport.calls] == [[0], [2]]


def test_a_thread_that_is_interrupted_when_it_was_just_appointed_hands_its_place_and_its_followers_on(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    transport = fake_transport(gate)
    client = FraudClient(transport=transport, in_flight=1, deadline=10)
    leader, _ = behind(client, gate, pool, transaction(0), [])

    def follow() -> list[Future[Decision]]:
        waiting(client, 1)
        followers = [pool.submit(client.score, transaction(i)) for i in (2, 3)]
        when_waiting(client, 3)
        return followers

    def appointed() -> None:
        """While the main thread waits, the request before it comes back, and it is the first in line."""
        gate.open.set()
        assert leader.result().transaction_id == 0

    following = pool.submit(follow)
    with interrupted(appointed):
        client.score(transaction(1))
    assert [one.result().transaction_id for one in following.result()] == [2, 3]
    assert client.score(transaction(4)).transaction_id == 4
    assert [call.rows[:, 0].tolist() for call in transport.calls] == [[0], [2, 3], [4]]
    assert client.stats().endpoints[0].in_flight == 0


def test_a_thread_that_is_interrupted_while_it_sends_gives_its_place_back(
    fake_transport: Any, transaction: Make, answer: Any
) -> None:
    def interrupts(call: Call) -> Any:
        if call.rows[0, 0] == 1:
            raise KeyboardInterrupt
        return answer(call)

    client = FraudClient(transport=fake_transport(interrupts), in_flight=1)
    with pytest.raises(KeyboardInterrupt):
        client.score(transaction(1))
    assert client.score(transaction(2)).transaction_id == 2
    assert client.stats().endpoints[0].in_flight == 0


# Back-pressure


def test_a_call_too_many_is_told_so_at_once_and_those_that_wait_are_answered(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    client = FraudClient(transport=fake_transport(gate), in_flight=1, deadline=10, policy=Policy(max_waiting=4))
    leader, followers = behind(client, gate, pool, transaction(0), [transaction(i) for i in range(1, 5)])
    with pytest.raises(Overloaded, match=r"4 calls wait in this client already, .* Policy\.max_waiting"):
        client.score(transaction(5))
    assert (client.stats().waiting, client.stats().overloaded) == (4, 1)
    gate.open.set()
    assert [one.result().transaction_id for one in (leader, *followers)] == [0, 1, 2, 3, 4]
    assert client.score(transaction(6)).transaction_id == 6


def test_calls_that_waited_in_vain_make_room(
    fake_transport: Any, gate: Gate, pool: ThreadPoolExecutor, transaction: Make
) -> None:
    client = FraudClient(transport=fake_transport(gate), in_flight=1, deadline=10, policy=Policy(max_waiting=1))
    leader, _ = behind(client, gate, pool, transaction(0), [])
    for i in (1, 2):
        with pytest.raises(DeadlineExceeded):
            client.score(transaction(i), deadline=0.02)
    assert client.stats().waiting == 0
    gate.open.set()
    assert leader.result().transaction_id == 0
