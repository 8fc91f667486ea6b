"""The decision logs of all servers that follow one route table, read as one.

Each log has its own place, and trouble of its own: one that is damaged, gone or slow holds up no other. What the
evidence needs of their order is kept, and no more:

    a row counts in the step and the windows of its own time     whichever log is read first
    a label is given out once every log was read up to its time  its row may lie in another log
    no step forward before every log was read to its end         and none while a log is in trouble

A log that brings nothing more is not in trouble: its server answers nobody, or is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from fraud_judge.following import Following
from fraud_judge.log_rows import join, places_since
from fraud_judge.rollout import Trial
from fraud_judge.signs import Int64, Rows
from fraud_scoring.decision_log import writers
from fraud_scoring.decision_log.batches import Batch
from fraud_scoring.decision_log.tail import Lag, Place, Tail, Taken
from fraud_scoring.errors import InvalidInput

ROWS_A_LOOK: Final = 200_000
SILENT_US: Final = 60_000_000
CLOCK_US: Final = 5_000_000
"""By so much the clocks of servers may differ from the judge's, and a volume may show late what was written."""
MOST_STRAYS: Final = 0.05
"""Of the rows of the canary's customers: more of them, and the step does not go forward."""

Report = Callable[[str], None]
ToRows = Callable[[Batch], Rows]


@dataclass(frozen=True)
class LogFolders:
    """Where logs are: those that are `named`, and whatever appears below `parents`, as <parent>/<server>[/log]."""

    named: tuple[Path, ...] = ()
    parents: tuple[Path, ...] = ()

    def found(self) -> list[Path]:
        """The named ones, there or not, and those that are there now."""
        below = [path for parent in self.parents for path in _logs_below(parent)]
        return list(dict.fromkeys(path.absolute() for path in (*self.named, *below)))

    def readable(self) -> list[Path]:
        """The same, for a report; InvalidInput where one that is named is not there."""
        for folder in (*self.named, *self.parents):
            if not folder.is_dir():
                raise InvalidInput(f"{folder} is not there; name the server's --home, or its log with --log")
        return self.found()


def _logs_below(parent: Path) -> list[Path]:
    servers: list[Path] = []
    with suppress(OSError):
        servers = sorted(parent.iterdir())
    return [path for server in servers if (path := _log_of(server)) is not None]


def _log_of(server: Path) -> Path | None:
    try:
        return next((path for path in (server / "log", server) if writers(path)), None)
    except OSError:
        return server  # whoever reads it says why it cannot


class InForce(NamedTuple):
    """What servers should follow: the canary has `share` of the buckets, and rows count from `since_us` on."""

    trial: Trial
    share: int
    since_us: int


