"""What processes cost: CPU seconds and resident memory of whole process trees, as the kernel counts them in /proc.

CPU counts what ended children used too, as soon as their parent has waited for them, so a tree's figure never falls.
The kernel gives it in hundredths of a second for each process: measure over a second or more.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
import psutil

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")
SAMPLE_EVERY_S: Final = 0.1
_TREES_EVERY_S: Final = 1.0
"""How often the meter looks for new processes; that reads all of /proc, and costs milliseconds."""


@dataclass(frozen=True)
class Usage:
    """Of one or more processes together."""

    cpu_seconds: float
    rss_bytes: int
    """Resident memory; pages that several processes share count for each of them."""
    processes: int


def tree(root: int) -> list[int]:
    """The process `root` and everything under it, as process ids; empty if it is gone."""
    try:
        process = psutil.Process(root)
        return [root, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def usage(pids: Iterable[int]) -> Usage:
    """What these processes have used until now; one that is gone counts as nothing."""
    seconds, pages, found = 0.0, 0, 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name in parentheses may hold anything; what follows the last one are fields 3 and on of proc(5).
            fields = (
                (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            )
            seconds += sum(map(int, fields[11:15])) / _TICKS_PER_SECOND  # utime, stime, cutime, cstime
            pages += int(fields[21])
            found += 1
    return Usage(seconds, pages * _PAGE_BYTES, found)


def tree_usage(*roots: int) -> Usage:
    """What the trees under `roots` have used until now; a process that stands in two of them counts once."""
    return usage({pid for root in roots for pid in tree(root)})


class CpuMeter:
    """Samples the CPU seconds of named groups of process trees in a thread, from `with` to its end.

    Afterwards `seconds(group, from_ns, to_ns)` says what a group used between two moments of `time.time_ns`, so that
    the window of a measurement can be chosen when it is known.
    """

    def __init__(self, groups: Mapping[str, Iterable[int]], every_s: float = SAMPLE_EVERY_S) -> None:
        self._groups = {name: tuple(roots) for name, roots in groups.items()}
        self._every_s = every_s
        self._times: list[int] = []
        self._seconds: dict[str, list[float]] = {name: [] for name in self._groups}
        self._rss: dict[str, int] = dict.fromkeys(self._groups, 0)
        self._trees: dict[str, set[int]] = {}
        self._trees_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpu-meter", daemon=True)

    def __enter__(self) -> CpuMeter:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the last sample; call it while the processes still live."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._sample()

    @property
    def last_ns(self) -> int:
        """The moment of the last sample."""
        return self._times[-1]

    def seconds(self, group: str, from_ns: int, to_ns: int) -> float:
        """CPU seconds of a group between two moments (`time.time_ns`), straight lines between samples."""
        start, end = np.interp([from_ns, to_ns], self._times, self._seconds[group])
        return float(end - start)

    def peak_rss_bytes(self, group: str) -> int:
        """The most resident memory that any sample of a group saw."""
        return self._rss[group]

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._sample()

    def _sample(self) -> None:
        if time.monotonic() - self._trees_at >= _TREES_EVERY_S or self._stop.is_set():
            self._trees = {name: {pid for root in roots for pid in tree(root)} for name, roots in self._groups.items()}
            self._trees_at = time.monotonic()
        self._times.append(time.time_ns())
        for name, pids in self._trees.items():
            used = usage(pids)
            before = self._seconds[name]
            # A child that ended is missing until its parent has waited for it.
            before.append(max(used.cpu_seconds, before[-1] if before else 0.0))
            self._rss[name] = max(self._rss[name], used.rss_bytes)
