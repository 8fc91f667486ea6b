"""What breaks a rule is refused with INVALID_ARGUMENT that names row, field and rule, for its own request alone."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.grpc.aio as aio
from tritonclient.utils import InferenceServerException

from fraud_client import FraudClient, InvalidRequest
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import MICROSECONDS_PER_DAY
from support.server import Server

if TYPE_CHECKING:
    from conftest import Fresh

pytestmark = pytest.mark.triton

ID, TIME, CUSTOMER, TERMINAL, AMOUNT = range(5)
HOUR_US: Final = MICROSECONDS_PER_DAY // 24
YEAR_2000_US: Final = 946_684_800_000_000
MOST_MINOR: Final = 100_000_000_000
PATIENT: Final = {"deadline_us": 20_000_000}
"""Of a request whose answer must be the release's, however busy the machine is."""


@dataclass(frozen=True)
class Sent:
    """A request as it goes out, and what its refusal must say: nothing where it is good."""

    rows: np.ndarray
    says: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    model: str = "fraud_score"
    tensor: str = "transaction"
    dtype: str = "INT64"

    def arguments(self) -> dict[str, Any]:
        tensor = grpc_client.InferInput(self.tensor, self.rows.shape, self.dtype)
        tensor.set_data_from_numpy(self.rows)
        outputs = ("score", "verdict", "features") if self.model == "fraud_score" else ("accepted",)
        return {
            "model_name": self.model,
            "inputs": [tensor],
            "outputs": [grpc_client.InferRequestedOutput(name) for name in outputs],
            "parameters": self.parameters or None,
        }


def refusal(server: Server, sent: Sent) -> str:
    """The text of the INVALID_ARGUMENT with which the server refuses."""
    with (
        grpc_client.InferenceServerClient(server.url) as triton,
        pytest.raises(InferenceServerException) as refused,
    ):
        triton.infer(**sent.arguments(), client_timeout=20)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    return str(refused.value.message())


def changed(rows: np.ndarray, row: int, column: int, value: int) -> np.ndarray:
    out = rows.copy()
    out[row, column] = value
    return out


