from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from fraud_client import (
    Accepted,
    AsyncFraudClient,
    DeadlineExceeded,
    FraudClient,
    InvalidRequest,
    Label,
    Overloaded,
    Policy,
    ServerFailed,
    Transaction,
    Unavailable,
)
from fraud_scoring import wire

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)

Make = Callable[..., Transaction]
Scene = Callable[[AsyncFraudClient, Any], Awaitable[Any]]


@pytest.fixture
def play(fake_async_transport: Any) -> Callable[..., Any]:
    """Runs a scene with a client and its fake transport in an event loop of its own."""

    def run(scene: Scene, answer: Any = None, **options: Any) -> Any:
        async def main() -> Any:
            transport = fake_async_transport(answer) if answer else fake_async_transport()
            patient = {"deadline": 10.0, **options}  # no test asks whether a busy machine is fast
            async with AsyncFraudClient(transport=transport, clock=lambda: NOW, **patient) as client:
                result = await scene(client, transport)
            assert transport.closed
            return result

        return asyncio.run(main())

    return run


async def turns(count: int = 5) -> None:
    """Let the loop run what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {n: list(inspect.signature(f).parameters) for n, f in functions if not n.startswith("_")}

    assert methods(AsyncFraudClient) == methods(FraudClient)


def test_both_clients_give_the_same_decision(play: Any, fake_transport: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> Any:
        return await client.score(transaction(), with_features=True)

    assert play(scene) == FraudClient(transport=fake_transport()).score(transaction(), with_features=True)


def test_many_transactions_go_out_one_request_after_the_other(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        task = asyncio.create_task(client.score_many(transaction(i) for i in range(wire.MAX_ROWS + 3)))
        await turns()
        assert len(transport.calls) == 1
        transport.open.set()
        decisions = await task
        assert [decision.transaction_id for decision in decisions] == list(range(wire.MAX_ROWS + 3))
        assert [len(call.rows) for call in transport.calls] == [wire.MAX_ROWS, 3]

    play(scene)


def test_rows_labels_and_readiness_work_as_in_the_blocking_client(play: Any) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        assert await client.ready()
        assert (await client.score_rows(np.ones((2, 5), dtype=np.int64))).score.shape == (2,)
        assert await client.label(17, True) is Accepted.APPLIED
        assert await client.label_many([Label(17, True), Label(18, False)]) == [Accepted.APPLIED] * 2
        assert (await client.label_rows(np.ones((2, 3), dtype=np.int64))).tolist() == [1, 1]
        assert transport.calls[1].rows.tolist() == [[17, 1, 1_772_368_200_000_000]]

    play(scene)


def test_at_least_one_request_must_be_allowed_in_flight() -> None:
    with pytest.raises(InvalidRequest, match="in_flight must be 1 or more"):
        AsyncFraudClient(in_flight=0)


# Joining single calls


def test_calls_made_together_share_one_request_and_each_gets_its_own_answer(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        decisions = await asyncio.gather(*(client.score(transaction(i, f"{i}.00")) for i in range(1, 41)))
        assert [decision.transaction_id for decision in decisions] == list(range(1, 41))
        assert [decision.score for decision in decisions] == pytest.approx([i / 100 for i in range(1, 41)])
        assert [len(call.rows) for call in transport.calls] == [40]

    play(scene)


def test_calls_wait_only_while_enough_requests_are_in_flight(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        tasks = []
        for i in range(6):
            tasks.append(asyncio.create_task(client.score(transaction(i))))
            await turns()
        assert [call.rows[:, 0].tolist() for call in transport.calls] == [[0], [1]]
        transport.open.set()
        await asyncio.gather(*tasks)
        assert [call.rows[:, 0].tolist() for call in transport.calls] == [[0], [1], [2, 3, 4, 5]]

    play(scene, in_flight=2)


def test_a_joined_request_has_at_most_the_largest_size(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        await asyncio.gather(*(client.score(transaction(i)) for i in range(wire.MAX_ROWS + 10)))
        assert [len(call.rows) for call in transport.calls] == [wire.MAX_ROWS, 10]

    play(scene, deadline=10)


def test_calls_that_ask_for_different_things_are_not_joined(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        plain, dry, full, _ = await asyncio.gather(
            client.score(transaction(1)),
            client.score(transaction(2), dry_run=True),
            client.score(transaction(3), with_features=True),
            client.score(transaction(4), deadline=1.0),
        )
        assert (plain.features, dry.features, full.features) == (None, None, (0.5, 2.0))
        assert [call.parameters.get("purpose") for call in transport.calls] == [None, "dry_run", None, None]
        assert [len(call.rows) for call in transport.calls] == [1, 1, 1, 1]

    play(scene)


def test_a_refused_row_fails_its_own_call_alone(play: Any, answer: Any, transaction: Make) -> None:
    def refuses_a_cent(call: Any) -> Any:
        if (call.rows[:, 4] == 1).any():
            raise InvalidRequest(f"row {int((call.rows[:, 4] == 1).argmax())}: amount_minor")
        return answer(call)

    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        results = await asyncio.gather(
            *(client.score(transaction(i, "0.01" if i in (3, 8) else "1.00")) for i in range(10)),
            return_exceptions=True,
        )
        refused = [i for i, result in enumerate(results) if isinstance(result, InvalidRequest)]
        assert refused == [3, 8]
        assert str(results[3]) == "row 0: amount_minor"
        assert [r.transaction_id for r in results if not isinstance(r, BaseException)] == [0, 1, 2, 4, 5, 6, 7, 9]

    play(scene, refuses_a_cent)


@pytest.mark.parametrize("error", [Unavailable, ServerFailed, DeadlineExceeded])
def test_a_failed_request_fails_every_call_in_it_with_an_error_of_its_own(
    play: Any, transaction: Make, error: type[Exception]
) -> None:
    def fails(call: Any) -> Any:
        raise error("not now")

    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        results = await asyncio.gather(*(client.score(transaction(i)) for i in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [error] * 3
        assert len({id(result) for result in results}) == 3
        assert len(transport.calls) == 1

    play(scene, fails, policy=Policy.plain())


def test_a_call_ends_by_its_deadline_even_if_the_transport_does_not(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        with pytest.raises(DeadlineExceeded, match="no answer within 5 ms"):
            await client.score(transaction(), deadline=0.005)
        transport.open.set()

    play(scene)


def test_a_call_whose_deadline_passed_while_it_waited_is_not_sent(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        first = asyncio.create_task(client.score(transaction(1), deadline=10))
        await turns()
        with pytest.raises(DeadlineExceeded):
            await client.score(transaction(2), deadline=0.005)
        transport.open.set()
        await first
        await turns()
        assert [call.rows[0, 0] for call in transport.calls] == [1]

    play(scene, in_flight=1)


def test_the_time_that_a_call_waited_is_taken_off_its_requests_deadline(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        loop = asyncio.get_running_loop()
        transport.open.clear()
        start = loop.time()
        calls = [asyncio.create_task(client.score(transaction(1), deadline=10))]
        await turns()
        calls.append(asyncio.create_task(client.score(transaction(2), deadline=10)))
        await turns()
        transport.open.set()
        await asyncio.gather(*calls)
        waited = loop.time() - start
        assert 10 - waited <= transport.calls[1].timeout < 10
        assert transport.calls[1].parameters["deadline_us"] == round(transport.calls[1].timeout * 1e6)

    play(scene, in_flight=1)


def test_a_cancelled_call_does_not_disturb_the_one_joined_with_it(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        leaves = asyncio.create_task(client.score(transaction(1), deadline=10))
        stays = asyncio.create_task(client.score(transaction(2), deadline=10))
        await turns()
        leaves.cancel()
        await turns()
        transport.open.set()
        assert (await stays).transaction_id == 2
        assert len(transport.calls) == 1

    play(scene)


def test_a_transport_that_is_cancelled_fails_its_calls_as_unavailable(play: Any, transaction: Make) -> None:
    def cancelled(call: Any) -> Any:
        raise asyncio.CancelledError

    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        with pytest.raises(Unavailable, match="the client was closed"):
            await client.score(transaction())

    play(scene, cancelled)


def test_closing_lets_calls_under_way_have_their_answers(fake_async_transport: Any, transaction: Make) -> None:
    async def main() -> None:
        transport = fake_async_transport()
        client = AsyncFraudClient(transport=transport, in_flight=1)
        tasks = [asyncio.create_task(client.score(transaction(i), deadline=10)) for i in range(3)]
        await asyncio.sleep(0)
        await client.close()
        assert [task.result().transaction_id for task in tasks] == [0, 1, 2]
        assert transport.closed

    asyncio.run(main())


# Back-pressure


def test_a_call_too_many_is_told_so_at_once_and_those_that_wait_are_answered(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        first = asyncio.create_task(client.score(transaction(0), deadline=10))
        await turns()
        tasks = [asyncio.create_task(client.score(transaction(i), deadline=10)) for i in range(1, 5)]
        await turns()
        with pytest.raises(Overloaded, match=r"4 calls wait in this client already, .* Policy\.max_waiting"):
            await client.score(transaction(5))
        assert (client.stats().waiting, client.stats().overloaded) == (4, 1)
        transport.open.set()
        assert [one.transaction_id for one in await asyncio.gather(first, *tasks)] == [0, 1, 2, 3, 4]
        assert client.stats().waiting == 0

    play(scene, in_flight=1, policy=Policy(max_waiting=4))


def test_calls_that_waited_in_vain_or_were_cancelled_make_room(play: Any, transaction: Make) -> None:
    async def scene(client: AsyncFraudClient, transport: Any) -> None:
        transport.open.clear()
        first = asyncio.create_task(client.score(transaction(0), deadline=10))
        await turns()
        with pytest.raises(DeadlineExceeded):
            await client.score(transaction(1), deadline=0.005)
        cancelled = asyncio.create_task(client.score(transaction(2), deadline=10))
        await turns()
        cancelled.cancel()
        await turns()
        assert client.stats().waiting == 0
        transport.open.set()
        assert (await first).transaction_id == 0

    play(scene, in_flight=1, policy=Policy(max_waiting=1))
