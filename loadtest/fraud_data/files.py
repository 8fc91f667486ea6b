"""Transactions as files: the canonical Parquet file is written; Parquet and CSV from elsewhere are read and checked.

The canonical file has the schema's columns under their file names (transaction_id, event_time, customer_id,
terminal_id, amount_minor by default; times as UTC date-times) and, where known, is_fraud, fraud_scenario and
label_known_at.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import polars as pl

from fraud_data.columns import FileColumn, Integers, Tokenize
from fraud_data.transactions import Transactions
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import Column, Schema, default_schema

FRAUD: Final = "is_fraud"
SCENARIO: Final = "fraud_scenario"
KNOWN_AT: Final = "label_known_at"
_UTC_TIME: Final = pl.Datetime("us", "UTC")

_log = logging.getLogger(__name__)


def read_transactions(
    path: Path,
    schema: Schema | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    require_labels: bool = False,
    sort: bool = False,
    limit: int | None = None,
    tokenize: Tokenize | None = None,
    as_text: Collection[str] = (),
) -> Transactions:
    """The transactions of a Parquet or CSV file, every rule of the schema checked.

    `columns` maps a canonical name (the schema's name or file name of a column, is_fraud, fraud_scenario,
    label_known_at; `amount` instead of `amount_minor` for major units) to the name in the file. `limit` reads the
    first rows of the file only. `sort` puts them in event order instead of refusing them. `tokenize` makes keys of
    identifiers that are text; `as_text` names entity columns whose numbers are text to the application, and so to the
    client library. InvalidInput names the file's column, the first bad row and the rule.
    """
    schema = schema or default_schema()
    if limit is not None and limit < 1:
        raise InvalidInput(f"limit is {limit}; write a number of rows from 1 on")
    entities = {name for i, _ in schema.entities for name in (schema.columns[i].file_name, schema.columns[i].name)}
    if unknown := sorted(set(as_text) - entities):
        raise InvalidInput(f"{unknown[0]!r} is no entity to take as text; those are {', '.join(sorted(entities))}")
    source = _open(path)
    found = _resolve(source, schema, columns or {}, require_labels)
    frame = source.read(sorted({one.name for one in found.values()}), limit)
    if not frame.height:
        raise InvalidInput(f"{path.name} holds no transaction; give a file with at least one data row")
    cells = {
        canonical: FileColumn(path.name, frame[one.name], source.separator is not None).complete()
        for canonical, one in found.items()
    }
    del frame
    rows = np.empty((len(cells[schema.column_names[0]].series), schema.width), np.int64)
    for i, column in enumerate(schema.columns):
        cell, major = cells[column.name], found[column.name].major
        if column.role == "entity":
            values = cell.keys(column.name, tokenize, not {column.name, column.file_name}.isdisjoint(as_text))
        else:
            values = _values(column, cell.trimmed(), major, SCENARIO in found)
        cell.refuse_outside(values, column)
        rows[:, i] = values
    transactions = _labelled(rows, rows[:, schema.time_index], cells)
    times, ids = rows[:, schema.time_index], rows[:, schema.id_index]
    _refuse_duplicates(cells[schema.columns[schema.id_index].name], ids)
    if sort:
        return transactions.select(np.lexsort((ids, times)))
    _refuse_disorder(cells[schema.columns[schema.time_index].name], times, ids)
    return transactions


def write_transactions(path: Path, transactions: Transactions, schema: Schema | None = None) -> None:
    """Write the canonical Parquet file: all of it or, on any failure, nothing; makes the folder where need be."""
    schema = schema or default_schema()
    if transactions.rows.shape[1] != schema.width:
        raise InvalidInput(
            f"the transactions have {transactions.rows.shape[1]} columns and schema {schema.name} has "
            f"{schema.width}; write them with the schema that they were read with"
        )
    frame = pl.DataFrame(
        {column.file_name: transactions.rows[:, i] for i, column in enumerate(schema.columns)}
    ).with_columns(pl.col(schema.columns[schema.time_index].file_name).cast(_UTC_TIME))
    labels = (
        (FRAUD, transactions.is_fraud, pl.Int8()),
        (SCENARIO, transactions.scenario, pl.Int8()),
        (KNOWN_AT, transactions.label_known_at_us, _UTC_TIME),
    )
    frame = frame.with_columns(
        [pl.Series(name, array).cast(dtype) for name, array, dtype in labels if array is not None]
    )
    with _replacing(path) as file:
        frame.write_parquet(file)


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is whole and on disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise InvalidInput(
            f"{path.name} cannot be written: {error.strerror}; give a file in a folder with space where you may write"
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


@dataclass(frozen=True)
class _Source:
    """A file that can be read; `separator` is None for Parquet."""

    path: Path
    names: Sequence[str]
    separator: str | None

    def read(self, names: Sequence[str], limit: int | None) -> pl.DataFrame:
        try:
            if self.separator is None:
                return pl.read_parquet(self.path, columns=list(names), n_rows=limit, glob=False)
            return _read_csv(self.path, self.separator, list(names), limit)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(self.path, error) from None


def _open(path: Path) -> _Source:
    """Tell Parquet from CSV and read the names of the columns."""
    if not path.is_file():
        raise InvalidInput(f"{path.name} is not a file here; give a Parquet or CSV file that exists")
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
        if not head:
            raise InvalidInput(f"{path.name} is empty; give a file with at least one data row")
        if head.startswith(b"PAR1"):
            return _Source(path, pl.scan_parquet(path, glob=False).collect_schema().names(), None)
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise InvalidInput(f"{path.name} is not a Parquet file; give one, or a CSV file whose name ends in .csv")
        header = head.split(b"\n", 1)[0].decode("utf-8-sig")
        separator = max(",", ";", "\t", key=header.count)
        return _Source(path, _read_csv(path, separator, None, 0).columns, separator)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _read_csv(path: Path, separator: str, names: list[str] | None, limit: int | None) -> pl.DataFrame:
    """All cells as text: what they stand for is decided, and checked, by their column."""
    return pl.read_csv(path, separator=separator, columns=names, n_rows=limit, infer_schema=False, glob=False)


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    reason = str(error).partition("\n")[0].replace(str(path), path.name)
    return InvalidInput(f"{path.name} cannot be read ({reason}); give a whole Parquet or UTF-8 CSV file")


@dataclass(frozen=True)
class _Found:
    """Where a canonical column is in a file; `major` where it is an amount in major units."""

    name: str
    major: bool


def _aliases(schema: Schema) -> dict[str, dict[str, bool]]:
    """Canonical name → the names it may go by, best first, and whether each stands for major units."""
    aliases = {}
    for column in schema.columns:
        names = dict.fromkeys((column.file_name, column.name), False)
        if column.role == "amount":
            names |= {name.removesuffix("_minor"): True for name in names if name.endswith("_minor")}
        aliases[column.name] = names
    return aliases | {
        FRAUD: {FRAUD: False},
        SCENARIO: {SCENARIO: False},
        KNOWN_AT: {KNOWN_AT: False, f"{KNOWN_AT}_us": False},
    }


def _resolve(source: _Source, schema: Schema, columns: Mapping[str, str], require_labels: bool) -> dict[str, _Found]:
    """Canonical name → its column in the file, as mapped, or else under one of its own names."""
    file, there = source.path.name, ", ".join(source.names)
    aliases = _aliases(schema)
    known = [alias for names in aliases.values() for alias in names]
    for alias, name in columns.items():
        if alias not in known:
            raise InvalidInput(f"there is no column {alias!r} to map; known are {', '.join(known)}")
        if name not in source.names:
            raise InvalidInput(f"{file} has no column {name!r}, to which {alias} is mapped; it has {there}")
    needed = {*schema.column_names, *([FRAUD] if require_labels else [])}
    found: dict[str, _Found] = {}
    missing: list[str] = []
    for canonical, names in aliases.items():
        mapped = [name for name in names if name in columns]
        if len(mapped) > 1:
            raise InvalidInput(f"{' and '.join(mapped)} are one column; map one of them")
        if usable := mapped or [name for name in names if name in source.names]:
            found[canonical] = _Found(columns.get(usable[0], usable[0]), major=names[usable[0]])
        elif canonical in needed:
            missing.append(next(iter(names)) + "".join(f" (or {n}, in major units)" for n in names if names[n]))
    if missing:
        first = missing[0].partition(" ")[0]
        raise InvalidInput(
            f"{file} has no column {', '.join(missing)}; it has {there}. Say which it is: --map {first}=NAME on the "
            f"command line, columns={{{first!r}: 'NAME'}} in Python"
        )
    return found


def _values(column: Column, cell: FileColumn, major: bool, simulated: bool) -> Integers:
    """The values of one column of the schema that is no entity."""
    if column.role == "time":
        values = cell.times_us()
    elif major:
        values = cell.minor_units(column.minor_units)
    else:
        values = cell.whole_numbers()
    if column.role == "amount" and simulated and column.minimum == 1 and (zero := values == 0).any():
        # The published simulator rounds a few amounts to 0.00; ours never goes below one minor unit.
        _log.warning("%s: %d simulated amounts of 0 are read as 1 minor unit", cell.file, zero.sum())
        values = np.where(zero, 1, values)
    return values


def _labelled(rows: Integers, times: Integers, cells: Mapping[str, FileColumn]) -> Transactions:
    """The rows with those labels that the file has."""
    is_fraud = cells[FRAUD].trimmed().flags() if FRAUD in cells else None
    scenario = known_at = None
    if SCENARIO in cells:
        codes = cells[SCENARIO].trimmed().whole_numbers()
        cells[SCENARIO].refuse_where((codes < 0) | (codes > 127), "{value} is not a code from 0 to 127")
        scenario = codes.astype(np.int8)
    if KNOWN_AT in cells:
        known_at = cells[KNOWN_AT].trimmed().times_us()
        cells[KNOWN_AT].refuse_where(
            known_at < times, "{value} is before the transaction; write when its label became known"
        )
    return Transactions(rows, is_fraud, scenario, known_at)


def _refuse_duplicates(cell: FileColumn, ids: Integers) -> None:
    if (ids[1:] > ids[:-1]).all():
        return
    repeated = ~pl.Series(ids).is_first_distinct().to_numpy()
    if repeated.any():
        first = int(np.argmax(ids == ids[int(np.argmax(repeated))]))
        cell.refuse_where(repeated, f"the id is that of data row {first} too; leave repeated transactions out")


def _refuse_disorder(cell: FileColumn, times: Integers, ids: Integers) -> None:
    step = np.diff(times)
    early = np.concatenate([[False], (step < 0) | ((step == 0) & (ids[1:] < ids[:-1]))])
    cell.refuse_where(
        early,
        "'{value}' comes before the row above it, and rows go by time, then transaction id; "
        "sort them: --sort on the command line, sort=True in Python",
    )
