"""The schema: columns of a transaction and definitions of its features, as data.

One YAML (or JSON) document holds both; a release pins a copy of it, so that serving reads what training read. The
names, ranges and roles of the columns come from here and from nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.reasons import OWN_REASONS_FROM, REASONS

MICROSECONDS_PER_DAY: Final = 86_400_000_000
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
INT32_MAX: Final = 2**31 - 1

ROLES: Final = ("id", "time", "entity", "category", "amount")
EARLIEST_TIME_US: Final = 946_684_800_000_000
"""2000-01-01: anything before is a unit mistake (seconds or milliseconds sent as microseconds)."""
MAX_AHEAD_US: Final = MICROSECONDS_PER_DAY
"""How far beyond the server's clock an event time may lie."""
AMOUNT_LIMIT: Final = 10**13
"""Largest amount, in minor units, that a schema may allow: a window of 900,000 such amounts still adds up in INT64."""
LONGEST_DAYS: Final = 36_500


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

    `of` is what is computed: value, weekend, night (of the transaction itself); count, sum, mean, ratio, fraud_rate
    (of the entity's window (t − delay − window, t − delay], in microseconds); or one of LOOK_KINDS (of at most
    `newest` events of that window, the last ones, this transaction left out). What is usual for unusual_count,
    unusual_days and peak_ratio is the mean amount of the window `usual_us`, `usual_delay_us`; an amount is unusual
    above `percent` of it.
    """

    name: str
    of: str
    reason: int
    column: str = ""
    entity: str = ""
    window_us: int = 0
    delay_us: int = 0
    until_hour: int = 0
    newest: int = 0
    percent: int = 0
    usual_us: int = 0
    usual_delay_us: int = 0

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """(delay, length) in microseconds of the windows whose sums it needs."""
        if self.of in AMOUNT_LOOKS:
            return ((self.usual_delay_us, self.usual_us),)
        return ((self.delay_us, self.window_us),) if self.of in WINDOW_KINDS else ()


ROW_KINDS: Final = ("value", "weekend", "night")
WINDOW_KINDS: Final = ("count", "sum", "mean", "ratio", "fraud_rate")
AMOUNT_LOOKS: Final = ("unusual_count", "unusual_days", "peak_ratio")
FRAUD_LOOKS: Final = ("fraud_streak", "fraud_streak_days", "genuine_days")
LOOK_KINDS: Final = AMOUNT_LOOKS + FRAUD_LOOKS
KINDS: Final = ROW_KINDS + WINDOW_KINDS + LOOK_KINDS
MOST_NEWEST: Final = 256
"""Most events that a look may take: it costs a step for each."""
MOST_TIMES: Final = 100


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
            for delay, length in (*feature.windows, (feature.delay_us, feature.window_us)):
                if feature.entity:
                    reach[feature.entity] = max(reach[feature.entity], delay + length)
        return {name: longest + self.late_by_us for name, longest in reach.items()}

    @cached_property
    def reach_us(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """For each entity, how far before a transaction the edges of its windows lie, each once, and how many events
        before that edge are looked at one by one; 0 is the transaction itself, and is there where that is so."""
        reach: dict[str, dict[int, int]] = {name: {} for _, name in self.entities}
        for feature in self.features:
            for delay, length in (*feature.windows, (feature.delay_us, feature.window_us)):
                if feature.entity:
                    reach[feature.entity] = {delay: 0, delay + length: 0} | reach[feature.entity]
            if feature.of in LOOK_KINDS:
                edges = reach[feature.entity]
                edges[feature.delay_us] = max(edges[feature.delay_us], feature.newest)
        return {
            name: tuple((edge, newest) for edge, newest in sorted(edges.items()) if edge or newest)
            for name, edges in reach.items()
        }

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
        name = document.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidDefinition("schema: the entry 'name' is missing; write a text")
        where = f"schema {name}"
        _only_known(where, document, {"name", "columns", "features", "late_by_days"})
        columns = tuple(_column(where, entry) for entry in _entries(where, document, "columns"))
        _check_roles(where, columns)
        features = tuple(f for entry in _entries(where, document, "features") for f in _features(where, entry, columns))
        _unique(f"{where}: feature", [feature.name for feature in features])
        late_by_days = document.get("late_by_days", 2)
        if not _is_days(late_by_days, 1):
            raise InvalidDefinition(
                f"{where}: late_by_days is {late_by_days!r}; write a number of days from 1 to {LONGEST_DAYS:,}"
            )
        text = json.dumps(document, sort_keys=True, indent=1)
        return cls(name, columns, features, int(late_by_days * MICROSECONDS_PER_DAY), text)


def united(schemas: Iterable[Schema]) -> Schema:
    """The first of `schemas`, which have the same columns, reaching as far back as any of them: what a store keeps."""
    first, *others = dict.fromkeys(schemas)
    features = dict.fromkeys(feature for schema in (first, *others) for feature in schema.features)
    late_by_us = max(schema.late_by_us for schema in (first, *others))
    return replace(first, features=tuple(features), late_by_us=late_by_us) if others else first


def load_schema(path: Path) -> Schema:
    """Read a YAML or JSON schema file."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDefinition(f"schema file {path.name} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidDefinition(f"schema file {path.name} is not YAML: {error}") from None
    return Schema.parse(document)


