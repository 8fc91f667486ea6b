"""Transactions in, decisions out, through the real server: client library, plain KServe v2, the release itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from fraud_client import (
    Accepted,
    Action,
    AsyncFraudClient,
    Decision,
    FraudClient,
    InvalidRequest,
    Label,
    Source,
    Transaction,
)
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import REASONS
from fraud_scoring.stores import Answers
from support.server import Server

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = pytest.mark.triton

PATIENT = 20.0
Call = Callable[..., Any]
Tensors = dict[str, np.ndarray]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, server: Server) -> Call:
    """Calls a method of either client by its name: `call("score", transaction)`."""

    def sync(method: str, *args: Any, **options: Any) -> Any:
        with FraudClient(server.url, deadline=PATIENT) as client:
            return getattr(client, method)(*args, **options)

    def with_asyncio(method: str, *args: Any, **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncFraudClient(server.url, deadline=PATIENT) as client:
                return await getattr(client, method)(*args, **options)

        return asyncio.run(run())

    return sync if request.param == "sync" else with_asyncio


def together(server: Server, work: Callable[[AsyncFraudClient], list[Coroutine[Any, Any, Any]]]) -> list[Any]:
    """The results of coroutines that one asyncio client runs at the same time."""

    async def run() -> list[Any]:
        async with AsyncFraudClient(server.url, deadline=PATIENT) as client:
            return await asyncio.gather(*work(client))

    return asyncio.run(run())


def feature(pipeline: Pipeline, name: str, decision: Decision) -> float:
    assert decision.features is not None
    return decision.features[pipeline.schema.feature_names.index(name)]


def rows_of(*transactions: Transaction) -> np.ndarray:
    return np.array(
        [[t.transaction_id, t.event_time_us, int(t.customer), int(t.terminal), t.amount_minor] for t in transactions],
        np.int64,
    )


def assert_is(decision: Decision, expected: Answers, row: int = 0) -> None:
    """The decision is what the release answers in this process, to the bit."""
    assert np.float32(decision.score).tobytes() == expected.score[row].tobytes()
    assert decision.action == expected.verdict[row, 0]
    assert [reason.code for reason in decision.reasons] == [code for code in expected.verdict[row, 1:4] if code]
    if decision.features is not None:
        assert np.array(decision.features, np.float32).tobytes() == expected.features[row].tobytes()


class TestAnswers:
    def test_a_decision_names_its_release_and_its_source(self, call: Call, fresh: Fresh) -> None:
        transaction = fresh.transaction()
        decision = call("score", transaction)
        assert decision.transaction_id == transaction.transaction_id
        assert (decision.release, decision.source, decision.degraded) == ("r0001", Source.PRIMARY, False)
        assert 0 <= decision.score <= 1

    def test_a_decision_is_the_release_s_to_the_bit(self, call: Call, fresh: Fresh, served_pipeline: Pipeline) -> None:
        transaction = fresh.transaction("87.03")
        decision = call("score", transaction, with_features=True)
        assert_is(decision, served_pipeline.answer_alone(rows_of(transaction)))

    def test_features_come_only_when_asked_for(self, call: Call, fresh: Fresh, served_pipeline: Pipeline) -> None:
        assert call("score", fresh.transaction()).features is None
        asked = call("score", fresh.transaction(), with_features=True)
        assert len(asked.features) == len(served_pipeline.schema.features)

    def test_a_declined_transaction_says_why_in_words(self, call: Call, fresh: Fresh) -> None:
        decision = call("score", fresh.transaction("999.00"))
        assert decision.action is Action.DECLINE
        assert decision.reasons
        assert {reason.text for reason in decision.reasons} <= set(REASONS.values())

    def test_an_approved_transaction_gives_no_reasons(self, call: Call, fresh: Fresh) -> None:
        decision = call("score", fresh.transaction("20.00"))
        assert (decision.action, decision.reasons) == (Action.APPROVE, ())

    def test_many_are_answered_in_order_and_each_sees_the_ones_before_it(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        customer = fresh.key()
        transactions = [fresh.transaction(f"{10 + i}.00", customer=customer, days_ago=9 - i) for i in range(8)]
        decisions = call("score_many", transactions, with_features=True)
        assert [d.transaction_id for d in decisions] == [t.transaction_id for t in transactions]
        counts = [feature(served_pipeline, "customer_count_30d", decision) for decision in decisions]
        assert counts == [1, 2, 3, 4, 5, 6, 7, 8]

    def test_more_than_one_request_holds_are_sent_as_several(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        customer = fresh.key()
        transactions = [fresh.transaction(customer=customer, days_ago=1 - i / 10_000) for i in range(1030)]
        decisions = call("score_many", transactions, with_features=True)
        assert feature(served_pipeline, "customer_count_1d", decisions[-1]) == 1030

    def test_an_event_that_comes_late_is_counted_at_its_own_time(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        customer = fresh.key()
        call("score", fresh.transaction(customer=customer, days_ago=2))
        late = call("score", fresh.transaction(customer=customer, days_ago=3), with_features=True)
        last = call("score", fresh.transaction(customer=customer, days_ago=1.5), with_features=True)
        assert feature(served_pipeline, "customer_count_7d", late) == 1
        assert feature(served_pipeline, "customer_count_7d", last) == 3

    def test_identifiers_that_are_text_are_told_apart_and_recognised(
        self, client: FraudClient, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        name = f"C-{fresh.number():x}"
        client.score(fresh.transaction(customer=name))
        again = client.score(fresh.transaction(customer=name), with_features=True)
        other = client.score(fresh.transaction(customer=f"{name}x"), with_features=True)
        assert feature(served_pipeline, "customer_count_1d", again) == 2
        assert feature(served_pipeline, "customer_count_1d", other) == 1


class TestRepeats:
    def test_the_same_request_again_gets_the_same_answer_and_counts_once(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        transaction = fresh.transaction("45.10")
        first = call("score", transaction, with_features=True)
        assert call("score", transaction, with_features=True) == first
        after = call("score", fresh.transaction(customer=transaction.customer), with_features=True)
        assert feature(served_pipeline, "customer_count_1d", after) == 2

    def test_a_repeat_keeps_its_answer_after_its_windows_have_changed(self, call: Call, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.10")
        first = call("score", transaction, with_features=True)
        call("score", fresh.transaction("900.00", customer=transaction.customer, days_ago=1.1))
        assert call("score", transaction, with_features=True) == first

    def test_a_repeat_among_new_rows_gets_its_own_answer(self, call: Call, fresh: Fresh) -> None:
        old = fresh.transaction("45.10")
        first = call("score", old, with_features=True)
        answers = call("score_many", [fresh.transaction(), old, fresh.transaction()], with_features=True)
        assert answers[1] == first

    def test_one_transaction_from_many_tasks_of_one_client_gets_one_answer(self, server: Server, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.10")
        answers = together(server, lambda client: [client.score(transaction, with_features=True) for _ in range(60)])
        assert answers == [answers[0]] * 60

    def test_one_transaction_from_many_clients_at_once_gets_one_answer(self, server: Server, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.10")

        def ask(_: int) -> Decision:
            with FraudClient(server.url, deadline=PATIENT) as client:
                return client.score(transaction, with_features=True)

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(24)))
        assert answers == [answers[0]] * 24

    def test_a_used_id_with_other_values_is_refused(self, call: Call, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.10")
        first = call("score", transaction)
        changed = fresh.transaction("45.11", transaction_id=transaction.transaction_id)
        with pytest.raises(
            InvalidRequest, match=rf"row 0: transaction_id {transaction.transaction_id} was used before"
        ):
            call("score", changed)
        assert call("score", transaction) == first

    def test_a_used_id_fails_its_own_call_alone(self, server: Server, fresh: Fresh) -> None:
        used = fresh.transaction("45.10")
        changed = fresh.transaction("45.11", transaction_id=used.transaction_id)
        good = [fresh.transaction() for _ in range(20)]

        async def run() -> list[Any]:
            async with AsyncFraudClient(server.url, deadline=PATIENT) as client:
                await client.score(used)
                calls = [client.score(transaction) for transaction in [*good[:10], changed, *good[10:]]]
                return await asyncio.gather(*calls, return_exceptions=True)

        answers = asyncio.run(run())
        refusal = answers.pop(10)
        assert isinstance(refusal, InvalidRequest)
        assert "was used before" in str(refusal)
        assert [answer.transaction_id for answer in answers] == [transaction.transaction_id for transaction in good]


class TestDryRuns:
    def test_a_dry_run_gets_the_answer_that_a_real_one_would(self, call: Call, fresh: Fresh) -> None:
        transaction = fresh.transaction("45.10")
        tried = call("score", transaction, dry_run=True, with_features=True)
        assert tried == call("score", transaction, with_features=True)

    def test_a_dry_run_leaves_no_trace(self, call: Call, fresh: Fresh, served_pipeline: Pipeline) -> None:
        tried = fresh.transaction("45.10")
        call("score", tried, dry_run=True)
        assert call("label", tried.transaction_id, True) is Accepted.UNKNOWN_TRANSACTION
        other = fresh.transaction("9.99", customer=tried.customer, transaction_id=tried.transaction_id)
        decision = call("score", other, with_features=True)
        assert feature(served_pipeline, "customer_count_30d", decision) == 1


class TestLabels:
    def test_a_label_is_unknown_applied_or_already_known(self, call: Call, fresh: Fresh) -> None:
        transaction = fresh.transaction()
        identifier = transaction.transaction_id
        assert call("label", identifier, True) is Accepted.UNKNOWN_TRANSACTION
        call("score", transaction)
        assert call("label", identifier, True) is Accepted.APPLIED
        assert call("label", identifier, True) is Accepted.ALREADY_KNOWN
        assert call("label", identifier, False) is Accepted.APPLIED

    def test_labels_of_several_transactions_are_answered_in_order(self, call: Call, fresh: Fresh) -> None:
        known = fresh.transaction()
        call("score", known)
        labels = [Label(fresh.number(), True), Label(known.transaction_id, False), Label(fresh.number(), False)]
        unknown = Accepted.UNKNOWN_TRANSACTION
        assert call("label_many", labels) == [unknown, Accepted.APPLIED, unknown]

    def test_a_label_changes_the_terminal_s_later_features_and_no_others(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        def rate(decision: Decision) -> tuple[float, float]:
            return (
                feature(served_pipeline, "terminal_fraud_rate_7d", decision),
                feature(served_pipeline, "terminal_count_7d", decision),
            )

        terminal, other_terminal, customer = fresh.key(), fresh.key(), fresh.key()
        fraud = fresh.transaction(customer=customer, terminal=terminal, days_ago=20)
        call("score_many", [fraud, fresh.transaction(terminal=terminal, days_ago=20)])
        call("score", fresh.transaction(customer=customer, terminal=other_terminal, days_ago=20))
        before = fresh.transaction(terminal=terminal, days_ago=11)
        first = call("score", before, with_features=True)
        call("label", fraud.transaction_id, True, fresh.now - timedelta(days=10))
        early = call("score", fresh.transaction(terminal=terminal, days_ago=10.5), with_features=True)
        later = call("score", fresh.transaction(terminal=terminal, days_ago=9.5), with_features=True)
        elsewhere = call("score", fresh.transaction(terminal=other_terminal, days_ago=9.5), with_features=True)
        assert rate(first) == (0, 2)
        assert rate(early) == (0, 2), "the fraud was not yet known then"
        assert rate(later) == (0.5, 2)
        assert rate(elsewhere) == (0, 1)
        assert call("score", before, with_features=True) == first

    def test_a_label_that_is_taken_back_counts_no_more(
        self, call: Call, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        terminal = fresh.key()
        transaction = fresh.transaction(terminal=terminal, days_ago=20)
        call("score", transaction)
        known = fresh.now - timedelta(days=15)
        call("label", transaction.transaction_id, True, known)
        with_fraud = call("score", fresh.transaction(terminal=terminal, days_ago=10), with_features=True)
        call("label", transaction.transaction_id, False, known)
        without = call("score", fresh.transaction(terminal=terminal, days_ago=9), with_features=True)
        assert feature(served_pipeline, "terminal_fraud_rate_7d", with_fraud) == 1
        assert feature(served_pipeline, "terminal_fraud_rate_7d", without) == 0


class TestManyAtOnce:
    def test_hundreds_of_tasks_each_get_their_own_answer(
        self, server: Server, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        transactions = [fresh.transaction(f"{1 + i % 400}.{i % 100:02}") for i in range(600)]
        answers = together(
            server, lambda client: [client.score(transaction, with_features=True) for transaction in transactions]
        )
        expected = served_pipeline.decide(replay(served_pipeline.schema, rows_of(*transactions)))
        for row, (transaction, answer) in enumerate(zip(transactions, answers, strict=True)):
            assert answer.transaction_id == transaction.transaction_id
            assert_is(answer, expected, row)

    def test_requests_that_wait_together_are_answered_together(self, server: Server, fresh: Fresh) -> None:
        rows = fresh.rows(101)

        async def run() -> int:
            import tritonclient.grpc.aio as aio

            async with aio.InferenceServerClient(server.url) as triton:
                with server.slow_store():
                    first = asyncio.create_task(triton.infer("fraud_score", [tensor(rows[:1])]))
                    for _ in range(5):  # on the same connection, so that the first is on its way to the store
                        await triton.get_inference_statistics("fraud_score")
                    others = [asyncio.create_task(triton.infer("fraud_score", [tensor(row[None])])) for row in rows[1:]]
                    for _ in range(20):  # and so that the others have come while the first waits there
                        await triton.get_inference_statistics("fraud_score")
                await asyncio.gather(first, *others)
                return _executions(server, "fraud_score") - before

        before = _executions(server, "fraud_score")
        # the supervisor's probe asks beside it
        assert asyncio.run(run()) <= 10

    def test_requests_that_wait_together_get_each_its_own_rows(
        self, server: Server, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        rows = fresh.rows(300)
        sizes = [1, 5, 1, 64, 2, 200, 27]
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        with ThreadPoolExecutor(len(parts)) as pool:
            answers = list(pool.map(lambda part: ask(grpc_client, server.url, part, "features"), parts))
        expected = served_pipeline.answer_alone(rows)
        assert np.concatenate([answer["features"] for answer in answers]).tobytes() == expected.features.tobytes()


def _executions(server: Server, model: str) -> int:
    with grpc_client.InferenceServerClient(server.url) as triton:
        return int(triton.get_inference_statistics(model).model_stats[0].execution_count)


def tensor(rows: np.ndarray, protocol: Any = grpc_client, name: str = "transaction") -> Any:
    made = protocol.InferInput(name, rows.shape, "INT64")
    made.set_data_from_numpy(rows)
    return made


def ask(
    protocol: Any, url: str, rows: np.ndarray, *more: str, model: str = "fraud_score", **parameters: str | int
) -> Tensors:
    """Score and verdict, and what else is named, by a plain KServe v2 client that has time."""
    names = ("score", "verdict", *more)
    if model == "fraud_score":
        parameters = {"deadline_us": int(1e6 * PATIENT)} | parameters
    with protocol.InferenceServerClient(url) as triton:
        answer = triton.infer(
            model,
            [tensor(rows, protocol)],
            outputs=[protocol.InferRequestedOutput(name) for name in names],
            parameters=parameters or None,
        )
        return {name: answer.as_numpy(name) for name in names}


class TestPlainKServe:
    @pytest.mark.parametrize("protocol", [grpc_client, http_client], ids=["grpc", "http"])
    def test_the_contract_s_tensors_come_back(
        self, protocol: Any, server: Server, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        url = server.url if protocol is grpc_client else server.http_url
        rows = fresh.rows(3)
        answer = ask(protocol, url, rows, "features")
        expected = served_pipeline.answer_alone(rows)
        assert (answer["score"].dtype, answer["score"].shape) == (np.float32, (3, 1))
        assert (answer["verdict"].dtype, answer["verdict"].shape) == (np.int32, (3, 6))
        assert (answer["features"].dtype, answer["features"].shape) == (np.float32, expected.features.shape)
        for name, found in answer.items():
            assert found.tobytes() == getattr(expected, name).tobytes()

    def test_http_and_grpc_give_the_same_answer(self, server: Server, fresh: Fresh) -> None:
        rows = fresh.rows(4)
        first = ask(grpc_client, server.url, rows)
        second = ask(http_client, server.http_url, rows)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)

    @pytest.mark.parametrize("protocol", [grpc_client, http_client], ids=["grpc", "http"])
    def test_parameters_are_understood(self, protocol: Any, server: Server, fresh: Fresh) -> None:
        url = server.url if protocol is grpc_client else server.http_url
        rows = fresh.rows(1)
        tried = ask(protocol, url, rows, purpose="dry_run", deadline_us=5_000_000)
        rows[0, -1] += 1  # not recorded, so that the id is still free
        assert tried["score"].shape == ask(protocol, url, rows)["score"].shape

    def test_http_refuses_with_400_and_the_rule(self, server: Server, fresh: Fresh) -> None:
        rows = fresh.rows(2)
        rows[1, -1] = 0
        with pytest.raises(InferenceServerException, match="row 1: amount_minor is 0") as refused:
            ask(http_client, server.http_url, rows)
        assert refused.value.status() == "400"

    def test_the_release_can_be_asked_directly_and_records_nothing(
        self, server: Server, fresh: Fresh, served_pipeline: Pipeline
    ) -> None:
        rows = fresh.rows(5)
        expected = served_pipeline.answer_alone(rows)
        for _ in range(2):
            answer = ask(grpc_client, server.url, rows, "features", model="fraud_r0001")
            assert answer["features"].tobytes() == expected.features.tobytes()
            assert answer["verdict"].tobytes() == expected.verdict.tobytes()
        through_the_door = ask(grpc_client, server.url, rows, "features")
        assert through_the_door["features"].tobytes() == expected.features.tobytes()

    @pytest.mark.parametrize(
        "forbidden",
        [
            lambda triton: triton.unload_model("fraud_score"),
            lambda triton: triton.load_model("fraud_score"),
            lambda triton: triton.get_system_shared_memory_status(),
            lambda triton: triton.update_log_settings({"log_verbose_level": 1}),
        ],
        ids=["unload", "load", "shared-memory", "logging"],
    )
    def test_calls_that_change_the_server_are_closed(self, server: Server, forbidden: Callable[[Any], Any]) -> None:
        with (
            grpc_client.InferenceServerClient(server.url) as triton,
            pytest.raises(InferenceServerException, match="restricted"),
        ):
            forbidden(triton)
