"""The schema: columns of a transaction and definitions of its features, as data.

One YAML (or JSON) document holds both; a release pins a copy of it, so that serving reads what training read. The
names, ranges and roles of the columns come from here and from nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_scoring.errors import InvalidDefinition

MICROSECONDS_PER_DAY: Final = 86_400_000_000
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

ROLES: Final = ("id", "time", "entity", "category", "amount")
EARLIEST_TIME_US: Final = 946_684_800_000_000
"""2000-01-01: anything before is a unit mistake (seconds or milliseconds sent as microseconds)."""
MAX_AHEAD_US: Final = MICROSECONDS_PER_DAY
"""How far beyond the server's clock an event time may lie."""


@dataclass(frozen=True)
class Column:
    """One column of the `transaction` tensor; `minimum` and `maximum` are inclusive."""

    name: str
    role: str
    minimum: int = INT64_MIN
    maximum: int = INT64_MAX
    minor_units: int = 1
    file: str = ""
    meaning: str = ""

    @property
    def file_name(self) -> str:
        """The column's name in data files."""
        return self.file or self.name


@dataclass(frozen=True)
class Feature:
    """One column of the `features` tensor.

    `of` is what is computed: value, weekend, night (of the transaction itself) or count, sum, mean, ratio, fraud_rate
    (of the entity's window (t − delay − window, t − delay], in microseconds).
    """

    name: str
    of: str
    reason: int
    column: str = ""
    entity: str = ""
    window_us: int = 0
    delay_us: int = 0
    until_hour: int = 0


ROW_KINDS: Final = ("value", "weekend", "night")
WINDOW_KINDS: Final = ("count", "sum", "mean", "ratio", "fraud_rate")


@dataclass(frozen=True)
class Schema:
    """A validated schema; make it with `Schema.parse`, `load_schema` or `default_schema`."""

    name: str
    columns: tuple[Column, ...]
    features: tuple[Feature, ...]
    late_by_us: int
    document: str
    """The normalised JSON text that this schema was parsed from; what a release pins."""

    @property
    def width(self) -> int:
        """Columns of the `transaction` tensor."""
        return len(self.columns)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def id_index(self) -> int:
        return self._only("id")

    @cached_property
    def time_index(self) -> int:
        return self._only("time")

    @cached_property
    def amount_index(self) -> int:
        return self._only("amount")

    @cached_property
    def entities(self) -> tuple[tuple[int, str], ...]:
        """(column index, name) of each entity key, in column order."""
        return tuple((i, c.name) for i, c in enumerate(self.columns) if c.role == "entity")

    @cached_property
    def keep_us(self) -> dict[str, int]:
        """How far back the store keeps each entity's events, behind its newest: longest reach plus lateness."""
        reach = {name: 0 for _, name in self.entities}
        for feature in self.features:
            if feature.entity:
                reach[feature.entity] = max(reach[feature.entity], feature.window_us + feature.delay_us)
        return {name: longest + self.late_by_us for name, longest in reach.items()}

    def index(self, name: str) -> int:
        """Position of a column; InvalidDefinition if there is none of that name."""
        try:
            return self.column_names.index(name)
        except ValueError:
            raise InvalidDefinition(
                f"schema {self.name}: no column {name!r}; it has {', '.join(self.column_names)}"
            ) from None

    def _only(self, role: str) -> int:
        return next(i for i, column in enumerate(self.columns) if column.role == role)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Schema:
        """A schema from a parsed document; InvalidDefinition names the entry and its rule."""
        if not isinstance(document, Mapping):
            raise InvalidDefinition("a schema is a mapping with the entries name, columns and features")
        name = str(document.get("name", ""))
        if not name:
            raise InvalidDefinition("schema: the entry 'name' is missing")
        where = f"schema {name}"
        columns = tuple(_column(where, entry) for entry in _entries(where, document, "columns"))
        _check_roles(where, columns)
        features = tuple(f for entry in _entries(where, document, "features") for f in _features(where, entry, columns))
        _unique(f"{where}: feature", [feature.name for feature in features])
        late_by_days = document.get("late_by_days", 2)
        if not isinstance(late_by_days, int | float) or late_by_days < 1:
            raise InvalidDefinition(f"{where}: late_by_days is {late_by_days!r}; write a number of days from 1 on")
        text = json.dumps(document, sort_keys=True, indent=1)
        return cls(name, columns, features, int(late_by_days * MICROSECONDS_PER_DAY), text)


