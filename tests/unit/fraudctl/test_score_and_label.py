"""`fraudctl score` and `fraudctl label`: what is refused before anything is sent, and what a line's error says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

GOOD = {"transaction_id": 1, "event_time": "2026-03-01T12:30:00Z", "customer": 42, "terminal": 9, "amount": "12.50"}
GOOD_LABEL = {"transaction_id": 1, "is_fraud": True, "known_at": "2026-03-07T09:00:00Z"}
ONE = ("score", "--customer", 1, "--terminal", 2, "--amount", "5.00")


def lines(folder: Path, *content: object) -> Path:
    """A file with a line for each of `content`: as it is if it is text, else as JSON."""
    path = folder / "lines.jsonl"
    text = "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in content)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("missing", ["--customer", "--terminal", "--amount"])
def test_one_transaction_needs_customer_terminal_and_amount(fraudctl, missing: str) -> None:
    given = [word for option in ("--customer", "--terminal", "--amount") if option != missing for word in (option, "1")]
    ran = fraudctl("score", *given)
    assert ran.code == 2
    assert "give --file, or one transaction: --customer, --terminal and --amount" in ran.complaint


@pytest.mark.parametrize(
    "command", [ONE, ("label", "--id", 1, "--fraud"), ("health",)], ids=["score", "label", "health"]
)
def test_a_gateway_is_shown_what_goes_together(fraudctl, tmp_path: Path, command: tuple[object, ...]) -> None:
    ran = fraudctl(*command, "--certificate", tmp_path / "c.crt")
    assert ran.code == 2
    assert ran.complaint == "fraudctl: Access: certificate and key belong together: give both files, or neither"
    ran = fraudctl(*command, "--ca", tmp_path / "ca.crt")
    assert ran.code == 2
    assert "Access: ca (ca.crt) cannot be read" in ran.complaint


def test_a_file_and_one_transaction_are_not_given_together(fraudctl, tmp_path: Path) -> None:
    ran = fraudctl("score", "--file", lines(tmp_path, GOOD), "--amount", "1")
    assert ran.code == 2
    assert "not both" in ran.complaint
    ran = fraudctl("label", "--file", lines(tmp_path, GOOD_LABEL), "--id", 1)
    assert ran.code == 2
    assert "not both" in ran.complaint


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--amount", "five", "--amount five is no number; write major units, as 12.50"),
        ("--amount", "0", "amount must be above 0"),
        ("--amount", "1.234", "at most 2 decimals"),
        ("--amount", "nan", "amount must be above 0"),
        ("--at", "yesterday", "yesterday is no time; write ISO 8601 with offset"),
        ("--at", "2026-03-01T12:30:00", "has no offset"),
        ("--id", "-1", "transaction_id must be a whole number from 0"),
        ("--customer", "C-42", "give token_key= or set FRAUD_TOKEN_KEY"),
        ("--customer", "99999999999999999999", "customer must be text or a whole number of 64 bits"),
        ("--deadline", "0", "a deadline is in seconds, above 0"),
    ],
)
def test_a_value_that_breaks_a_rule_is_bad_input_before_a_server_is_asked(
    fraudctl, nobody: str, option: str, value: str, said: str
) -> None:
    ran = fraudctl(*ONE, "--url", nobody, option, value)
    assert ran.code == 2
    assert said in ran.complaint


def test_a_card_number_is_refused_and_not_shown(fraudctl, nobody: str) -> None:
    ran = fraudctl(*ONE, "--url", nobody, "--customer", "4111 1111 1111 1111")
    assert ran.code == 2
    assert "customer looks like a card number" in ran.complaint
    assert "4111" not in ran.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3: this is not JSON"),
        ("[]", "line 3: this is no object; write one object a line"),
        ('{"transaction_id": ' + "9" * 5_000 + "}", "line 3: this is not JSON (a number is too long)"),
        ({**GOOD, "amount": -1}, "line 3: amount must be above 0"),
        ({**GOOD, "amount": float("nan")}, "line 3: amount must be above 0"),
        ({**GOOD, "event_time": "noon"}, "line 3: event_time must be ISO 8601"),
        ({**GOOD, "currency": "EUR"}, "line 3: unknown field 'currency'"),
        ({key: value for key, value in GOOD.items() if key != "terminal"}, "line 3: terminal is missing"),
        ({**GOOD, "transaction_id": "1"}, "line 3: transaction_id must be a whole number"),
        ({**GOOD, "customer": "4111111111111111"}, "line 3: customer looks like a card number"),
    ],
)
def test_a_bad_line_of_transactions_is_named_by_its_number(fraudctl, nobody: str, tmp_path: Path, line, said) -> None:
    path = lines(tmp_path, GOOD, "", line, GOOD)
    ran = fraudctl("score", "--file", path, "--url", nobody)
    assert ran.code == 2
    assert ran.complaint.startswith(f"fraudctl: {said}")
    assert "411111" not in ran.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("null", "line 2: this is no object"),
        ({"transaction_id": 1}, "line 2: write transaction_id, is_fraud and, if it is not now, known_at"),
        ({**GOOD_LABEL, "when": 1}, "line 2: write transaction_id, is_fraud and, if it is not now, known_at"),
        ({**GOOD_LABEL, "is_fraud": "false"}, "line 2: is_fraud is 'false'; write true or false"),
        ({**GOOD_LABEL, "is_fraud": 2}, "line 2: is_fraud is 2; write true or false"),
        ({**GOOD_LABEL, "is_fraud": None}, "line 2: is_fraud is None; write true or false"),
        ({**GOOD_LABEL, "transaction_id": "1"}, "line 2: transaction_id is '1'; write a whole number from 0 on"),
        ({**GOOD_LABEL, "transaction_id": True}, "line 2: transaction_id is True; write a whole number from 0 on"),
        ({**GOOD_LABEL, "transaction_id": -1}, "line 2: transaction_id is -1; write a whole number from 0 on"),
        ({**GOOD_LABEL, "transaction_id": 2**63}, f"line 2: transaction_id is {2**63}; write a whole number"),
        ({**GOOD_LABEL, "known_at": "soon"}, "line 2: known_at: soon is no time"),
        ({**GOOD_LABEL, "known_at": "2026-03-07T09:00:00"}, "line 2: known_at: 2026-03-07T09:00:00 has no offset"),
    ],
)
def test_a_bad_line_of_labels_is_named_by_its_number(fraudctl, nobody: str, tmp_path: Path, line, said: str) -> None:
    ran = fraudctl("label", "--file", lines(tmp_path, GOOD_LABEL, line), "--url", nobody)
    assert ran.code == 2
    assert ran.complaint.startswith(f"fraudctl: {said}")


@pytest.mark.parametrize("command", ["score", "label"])
def test_a_file_without_lines_or_without_text_is_bad_input(fraudctl, tmp_path: Path, command: str) -> None:
    empty = fraudctl(command, "--file", lines(tmp_path, "", ""))
    assert (empty.code, empty.complaint) == (2, "fraudctl: the file holds no line; write one JSON object a line")
    (tmp_path / "binary").write_bytes(b"\xff\xfe{}")
    binary = fraudctl(command, "--file", tmp_path / "binary")
    assert (binary.code, binary.complaint) == (
        2,
        "fraudctl: the file is not UTF-8 text; write one JSON object a line",
    )
    assert fraudctl(command, "--file", tmp_path / "none").code == 2


def test_lines_are_read_from_standard_input_too(fraudctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"{}\nnonsense\n"), encoding="utf-8"))
    ran = fraudctl("score", "--file", "-")
    assert ran.code == 2
    assert ran.complaint.startswith("fraudctl: line 1: ")


def test_one_label_needs_a_number_and_what_it_turned_out_to_be(fraudctl) -> None:
    for given in ((), ("--id", 1), ("--fraud",)):
        ran = fraudctl("label", *given)
        assert ran.code == 2
        assert "give --file, or one label: --id and one of --fraud and --genuine" in ran.complaint
    assert fraudctl("label", "--id", 1, "--fraud", "--known-at", "soon").complaint.startswith("fraudctl: soon is no")


@pytest.mark.parametrize("arguments", [ONE, ("label", "--id", 1, "--genuine")], ids=["score", "label"])
def test_a_server_that_is_not_there_is_a_failure_and_no_bad_usage(fraudctl, nobody: str, arguments) -> None:
    ran = fraudctl(*arguments, "--url", nobody, "--json")
    assert ran.code == 1
    assert f"{nobody} takes no requests now" in ran.complaint
    assert "is the server up" in ran.complaint
