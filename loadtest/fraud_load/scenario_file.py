"""A scenario's YAML as sections whose every complaint names file, line and field.

    smoke.yaml:7: arrivals.rate is -3; write a number above 0 and up to 1,000,000

A `Section` is asked for its fields one by one and says at the end what nobody asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from fraud_scoring.errors import InvalidInput

_REQUIRED: Final = object()


@dataclass(frozen=True)
class Value:
    """A plain value, or a mapping of names to values, and where it was written."""

    plain: Any
    where: str


class ScenarioError(InvalidInput):
    """A scenario breaks a rule; the message begins with file and line."""


def read_document(text: str, name: str) -> Value:
    """The values of a YAML text, with lines; ScenarioError where it is no YAML, or says a field twice."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ScenarioError(f"{name}:{line}: this is no YAML: {error.problem or error.context}") from None
    if node is None:
        raise ScenarioError(f"{name}:1: the file is empty")
    return _value(node, name)


def with_option(document: Value, path: str, text: str) -> Value:
    """The document with the field at `path` (`arrivals.rate`) replaced by what the command line says."""
    where = f"--set {path}={text}"
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ScenarioError(f"{where}: this is no YAML value") from None
    return _replaced(document, path.split("."), _marked(plain, where), where)


class Section:
    """The fields of one mapping of the document, `path` being its name in messages."""

    def __init__(self, value: Value, path: str = "") -> None:
        if not isinstance(value.plain, Mapping):
            raise ScenarioError(f"{value.where}: {path or 'a scenario'} must be a mapping of fields to values")
        self.path, self.where = path, value.where
        self._fields: Mapping[str, Value] = value.plain
        self._asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def number(self, name: str, low: float, high: float, default: float | object = _REQUIRED) -> float:
        """A number from `low` to `high`."""
        value = self._take(name, default)
        if isinstance(value.plain, bool) or not isinstance(value.plain, int | float) or not low <= value.plain <= high:
            raise self._wrong(name, value, f"write a number from {low:,g} to {high:,g}")
        return float(value.plain)

    def whole(self, name: str, low: int, high: int, default: int | object = _REQUIRED) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(name, default)
        if isinstance(value.plain, bool) or not isinstance(value.plain, int) or not low <= value.plain <= high:
            raise self._wrong(name, value, f"write a whole number from {low:,} to {high:,}")
        return value.plain

    def flag(self, name: str, default: bool | object = _REQUIRED) -> bool:
        value = self._take(name, default)
        if not isinstance(value.plain, bool):
            raise self._wrong(name, value, "write true or false")
        return value.plain

    def text(self, name: str, default: str | object = _REQUIRED) -> str:
        value = self._take(name, default)
        if not isinstance(value.plain, str) or not value.plain.strip():
            raise self._wrong(name, value, "write a text")
        return value.plain.strip()

    def choice(self, name: str, choices: Collection[str], default: str | object = _REQUIRED) -> str:
        value = self._take(name, default)
        if value.plain not in choices:
            raise self._wrong(name, value, f"write one of {', '.join(sorted(choices))}")
        return str(value.plain)

    def shares(self, name: str, low: int, high: int, default: Mapping[int, float]) -> dict[int, float]:
        """Whole numbers and the share of each (`{1: 0.9, 8: 0.1}`), or one whole number alone; shares sum to 1."""
        value = self._take(name, default)
        found: dict[Any, Any]
        if isinstance(value.plain, int) and not isinstance(value.plain, bool):
            found = {value.plain: 1.0}
        elif isinstance(value.plain, Mapping):
            found = {one: getattr(share, "plain", share) for one, share in value.plain.items()}
        else:
            found = {}
        numbers = all(isinstance(share, int | float) and share > 0 for share in found.values())
        keys = all(isinstance(one, int) and low <= one <= high for one in found)
        if not found or not numbers or not keys or abs(sum(found.values()) - 1) > 1e-6:
            rule = f"write a whole number from {low:,} to {high:,}, or {{number: share, …}} with shares that sum to 1"
            raise self._wrong(name, value, rule)
        return {one: float(share) for one, share in found.items()}

    def section(self, name: str) -> Section:
        """A mapping inside this one; an empty one where it is missing."""
        return Section(self._take(name, {}), self._full(name))

    def limits(self, known: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Every field that is there, each a number in its own range; the others do not exist."""
        return {name: self.number(name, *known[name]) for name in known if name in self}

    def refuse(self, name: str, rule: str) -> ScenarioError:
        """The error for a field that is right alone and wrong beside the others."""
        return ScenarioError(f"{self._fields[name].where if name in self else self.where}: {self._full(name)}: {rule}")

    def finish(self, known: Collection[str] = ()) -> None:
        """ScenarioError for a field that nobody asked for."""
        for name, value in self._fields.items():
            if name not in self._asked:
                names = ", ".join(sorted({*self._asked, *known}))
                raise ScenarioError(f"{value.where}: {self._full(str(name))} is not known; known are {names}")

    def _take(self, name: str, default: object) -> Value:
        self._asked.add(name)
        if name in self._fields:
            return self._fields[name]
        if default is _REQUIRED:
            raise ScenarioError(f"{self.where}: {self._full(name)} is missing")
        return Value(default, self.where)

    def _wrong(self, name: str, value: Value, rule: str) -> ScenarioError:
        shown = "a mapping" if isinstance(value.plain, Mapping) else repr(value.plain)
        return ScenarioError(f"{value.where}: {self._full(name)} is {shown}; {rule}")

    def _full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name


def _value(node: yaml.Node, name: str) -> Value:
    where = f"{name}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        return Value(_plain(node, where), where)
    found: dict[Any, Value] = {}
    for key, inner in node.value:
        line = f"{name}:{key.start_mark.line + 1}"
        said = _plain(key, line)
        if said in found:
            raise ScenarioError(f"{line}: {said} stands twice; write it once")
        found[said] = Value(_value(inner, name).plain, line)
    return Value(found, where)


def _plain(node: yaml.Node, where: str) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise ScenarioError(f"{where}: lists and names of this kind are not known here; write a plain value")
    return yaml.safe_load(yaml.serialize(node))


def _marked(plain: Any, where: str) -> Value:
    if isinstance(plain, Mapping):
        return Value({name: _marked(inner, where) for name, inner in plain.items()}, where)
    return Value(plain, where)


def _replaced(document: Value, path: list[str], value: Value, where: str) -> Value:
    name, *rest = path
    if not isinstance(document.plain, Mapping) or not name:
        raise ScenarioError(f"{where}: write section.field=value, for example arrivals.rate=500")
    if rest:
        value = _replaced(document.plain.get(name, Value({}, where)), rest, value, where)
    return Value({**document.plain, name: value}, document.where)
