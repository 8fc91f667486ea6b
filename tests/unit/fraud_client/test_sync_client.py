from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

import fraud_client
from fraud_client import (
    Accepted,
    Action,
    CardNumberRefused,
    FraudClient,
    InvalidRequest,
    Label,
    Reason,
    ServerFailed,
    Source,
    Tokenizer,
    Transaction,
    Unavailable,
)
from fraud_scoring import wire

KEY = b"0123456789abcdef"
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
NOW_US = 1_772_368_200_000_000

Make = Callable[..., Transaction]


@pytest.fixture
def transport(fake_transport: Any) -> Any:
    return fake_transport()


@pytest.fixture
def client(transport: Any) -> FraudClient:
    return FraudClient(transport=transport, token_key=KEY, clock=lambda: NOW)


# Scoring


def test_a_decision_says_all_that_the_verdict_says(client: FraudClient, transaction: Make) -> None:
    decision = client.score(transaction(17, "12.50"))
    assert decision.transaction_id == 17
    assert decision.score == pytest.approx(0.125)
    assert decision.action is Action.REVIEW
    assert decision.reasons == (Reason(5, wire.reason_text(5)), Reason(2, wire.reason_text(2)))
    assert decision.release == "r0007"
    assert decision.source is Source.PRIMARY
    assert decision.features is None


def test_a_decision_reads_well_in_a_log(client: FraudClient, transaction: Make) -> None:
    text = repr(client.score(transaction(17, "12.50")))
    assert text.startswith("Decision(REVIEW, transaction_id=17, score=0.125000, reasons=[the terminal has recent ")
    assert text.endswith("release=r0007, source=PRIMARY)")


@pytest.mark.parametrize("source", Source)
def test_a_decision_is_degraded_unless_primary_or_canary_made_it(
    fake_transport: Any, answer: Any, transaction: Make, source: Source
) -> None:
    def from_source(call: Any) -> Any:
        tensors = answer(call)
        tensors["verdict"][:, 5] = source
        return tensors

    decision = FraudClient(transport=fake_transport(from_source)).score(transaction())
    assert decision.degraded == (source in (Source.FALLBACK_RELEASE, Source.SCORECARD, Source.BY_AMOUNT))


def test_a_transaction_travels_as_one_row_of_64_bit_numbers(client: FraudClient, transport: Any) -> None:
    client.score(Transaction.from_minor_units(17, NOW, "C-42", 9, 1250))
    (call,) = transport.calls
    customer = Tokenizer(KEY).token("C-42", entity="customer")
    assert (call.model, call.tensor, call.rows.dtype) == ("fraud_score", "transaction", np.int64)
    assert call.rows.tolist() == [[17, NOW_US, customer, 9, 1250]]


def test_a_call_carries_the_deadline_for_the_server_and_for_itself(
    client: FraudClient, transport: Any, transaction: Make
) -> None:
    client.score(transaction())
    client.score(transaction(), deadline=0.25)
    assert [(call.timeout, dict(call.parameters)) for call in transport.calls] == [
        (0.08, {"deadline_us": 80_000}),
        (0.25, {"deadline_us": 250_000}),
    ]


def test_the_clients_deadline_holds_where_the_call_has_none(fake_transport: Any, transaction: Make) -> None:
    transport = fake_transport()
    FraudClient(transport=transport, deadline=0.02).score(transaction())
    assert transport.calls[0].parameters["deadline_us"] == 20_000


@pytest.mark.parametrize("deadline", [0, -1, 60.1, float("nan"), float("inf"), 1e-9])
def test_a_deadline_outside_its_range_is_refused(client: FraudClient, transaction: Make, deadline: float) -> None:
    with pytest.raises(InvalidRequest, match="a deadline is in seconds, above 0 and at most 60"):
        client.score(transaction(), deadline=deadline)
    with pytest.raises(InvalidRequest, match="a deadline"):
        client.ready(deadline=deadline)
    with pytest.raises(InvalidRequest, match="a deadline"):
        FraudClient(deadline=deadline)