class ServerLog:
    """One server's log."""

    def __init__(
        self, folder: Path, places: Mapping[str, Place], now_us: Callable[[], int], report: Report, settle_us: int
    ) -> None:
        self.folder = folder
        self.rows = 0
        self.last_us = 0
        """When its last answer was logged."""
        self.is_read_up = False
        self.following: Following | None = None
        self.unlogged = 0
        """Answers that its server gave while it could not write the log."""
        self._now_us = now_us
        self._settle_us = settle_us
        self._report: Report = lambda line: report(f"{folder}: {line}")
        self._tail = self._opened(places)
        self._writers: set[str] = set()
        self._lags: list[Lag] = []
        self._active_us = 0
        """When it brought an answer last, by the judge's clock."""
        self._unreadable = self._clock = ""
        self._read_up_at_us: int | None = None
        """When it had been read to its end last, if it was so at the last look."""
        self._step: tuple[Trial, int, int] | None = None

    @property
    def places(self) -> dict[str, Place]:
        return self._tail.places

    def take(
        self, to_rows: ToRows, in_force: InForce | None, at_most: int = ROWS_A_LOOK
    ) -> tuple[Rows | None, list[Int64]]:
        """What is new, about `at_most` rows of each writer: rows in the order of their time, and labels."""
        places, now_us = self.places, self._now_us()
        try:
            taken = self._tail.take(at_most)
            self._lags = self._tail.lags()
            self._unreadable = self._missing(set(writers(self.folder)))
        except OSError as error:
            # what was taken before it failed is taken again
            self._tail, taken = self._opened(places), Taken()
            self._unreadable = f"cannot be read: {error.strerror}"
        self.is_read_up = taken.rows < at_most
        self.unlogged += sum(gap.answers for _, gap in taken.gaps)
        rows = join(to_rows(batch) for batch in taken.batches)
        if rows is not None and len(rows.at_us):
            rows = self._in_time(rows, now_us)
            self.rows += len(rows.at_us)
            self.last_us = max(self.last_us, int(rows.at_us[-1]))
            self._active_us = self.last_us if self._read_up_at_us is None else now_us
            self._watch(rows, in_force)
        self._read_up_at_us = now_us if self.is_read_up else None
        return rows, taken.labels

    def watermark_us(self) -> int | None:
        """Every frame up to then was taken; None where that cannot be said, since it cannot be read."""
        return None if self._unreadable else min((lag.watermark_us for lag in self._lags), default=None)

    def _missing(self, there: set[str]) -> str:
        """Why not all of it could be read; nothing where it could."""
        self._writers |= there
        if not self._writers or not self.folder.is_dir():
            return "is not there: start its server, look at the mount, or leave the log out"
        # retention may take all segments of a writer that has ended, and leaves its folder
        if gone := [name for name in sorted(self._writers - there) if not (self.folder / name).is_dir()]:
            return f"has lost the folder of writer {gone[0]}: bring it back, or leave the log out"
        if damaged := [lag.damage for lag in self._lags if lag.damage]:
            return f"is damaged: {damaged[0]}; mend it (fraudctl log verify), or leave the log out"
        return ""

    def trouble(self) -> str:
        """Why no step may go forward beside it; nothing where one may."""
        if self._unreadable or self.is_silent():
            return self._unreadable
        if self._clock:
            return self._clock
        if self.following is not None and self.following.is_astray:
            return (
                f"its server answers by another route table ({self.following.strays:,} answers of this step); "
                "look at what it says of its table"
            )
        return ""

    def is_silent(self) -> bool:
        """Whether its server has answered nobody for a minute."""
        return self._now_us() - self._active_us > SILENT_US

    def document(self) -> dict[str, Any]:
        """How it stands, for people and programs."""
        trouble = self.trouble()
        return {
            "log": str(self.folder),
            "state": "trouble" if trouble else "silent" if self.is_silent() else "read",
            "trouble": trouble,
            "rows": self.rows,
            "lag_seconds": round(max((lag.seconds for lag in self._lags), default=0.0), 3),
            "lag_bytes": sum(lag.bytes for lag in self._lags),
            "last_answer_us": self.last_us or None,
            "canary_rows": self.following.canary_rows if self.following is not None else 0,
            "by_another_table": self.following.strays if self.following is not None else 0,
            "unlogged_answers": self.unlogged,
            "missed_frames": sum(lag.missed_frames for lag in self._lags),
        }

    def _opened(self, places: Mapping[str, Place]) -> Tail:
        return Tail(self.folder, places, self._now_us, self._report, settle_us=self._settle_us)

    def _in_time(self, rows: Rows, now_us: int) -> Rows:
        """No row is later than now: a clock that is ahead must not make a step pass. A wrong clock is remembered."""
        newest = int(rows.at_us[-1])
        read_up = self._read_up_at_us
        self._clock = ""
        if newest > now_us + CLOCK_US:
            ahead = f"{(newest - now_us) / 1e6:,.0f} s ahead"
            self._clock = f"comes from the future: its server's clock is {ahead}; set it right"
        elif read_up is not None and newest < read_up - self._settle_us - CLOCK_US:
            # it was not there when the log had been read to its end, and says that it is older
            late = f"{(read_up - newest) / 1e6:,.0f} s late"
            self._clock = f"shows answers some {late}: its server's clock is behind, or its volume is; set it right"
        return rows if newest <= now_us else rows._replace(at_us=np.minimum(rows.at_us, now_us))

    def _watch(self, rows: Rows, in_force: InForce | None) -> None:
        if in_force is None:
            self.following, self._step = None, None
            return
        if self.following is None or self._step != in_force:
            self.following, self._step = Following(in_force.trial, in_force.share), in_force
        self.following.take(rows.pick(rows.at_us >= in_force.since_us))


