"""Front doors on a disk that loses what was not synced, killed at random moments, and what they had acknowledged.

The shim (`lost_writes.c`) is preloaded into one process, the nursery, which imports everything once and forks a front
door for each run. Run as a program this module is the nursery.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Final

import numpy as np

from fraud_scoring.decision_log import Context, Decisions, LogWriter, Signer, read, verify_log
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.requests import Request
from fraud_scoring.stores import Answers
from fraud_scoring.stores.memory import MemoryStore
from support.handovers import Disk
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock, Int64
from support.shims import compiled
from support.stores import answers_for

SOURCE: Final = Path(__file__).with_suffix(".c")
LIVES_A_LOG: Final = 10
"""Runs that go on in the log of the run before: what is lost is lost to recovery, too."""
_ID_STEP: Final = 1 << 20


def compile_shim(folder: Path) -> Path:
    return compiled(SOURCE, folder / "lost_writes.so")


@dataclass
class Losses:
    """`runs` that had acknowledged something when they were killed; `missing` of their acknowledged answers."""

    runs: int = 0
    acknowledged: int = 0
    missing: int = 0
    runs_with_losses: int = 0
    findings: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Nursery:
    """Forks front doors under the shim."""

    def __init__(self, library: Path, folder: Path, *, sync: bool = True) -> None:
        self._folder = folder
        tests = str(Path(__file__).parents[1])
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "LOST_WRITES_FOLDER": str(folder / "logs"),
            "LOST_WRITES_SYNC": "1" if sync else "0",
            "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.lost_writes"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[str] = self._process.stdin
        self._out: IO[str] = self._process.stdout

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self._process.wait(10)
        self._out.close()

    def fork(self, run: int, log: Path, acknowledged: Path, **options: int) -> int:
        """The process id of a front door that answers until it is killed; `options` are those of its log's writer."""
        order = {"run": run, "log": str(log), "acknowledged": str(acknowledged), "options": options}
        self._in.write(json.dumps(order) + "\n")
        self._in.flush()
        return int(self._out.readline())

    def reaped(self, pid: int) -> None:
        """Return once the nursery has seen that child's end."""
        self._in.write(json.dumps({"reap": pid}) + "\n")
        self._in.flush()
        assert int(self._out.readline()) == pid


def lose(
    library: Path,
    folder: Path,
    runs: int,
    seed: int,
    *,
    durable: bool = True,
    hands_over: int = 0,
    sync: bool = True,
    patience: float = 20.0,
) -> Losses:
    """Kill `runs` front doors, and count what they had acknowledged and the log does not hold afterwards.

    What a writer `hands_over` is synced and acknowledged by a thread beside it.
    """
    began, out, rng = time.monotonic(), Losses(), random.Random(seed)
    key = Signer.open(folder / "key").public_key
    (folder / "logs").mkdir()
    with Nursery(library, folder, sync=sync) as nursery:
        for run in range(runs):
            log = folder / "logs" / str(run // LIVES_A_LOG if sync else run) / "front-door-0"
            told = folder / f"acknowledged-{run}"
            told.touch()
            pid = nursery.fork(run, log, told, durable=durable, hands_over=hands_over)
            give_up = time.monotonic() + patience
            while told.stat().st_size == 0 and time.monotonic() < give_up:
                threading.Event().wait(0.001)
            threading.Event().wait(rng.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
            nursery.reaped(pid)
            _count(log, told, out)
            # (run + 1) begins a log of its own: this one is taken up once more, on a disk that keeps what it is given
            if sync and ((run + 1) % LIVES_A_LOG == 0 or run + 1 == runs):
                LogWriter(log, _context(), Signer.open(folder / "key")).close()
                out.findings += [finding.what for finding in verify_log(log.parent, key).findings]
    out.seconds = round(time.monotonic() - began, 1)
    return out


def _count(log: Path, told: Path, out: Losses) -> None:
    text = told.read_text()
    acknowledged = [tuple(map(int, line.split())) for line in text[: text.rfind("\n") + 1].splitlines()]
    there = set()
    for frame, _ in read(log):
        content = frame.content()
        if isinstance(content, Decisions):
            there |= set(zip(content.transaction[:, 0].tolist(), content.score.view(np.uint32).tolist(), strict=True))
    missing = sum(one not in there for one in acknowledged)
    out.runs += bool(acknowledged)
    out.acknowledged += len(acknowledged)
    out.missing += missing
    out.runs_with_losses += missing > 0


def _context() -> Context:
    return Context(7, DEFAULT_SCHEMA.document)


def _release(rows: Int64, until: float) -> Answers:
    return answers_for(rows, features=15)


def answer_until_killed(run: int, log: Path, acknowledged: Path, options: dict[str, int]) -> None:
    """A front door that answers batch after batch, and tells each answer after it was given."""
    rng = np.random.default_rng(run)
    signer = Signer.open(log.parents[2] / "key")
    writer = LogWriter(log, _context(), signer, segment_bytes=30_000, **options)  # type: ignore[arg-type]
    door = FrontDoor(DEFAULT_SCHEMA, MemoryStore(DEFAULT_SCHEMA, now_us=Clock()), _release, now_us=Clock(), log=writer)
    told = os.open(acknowledged, os.O_WRONLY | os.O_APPEND)
    identifier = run * _ID_STEP
    answered: SimpleQueue[tuple[bytes | None, str]] = SimpleQueue()

    def tell() -> None:
        disk = Disk()
        while True:
            unsynced, lines = answered.get()
            assert disk.reach(unsynced), "no sync fails here"
            os.write(told, lines.encode())

    threading.Thread(target=tell, daemon=True).start()
    while True:
        requests = []
        for _ in range(int(rng.integers(1, 6))):
            rows = np.ones((int(rng.integers(1, 9)), DEFAULT_SCHEMA.width), np.int64)
            rows[:, 0] = np.arange(identifier, identifier + len(rows)) + 1
            rows[:, 1] = MONDAY_US
            rows[:, 4] = rng.integers(1, 50_000, len(rows))
            identifier += len(rows)
            requests.append(Request(rows))
        lines = []
        for request, reply in zip(requests, door.answer(requests), strict=True):
            if not isinstance(reply, Answers):
                raise reply
            bits = reply.score.reshape(-1).view(np.uint32).tolist()
            lines += [f"{one} {score}\n" for one, score in zip(request.rows[:, 0].tolist(), bits, strict=True)]
        answered.put((writer.unsynced(), "".join(lines)))


def main() -> None:
    """One order a line: fork, or wait for the end of a child."""
    for line in sys.stdin:
        order = json.loads(line)
        if "reap" in order:
            os.waitpid(order["reap"], 0)
            sys.stdout.write(f"{order['reap']}\n")
            sys.stdout.flush()
            continue
        pid = os.fork()
        if pid == 0:
            answer_until_killed(order["run"], Path(order["log"]), Path(order["acknowledged"]), order["options"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