def load_schema(path: Path) -> Schema:
    """Read a YAML or JSON schema file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDefinition(f"schema file {path.name} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InvalidDefinition(f"schema file {path.name} is not YAML: {error}") from None
    return Schema.parse(document)


def default_schema() -> Schema:
    """The schema that comes with the package: five columns, the Handbook's features and amount ratios."""
    text = resources.files("fraud_scoring").joinpath("default.yaml").read_text(encoding="utf-8")
    return Schema.parse(yaml.safe_load(text))


def _entries(where: str, document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, Mapping) for entry in entries):
        raise InvalidDefinition(f"{where}: '{key}' must be a list of entries, each a mapping")
    return entries


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidDefinition(f"{what} {name!r} is defined twice; give each a name of its own")


def _only_known(what: str, entry: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(entry) - known):
        raise InvalidDefinition(f"{what}: unknown entry {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _column(where: str, entry: Mapping[str, Any]) -> Column:
    what = f"{where}: column {entry.get('name', '?')!r}"
    _only_known(what, entry, set(Column.__dataclass_fields__))
    if not isinstance(entry.get("name"), str) or not entry["name"].isidentifier():
        raise InvalidDefinition(f"{what}: a column's name is letters, digits and underscores")
    if entry.get("role") not in ROLES:
        raise InvalidDefinition(f"{what}: role is {entry.get('role')!r}; write one of {', '.join(ROLES)}")
    if entry["role"] == "time":
        entry = {"minimum": EARLIEST_TIME_US, **entry}
    column = Column(**entry)
    bounds = (column.minimum, column.maximum, column.minor_units)
    if not all(isinstance(bound, int) for bound in bounds) or column.minimum > column.maximum or column.minor_units < 1:
        raise InvalidDefinition(f"{what}: minimum, maximum and minor_units are whole numbers, minimum ≤ maximum")
    return column


def _check_roles(where: str, columns: tuple[Column, ...]) -> None:
    _unique(f"{where}: column", [column.name for column in columns])
    for role in ("id", "time", "amount"):
        count = sum(column.role == role for column in columns)
        if count != 1:
            raise InvalidDefinition(f"{where}: {count} columns have the role {role}; exactly one must")
    if not any(column.role == "entity" for column in columns):
        raise InvalidDefinition(f"{where}: no column has the role entity; at least one must")


_FEATURE_ENTRIES: Final = {"name", "of", "column", "entity", "days", "delay_days", "until_hour", "reason"}


def _features(where: str, entry: Mapping[str, Any], columns: tuple[Column, ...]) -> list[Feature]:
    """The features that one entry defines: one, or one for each of its `days`."""
    name, of = entry.get("name"), entry.get("of")
    what = f"{where}: feature {name!r}"
    _only_known(what, entry, _FEATURE_ENTRIES)
    if not isinstance(name, str) or not name:
        raise InvalidDefinition(f"{what}: 'name' is missing")
    reason = entry.get("reason", 0)
    if not isinstance(reason, int) or reason < 0:
        raise InvalidDefinition(f"{what}: reason is {reason!r}; write a reason code, 0 for none")
    if of in ROW_KINDS:
        column = entry.get("column", "")
        if of == "value" and column not in [c.name for c in columns if c.role in ("amount", "category")]:
            raise InvalidDefinition(f"{what}: column is {column!r}; name a column with the role amount or category")
        return [Feature(name, of, reason, column=column, until_hour=int(entry.get("until_hour", 6)))]
    if of not in WINDOW_KINDS:
        raise InvalidDefinition(f"{what}: of is {of!r}; write one of {', '.join(ROW_KINDS + WINDOW_KINDS)}")
    if entry.get("entity") not in [c.name for c in columns if c.role == "entity"]:
        raise InvalidDefinition(f"{what}: entity is {entry.get('entity')!r}; name a column with the role entity")
    days, delay = entry.get("days"), entry.get("delay_days", 0)
    if not isinstance(days, list) or not days or not all(isinstance(d, int | float) and d > 0 for d in days):
        raise InvalidDefinition(f"{what}: days is {days!r}; write a list of numbers of days, each above 0")
    if not isinstance(delay, int | float) or delay < 0:
        raise InvalidDefinition(f"{what}: delay_days is {delay!r}; write a number of days from 0 on")
    if len(days) > 1 and "{days}" not in name:
        raise InvalidDefinition(f"{what}: it has several windows; write {{days}} in its name")
    if of == "ratio" and delay:
        raise InvalidDefinition(f"{what}: a ratio compares with the window that holds the transaction; delay_days is 0")
    return [
        Feature(
            name=name.replace("{days}", f"{length:g}"),
            of=of,
            reason=reason,
            entity=entry["entity"],
            window_us=round(length * MICROSECONDS_PER_DAY),
            delay_us=round(delay * MICROSECONDS_PER_DAY),
        )
        for length in days
    ]