class Logs:
    """All logs of `folders`."""

    def __init__(
        self,
        folders: LogFolders,
        now_us: Callable[[], int],
        report: Report,
        *,
        settle_us: int,
        rows_a_look: int = ROWS_A_LOOK,
    ) -> None:
        self._rows_a_look = rows_a_look
        self._folders = folders
        self._kept: dict[str, Place] = {}
        self._before: list[Path] = []
        self._now_us = now_us
        self._report = report
        self._settle_us = settle_us
        self._logs: dict[Path, ServerLog] = {}
        self._labels: list[Int64] = []
        """Those that wait for rows of another log."""
        self._told: dict[str, str] = {}
        self.since_us = 2**62
        """What was logged before then is not needed of a log that appears; its newest segment is read in any case."""

    def go_on(self, places: Mapping[str, Place], logs: Collection[str], since_us: int) -> None:
        """Go on with a rollout that began at `since_us`, from where `place_documents` says that writers were left.

        Of the `logs` that it was judged from, those below a parent must be there: a mount may be missing.
        """
        self._kept, self.since_us = dict(places), since_us
        parents = {parent.absolute() for parent in self._folders.parents}
        self._before = [Path(log) for log in sorted(logs) if parents & set(Path(log).parents)]

    @property
    def is_read_up(self) -> bool:
        """Whether all that there was has been given out."""
        return all(log.is_read_up for log in self._logs.values())

    def take(self, to_rows: ToRows, in_force: InForce | None = None) -> tuple[Rows | None, Int64]:
        """What is new in all logs: rows in the order of their time, and labels int64 [M, 4] whose rows were given."""
        self._open_new()
        parts = []
        for log in self._logs.values():
            rows, labels = log.take(to_rows, in_force, self._rows_a_look)
            self._labels += labels
            if rows is not None:
                parts.append(rows)
        for one in self.documents():
            self._tell(one["log"], one["trouble"])
        return join(parts), self._due_labels()

    def place_documents(self) -> dict[str, Any]:
        """Where each writer stands, for the journal."""
        return {
            f"{folder}/{writer}": place.document()
            for folder, log in self._logs.items()
            for writer, place in log.places.items()
        }

    def trouble(self) -> str:
        """Why no step may go forward; nothing where one may."""
        found = [f"{log.folder} {why}" for log in self._logs.values() if (why := log.trouble())]
        if not self._logs:
            found = ["there is no log; start a server, or look at --log and --logs"]
        found += self._too_many_strays()
        return f"{found[0]} (and {len(found) - 1} more)" if len(found) > 1 else "".join(found)

    def documents(self) -> list[dict[str, Any]]:
        """How each log stands."""
        return [log.document() for log in self._logs.values()]

    def _open_new(self) -> None:
        for folder in self._wanted():
            if folder not in self._logs:
                places = {**places_since(folder, self.since_us), **self._places_of(folder)}
                self._logs[folder] = ServerLog(folder, places, self._now_us, self._report, self._settle_us)

    def _wanted(self) -> list[Path]:
        """Those that are found, and those that this rollout was judged from before."""
        return list(dict.fromkeys([*self._folders.found(), *self._before]))

    def _places_of(self, folder: Path) -> dict[str, Place]:
        """Where its writers were left. A journal of before knows one log, by the names of its writers alone."""
        found = {Path(key).name: place for key, place in self._kept.items() if Path(key).parent == folder}
        if not found and len(self._folders.named) == 1 and not self._folders.parents:
            return {key: place for key, place in self._kept.items() if "/" not in key}
        return found

    def _due_labels(self) -> Int64:
        if not self._labels:
            return np.empty((0, 4), np.int64)
        joined = np.concatenate(self._labels)
        marks = [mark for log in self._logs.values() if (mark := log.watermark_us()) is not None]
        due = joined[:, 3] <= min(marks, default=2**62)
        self._labels = [] if due.all() else [joined[~due]]
        return joined[due]

    def _too_many_strays(self) -> list[str]:
        seen = [(log, log.following) for log in self._logs.values() if log.following is not None]
        strays = sum(one.strays for _, one in seen)
        of = sum(one.canary_rows for _, one in seen)
        if strays <= MOST_STRAYS * of:
            return []
        names = ", ".join(str(log.folder) for log, one in seen if one.strays)
        return [f"{strays:,} answers of this step, to {of:,} of the canary, were given by another route table: {names}"]

    def _tell(self, name: str, trouble: str) -> None:
        """Say what is wrong with a log once, and once that it is over."""
        kind = "".join(letter for letter in trouble if not letter.isdigit())
        if kind != self._told.get(name, ""):
            self._report(f"{name} {trouble}" if trouble else f"{name} is followed again")
        self._told[name] = kind
