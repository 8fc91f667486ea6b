from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fraud_client import CardNumberRefused, InvalidRequest, Token, Tokenizer
from fraud_client._tokens import tokenizer_from

KEY = b"0123456789abcdef"
IDENTIFIERS = st.text(st.characters(exclude_categories=["Cs", "Nd"]), min_size=1)


def test_a_token_is_the_documented_hash() -> None:
    digest = hmac.new(KEY, b"customer\x00C-42", hashlib.sha256).digest()
    assert Tokenizer(KEY).token("C-42", entity="customer") == int.from_bytes(digest[:8], "big", signed=True)


def test_a_token_stays_what_it_was_in_every_version() -> None:
    assert Tokenizer(KEY).token("C-42", entity="customer") == 769746961339292548


@given(IDENTIFIERS)
def test_a_token_is_a_64_bit_number_and_the_same_every_time(identifier: str) -> None:
    token = Tokenizer(KEY).token(identifier, entity="customer")
    assert isinstance(token, Token)
    assert -(2**63) <= token < 2**63
    assert token == Tokenizer(KEY).token(identifier, entity="customer")


@given(IDENTIFIERS, IDENTIFIERS)
def test_different_identifiers_get_different_tokens(one: str, other: str) -> None:
    assume(one != other)
    tokenizer = Tokenizer(KEY)
    assert tokenizer.token(one, entity="customer") != tokenizer.token(other, entity="customer")


@given(IDENTIFIERS)
def test_a_customer_and_a_terminal_of_one_name_get_different_tokens(identifier: str) -> None:
    tokenizer = Tokenizer(KEY)
    assert tokenizer.token(identifier, entity="customer") != tokenizer.token(identifier, entity="terminal")


@given(IDENTIFIERS, st.binary(min_size=16))
def test_another_key_gives_another_token(identifier: str, key: bytes) -> None:
    # HMAC fills a short key up with zeros, so keys that differ only in trailing zeros are the same key.
    assume(key.rstrip(b"\0") != KEY and len(key) <= 64)
    assert Tokenizer(KEY).token(identifier, entity="customer") != Tokenizer(key).token(identifier, entity="customer")


def test_a_short_key_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidRequest, match="has 6 bytes; give at least 16") as refusal:
        Tokenizer(b"secret")
    assert "secret" not in str(refusal.value)


def test_the_tokenizer_does_not_show_its_key() -> None:
    assert "0123456789" not in repr(Tokenizer(KEY))


def test_a_card_number_gets_no_token() -> None:
    with pytest.raises(CardNumberRefused) as refusal:
        Tokenizer(KEY).token("4111 1111 1111 1111", entity="customer")
    assert "1111" not in repr(refusal.value)


@pytest.mark.parametrize("identifier", ["", "\ud800"])
def test_an_identifier_without_characters_or_outside_unicode_is_refused(identifier: str) -> None:
    with pytest.raises(InvalidRequest, match="customer"):
        Tokenizer(KEY).token(identifier, entity="customer")


def test_an_entity_is_a_word_so_that_it_cannot_run_into_the_identifier() -> None:
    with pytest.raises(InvalidRequest, match="word"):
        Tokenizer(KEY).token("C-42", entity="customer\0x")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_a_token_beyond_64_bits_is_refused(value: int) -> None:
    with pytest.raises(InvalidRequest, match="64-bit"):
        Token(value)


def test_a_token_says_what_it_is() -> None:
    assert repr(Token(-5)) == "Token(-5)"


def test_the_key_comes_from_the_argument_before_the_environment() -> None:
    environment = {"FRAUD_TOKEN_KEY": "another key of 16"}
    token = tokenizer_from(KEY.decode(), environment).token("C-42", entity="customer")
    assert token == Tokenizer(KEY).token("C-42", entity="customer")


def test_the_key_comes_from_the_environment_where_no_argument_gives_it() -> None:
    token = tokenizer_from(None, {"FRAUD_TOKEN_KEY": KEY.decode()}).token("C-42", entity="customer")
    assert token == Tokenizer(KEY).token("C-42", entity="customer")


@pytest.mark.parametrize("environment", [{}, {"FRAUD_TOKEN_KEY": ""}])
def test_there_is_no_tokenizer_without_a_key(environment: dict[str, str]) -> None:
    assert tokenizer_from(None, environment) is None


def test_an_empty_key_argument_is_refused_and_does_not_mean_the_environment() -> None:
    with pytest.raises(InvalidRequest, match="0 bytes"):
        tokenizer_from("", {"FRAUD_TOKEN_KEY": KEY.decode()})


def test_a_token_never_passes_for_a_card_number(monkeypatch: pytest.MonkeyPatch) -> None:
    card, other = 4_000_000_000_000_002, 5_555_555_555_554_444
    digests = iter(
        [
            b"".join(number.to_bytes(8, "big") for number in (card, other, card, other)),
            b"".join(number.to_bytes(8, "big") for number in (card, 77, 78, 79)),
        ]
    )
    monkeypatch.setattr(hmac, "digest", lambda key, message, name: next(digests))
    assert Tokenizer(b"k" * 16).token("c-1", entity="customer") == 77
