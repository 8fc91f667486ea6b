"""One column of a data file as exact 64-bit integers, or a refusal that names the column, the row and the rule.

Nothing is rounded, cut off or guessed on the way: what is not exactly a whole number, a cent or a moment in time is
refused. Every check runs over the whole column at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import EARLIEST_TIME_US, Column

Tokenize = Callable[[str, str], int]
"""(name of the schema's column, identifier) → 64-bit key."""

Integers = NDArray[np.int64]
LATEST_TIME_US: Final = 4_102_444_800_000_000
"""2100-01-01: anything from here on is a unit mistake (nanoseconds taken as microseconds)."""
_EXACT_FLOAT: Final = 2.0**53
_WHOLE: Final = r"^-?\d+$"
_CANONICAL_WHOLE: Final = r"^(0|-?[1-9]\d{0,18})$"
_ISO_8601: Final = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"


@dataclass(frozen=True)
class FileColumn:
    """A column as it stands in a file."""

    file: str
    series: pl.Series
    untyped: bool = False
    """True for CSV, where every cell is text."""

    def refusal(self, row: int, rule: str) -> InvalidInput:
        return InvalidInput(f"{self.file}: column {self.series.name!r}, data row {row} (from 0): {rule}")

    def refuse_where(self, bad: NDArray[np.bool_], rule: str) -> None:
        """InvalidInput for the first row that is bad; `{value}` in the rule stands for what the file has there."""
        if bad.any():
            row = int(np.argmax(bad))
            raise self.refusal(row, rule.replace("{value}", str(self.series[row])[:40]))

    def complete(self) -> FileColumn:
        """The same column, categories and decimals as text; refused where a value is missing."""
        series = self.series
        if isinstance(series.dtype, pl.Categorical | pl.Enum | pl.Decimal):
            series = series.cast(pl.String)
        missing = series.is_null()
        if series.dtype == pl.String:
            missing |= series.str.strip_chars() == ""
        elif series.dtype.is_float():
            missing |= series.is_nan()
        self.refuse_where(_mask(missing), "the value is missing; fill it in or leave the row out")
        return replace(self, series=series)

    def trimmed(self) -> FileColumn:
        """The same column without blanks around text."""
        return replace(self, series=self.series.str.strip_chars()) if self.series.dtype == pl.String else self

    def whole_numbers(self, remedy: str = "write a whole number") -> Integers:
        """Integers, and floats or text that are exactly one."""
        dtype = self.series.dtype
        if dtype == pl.String:
            whole = self.series.cast(pl.Int64, strict=False)
            if not whole.null_count():
                return _int64(whole)
            self.refuse_where(
                _mask(whole.is_null() & self.series.str.contains(_WHOLE)), "{value} is beyond 64 bits; " + remedy
            )
            return self._whole_floats(self._floats(remedy), remedy)
        if dtype.is_float():
            return self._whole_floats(self._floats(remedy), remedy)
        if not dtype.is_integer() and dtype != pl.Boolean:
            raise InvalidInput(f"{self.file}: column {self.series.name!r} has the type {dtype}; {remedy}")
        whole = self.series.cast(pl.Int64, strict=False)
        self.refuse_where(_mask(whole.is_null()), "{value} is beyond 64 bits; " + remedy)
        return _int64(whole)

    def minor_units(self, per_unit: int) -> Integers:
        """Amounts in major units (12.34) as minor units (1234); refused where digits beyond them would be lost."""
        remedy = f"write the amount as a number with at most {len(str(per_unit)) - 1} decimals"
        if self.series.dtype.is_integer():
            amounts = self.whole_numbers(remedy).astype(np.float64)
        else:
            amounts = self._floats(remedy)
        with np.errstate(over="ignore"):
            minor: NDArray[np.float64] = np.rint(amounts * per_unit)
        # Division rounds correctly: this is the one float that the decimal number is read as, and no other.
        back = minor / per_unit
        if self.series.dtype == pl.Float32:
            back = back.astype(np.float32).astype(np.float64)
        self.refuse_where(
            (back != amounts) | (np.abs(minor) >= _EXACT_FLOAT), "{value} is not an exact amount; " + remedy
        )
        return minor.astype(np.int64)

    def times_us(self) -> Integers:
        """Moments as UTC microseconds: of a date-time type, ISO 8601 text (UTC where it has no offset) or integers."""
        remedy = "write ISO 8601 like 2018-04-01T12:00:00Z on every row, or whole UTC microseconds since 1970"
        series = self.series
        if series.dtype == pl.String and not series.str.contains(_WHOLE).all():
            series = series.set(~series.str.contains(_ISO_8601), None).str.to_datetime(
                time_unit="us", time_zone="UTC", strict=False
            )
            self.refuse_where(_mask(series.is_null()), "'{value}' is not a time; " + remedy)
        if series.dtype in (pl.Date, pl.Datetime):
            if series.dtype == pl.Date:
                series = series.cast(pl.Datetime("us"))
            times = _int64(series.dt.cast_time_unit("us").to_physical())
        else:
            times = self.whole_numbers(remedy)
        units = "; are these seconds or milliseconds? " + remedy
        self.refuse_where(times < EARLIEST_TIME_US, "{value} is a time before 2000" + units)
        self.refuse_where(times >= LATEST_TIME_US, "{value} is a time after 2099; are these nanoseconds? " + remedy)
        return times

    def keys(self, name: str, tokenize: Tokenize | None, as_text: bool = False) -> Integers:
        """Keys of the schema's column `name`: whole numbers as they are, text by way of `tokenize`.

        In CSV, a column that is all whole numbers without leading zeros is numbers, unless `as_text`. A card number
        does not pass: as text the tokenizer refuses it, and a column of numbers most of which are valid card numbers
        is refused here, without showing one.
        """
        column = self
        if as_text:
            column = replace(self, series=self.series.cast(pl.String))
        elif self.untyped and (trimmed := self.trimmed().series).str.contains(_CANONICAL_WHOLE).all():
            whole = trimmed.cast(pl.Int64, strict=False)
            column = self if whole.null_count() else replace(self, series=whole)
        if column.series.dtype == pl.String:
            return column._tokens(name, tokenize)
        keys = column.whole_numbers("write whole numbers or text")
        cards = _card_numbers(keys)
        if 2 * int(cards.sum()) > len(keys):
            raise self.refusal(
                int(np.argmax(cards)),
                "this and most others are valid card numbers, which must not enter the system; "
                "write an identifier that is not a card number",
            )
        return keys

    def flags(self) -> NDArray[np.int8]:
        """0 and 1 of numbers, of booleans or of the words true and false."""
        column = self
        if self.series.dtype == pl.String:
            words = self.series.str.to_lowercase().replace({"true": "1", "false": "0"})
            column = replace(self, series=words)
        rule = "write 1 for fraud and 0 for none"
        values = column.whole_numbers(rule)
        self.refuse_where((values != 0) & (values != 1), "{value} is neither 0 nor 1; " + rule)
        return values.astype(np.int8)

    def refuse_outside(self, values: Integers, column: Column) -> None:
        """InvalidInput for the first of `values` (this column's) outside the schema's range."""
        self.refuse_where(
            values < column.minimum,
            f"{{value}} is below the least {column.name}, {column.minimum}; correct the row or leave it out",
        )
        self.refuse_where(
            values > column.maximum,
            f"{{value}} is above the greatest {column.name}, {column.maximum}; correct the row or leave it out",
        )

    def _floats(self, remedy: str) -> NDArray[np.float64]:
        if not (self.series.dtype.is_numeric() or self.series.dtype == pl.String):
            raise InvalidInput(f"{self.file}: column {self.series.name!r} has the type {self.series.dtype}; {remedy}")
        floats: NDArray[np.float64] = self.series.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
        self.refuse_where(~np.isfinite(floats), "'{value}' is not a number; " + remedy)
        return floats

    def _whole_floats(self, floats: NDArray[np.float64], remedy: str) -> Integers:
        self.refuse_where(floats != np.rint(floats), "{value} is not a whole number; " + remedy)
        self.refuse_where(np.abs(floats) >= _EXACT_FLOAT, "{value} is too large to be exact; " + remedy)
        return floats.astype(np.int64)

    def _tokens(self, name: str, tokenize: Tokenize | None) -> Integers:
        if tokenize is None:
            raise InvalidInput(
                f"{self.file}: column {self.series.name!r} holds text; identifiers that are text become keys with the "
                "secret that the client library uses: on the command line put it into FRAUD_TOKEN_KEY (or what "
                "--token-key-env names), in Python give tokenize="
            )
        self.refuse_where(
            _mask(self.series != self.series.str.strip_chars()),
            "the identifier has blanks around it, which would be part of it; take them out",
        )
        identifiers = self.series.unique(maintain_order=True)
        tokens = np.empty(len(identifiers), np.int64)
        for i, identifier in enumerate(identifiers):
            try:
                tokens[i] = tokenize(name, identifier)
            except InvalidInput as error:
                row = int(np.argmax(_mask(self.series == identifier)))
                raise self.refusal(row, str(error)) from None
        return _int64(self.series.replace_strict(identifiers, pl.Series(tokens)))


def _mask(series: pl.Series) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = series.fill_null(False).to_numpy()
    return mask


def _int64(series: pl.Series) -> Integers:
    return series.to_numpy().astype(np.int64, copy=False)


def _card_numbers(keys: Integers) -> NDArray[np.bool_]:
    """Where a number of 13 to 16 digits passes the card schemes' checksum (Luhn)."""
    cards = (keys >= 10**12) & (keys < 10**16)
    rest = keys[cards]
    total = np.zeros_like(rest)
    for place in range(16):
        digit = rest % 10 * (1 + place % 2)
        total += digit - 9 * (digit > 9)
        rest = rest // 10
    cards[cards] = total % 10 == 0
    return cards