def broken_requests(fresh: Fresh) -> dict[str, Sent]:
    """One request for each rule, by the rule's name."""
    rows = fresh.rows(3)
    now_us = time.time_ns() // 1000
    columns = "schema card-default has 5: transaction_id, event_time_us, customer_key, terminal_key, amount_minor"
    amount = f"send 1 to {MOST_MINOR} (minor units of the account currency)"
    time_rule = "send UTC microseconds since 1970"
    return {
        "four columns": Sent(rows[:, :4].copy(), ("transaction: 4 columns", columns)),
        "six columns": Sent(np.hstack([rows, rows[:, :1]]), ("transaction: 6 columns", columns)),
        "1,025 rows": Sent(fresh.rows(1025), ("transaction: 1025 rows; send 1 to 1,024 a request",)),
        "amount 0": Sent(changed(rows, 2, AMOUNT, 0), ("row 2: amount_minor is 0", amount)),
        "amount below 0": Sent(changed(rows, 0, AMOUNT, -250), ("row 0: amount_minor is -250", amount)),
        "amount above its range": Sent(
            changed(rows, 1, AMOUNT, MOST_MINOR + 1), (f"row 1: amount_minor is {MOST_MINOR + 1}", amount)
        ),
        "time before 2000": Sent(
            changed(rows, 1, TIME, YEAR_2000_US - 1),
            (f"row 1: event_time_us is {YEAR_2000_US - 1}", "before 2000", time_rule),
        ),
        "time in seconds": Sent(
            changed(rows, 0, TIME, now_us // 1_000_000), ("row 0: event_time_us is", "before 2000", time_rule)
        ),
        "time over a day ahead": Sent(
            changed(rows, 2, TIME, now_us + MICROSECONDS_PER_DAY + HOUR_US),
            ("row 2: event_time_us is", "more than a day ahead of the server's clock", time_rule),
        ),
        "id below 0": Sent(changed(rows, 1, ID, -1), ("row 1: transaction_id is -1; send at least 0",)),
        "an id twice": Sent(
            changed(rows, 2, ID, rows[0, ID]),
            (f"row 2: transaction_id {rows[0, ID]} stands twice in this request", "send each transaction once"),
        ),
        "unknown parameter": Sent(
            rows, ("parameter 'dead_line' is not known", "deadline_us, purpose"), {"dead_line": 80_000}
        ),
        "deadline below 0": Sent(rows, ("parameter deadline_us is -1", "from 1 to 60,000,000"), {"deadline_us": -1}),
        "deadline 0": Sent(rows, ("parameter deadline_us is 0", "from 1 to 60,000,000"), {"deadline_us": 0}),
        "deadline over a minute": Sent(
            rows, ("parameter deadline_us is 60000001", "from 1 to 60,000,000"), {"deadline_us": 60_000_001}
        ),
        "deadline as text": Sent(rows, ("parameter deadline_us is '80'", "whole microseconds"), {"deadline_us": "80"}),
        "unknown purpose": Sent(rows, ("parameter purpose is 'training'", "score, dry_run"), {"purpose": "training"}),
        # refused by Triton, before the front door sees them
        "no row": Sent(rows[:0], ("transaction", "fraud_score")),
        "5,000 rows": Sent(fresh.rows(5000), ("batch-size", "fraud_score")),
        "no batch dimension": Sent(rows[0], ("transaction", "fraud_score", "batch dimension")),
        "wrong dtype": Sent(
            rows.astype(np.float64), ("'transaction' data-type is 'FP64'", "expects 'INT64'"), dtype="FP64"
        ),
        "another dtype": Sent(
            np.ones((1, 5), np.int32), ("'transaction' data-type is 'INT32'", "expects 'INT64'"), dtype="INT32"
        ),
        "another tensor": Sent(rows, ("unexpected inference input 'rows'",), tensor="rows"),
    }


RULES: Final = (
    "four columns",
    "six columns",
    "1,025 rows",
    "amount 0",
    "amount below 0",
    "amount above its range",
    "time before 2000",
    "time in seconds",
    "time over a day ahead",
    "id below 0",
    "an id twice",
    "unknown parameter",
    "deadline below 0",
    "deadline 0",
    "deadline over a minute",
    "deadline as text",
    "unknown purpose",
    "no row",
    "5,000 rows",
    "no batch dimension",
    "wrong dtype",
    "another dtype",
    "another tensor",
)


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_named(rule: str, server: Server, fresh: Fresh) -> None:
    sent = broken_requests(fresh)[rule]
    text = refusal(server, sent)
    assert [part for part in sent.says if part not in text] == [], text
    assert "Traceback" not in text
    assert str(server.home) not in text


def test_every_rule_has_a_test(fresh: Fresh) -> None:
    assert set(RULES) == set(broken_requests(fresh))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (AMOUNT, 1),
        (AMOUNT, MOST_MINOR),
        (TIME, YEAR_2000_US),
        (TIME, MICROSECONDS_PER_DAY - HOUR_US),
        (CUSTOMER, -(2**63)),
        (TERMINAL, 2**63 - 1),
    ],
    ids=["smallest amount", "largest amount", "2000-01-01", "23 hours ahead", "smallest key", "largest key"],
)
def test_the_last_value_within_a_rule_is_taken(column: int, value: int, server: Server, fresh: Fresh) -> None:
    rows = fresh.rows(1)
    ahead = column == TIME and value < YEAR_2000_US
    rows[0, column] = time.time_ns() // 1000 + value if ahead else value
    with grpc_client.InferenceServerClient(server.url) as triton:
        assert triton.infer(**Sent(rows).arguments()).as_numpy("score").shape == (1, 1)


def test_1024_rows_are_taken(server: Server, fresh: Fresh) -> None:
    with grpc_client.InferenceServerClient(server.url) as triton:
        assert triton.infer(**Sent(fresh.rows(1024)).arguments()).as_numpy("score").shape == (1024, 1)


def test_a_refused_request_records_nothing(server: Server, client: FraudClient, fresh: Fresh) -> None:
    rows = fresh.rows(2)
    refusal(server, Sent(changed(rows, 1, AMOUNT, 0)))
    assert client.label_rows(np.array([[rows[0, ID], 1, rows[0, TIME]]], np.int64)).tolist() == [0]
    rows[0, AMOUNT] += 1  # the id is still free
    client.score_rows(rows)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([17, 2, 0], ("row 1: is_fraud is 2", "0 (genuine) or 1 (fraud)")),
        ([17, -1, 0], ("row 1: is_fraud is -1", "0 (genuine) or 1 (fraud)")),
        ([17, 1, -1], ("row 1: known_at_us is", "before 2000", "UTC microseconds")),
    ],
    ids=["neither fraud nor genuine", "a negative mark", "a time before 2000"],
)
def test_a_bad_label_is_named(row: list[int], says: tuple[str, ...], server: Server) -> None:
    labels = np.array([[16, 1, YEAR_2000_US], row], np.int64)
    labels[1, 2] += YEAR_2000_US
    text = refusal(server, Sent(labels, model="fraud_feedback", tensor="label"))
    assert [part for part in says if part not in text] == [], text


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 2), "send INT64 [N, 3]: transaction_id, is_fraud, known_at_us"),
        ((1025, 3), "label: 1025 rows; send 1 to 1,024 a request"),
        ((0, 3), "label"),
    ],
    ids=["two columns", "1,025 labels", "no label"],
)
def test_labels_of_a_wrong_shape_are_refused(shape: tuple[int, int], says: str, server: Server) -> None:
    sent = Sent(np.ones(shape, np.int64), model="fraud_feedback", tensor="label")
    assert says in refusal(server, sent)


