"""`fraudctl score` and `fraudctl label`: transactions and labels to a running server, from a file or one by one."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from fraudctl.options import access_options, json_option, url_option
from fraudctl.report import emit, progress

if TYPE_CHECKING:
    from fraud_client import Access, Decision, Label, Transaction

_EPILOG = "Identifiers that are text need the secret FRAUD_TOKEN_KEY in the environment: they leave as keyed tokens."


@click.command(epilog=_EPILOG)
@url_option
@access_options
@click.option(
    "--file",
    "source",
    type=click.File(encoding="utf-8"),
    help="JSON lines, one transaction each; - reads standard input.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write each decision here, as JSON lines.")
@click.option("--id", "transaction_id", type=int, help="One transaction: its number.  [default: from the clock]")
@click.option("--customer", help="One transaction: customer, an identifier or a key.")
@click.option("--terminal", help="One transaction: terminal, an identifier or a key.")
@click.option("--amount", help="One transaction: amount in major units, as 12.50.")
@click.option("--at", "event_time", help="One transaction: ISO 8601 time with offset.  [default: now]")
@click.option("--dry-run", is_flag=True, help="Score without recording.")
@click.option("--deadline", default=5.0, show_default=True, help="Seconds a request may take.")
@json_option
def score(
    url: str,
    access: Access | None,
    source: IO[str] | None,
    out: Path | None,
    dry_run: bool,
    deadline: float,
    as_json: bool,
    **one: Any,
) -> None:
    """Score one transaction, or a file of them in order.

    \b
      fraudctl score --customer 596 --terminal 3156 --amount 57.16
      fraudctl score --file transactions.jsonl --out decisions.jsonl
    A line of the file: {"transaction_id": 17, "event_time": "2026-03-01T12:30:00Z",
                         "customer": "C-42", "terminal": "T-9", "amount": "12.50"}
    """
    from fraud_client import Action, FraudClient

    if source is None:
        transactions = [_one_transaction(**one)]
    elif any(value is not None for value in one.values()):
        raise click.UsageError("give --file, or one transaction by --customer, --terminal and --amount; not both")
    else:
        transactions = list(_transactions(source))
    began = time.monotonic()
    decisions: list[Decision] = []
    with FraudClient(url, deadline=deadline, access=access) as client, progress("score") as report:
        for start in range(0, len(transactions), 512):
            decisions += client.score_many(transactions[start : start + 512], dry_run=dry_run)
            report(len(decisions) / len(transactions), "scoring")
    if out is not None:
        out.write_text("".join(json.dumps(_as_dict(decision)) + "\n" for decision in decisions), encoding="utf-8")
    if source is None:
        one_decision = _as_dict(decisions[0])
        shown = {**one_decision, "reasons": "; ".join(one_decision["reasons"]) or "none"}
        emit(one_decision, as_json, table=[(name.replace("_", " "), str(value)) for name, value in shown.items()])
        return
    found = Counter(decision.action for decision in decisions)
    actions = {action.name.lower(): found[action] for action in Action}
    seconds = time.monotonic() - began
    result: dict[str, Any] = {"transactions": len(decisions), **actions, "seconds": round(seconds, 2), "out": out}
    if as_json and out is None:
        result["decisions"] = [_as_dict(decision) for decision in decisions]
    emit(result, as_json)


@click.command(epilog="A label that was sent before changes nothing: to send labels twice is safe.")
@url_option
@access_options
@click.option(
    "--file", "source", type=click.File(encoding="utf-8"), help="JSON lines, one label each; - reads standard input."
)
@click.option("--id", "transaction_id", type=int, help="One label: the transaction's number.")
@click.option("--fraud/--genuine", "is_fraud", default=None, help="One label: what it turned out to be.")
@click.option("--known-at", help="One label: ISO 8601 time with offset.  [default: now]")
@json_option
def label(
    url: str,
    access: Access | None,
    source: IO[str] | None,
    transaction_id: int | None,
    is_fraud: bool | None,
    known_at: str | None,
    as_json: bool,
) -> None:
    """Tell what transactions turned out to be: one, or a file of labels.

    \b
      fraudctl label --id 17 --fraud
      fraudctl label --file labels.jsonl
    A line of the file: {"transaction_id": 17, "is_fraud": true, "known_at": "2026-03-07T09:00:00Z"}
    """
    from fraud_client import Accepted, FraudClient, Label

    if source is not None and transaction_id is not None:
        raise click.UsageError("give --file, or one label by --id; not both")
    if source is not None:
        labels = list(_labels(source))
    elif transaction_id is None or is_fraud is None:
        raise click.UsageError("give --file, or one label: --id and one of --fraud and --genuine")
    else:
        labels = [Label(transaction_id, is_fraud, None if known_at is None else _moment(known_at))]
    with FraudClient(url, access=access) as client:
        accepted = client.label_many(labels)
    found = Counter(accepted)
    emit({"labels": len(labels), **{what.name.lower(): found[what] for what in Accepted}}, as_json)


def _one_transaction(
    transaction_id: int | None, customer: str | None, terminal: str | None, amount: str | None, event_time: str | None
) -> Transaction:
    from fraud_client import Transaction

    if customer is None or terminal is None or amount is None:
        raise click.UsageError("give --file, or one transaction: --customer, --terminal and --amount")
    try:
        money = Decimal(amount)
    except InvalidOperation:
        raise click.UsageError(f"--amount {amount} is no number; write major units, as 12.50") from None
    return Transaction(
        transaction_id=time.time_ns() // 1000 if transaction_id is None else transaction_id,
        event_time=datetime.now(timezone.utc) if event_time is None else _moment(event_time),
        customer=_key_or_text(customer),
        terminal=_key_or_text(terminal),
        amount=money,
    )


def _key_or_text(value: str) -> str | int:
    """A whole number is a key, as it stands; anything else an identifier."""
    return int(value) if value.removeprefix("-").isdecimal() and value.isascii() else value


def _moment(text: str) -> datetime:
    from fraud_scoring.errors import InvalidInput

    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise InvalidInput(f"{text} is no time; write ISO 8601 with offset, as 2026-03-01T12:30:00Z") from None
    if moment.tzinfo is None:
        raise InvalidInput(f"{text} has no offset; write 2026-03-01T12:30:00Z or …+02:00")
    return moment


def _lines(source: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, its JSON object), blank lines left out."""
    from fraud_scoring.errors import InvalidInput

    empty = True
    for number, line in enumerate(_text_lines(source), start=1):
        if not line.strip():
            continue
        empty = False
        try:
            # numbers keep their decimals: 0.1 is a tenth and not its nearest binary fraction
            found = json.loads(line, parse_float=Decimal)
        except ValueError as error:
            why = getattr(error, "msg", "a number is too long")
            raise InvalidInput(f"line {number}: this is not JSON ({why}); write one object a line") from None
        if not isinstance(found, dict):
            raise InvalidInput(f"line {number}: this is no object; write one object a line")
        yield number, found
    if empty:
        raise InvalidInput("the file holds no line; write one JSON object a line")


