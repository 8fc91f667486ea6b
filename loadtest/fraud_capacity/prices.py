"""What things cost: a YAML file that is yours. The one in the package is an example, with its source and date."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_scoring.errors import InvalidInput

EXAMPLE: Final = Path(__file__).with_name("prices.yaml")
_MACHINE: Final = ("name", "cores", "memory_gib", "per_hour")


@dataclass(frozen=True)
class Machine:
    """A kind of machine; `speed`: of a core, against the one that was measured on."""

    name: str
    cores: float
    memory_gib: float
    per_hour: float
    speed: float = 1.0


@dataclass(frozen=True)
class Prices:
    """What the plan is made of; `source` and `date` say where the figures come from."""

    source: str
    date: str
    currency: str
    server: Machine
    redis: Machine
    generator: Machine
    log_gib_month: float
    log_months: float


def read_prices(path: Path | None) -> Prices:
    """The prices in a file, or the example; InvalidInput names what is missing."""
    chosen = path or EXAMPLE
    try:
        document: dict[str, Any] = yaml.safe_load(chosen.read_text(encoding="utf-8"))
        machines = {name: _machine(document, name) for name in ("server", "redis", "generator")}
        log = document["log"]
        return Prices(
            source=str(document["source"]),
            date=str(document["date"]),
            currency=str(document["currency"]),
            **machines,
            log_gib_month=float(log["gib_month"]),
            log_months=float(log["months"]),
        )
    except OSError as error:
        raise InvalidInput(f"prices: {chosen.name} cannot be read: {error.strerror}") from None
    except KeyError as missing:
        raise InvalidInput(f"prices: {chosen.name} has no {missing.args[0]}; copy the example and edit it") from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        text = str(error).splitlines()[0]
        raise InvalidInput(f"prices: {chosen.name} cannot be used: {text}; copy the example and edit it") from None


def _machine(document: dict[str, Any], name: str) -> Machine:
    given = document[name]
    values = {key: given[key] for key in _MACHINE}
    machine = Machine(str(values.pop("name")), **{key: float(value) for key, value in values.items()})
    found = Machine(machine.name, machine.cores, machine.memory_gib, machine.per_hour, float(given.get("speed", 1.0)))
    if min(found.cores, found.memory_gib, found.speed) <= 0 or found.per_hour < 0:
        raise ValueError(f"{name}: cores, memory_gib and speed are above 0, per_hour is not below")
    return found