def test_features_are_asked_for_only_when_wanted(client: FraudClient, transport: Any, transaction: Make) -> None:
    client.score(transaction())
    assert client.score(transaction(), with_features=True).features == (0.5, 2.0)
    assert [call.outputs for call in transport.calls] == [("score", "verdict"), ("score", "verdict", "features")]


def test_a_dry_run_says_so(client: FraudClient, transport: Any, transaction: Make) -> None:
    client.score(transaction(), dry_run=True)
    assert transport.calls[0].parameters["purpose"] == "dry_run"


def test_many_transactions_go_out_in_order_in_requests_of_the_largest_size(
    client: FraudClient, transport: Any, transaction: Make
) -> None:
    decisions = client.score_many(transaction(i) for i in range(2 * wire.MAX_ROWS + 1))
    assert [decision.transaction_id for decision in decisions] == list(range(2 * wire.MAX_ROWS + 1))
    assert [len(call.rows) for call in transport.calls] == [wire.MAX_ROWS, wire.MAX_ROWS, 1]
    assert np.concatenate([call.rows for call in transport.calls])[:, 0].tolist() == list(range(2 * wire.MAX_ROWS + 1))


def test_no_transactions_need_no_request(client: FraudClient, transport: Any) -> None:
    assert client.score_many([]) == []
    assert transport.calls == []


def test_rows_of_any_width_come_back_as_arrays(client: FraudClient) -> None:
    answer = client.score_rows(np.full((3, 9), 100, dtype=np.int64), with_features=True)
    assert (answer.score.shape, answer.verdict.shape) == ((3,), (3, 6))
    assert answer.features is not None
    assert answer.features.shape == (3, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 5)), "int64"),
        (np.ones((2, 5), dtype=np.int32), "int64"),
        (np.ones(5, dtype=np.int64), "matrix"),
        ([[1, 2, 3, 4, 5]], "NumPy matrix"),
        (np.ones((0, 5), dtype=np.int64), "1 to 1024 transactions, not 0"),
        (np.ones((1025, 5), dtype=np.int64), "1 to 1024 transactions, not 1025"),
    ],
)
def test_rows_that_are_no_request_are_refused_before_they_are_sent(
    client: FraudClient, transport: Any, rows: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.score_rows(rows)
    assert transport.calls == []


# Identifiers


def test_text_without_a_key_is_refused_with_the_remedy(fake_transport: Any, transaction: Make) -> None:
    client = FraudClient(transport=fake_transport())
    with pytest.raises(InvalidRequest, match=r"customer is text.*give token_key= or set FRAUD_TOKEN_KEY"):
        client.score(transaction(customer="C-42"))


def test_the_key_may_come_from_the_environment(
    fake_transport: Any, transaction: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_TOKEN_KEY", KEY.decode())
    transport = fake_transport()
    FraudClient(transport=transport).score(transaction(customer="C-42"))
    assert transport.calls[0].rows[0, 2] == Tokenizer(KEY).token("C-42", entity="customer")


def test_whole_numbers_need_no_key_and_go_out_as_they_are(fake_transport: Any, transaction: Make) -> None:
    transport = fake_transport()
    FraudClient(transport=transport).score(transaction(customer=-7, terminal=8))
    assert transport.calls[0].rows[0, 2:4].tolist() == [-7, 8]


def test_no_card_number_reaches_the_transport(client: FraudClient, transport: Any, transaction: Make) -> None:
    with pytest.raises(CardNumberRefused):
        client.score_many([transaction(), transaction(terminal="4111111111111111")])
    assert transport.calls == []


# Labels


def test_a_label_is_known_now_unless_it_says_when(client: FraudClient, transport: Any) -> None:
    earlier = NOW - timedelta(seconds=1)
    assert client.label(17, True) is Accepted.APPLIED
    assert client.label(18, False, earlier) is Accepted.APPLIED
    assert [call.rows.tolist() for call in transport.calls] == [[[17, 1, NOW_US]], [[18, 0, NOW_US - 1_000_000]]]
    assert {(call.model, call.tensor, call.outputs) for call in transport.calls} == {
        ("fraud_feedback", "label", ("accepted",))
    }


def test_many_labels_tell_what_became_of_each(fake_transport: Any) -> None:
    def by_id(call: Any) -> Any:
        return {"accepted": (call.rows[:, :1] % 3).astype(np.int32)}

    transport = fake_transport(by_id)
    results = FraudClient(transport=transport).label_many(Label(i, True) for i in range(wire.MAX_ROWS + 2))
    assert results == [Accepted(i % 3) for i in range(wire.MAX_ROWS + 2)]
    assert [len(call.rows) for call in transport.calls] == [wire.MAX_ROWS, 2]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (Label(-1, True), "transaction_id must be a whole number from 0"),
        (Label(1, "yes"), "is_fraud must be True or False"),  # type: ignore[arg-type]
        (Label(1, True, datetime(2026, 3, 1)), "known_at must be a datetime with a time zone"),
    ],
)
def test_a_label_that_breaks_a_rule_is_refused_with_the_field(client: FraudClient, label: Label, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        client.label_many([label])


def test_label_rows_answer_codes_and_check_their_width(client: FraudClient) -> None:
    assert client.label_rows(np.ones((2, 3), dtype=np.int64)).tolist() == [1, 1]
    with pytest.raises(InvalidRequest, match="transaction_id, is_fraud, known_at_us, not 4 columns"):
        client.label_rows(np.ones((2, 4), dtype=np.int64))


# Answers that break the contract


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("score", None),
        ("score", np.empty((0, 1), dtype=np.float32)),
        ("score", np.ones(1, dtype=np.float32)),
        ("score", np.ones((1, 2), dtype=np.float32)),
        ("verdict", np.ones((1, 6), dtype=np.float32)),
        ("verdict", np.ones((1, 5), dtype=np.int32)),
        ("features", np.empty((0, 2), dtype=np.float32)),
    ],
)
def test_an_answer_without_a_proper_tensor_is_a_failure_of_the_server(
    fake_transport: Any, answer: Any, transaction: Make, name: str, tensor: Any
) -> None:
    def broken(call: Any) -> Any:
        tensors = {**answer(call), name: tensor}
        return {key: value for key, value in tensors.items() if value is not None}

    with pytest.raises(ServerFailed, match=f"without a proper tensor '{name}'"):
        FraudClient(transport=fake_transport(broken)).score(transaction(), with_features=True)


