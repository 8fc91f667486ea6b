"""A load test as data: arrivals, workload, how to send, and the targets. One format for every runner.

`docs/load-testing.md` has the fields with their meaning; `loadtest/scenarios` the ones that come with the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from fraud_data import read_transactions
from fraud_load import arrivals
from fraud_load.arrivals import Floats, Profile
from fraud_load.scenario_file import Section, Value, read_document, with_option
from fraud_scoring.errors import InvalidInput
from fraud_scoring.schema import default_schema
from fraud_scoring.wire import DEFAULT_DEADLINE_US, MAX_ROWS, PURPOSE_SCORE, PURPOSES

MOST_ARRIVALS: Final = 20_000_000
"""A scenario with more would not fit into the generator's memory."""
MOST_RATE: Final = 1_000_000.0
MOST_SECONDS: Final = 86_400.0
MOST_GIVE_UP_S: Final = 60.0
PATTERNS: Final = ("poisson", "regular")
_PATTERN_OF: Final = {"constant": "regular", "poisson": "poisson", "replay": "regular"}
"""Kinds whose name says how they are spaced."""
KINDS: Final = ("constant", "poisson", "ramp", "steps", "spike", "day", "replay")

SLOS: Final[dict[str, tuple[float, float]]] = {
    "p50_ms": (0.01, 600_000.0),
    "p99_ms": (0.01, 600_000.0),
    "p99.9_ms": (0.01, 600_000.0),
    "error_share": (0.0, 1.0),
    "degraded_share": (0.0, 1.0),
    "throughput": (0.0, 1e8),
    "generator_lag_ms": (0.1, 600_000.0),
    "recovery_s": (0.0, 3_600.0),
    "knee_rate": (0.0, 1e8),
    "memory_growth_share": (0.0, 100.0),
    "p99_growth_share": (0.0, 100.0),
}
"""Every target that a scenario may set, and its range; `fraud_load.gate` says how each is judged."""
DEFAULT_LAG_MS: Final = 10.0
LAG_SHARE: Final = 0.2


def lag_limit_ms(slo: Mapping[str, float]) -> float:
    """How late the generator may be at p99: as the targets say, else a fifth of their p99, 10 ms at least."""
    return slo.get("generator_lag_ms", max(DEFAULT_LAG_MS, LAG_SHARE * slo.get("p99_ms", 0.0)))


@dataclass(frozen=True)
class Arrivals:
    """When to send; `numbers` are the kind's own (see `_PROFILES`)."""

    kind: str
    duration_s: float
    pattern: str
    numbers: dict[str, float]
    file: str | None = None
    """Of a replay: transactions (Parquet or CSV, as `fraudctl data import` writes them)."""

    def profile(self) -> Profile:
        """The rate over time."""
        if self.kind == "replay":
            return arrivals.profile_of(self._recorded(), self.duration_s)
        return _profile(self.kind, self.duration_s, self.numbers)

    def times(self, seed: int) -> Floats:
        """Intended times [N] in seconds from the start, in order; the same seed gives the same."""
        if self.kind == "replay":
            return self._recorded()
        profile = self.profile()
        return profile.regular() if self.pattern == "regular" else profile.poisson(np.random.default_rng([seed, 1]))

    def _recorded(self) -> Floats:
        schema = default_schema()
        assert self.file is not None
        data = read_transactions(Path(self.file), schema)
        return arrivals.replayed(data.rows[:, schema.time_index], self.numbers["speed"], self.duration_s)


@dataclass(frozen=True)
class Bursts:
    """Frauds in bursts: every `every_s` seconds, for `for_s` seconds, a `share` of the requests are of leaked cards."""

    every_s: float = 10.0
    for_s: float = 2.0
    share: float = 0.0


@dataclass(frozen=True)
class Workload:
    """What to send."""

    customers: int
    terminals: int
    rows: dict[int, float]
    """Rows a request, and the share of the requests that have so many."""
    duplicate_share: float
    bad_share: float
    bursts: Bursts
    purpose: str

    @property
    def mean_rows(self) -> float:
        return sum(rows * share for rows, share in self.rows.items())


@dataclass(frozen=True)
class Sending:
    """How to send."""

    processes: int
    coalesce: bool
    """Join what is due into one request while `in_flight` are out, as the client library does."""
    in_flight: int
    """Of each process; only where it coalesces, else as many as the arrivals make."""
    deadline_ms: float
    """What the server is told."""
    give_up_s: float
    """When the generator stops waiting; far above any target, so that what is late is measured and not cut off."""
    slow_connections: int


