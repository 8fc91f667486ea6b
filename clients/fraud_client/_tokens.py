"""Tokens: what the server knows a customer or terminal by.

A token is the first 8 bytes of HMAC-SHA-256(key, entity ‖ 0 ‖ identifier), read as a signed big-endian integer. The
same key and identifier give the same token for ever; without the key a token leads back to nothing. Where those bytes
read as a number of 13 to 16 digits that passes for a card's (one identifier in 20,000), which servers refuse, bytes 8
to 16 are taken, and so on. Among a million
identifiers of one entity, the chance that any two share a token is below 1 in 10 million.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from fraud_client._card_numbers import contains_card_number, looks_like_card_number
from fraud_client._errors import CardNumberRefused, InvalidRequest
from fraud_client._fields import INT64_MAX, INT64_MIN

MINIMUM_KEY_BYTES: Final = 16
TOKEN_KEY_VARIABLE: Final = "FRAUD_TOKEN_KEY"  # noqa: S105 - the variable's name


class Token(int):
    """A 64-bit number that is a token already: it is sent as it is, and not looked at as a card number."""

    __slots__ = ()

    def __new__(cls, value: int) -> Token:
        if not INT64_MIN <= value <= INT64_MAX:
            raise InvalidRequest("a token is a signed 64-bit whole number")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"Token({int(self)})"


class Tokenizer:
    """Makes tokens under one secret key of 16 bytes or more."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < MINIMUM_KEY_BYTES:
            raise InvalidRequest(
                f"the token key has {len(key)} bytes; give at least {MINIMUM_KEY_BYTES}, for example the output of "
                "`openssl rand -hex 32`"
            )
        self._key = bytes(key)

    def token(self, identifier: str, *, entity: str) -> Token:
        """The identifier's token; `entity` (`customer`, `terminal`, …) keeps equal identifiers of two kinds apart."""
        if not identifier or not entity.isidentifier():
            raise InvalidRequest(f"{entity}: an identifier has at least one character, an entity's name is a word")
        if contains_card_number(identifier):
            raise card_number_refused(entity)
        try:
            message = f"{entity}\0{identifier}".encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"{entity}: the identifier is not valid Unicode text") from None
        digest = hmac.digest(self._key, message, "sha256")
        while looks_like_card_number(token := int.from_bytes(digest[:8], "big", signed=True)):
            digest = digest[8:] or hmac.digest(self._key, message + b"\0", "sha256")
        return Token(token)


def card_number_refused(field: str) -> CardNumberRefused:
    return CardNumberRefused(
        f"{field} looks like a card number, which must not leave your systems: send an identifier of your own instead "
        f"(a number that is a token already goes in as Token(…), in a mapping as {field}_token)"
    )


def tokenizer_from(token_key: bytes | str | None, environment: Mapping[str, str]) -> Tokenizer | None:
    """A tokenizer from the argument or, where it is None, from FRAUD_TOKEN_KEY; None where neither is set."""
    key = environment.get(TOKEN_KEY_VARIABLE) or None if token_key is None else token_key
    if key is None:
        return None
    return Tokenizer(key.encode() if isinstance(key, str) else key)
