"""What happened between two moments, from the decision log: minutes, and events between them.

Everything here is in the log of every front door: who answered (release, source), what was decided, what was refused or
failed, when a writer began anew, how many answers a full disk kept out. The judge's journal adds why a share changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_recovery.archive import Progress, quiet
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions, Frame, Gap, Labels, segments, writers
from fraud_scoring.decision_log.contents import SHADOW_WRITERS
from fraud_scoring.decision_log.segments import TORN, frames_of, root_path, segment_path
from fraud_scoring.decision_log.writer import SEGMENT_BYTES
from fraud_scoring.releases import release_name

MINUTE_US: Final = 60_000_000
SILENT_US: Final = 10_000_000
"""A front door that writes nothing for so long and then writes again was silent: no traffic came, or got through."""
_DECISION: Final = wire.VERDICT_COLUMNS.index("decision")
_RELEASE: Final = wire.VERDICT_COLUMNS.index("release")
_SOURCE: Final = wire.VERDICT_COLUMNS.index("source")
_FALLBACK_FROM: Final = wire.Source.FALLBACK_RELEASE


@dataclass(frozen=True)
class Event:
    """`kind`: routes, fallback, restart, gap, silence, torn, judge."""

    at_us: int
    kind: str
    what: str


@dataclass
class Minute:
    """What was answered in one minute; `slowest_us` is the p99 of the batches' time in the front door."""

    answers: int = 0
    repeats: int = 0
    decisions: Counter[int] = field(default_factory=Counter)
    by: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Answers by (release, source)."""
    refused: int = 0
    failed: int = 0
    labels: int = 0
    batch_us: list[int] = field(default_factory=list)

    @property
    def fallbacks(self) -> int:
        return sum(count for (_, source), count in self.by.items() if source >= _FALLBACK_FROM)

    @property
    def p99_ms(self) -> float | None:
        return round(float(np.percentile(self.batch_us, 99)) / 1000, 1) if self.batch_us else None


@dataclass
class Timeline:
    """Minutes by their number since 1970, and events in order."""

    from_us: int
    to_us: int
    minutes: dict[int, Minute] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


def timeline(log: Path, from_us: int, to_us: int, journal: Path | None = None, progress: Progress = quiet) -> Timeline:
    """The timeline of [from_us, to_us), UTC microseconds; `journal` is the judge's (judge.jsonl), if there is one."""
    out = Timeline(from_us, to_us)
    names = [name for name in writers(log) if not name.startswith(SHADOW_WRITERS)]
    for place, name in enumerate(names):
        progress(place / len(names), f"writer {name}")
        _Writer(log / name, out).read()
    out.events += _changes(out.minutes)
    if journal is not None and journal.exists():
        out.events += _of_judge(journal, from_us, to_us)
    out.events.sort(key=lambda event: event.at_us)
    return out


