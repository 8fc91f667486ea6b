"""The published numbers: a client that was built against them must go on working."""

from __future__ import annotations

from fraud_scoring import wire
from fraud_scoring.reasons import OWN_REASONS_FROM, REASONS, reason_text
from fraud_scoring.schema import INT32_MAX


def test_the_codes_stay_what_they_were_published_as() -> None:
    assert {code.name: code.value for code in wire.Decision} == {"APPROVE": 0, "REVIEW": 1, "DECLINE": 2}
    assert {code.name: code.value for code in wire.Source} == {
        "PRIMARY": 0,
        "CANARY": 1,
        "FALLBACK_RELEASE": 2,
        "SCORECARD": 3,
        "BY_AMOUNT": 4,
    }
    assert {code.name: code.value for code in wire.Accepted} == {
        "UNKNOWN_TRANSACTION": 0,
        "APPLIED": 1,
        "ALREADY_KNOWN": 2,
    }


def test_the_columns_stay_where_they_were_published() -> None:
    assert wire.VERDICT_COLUMNS == ("decision", "reason_1", "reason_2", "reason_3", "release", "source")
    assert wire.LABEL_COLUMNS == ("transaction_id", "is_fraud", "known_at_us")


def test_every_reason_has_its_words_and_leaves_room_for_a_schemas_own() -> None:
    assert all(0 < code < OWN_REASONS_FROM <= INT32_MAX for code in REASONS)
    assert reason_text(5) == "the terminal has recent confirmed fraud"
    assert reason_text(1234) == "reason 1234"


def test_the_wire_exports_all_that_it_defines() -> None:
    public = {name for name, value in vars(wire).items() if not name.startswith("_") and name.isupper()}
    assert public <= set(wire.__all__)