PACKAGED: Final = ("default", "rich")


def default_schema() -> Schema:
    """The schema that comes with the package: five columns, the Handbook's features and amount ratios."""
    return packaged_schema("default")


def packaged_schema(name: str) -> Schema:
    """A schema that comes with the package: `default`, or `rich` with features that find more and cost more."""
    return load_schema(packaged_file(name))


def packaged_file(name: str) -> Path:
    """Where one of PACKAGED lies."""
    return Path(str(resources.files("fraud_scoring").joinpath(f"{name}.yaml")))


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
    if unknown := sorted(set(entry) - known, key=str):
        raise InvalidDefinition(f"{what}: unknown entry {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _is_days(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= LONGEST_DAYS


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _column(where: str, entry: Mapping[str, Any]) -> Column:
    what = f"{where}: column {entry.get('name', '?')!r}"
    _only_known(what, entry, set(Column.__dataclass_fields__))
    if not isinstance(entry.get("name"), str) or not entry["name"].isidentifier():
        raise InvalidDefinition(f"{what}: a column's name is letters, digits and underscores")
    if entry.get("role") not in ROLES:
        raise InvalidDefinition(f"{what}: role is {entry.get('role')!r}; write one of {', '.join(ROLES)}")
    if entry["role"] == "time":
        entry = {"minimum": EARLIEST_TIME_US, **entry}
    lowest, highest = (-AMOUNT_LIMIT, AMOUNT_LIMIT) if entry["role"] == "amount" else (INT64_MIN, INT64_MAX)
    column = Column(**{"minimum": lowest, "maximum": highest, **entry})
    if not _is_whole(column.minor_units) or column.minor_units < 1:
        raise InvalidDefinition(f"{what}: minor_units is {column.minor_units!r}; write a whole number from 1 on")
    bounds = (column.minimum, column.maximum)
    if not all(map(_is_whole, bounds)) or not lowest <= column.minimum <= column.maximum <= highest:
        raise InvalidDefinition(
            f"{what}: minimum and maximum are whole numbers, minimum ≤ maximum, within {lowest} to {highest}"
        )
    if not isinstance(column.file, str) or not isinstance(column.meaning, str):
        raise InvalidDefinition(f"{what}: file and meaning are texts")
    return column


def _check_roles(where: str, columns: tuple[Column, ...]) -> None:
    _unique(f"{where}: column", [column.name for column in columns])
    for role in ("id", "time", "amount"):
        count = sum(column.role == role for column in columns)
        if count != 1:
            raise InvalidDefinition(f"{where}: {count} columns have the role {role}; exactly one must")
    if not any(column.role == "entity" for column in columns):
        raise InvalidDefinition(f"{where}: no column has the role entity; at least one must")


_ROW_ENTRIES: Final = {"value": {"column"}, "weekend": set[str](), "night": {"until_hour"}}
_WINDOW_ENTRIES: Final = {"entity", "days", "delay_days"}
_LOOK_ENTRIES: Final = {kind: {*_WINDOW_ENTRIES, "newest"} for kind in LOOK_KINDS} | {
    kind: {"entity", "days", "newest", "times", "usual_days", "usual_delay_days"} for kind in AMOUNT_LOOKS
}


def _features(where: str, entry: Mapping[str, Any], columns: tuple[Column, ...]) -> list[Feature]:
    """The features that one entry defines: one, or one for each of its `days`."""
    name, of = entry.get("name"), entry.get("of")
    what = f"{where}: feature {name!r}"
    if not isinstance(name, str) or not name:
        raise InvalidDefinition(f"{what}: 'name' is missing; write a text")
    if of not in KINDS:
        raise InvalidDefinition(f"{what}: of is {of!r}; write one of {', '.join(KINDS)}")
    _only_known(what, entry, {"name", "of", "reason"} | {**_ROW_ENTRIES, **_LOOK_ENTRIES}.get(of, _WINDOW_ENTRIES))
    reason = entry.get("reason", 0)
    if not _is_whole(reason) or not (reason == 0 or reason in REASONS or OWN_REASONS_FROM <= reason <= INT32_MAX):
        raise InvalidDefinition(
            f"{what}: reason is {reason!r}; write 0 for none, a code from 1 to {max(REASONS)}, "
            f"or one of your own from {OWN_REASONS_FROM} on"
        )
    if of in ROW_KINDS:
        return [_row_feature(what, entry, reason, columns)]
    if entry.get("entity") not in [c.name for c in columns if c.role == "entity"]:
        raise InvalidDefinition(f"{what}: entity is {entry.get('entity')!r}; name a column with the role entity")
    days, delay = entry.get("days"), entry.get("delay_days", 0)
    if not isinstance(days, list) or not days or not all(_is_days(d, 1 / MICROSECONDS_PER_DAY) for d in days):
        raise InvalidDefinition(
            f"{what}: days is {days!r}; write a list of numbers of days, each above 0 and at most {LONGEST_DAYS:,}"
        )
    if not _is_days(delay, 0):
        raise InvalidDefinition(f"{what}: delay_days is {delay!r}; write a number of days from 0 to {LONGEST_DAYS:,}")
    if len(days) > 1 and "{days}" not in name:
        raise InvalidDefinition(f"{what}: it has several windows; write {{days}} in its name")
    look = _look(what, entry, of) if of in LOOK_KINDS else {}
    return [
        Feature(
            name=name.replace("{days}", f"{length:g}"),
            of=of,
            reason=reason,
            entity=entry["entity"],
            window_us=round(length * MICROSECONDS_PER_DAY),
            delay_us=round(delay * MICROSECONDS_PER_DAY),
            newest=look.get("newest", 0),
            percent=look.get("percent", 0),
            usual_us=look.get("usual_us", 0),
            usual_delay_us=look.get("usual_delay_us", 0),
        )
        for length in days
    ]


def _look(what: str, entry: Mapping[str, Any], of: str) -> dict[str, int]:
    """What a feature of LOOK_KINDS says beside its window."""
    newest: Any = entry.get("newest")
    if not _is_whole(newest) or not 1 <= newest <= MOST_NEWEST:
        raise InvalidDefinition(f"{what}: newest is {newest!r}; write how many events it looks at, 1 to {MOST_NEWEST}")
    if of in FRAUD_LOOKS:
        return {"newest": newest}
    usual: Any = entry.get("usual_days")
    delay, times = entry.get("usual_delay_days", 0), entry.get("times", 2)
    if not _is_days(usual, 1 / MICROSECONDS_PER_DAY) or not _is_days(delay, 0):
        raise InvalidDefinition(
            f"{what}: usual_days and usual_delay_days are {usual!r} and {delay!r}; write the length of the window "
            f"whose mean is usual, and how long before the transaction it ends, in days up to {LONGEST_DAYS:,}"
        )
    if not _is_days(times, 0.01) or times > MOST_TIMES:
        raise InvalidDefinition(
            f"{what}: times is {times!r}; write from how many times the usual on, 0.01 to {MOST_TIMES}"
        )
    return {
        "newest": newest,
        "percent": round(times * 100),
        "usual_us": round(usual * MICROSECONDS_PER_DAY),
        "usual_delay_us": round(delay * MICROSECONDS_PER_DAY),
    }


def _row_feature(what: str, entry: Mapping[str, Any], reason: int, columns: tuple[Column, ...]) -> Feature:
    """A feature of the transaction itself."""
    column, until_hour = entry.get("column", ""), entry.get("until_hour", 6)
    if entry["of"] == "value" and column not in [c.name for c in columns if c.role in ("amount", "category")]:
        raise InvalidDefinition(f"{what}: column is {column!r}; name a column with the role amount or category")
    if not _is_whole(until_hour) or not 0 <= until_hour <= 23:
        raise InvalidDefinition(f"{what}: until_hour is {until_hour!r}; write the last hour of the night, 0 to 23")
    return Feature(entry["name"], entry["of"], reason, column=column, until_hour=until_hour)