@dataclass(frozen=True)
class Scenario:
    """A load test, every default filled in."""

    name: str
    about: str
    seed: int
    warmup_s: float
    """The first seconds are sent and shown, and not judged."""
    arrivals: Arrivals
    workload: Workload
    sending: Sending
    slo: dict[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return self.arrivals.duration_s

    @property
    def window_s(self) -> tuple[float, float]:
        """The judged part."""
        return self.warmup_s, self.duration_s

    @property
    def lag_limit_ms(self) -> float:
        """How late the generator may be at p99."""
        return lag_limit_ms(self.slo)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as results keep them."""
        return asdict(self)

    def as_yaml(self) -> str:
        """The scenario as a file that `parse` reads, every default written out."""
        when = self.arrivals
        arrivals_section: dict[str, Any] = {"kind": when.kind, **when.numbers}
        if when.kind != "steps":
            arrivals_section["duration_s"] = when.duration_s
        if when.kind not in _PATTERN_OF:
            arrivals_section["pattern"] = when.pattern
        if when.file is not None:
            arrivals_section["file"] = when.file
        return yaml.safe_dump({**asdict(self), "arrivals": arrivals_section}, sort_keys=False, allow_unicode=True)


def folder() -> Path:
    """Where the scenarios that come with the project lie: in the wheel, or beside the package."""
    inside = Path(__file__).parent / "scenarios"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "scenarios"


def names() -> list[str]:
    """The scenarios that come with the project."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def load(name_or_path: str, options: Mapping[str, str] | None = None) -> Scenario:
    """A scenario by name or from a YAML file; `options` replace fields (`arrivals.rate` → text as in YAML)."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = folder() / f"{name_or_path}.yaml"
        if "/" in name_or_path or not path.is_file():
            raise InvalidInput(f"no scenario {name_or_path!r}; there are {', '.join(names())}, or give a .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{path.name} is no text in UTF-8") from None
    return parse(text, path.name, options)


def parse(text: str, name: str, options: Mapping[str, str] | None = None) -> Scenario:
    """The scenario in a YAML text; ScenarioError names the line and the field that breaks a rule."""
    document = read_document(text, name)
    for path, value in (options or {}).items():
        document = with_option(document, path, value)
    return _scenario(document, Path(name).stem)


def _scenario(document: Value, stem: str) -> Scenario:
    top = Section(document)
    when, what, how, targets = (top.section(name) for name in ("arrivals", "workload", "sending", "slo"))
    found = Scenario(
        name=top.text("name", stem),
        about=top.text("about"),
        seed=top.whole("seed", 0, 2**31 - 1, 7),
        warmup_s=top.number("warmup_s", 0.0, MOST_SECONDS, 0.0),
        arrivals=_arrivals(when),
        workload=_workload(what),
        sending=_sending(how),
        slo=targets.limits(SLOS),
    )
    for section, known in ((when, ()), (what, ()), (how, ()), (targets, SLOS), (top, ())):
        section.finish(known)
    if found.warmup_s >= found.duration_s:
        raise top.refuse("warmup_s", f"nothing is left of the {found.duration_s:g} s of arrivals; write less")
    if found.sending.coalesce and found.workload.bad_share > 0:
        raise how.refuse("coalesce", "a bad request would refuse its neighbours; write workload.bad_share: 0")
    if found.arrivals.kind != "replay" and found.arrivals.profile().expected > MOST_ARRIVALS:
        raise when.refuse("kind", f"more than {MOST_ARRIVALS:,} arrivals; write a lower rate or a shorter time")
    if not found.slo:
        raise top.refuse("slo", f"nothing is asked of the server; write one or more of {', '.join(SLOS)}")
    for slo, kind in (("recovery_s", "spike"), ("knee_rate", "steps")):
        if slo in found.slo and found.arrivals.kind != kind:
            raise targets.refuse(slo, f"only arrivals of kind {kind} have one")
    return found


def _arrivals(section: Section) -> Arrivals:
    kind = section.choice("kind", KINDS)
    numbers: dict[str, float] = {}
    for name in _NUMBERS[kind]:
        low, high, *default = _RANGES[name]
        numbers[name] = section.number(name, low, high, *default)
    if kind == "steps":
        if numbers["last"] <= numbers["first"]:
            raise section.refuse("last", "steps rise; write more than first")
        count = len(arrivals.geometric_rates(numbers["first"], numbers["last"], numbers["factor"]))
        duration_s = count * numbers["hold_s"]
    else:
        duration_s = section.number("duration_s", 0.5, MOST_SECONDS)
    if kind == "spike" and numbers["at_s"] + numbers["for_s"] >= duration_s:
        raise section.refuse("duration_s", "the spike must end before; write more than at_s + for_s")
    pattern = _PATTERN_OF.get(kind) or section.choice("pattern", PATTERNS, "poisson")
    return Arrivals(kind, duration_s, pattern, numbers, section.text("file") if kind == "replay" else None)


def _workload(section: Section) -> Workload:
    bursts = section.section("bursts")
    found = Workload(
        customers=section.whole("customers", 3, 1_000_000, 5_000),
        terminals=section.whole("terminals", 2, 1_000_000, 10_000),
        rows=section.shares("rows", 1, MAX_ROWS, {1: 1.0}),
        duplicate_share=section.number("duplicate_share", 0.0, 0.9, 0.0),
        bad_share=section.number("bad_share", 0.0, 1.0, 0.0),
        bursts=Bursts(
            every_s=bursts.number("every_s", 0.1, MOST_SECONDS, 10.0),
            for_s=bursts.number("for_s", 0.0, MOST_SECONDS, 2.0),
            share=bursts.number("share", 0.0, 1.0, 0.0),
        ),
        purpose=section.choice("purpose", PURPOSES, PURPOSE_SCORE),
    )
    bursts.finish()
    if found.duplicate_share + found.bad_share > 1:
        raise section.refuse("bad_share", "with duplicate_share it is more than all requests")
    return found


def _sending(section: Section) -> Sending:
    return Sending(
        processes=section.whole("processes", 1, 64, 1),
        coalesce=section.flag("coalesce", False),
        in_flight=section.whole("in_flight", 1, 64, 3),
        deadline_ms=section.number("deadline_ms", 0.001, 60_000.0, DEFAULT_DEADLINE_US / 1e3),
        give_up_s=section.number("give_up_s", 0.01, MOST_GIVE_UP_S, 10.0),
        slow_connections=section.whole("slow_connections", 0, 1_000, 0),
    )


_NUMBERS: Final[dict[str, tuple[str, ...]]] = {
    "constant": ("rate",),
    "poisson": ("rate",),
    "ramp": ("first", "last"),
    "steps": ("first", "last", "factor", "hold_s", "leaves_ms", "patience"),
    "spike": ("rate", "times", "at_s", "for_s"),
    "day": ("peak", "lowest_share"),
    "replay": ("speed",),
}
_RANGES: Final[dict[str, tuple[float, ...]]] = {
    "rate": (0.001, MOST_RATE),
    "first": (0.001, MOST_RATE),
    "last": (0.001, MOST_RATE),
    "peak": (0.001, MOST_RATE),
    "factor": (1.01, 10.0, 1.25),
    "hold_s": (1.0, 3_600.0),
    "leaves_ms": (0.01, 600_000.0, 100.0),
    "patience": (1, 10, 1),
    "times": (1.0, 1_000.0, 10.0),
    "at_s": (0.0, MOST_SECONDS),
    "for_s": (0.1, MOST_SECONDS),
    "lowest_share": (0.0, 1.0, 0.05),
    "speed": (0.001, 1e9, 1.0),
}
"""Least, most and, where there is one, the default of each number that a kind of arrivals has."""


def _profile(kind: str, duration_s: float, numbers: Mapping[str, float]) -> Profile:
    if kind in ("constant", "poisson"):
        return arrivals.constant(numbers["rate"], duration_s)
    if kind == "ramp":
        return arrivals.ramp(numbers["first"], numbers["last"], duration_s)
    if kind == "steps":
        rates = arrivals.geometric_rates(numbers["first"], numbers["last"], numbers["factor"])
        return arrivals.steps(rates, numbers["hold_s"])
    if kind == "spike":
        return arrivals.spike(numbers["rate"], numbers["times"], numbers["at_s"], numbers["for_s"], duration_s)
    return arrivals.day(numbers["peak"], numbers["lowest_share"], duration_s)
