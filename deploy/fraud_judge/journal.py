"""What the judge did and why: JSON lines, appended and synced one by one, never changed.

    begun     a rollout: what is on trial, its first share and start, the baseline, and where the logs' writers stood
    look      once in a while: counts, and what is waited for
    intent    a change of the routes that is about to be made, with its reason and the evidence
    done      it was made
    yielded   somebody else changed the routes: the rollout is theirs
    resumed   it was given back to the judge
    undecided a step lasts longer than the operator's patience

All that the judge remembers follows from these lines and the decision log: whoever kills it takes nothing away.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fraud_judge.course import Action
from fraud_judge.rollout import Trial
from fraud_judge.signs import Baseline
from fraud_scoring.decision_log.tail import Place
from fraud_scoring.errors import FraudError

JOURNAL_FILE: Final = "judge.jsonl"


class JournalUnusable(FraudError):
    """The judge's journal cannot be read or is another process's."""


@dataclass
class Course:
    """A rollout as the journal tells it. `pending`: an intent of which nobody knows whether it was carried out."""

    trial: Trial
    baseline: Baseline
    places: dict[str, Place]
    steps: list[tuple[int, int]] = field(default_factory=list)
    """(share, start in UTC microseconds)."""
    pending: dict[str, Any] | None = None
    ended: str = ""
    """How it ended: promote, roll back, yielded."""
    told_undecided: bool = False
    logs: set[str] = field(default_factory=set)
    """What it was judged from so far."""

    @property
    def share(self) -> int:
        return self.steps[-1][0]


class Journal:
    """The journal in a folder; one process may have it open for writing."""

    def __init__(self, home: Path, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        home.mkdir(parents=True, exist_ok=True)
        path = home / JOURNAL_FILE
        self._file = path.open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise JournalUnusable(
                "another judge writes this journal; one judge serves a route table, stop the other first"
            ) from None
        _cut_torn_line(path)
        self.records = read_journal(home)

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append one record; on return it is on the disk."""
        record = {"at_us": self._now_us(), "kind": kind, **values}
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(record)
        return record

    def close(self) -> None:
        self._file.close()


def read_journal(home: Path) -> list[dict[str, Any]]:
    """All records, oldest first; none where there is no journal. JournalUnusable where a line is no record."""
    try:
        text = (home / JOURNAL_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    records = []
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            record = json.loads(line)
            record["kind"], record["at_us"]
        except (ValueError, KeyError, TypeError):
            raise JournalUnusable(
                f"{JOURNAL_FILE}: line {number} is no record; move the file aside to begin anew"
            ) from None
        records.append(record)
    return records


def last_course(records: Iterable[Mapping[str, Any]]) -> Course | None:
    """The last rollout that the journal tells of; None where there is none, or it was given up for a new one."""
    course: Course | None = None
    for record in records:
        kind = record["kind"]
        if course is not None:
            course.logs |= {one["log"] for one in record.get("logs", ())}
        if kind == "begun":
            trial = Trial(record["canary"], record["production"], record["salt"])
            places = {name: Place.parse(place) for name, place in record["places"].items()}
            first = (record["share"], record["start_us"])
            course = Course(trial, Baseline.parse(record["baseline"]), places, [first])
        elif kind == "resumed":
            course = None
        elif course is None:
            continue
        elif kind == "intent":
            course.pending = dict(record)
        elif kind == "done":
            course.pending = None
            if record["action"] == Action.STEP_UP.value:
                course.steps.append((record["share"], record["start_us"]))
                course.told_undecided = False
            else:
                course.ended = record["action"]
        elif kind == "yielded":
            course.pending, course.ended = None, kind
        elif kind == "undecided":
            course.told_undecided = True
    return course


def _cut_torn_line(path: Path) -> None:
    """Take away what a crash left of a line: it was never acknowledged."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