def _text_lines(source: IO[str]) -> Iterator[str]:
    from fraud_scoring.errors import InvalidInput

    try:
        yield from source
    except UnicodeDecodeError:
        raise InvalidInput("the file is not UTF-8 text; write one JSON object a line") from None


def _transactions(source: IO[str]) -> Iterator[Transaction]:
    from fraud_client import InvalidRequest, Transaction
    from fraud_scoring.errors import InvalidInput

    for number, fields in _lines(source):
        try:
            yield Transaction.from_mapping(fields)
        except InvalidRequest as error:
            raise InvalidInput(f"line {number}: {error}") from None


def _labels(source: IO[str]) -> Iterator[Label]:
    from fraud_client import Label
    from fraud_scoring.errors import InvalidInput

    for number, fields in _lines(source):
        if not set(fields) <= {"transaction_id", "is_fraud", "known_at"} or not {"transaction_id", "is_fraud"} <= set(
            fields
        ):
            raise InvalidInput(f"line {number}: write transaction_id, is_fraud and, if it is not now, known_at")
        identifier, is_fraud, known_at = fields["transaction_id"], fields["is_fraud"], fields.get("known_at")
        if type(identifier) is not int or not 0 <= identifier < 2**63:
            raise InvalidInput(f"line {number}: transaction_id is {identifier!r}; write a whole number from 0 on")
        if is_fraud not in (True, False):
            raise InvalidInput(f"line {number}: is_fraud is {is_fraud!r}; write true or false")
        try:
            yield Label(identifier, bool(is_fraud), None if known_at is None else _moment(str(known_at)))
        except InvalidInput as error:
            raise InvalidInput(f"line {number}: known_at: {error}") from None


def _as_dict(decision: Decision) -> dict[str, Any]:
    return {
        "transaction_id": decision.transaction_id,
        "decision": decision.action.name.lower(),
        "score": round(decision.score, 6),
        "reasons": [reason.text for reason in decision.reasons],
        "release": decision.release,
        "source": decision.source_name,
    }
