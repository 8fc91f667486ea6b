"""From values to calls, from answers to values: all that the blocking and the asyncio client share. No I/O.

Shapes: N rows, C columns (five in the default schema), F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fraud_client._decision import Decision, Reason
from fraud_client._errors import InvalidRequest, ServerFailed
from fraud_client._fields import aware, microseconds, whole
from fraud_client._tokens import TOKEN_KEY_VARIABLE, Tokenizer
from fraud_client._transaction import Transaction
from fraud_scoring import wire

Rows = npt.NDArray[np.int64]
Answer = Mapping[str, npt.NDArray[Any]]
"""Output tensors by name."""

DEFAULT_DEADLINE: Final = wire.DEFAULT_DEADLINE_US / 1e6
"""Seconds that a scoring call may take when nothing else is said."""
LABEL_DEADLINE: Final = 5.0
"""Seconds that a label call may take: no payment waits for it."""
READY_DEADLINE: Final = 1.0

_SOURCES: Final = {int(source): source for source in wire.Source}

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One inference request, as a transport sends it."""

    model: str
    tensor: str
    """Name of the one input."""
    rows: Rows
    outputs: tuple[str, ...]
    timeout: float
    """Seconds until the client gives up."""
    parameters: Mapping[str, int | str] = field(default_factory=dict)


class Scored(NamedTuple):
    """The answer to a matrix of transactions; the arrays may be read-only."""

    score: npt.NDArray[np.float32]
    """[N], calibrated probability of fraud."""
    verdict: npt.NDArray[np.int32]
    """[N, 6], `wire.VERDICT_COLUMNS`."""
    features: npt.NDArray[np.float32] | None
    """[N, F], when asked for."""