def test_a_decision_that_only_a_newer_client_knows_is_a_failure_with_the_remedy(
    fake_transport: Any, answer: Any, transaction: Make
) -> None:
    def newer(call: Any) -> Any:
        tensors = answer(call)
        tensors["verdict"][:, 0] = 99
        return tensors

    with pytest.raises(ServerFailed, match="update the client"):
        FraudClient(transport=fake_transport(newer)).score(transaction())


def test_a_source_that_only_a_newer_client_knows_is_a_number_and_counts_as_degraded(
    fake_transport: Any, answer: Any, transaction: Make
) -> None:
    def newer(call: Any) -> Any:
        tensors = answer(call)
        tensors["verdict"][:, 5] = 99
        return tensors

    decision = FraudClient(transport=fake_transport(newer)).score(transaction())
    assert (decision.source, decision.source_name, decision.degraded) == (99, "source 99", True)
    assert "source=SOURCE 99" in repr(decision)


def test_a_label_code_from_a_newer_server_is_one_too(fake_transport: Any) -> None:
    transport = fake_transport(lambda call: {"accepted": np.full((1, 1), 9, dtype=np.int32)})
    with pytest.raises(ServerFailed, match="update the client"):
        FraudClient(transport=transport).label(17, True)


# The rest


def test_a_server_that_cannot_be_asked_is_not_ready(client: FraudClient, transport: Any) -> None:
    assert client.ready()
    transport.is_ready = False
    assert not client.ready()
    transport.is_ready = Unavailable("gone")
    assert not client.ready()


def test_leaving_the_context_closes_the_transport(client: FraudClient, transport: Any) -> None:
    with client as entered:
        assert entered is client
        assert not transport.closed
    assert transport.closed


def test_the_public_names_are_sorted_and_all_there() -> None:
    names = fraud_client.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(fraud_client, name) for name in names)


def test_importing_the_package_does_not_load_grpc() -> None:
    program = "import sys, fraud_client; print({'grpc', 'tritonclient'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