class TestTheClientLibrary:
    """It says what Triton says less well, before anything is sent."""

    @pytest.mark.parametrize(
        ("rows", "says"),
        [
            (np.empty((0, 5), np.int64), "1 to 1024 transactions, not 0"),
            (np.ones((5000, 5), np.int64), "1 to 1024 transactions, not 5000"),
            (np.ones((1, 5)), "NumPy matrix of int64"),
            (np.ones(5, np.int64), "NumPy matrix of int64"),
        ],
        ids=["no row", "5,000 rows", "floats", "one row without its brackets"],
    )
    def test_it_names_the_rule(self, rows: np.ndarray, says: str, client: FraudClient) -> None:
        with pytest.raises(InvalidRequest, match=says):
            client.score_rows(rows)

    def test_a_refusal_of_the_server_comes_as_an_invalid_request(self, client: FraudClient, fresh: Fresh) -> None:
        with pytest.raises(InvalidRequest, match="row 1: amount_minor is 0; send 1 to"):
            client.score_rows(changed(fresh.rows(2), 1, AMOUNT, 0))

    def test_a_bad_row_fails_its_own_call_and_none_that_travelled_with_it(self, server: Server, fresh: Fresh) -> None:
        ahead = fresh.transaction(days_ago=-3)
        transactions = [*(fresh.transaction() for _ in range(40)), ahead, *(fresh.transaction() for _ in range(40))]

        async def run() -> list[Any]:
            from fraud_client import AsyncFraudClient

            async with AsyncFraudClient(server.url, deadline=20) as client:
                calls = [client.score(transaction) for transaction in transactions]
                return await asyncio.gather(*calls, return_exceptions=True)

        answers = asyncio.run(run())
        bad = answers.pop(40)
        assert isinstance(bad, InvalidRequest)
        assert "more than a day ahead" in str(bad)
        assert [a.transaction_id for a in answers] == [t.transaction_id for t in transactions if t is not ahead]


def test_of_a_thousand_good_and_bad_requests_at_once_each_gets_its_own_due(
    server: Server, fresh: Fresh, served_pipeline: Pipeline
) -> None:
    order = random.Random(11)
    kinds = [rule for rule in RULES if rule not in ("1,025 rows", "5,000 rows")]
    bad = [broken_requests(fresh)[kinds[i % len(kinds)]] for i in range(480)]
    large = [broken_requests(fresh)[rule] for rule in ("1,025 rows", "5,000 rows")] * 10
    good = [Sent(fresh.rows(order.choice([1, 1, 1, 2, 7])), parameters=PATIENT) for _ in range(500)]
    sent = [*bad, *large, *good]
    assert len(sent) == 1000
    order.shuffle(sent)

    async def send(triton: Any, request: Sent) -> Any:
        try:
            return await triton.infer(**request.arguments(), client_timeout=60)
        except InferenceServerException as refused:
            return refused

    async def run() -> list[Any]:
        async with aio.InferenceServerClient(server.url) as triton:
            return await asyncio.gather(*(send(triton, request) for request in sent))

    wrong = []
    for request, answer in zip(sent, asyncio.run(run()), strict=True):
        if request.says:
            right = (
                isinstance(answer, InferenceServerException)
                and answer.status() == "StatusCode.INVALID_ARGUMENT"
                and all(part in answer.message() for part in request.says)
            )
            if not right:
                wrong.append((request.says, str(answer)))
        elif isinstance(answer, InferenceServerException):
            wrong.append(("answers", str(answer)))
        else:
            expected = served_pipeline.answer_alone(request.rows)
            for name in ("score", "verdict", "features"):
                if answer.as_numpy(name).tobytes() != getattr(expected, name).tobytes():
                    wrong.append((name, f"{answer.as_numpy(name)} for {getattr(expected, name)}"))
    assert wrong == []