class Label(NamedTuple):
    """What a transaction turned out to be; `known_at` None means now."""

    transaction_id: int
    is_fraud: bool
    known_at: datetime | None = None


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Lists of at most `wire.MAX_ROWS`, in order."""
    iterator = iter(items)
    while chunk := list(islice(iterator, wire.MAX_ROWS)):
        yield chunk


def checked_deadline(deadline: float) -> float:
    """The deadline in seconds, if it is above 0 and the server would take it."""
    if not 1 <= deadline * 1e6 <= wire.MAX_DEADLINE_US:
        raise InvalidRequest(f"a deadline is in seconds, above 0 and at most {wire.MAX_DEADLINE_US / 1e6:g}")
    return deadline


def transaction_rows(transactions: Sequence[Transaction], tokenizer: Tokenizer | None) -> Rows:
    """[N, 5] in the column order of the default schema."""
    return np.array(
        [
            (
                transaction.transaction_id,
                transaction.event_time_us,
                _key("customer", transaction.customer, tokenizer),
                _key("terminal", transaction.terminal, tokenizer),
                transaction.amount_minor,
            )
            for transaction in transactions
        ],
        dtype=np.int64,
    )


def _key(entity: str, identifier: str | int, tokenizer: Tokenizer | None) -> int:
    if isinstance(identifier, int):
        return identifier
    if tokenizer is None:
        raise InvalidRequest(
            f"{entity} is text, and the client has no key to make a token of it: give token_key= or set "
            f"{TOKEN_KEY_VARIABLE} (16 bytes or more), or send a whole number"
        )
    return tokenizer.token(identifier, entity=entity)


def label_rows(labels: Iterable[Label], now: datetime) -> Rows:
    """[N, 3], `wire.LABEL_COLUMNS`."""
    return np.array([_label_row(Label(*label), now) for label in labels], dtype=np.int64)


def _label_row(label: Label, now: datetime) -> tuple[int, int, int]:
    if label.is_fraud not in (True, False):
        raise InvalidRequest("is_fraud must be True or False")
    known_at = now if label.known_at is None else aware("known_at", label.known_at)
    return whole("transaction_id", label.transaction_id, 0), int(label.is_fraud), microseconds(known_at)


def score_call(rows: Rows, deadline: float, *, dry_run: bool, with_features: bool) -> Call:
    _check_rows("transactions", rows)
    parameters: dict[str, int | str] = {wire.PARAMETER_DEADLINE: round(checked_deadline(deadline) * 1e6)}
    if dry_run:
        parameters[wire.PARAMETER_PURPOSE] = wire.PURPOSE_DRY_RUN
    outputs = (wire.SCORE, wire.VERDICT, wire.FEATURES) if with_features else (wire.SCORE, wire.VERDICT)
    return Call(wire.SCORE_MODEL, wire.TRANSACTION, rows, outputs, deadline, parameters)


def with_time_left(call: Call, left: float) -> Call:
    """The same call when only `left` seconds remain: the server is told so, too."""
    parameters = dict(call.parameters)
    if wire.PARAMETER_DEADLINE in parameters:
        parameters[wire.PARAMETER_DEADLINE] = max(1, round(left * 1e6))
    return replace(call, timeout=left, parameters=parameters)


def label_call(rows: Rows, deadline: float) -> Call:
    _check_rows("labels", rows)
    if rows.shape[1] != len(wire.LABEL_COLUMNS):
        raise InvalidRequest(f"labels have the columns {', '.join(wire.LABEL_COLUMNS)}, not {rows.shape[1]} columns")
    return Call(wire.FEEDBACK_MODEL, wire.LABEL, rows, (wire.ACCEPTED,), checked_deadline(deadline))


def _check_rows(what: str, rows: Rows) -> None:
    if not isinstance(rows, np.ndarray) or rows.dtype != np.int64 or rows.ndim != 2:
        raise InvalidRequest(f"{what} must be a NumPy matrix of int64 with one row each")
    if not 1 <= len(rows) <= wire.MAX_ROWS:
        raise InvalidRequest(f"a request has 1 to {wire.MAX_ROWS} {what}, not {len(rows)}; send several")


def scored(call: Call, answer: Answer) -> Scored:
    """The answer to `score_call`, its shapes checked; ServerFailed where it breaks the contract."""
    features = _tensor(call, answer, wire.FEATURES, -1, "f") if wire.FEATURES in call.outputs else None
    score = _tensor(call, answer, wire.SCORE, 1, "f")
    return Scored(score[:, 0], _tensor(call, answer, wire.VERDICT, wire.VERDICT_WIDTH, "i"), features)


def accepted(call: Call, answer: Answer) -> npt.NDArray[np.int32]:
    """[N], the answer to `label_call`, likewise."""
    return _tensor(call, answer, wire.ACCEPTED, 1, "i")[:, 0]


def _tensor(call: Call, answer: Answer, name: str, width: int, kind: str) -> npt.NDArray[Any]:
    tensor = answer.get(name)
    good = tensor is not None and tensor.ndim == 2 and tensor.dtype.kind == kind and len(tensor) == len(call.rows)
    if tensor is None or not good or width not in (-1, tensor.shape[1]):
        raise ServerFailed(
            f"{call.model} answered without a proper tensor {name!r}: its log says why; a server and a client of two "
            "versions can cause it too"
        )
    return tensor


def decisions(transactions: Sequence[Transaction], answer: Scored) -> list[Decision]:
    """One Decision a transaction, in order."""
    features = [None] * len(transactions) if answer.features is None else map(tuple, answer.features.tolist())
    rows = zip(transactions, answer.score.tolist(), answer.verdict.tolist(), features, strict=True)
    return [
        Decision(transaction.transaction_id, score, action, reasons, release, source, seen)
        for transaction, score, verdict, seen in rows
        for action, reasons, release, source in [_verdict(verdict)]
    ]


def _verdict(verdict: list[int]) -> tuple[wire.Decision, tuple[Reason, ...], str, wire.Source | int]:
    action, *codes, release, source = verdict
    reasons = tuple(Reason(code, wire.reason_text(code)) for code in codes if code)
    try:
        return wire.Decision(action), reasons, f"r{release:04d}", _SOURCES.get(source, source)
    except ValueError:
        raise _unknown_code() from None


def label_results(answer: npt.NDArray[np.int32]) -> list[wire.Accepted]:
    try:
        return [wire.Accepted(code) for code in answer.tolist()]
    except ValueError:
        raise _unknown_code() from None


def _unknown_code() -> ServerFailed:
    return ServerFailed("the server answered with a code that this client does not know: update the client")
