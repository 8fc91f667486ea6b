"""A served release over a Redis: offline = online, and what callers see while the Redis is gone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from fraud_client import AsyncFraudClient, BreakerState, Decision, FraudClient, Policy, Transaction, Unavailable
from fraud_scoring.wire import Accepted, Source
from support.redis import MISSING, PATIENT, PROGRAM, RedisServer
from support.server import Server, json_of, until, when_labels_are_taken

pytestmark = [pytest.mark.triton, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

PASSWORD = "only-for-tests"
ROWS = 12_000


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    kept = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer(tmp_path_factory.mktemp("redis"), *kept, password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def over_redis(
    redis: RedisServer, served_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Told where its store is by the environment, which no list of processes shows."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAUD_STORE", f"redis://:{PASSWORD}@127.0.0.1:{redis.port}?{PATIENT}")
        server = Server(served_repository, tmp_path_factory.mktemp("server"))
    with server:
        yield server


@pytest.fixture(scope="module")
def beside(redis: RedisServer, served_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second server over the same Redis, for tests to harm."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAUD_STORE", f"redis://:{PASSWORD}@127.0.0.1:{redis.port}?{PATIENT}")
        server = Server(served_repository, tmp_path_factory.mktemp("beside"))
    with server:
        yield server


def test_a_history_through_the_server_has_the_features_of_the_replay_though_it_is_killed_halfway(
    over_redis: Server, small_data_file: Path
) -> None:
    found = json_of(
        "features", "verify", "--data", small_data_file, "--url", over_redis.url, "--repository", over_redis.repository,
        "--limit", ROWS, "--repeat-share", 0.2, "--kill-halfway", "--home", over_redis.home,
    )  # fmt: skip
    assert found["rows"] == ROWS
    assert found["mismatches"] == found["degraded"] == found["labels_unknown"] == 0
    assert found["repeats"] > 0.1 * ROWS
    assert found["killed"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_server_of_two_that_is_killed_or_frozen_under_load_costs_no_call_and_is_used_again(
    over_redis: Server, beside: Server, fresh, number: signal.Signals
) -> None:
    answers: dict[int, tuple[Transaction, Decision]] = {}

    async def caller(client: AsyncFraudClient, going: asyncio.Event) -> None:
        while going.is_set():
            transaction = fresh.transaction()
            answers[transaction.transaction_id] = transaction, await client.score(transaction)

    async def scene() -> None:
        going = asyncio.Event()
        going.set()
        policy = Policy(window=60.0)  # the budget of a client that has sent for a minute
        async with AsyncFraudClient([over_redis.url, beside.url], deadline=20.0, policy=policy) as client:

            def closed() -> bool:
                return client.stats().endpoints[1].breaker is BreakerState.CLOSED

            assert await client.ready()
            callers = [asyncio.create_task(caller(client, going)) for _ in range(16)]

            async def until_then(happened: Callable[[], bool]) -> None:
                """While the callers go on; what fails one of them fails here."""
                while not happened():
                    done, _ = await asyncio.wait(callers, timeout=0.02, return_when=asyncio.FIRST_EXCEPTION)
                    for task in done:
                        task.result()

            await asyncio.wait_for(until_then(lambda: client.stats().requests > 600), 60)
            triton = beside.triton()
            triton.send_signal(number)
            await asyncio.wait_for(until_then(lambda: not closed()), 60)
            if number is signal.SIGSTOP:
                with suppress(psutil.NoSuchProcess):  # the supervisor may have ended it before
                    triton.resume()
            await asyncio.wait_for(until_then(closed), 90)
            going.clear()
            await asyncio.gather(*callers)

    asyncio.run(scene())
    some = list(answers.values())[::37]
    with FraudClient(over_redis.url, deadline=20.0) as client:
        again = client.score_many([transaction for transaction, _ in some])
    assert again == [decision for _, decision in some]


def test_while_the_redis_is_gone_callers_get_answers_that_say_so_and_labels_are_refused(
    over_redis: Server, redis: RedisServer, fresh
) -> None:
    with FraudClient(over_redis.url, deadline=20.0, token_key=b"a key for tests, no secret") as client:
        paid = client.score(fresh.transaction())
        redis.kill()
        assert client.score(fresh.transaction()).source == Source.SCORECARD
        with pytest.raises(Unavailable, match=r"the window store \(Redis\) cannot be used") as refusal:
            client.label(paid.transaction_id, is_fraud=True)
        assert PASSWORD not in str(refusal.value)
        assert str(redis.port) not in str(refusal.value)
        redis.start()
        until(lambda: client.score(fresh.transaction()).source == Source.PRIMARY, 20)
        taken = when_labels_are_taken(lambda: client.label(paid.transaction_id, is_fraud=True))
        assert taken in (Accepted.APPLIED, Accepted.ALREADY_KNOWN)  # known, where its reply was late
    logs = [path.read_bytes() for path in over_redis.home.rglob("*") if path.is_file()]
    assert any(b"window store: 127.0.0.1" in text and b"is gone" in text for text in logs)
    assert not any(PASSWORD.encode() in text for text in logs)
    assert PASSWORD not in "".join(over_redis.said.lines)
