"""A card transaction, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, SupportsIndex

from fraud_client._card_numbers import contains_card_number
from fraud_client._errors import CardNumberRefused, InvalidRequest
from fraud_client._fields import (
    amount_from_minor,
    aware,
    microseconds,
    minor_from_amount,
    moment_from_microseconds,
    moment_from_text,
    whole,
)
from fraud_client._tokens import Token, card_number_refused


@dataclass(frozen=True, slots=True)
class Transaction:
    """One payment; InvalidRequest names the field that breaks its rule.

    transaction_id   unique, 0 or above
    event_time       when it happened; has a time zone
    customer         text: the client turns it into a keyed token; a whole number: a surrogate key, sent as it is
    terminal         likewise
    amount           above 0, in major units of the account currency, at most two decimals
    """

    transaction_id: int
    event_time: datetime
    customer: str | int
    terminal: str | int
    amount: Decimal

    def __post_init__(self) -> None:
        checked = {
            "transaction_id": whole("transaction_id", self.transaction_id, 0),
            "event_time": aware("event_time", self.event_time),
            "customer": _identifier("customer", self.customer),
            "terminal": _identifier("terminal", self.terminal),
            "amount": amount_from_minor("amount", minor_from_amount("amount", self.amount)),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def event_time_us(self) -> int:
        """UTC microseconds since 1970-01-01."""
        return microseconds(self.event_time)

    @property
    def amount_minor(self) -> int:
        """The amount in minor units."""
        return minor_from_amount("amount", self.amount)

    @classmethod
    def from_minor_units(
        cls,
        transaction_id: int,
        event_time: datetime,
        customer: str | int,
        terminal: str | int,
        amount_minor: SupportsIndex,
    ) -> Transaction:
        """The same from an amount in minor units: 1250 for 12.50."""
        amount = amount_from_minor("amount_minor", amount_minor)
        return cls(transaction_id, event_time, customer, terminal, amount)

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> Transaction:
        """From one JSON object (or data row). Exactly one name of each line must be there, and no other:

        transaction_id
        event_time (ISO 8601 with offset or Z) | event_time_us (UTC microseconds)
        customer | customer_id | customer_key | customer_token (a number that is a token already)
        terminal | terminal_id | terminal_key | terminal_token
        amount (major units, text or number) | amount_minor (minor units)
        """
        if not isinstance(fields, Mapping):
            raise InvalidRequest("a transaction is an object with the fields " + ", ".join(_NAMES))
        _refuse_unknown(fields)
        named = {field: _one_of(fields, field) for field in _NAMES}
        return cls(
            transaction_id=fields[named["transaction_id"]],
            event_time=_moment(named["event_time"], fields),
            customer=_party(named["customer"], fields),
            terminal=_party(named["terminal"], fields),
            amount=_amount(named["amount"], fields),
        )


_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "transaction_id": ("transaction_id",),
    "event_time": ("event_time", "event_time_us"),
    "customer": ("customer", "customer_id", "customer_key", "customer_token"),
    "terminal": ("terminal", "terminal_id", "terminal_key", "terminal_token"),
    "amount": ("amount", "amount_minor"),
}
_KNOWN: Final = frozenset(name for names in _NAMES.values() for name in names)


def _identifier(field: str, value: str | int) -> str | int:
    if isinstance(value, Token):
        return value
    if value == "":
        raise InvalidRequest(f"{field} must have at least one character")
    if not isinstance(value, str):
        try:
            value = whole(field, value)
        except InvalidRequest:
            raise InvalidRequest(f"{field} must be text or a whole number of 64 bits") from None
    if contains_card_number(str(value)):
        raise card_number_refused(field)
    return value


def _refuse_unknown(fields: Mapping[str, Any]) -> None:
    unknown = sorted(str(name) for name in fields if name not in _KNOWN)
    if not unknown:
        return
    if contains_card_number(unknown[0]):
        raise CardNumberRefused("the name of a field looks like a card number; send field names and values")
    raise InvalidRequest(f"unknown field {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")


def _one_of(fields: Mapping[str, Any], field: str) -> str:
    """The one accepted name of the field that the mapping has."""
    names = _NAMES[field]
    present = [name for name in names if name in fields]
    if not present:
        raise InvalidRequest(f"{field} is missing; give {' or '.join(names)}")
    if len(present) > 1:
        raise InvalidRequest(f"{' and '.join(present)} say the same thing; give one of them")
    return present[0]


def _moment(name: str, fields: Mapping[str, Any]) -> datetime:
    value = fields[name]
    if name == "event_time_us":
        return moment_from_microseconds(name, value)
    return moment_from_text(name, value) if isinstance(value, str) else aware(name, value)


def _party(name: str, fields: Mapping[str, Any]) -> str | int:
    value: Any = fields[name]
    return Token(whole(name, value)) if name.endswith("_token") else value


def _amount(name: str, fields: Mapping[str, Any]) -> Decimal:
    value = fields[name]
    if name == "amount_minor":
        return amount_from_minor(name, value)
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise InvalidRequest("amount must be a number in major units, for example 12.50") from None
