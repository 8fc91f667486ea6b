"""Rules for single values: whole numbers, moments and money, exact and with messages that name the field."""

from __future__ import annotations

import operator
import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Final, SupportsIndex

from fraud_client._errors import InvalidRequest

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
MINOR_UNITS: Final = 100
"""Minor units in one major unit of the account currency, as in the default schema."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(?:([Zz])|([+-]\d\d):?(\d\d))", re.ASCII
)


def whole(field: str, value: SupportsIndex, minimum: int = INT64_MIN) -> int:
    """The value as an int from `minimum` to 2⁶³−1; NumPy's integers count, booleans and floats do not."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidRequest(f"{field} must be a whole number") from None
    if isinstance(value, bool) or not minimum <= number <= INT64_MAX:
        least = "-2^63" if minimum == INT64_MIN else minimum
        raise InvalidRequest(f"{field} must be a whole number from {least} to 2^63-1")
    return number


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


def aware(field: str, moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidRequest(f"{field} must be a datetime with a time zone, for example datetime.now(timezone.utc)")
    return moment


def microseconds(moment: datetime) -> int:
    """UTC microseconds since 1970-01-01, exact."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_from_microseconds(field: str, value: SupportsIndex) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=whole(field, value))
    except OverflowError:
        raise InvalidRequest(f"{field} must be UTC microseconds since 1970-01-01, up to the year 9999") from None


def moment_from_text(field: str, text: str) -> datetime:
    """ISO 8601 with an offset or Z; digits beyond the microsecond are cut off."""
    rule = f"{field} must be ISO 8601 with an offset or Z, for example 2026-03-01T12:30:00Z"
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(rule)
    day, time, fraction, utc, hours, minutes = match.groups()
    time = time if len(time) == len("hh:mm:ss") else f"{time}:00"
    offset = "+00:00" if utc else f"{hours}:{minutes}"
    try:
        return datetime.fromisoformat(f"{day}T{time}.{(fraction or '').ljust(6, '0')[:6]}{offset}")
    except ValueError:
        raise InvalidRequest(rule) from None


def minor_from_amount(field: str, amount: Decimal) -> int:
    """Minor units of an amount in major units, without any rounding and whatever the decimal context."""
    rule = f"{field} must be above 0, in major units with at most 2 decimals, as a Decimal: Decimal('12.50')"
    if not isinstance(amount, Decimal) or not amount.is_finite() or amount <= 0:
        raise InvalidRequest(rule)
    if not -3 < amount.adjusted() < 18:  # the leading digit's place, before a huge exponent is expanded
        raise InvalidRequest(rule)
    numerator, denominator = amount.as_integer_ratio()
    minor, rest = divmod(numerator * MINOR_UNITS, denominator)
    if rest:
        raise InvalidRequest(rule)
    return whole(field, minor, 1)


def amount_from_minor(field: str, minor: SupportsIndex) -> Decimal:
    """The amount in major units with its two decimals."""
    digits = whole(field, minor, 1)
    return Decimal(f"{digits // MINOR_UNITS}.{digits % MINOR_UNITS:02d}")