class _Writer:
    """One writer's frames of the time that is looked at."""

    def __init__(self, folder: Path, out: Timeline) -> None:
        self._folder = folder
        self._out = out
        self._last_us: int | None = None

    def read(self) -> None:
        before: int | None = None
        for number in segments(self._folder):
            if not self._ended_before(number):
                self._segment(number, before)
            before = number
        for path in sorted(self._folder.glob(f"*.{TORN}*")):
            at_us = int(path.name.rpartition("-")[2])
            if self._inside(at_us):
                what = f"{self._folder.name}: {path.stat().st_size:,} bytes were cut off its end: it died while writing"
                self._out.events.append(Event(at_us, "torn", what))

    def _segment(self, number: int, before: int | None) -> None:
        first = True
        for frame in frames_of(self._folder, number):
            if first and self._inside(frame.written_at_us):
                self._began(frame, before)
            first = False
            if frame.written_at_us >= self._out.to_us:
                return
            if self._inside(frame.written_at_us):
                self._frame(frame)
            self._last_us = frame.written_at_us

    def _began(self, frame: Frame, before: int | None) -> None:
        """A segment begins when the one before is full, or when a writer begins: a start, or a restart."""
        name = self._folder.name
        if before is None:
            self._out.events.append(Event(frame.written_at_us, "restart", f"{name} began its log"))
        elif segment_path(self._folder, before).stat().st_size < SEGMENT_BYTES:
            away = "" if self._last_us is None else f", {_apart(self._last_us, frame)} after its last frame"
            self._out.events.append(Event(frame.written_at_us, "restart", f"{name} began anew{away}"))

    def _frame(self, frame: Frame) -> None:
        minute = self._out.minutes.setdefault(frame.written_at_us // MINUTE_US, Minute())
        content = frame.content()
        if isinstance(content, Decisions):
            self._silence(frame)
            _add(minute, content)
        elif isinstance(content, Labels):
            minute.labels += len(content)
        elif isinstance(content, Gap):
            missed = f"{content.answers:,} answers are not in the log, since {moment(content.since_us)}"
            what = f"{self._folder.name}: {missed}: {content.reason}"
            self._out.events.append(Event(frame.written_at_us, "gap", what))

    def _silence(self, frame: Frame) -> None:
        if self._last_us is not None and frame.written_at_us - self._last_us >= SILENT_US:
            what = f"{self._folder.name} answered nothing for {_apart(self._last_us, frame)} until now"
            self._out.events.append(Event(frame.written_at_us, "silence", what))

    def _inside(self, at_us: int) -> bool:
        return self._out.from_us <= at_us < self._out.to_us

    def _ended_before(self, number: int) -> bool:
        """By the segment's root; unsigned here, since nothing is proved, only skipped."""
        path = root_path(self._folder, number)
        if not path.exists():
            return False
        ended_us = int(json.loads(path.read_text(encoding="utf-8"))["at_us"])
        if ended_us < self._out.from_us - SILENT_US:
            self._last_us = ended_us
            return True
        return False


def _apart(last_us: int, frame: Frame) -> str:
    return f"{(frame.written_at_us - last_us) / 1e6:.1f} s"


def _add(minute: Minute, content: Decisions) -> None:
    minute.refused += content.refused
    minute.failed += content.failed
    if not len(content):
        return
    minute.answers += len(content)
    minute.repeats += int(content.repeat.sum())
    minute.decisions.update(content.verdict[:, _DECISION].tolist())
    minute.by.update(zip(content.verdict[:, _RELEASE].tolist(), content.verdict[:, _SOURCE].tolist(), strict=True))
    minute.batch_us.append(int(content.stage_us.sum()))


def _changes(minutes: Mapping[int, Minute]) -> Iterator[Event]:
    """Who answers, as it changes from one minute with answers to the next."""
    before: Minute | None = None
    for number in sorted(minutes):
        minute = minutes[number]
        if not minute.answers:
            continue
        at_us = number * MINUTE_US
        if before is not None:
            yield from _routes(at_us, before, minute)
        if minute.fallbacks and (before is None or not before.fallbacks):
            yield Event(
                at_us, "fallback", f"fallbacks begin: {_share(minute.fallbacks, minute.answers)} ({_sources(minute)})"
            )
        elif before is not None and before.fallbacks and not minute.fallbacks:
            yield Event(at_us, "fallback", "fallbacks are over")
        before = minute


def _routes(at_us: int, before: Minute, minute: Minute) -> Iterator[Event]:
    for source in (wire.Source.PRIMARY, wire.Source.CANARY):
        was, now = (_releases(one, source) for one in (before, minute))
        if was != now:
            words = " and ".join(map(release_name, sorted(now))) or "nobody"
            yield Event(at_us, "routes", f"{source.name.lower()}: {words} from now on; before: {_names(was)}")


def _names(releases: Iterable[int]) -> str:
    return " and ".join(map(release_name, sorted(releases))) or "nobody"


def _releases(minute: Minute, source: wire.Source) -> set[int]:
    return {release for (release, found), count in minute.by.items() if found == source and count}


def _sources(minute: Minute) -> str:
    found: Counter[int] = Counter()
    for (_, source), count in minute.by.items():
        if source >= _FALLBACK_FROM:
            found[source] += count
    return ", ".join(f"{wire.Source(source).name.lower()} {count:,}" for source, count in sorted(found.items()))


def _of_judge(journal: Path, from_us: int, to_us: int) -> Iterator[Event]:
    for line in journal.read_text(encoding="utf-8").splitlines():
        record: dict[str, Any] = json.loads(line)
        if from_us <= record["at_us"] < to_us:
            rest = ", ".join(f"{name} {value}" for name, value in record.items() if name not in ("at_us", "kind"))
            yield Event(record["at_us"], "judge", f"{record['kind']}: {rest[:200]}")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of {whole:,}" if whole else "none"


def moment(at_us: int) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def document(found: Timeline) -> dict[str, Any]:
    """The timeline as JSON holds it."""
    return {
        "from": moment(found.from_us),
        "to": moment(found.to_us),
        "events": [{"at": moment(one.at_us), "kind": one.kind, "what": one.what} for one in found.events],
        "minutes": [
            {
                "at": moment(number * MINUTE_US),
                "answers": minute.answers,
                **{one.name.lower(): minute.decisions[one] for one in wire.Decision},
                "fallbacks": minute.fallbacks,
                "repeats": minute.repeats,
                "refused": minute.refused,
                "failed": minute.failed,
                "labels": minute.labels,
                "batch_p99_ms": minute.p99_ms,
                "answered_by": {
                    f"{release_name(release)} {wire.Source(source).name.lower()}": count
                    for (release, source), count in sorted(minute.by.items())
                },
            }
            for number, minute in sorted(found.minutes.items())
        ],
    }


def markdown(found: Timeline) -> str:
    """The timeline as a part of an incident's page; times are UTC."""
    shown = document(found)
    lines = [f"## Timeline, {shown['from']} to {shown['to']} UTC", "", "| at | what | |", "|---|---|---|"]
    lines += [f"| {one['at'][11:]} | {one['kind']} | {one['what']} |" for one in shown["events"]]
    lines += [] if shown["events"] else ["| | | nothing but answers |"]
    heads = (
        "minute",
        "answers",
        "approve",
        "review",
        "decline",
        "fallbacks",
        "refused",
        "failed",
        "labels",
        "batch p99 ms",
    )
    lines += ["", "| " + " | ".join(heads) + " | answered by |", "|---" + "|---:" * (len(heads) - 1) + "|---|"]
    for one in shown["minutes"]:
        shares = [f"{one[name] / one['answers']:.1%}" if one["answers"] else "–" for name in heads[2:5]]
        counts = [f"{one[name]:,}" for name in heads[5:9]]
        slow = "–" if one["batch_p99_ms"] is None else f"{one['batch_p99_ms']:g}"
        by = ", ".join(f"{name} {count:,}" for name, count in one["answered_by"].items())
        lines.append("| " + " | ".join((one["at"][11:16], f"{one['answers']:,}", *shares, *counts, slow, by)) + " |")
    return "\n".join(lines) + "\n"
