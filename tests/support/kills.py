"""Seeded SIGKILLs of a real server under load, and a count of what it had acknowledged and the log does not hold.

A life: the server starts, callers stream single and batched transactions and labels, parts die at random moments, the
last of them the front door or the server. Then the log is read on from where the last life ended, and every answer that
a caller got must be in it: transaction id, score and verdict, to the bit. A caller without an answer asks again in the
next life.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil

from fraud_client import FraudClient, FraudClientError, InvalidRequest
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions, Labels, Position, Signer, read, verify_log, writers
from fraud_scoring.releases import release_name
from fraud_server.process import TritonProcess, served_models
from fraud_server.settings import Ports, ServeSettings

if TYPE_CHECKING:
    from support.sidecars import SidecarProcess

KILLS_VARIABLE: Final = "FRAUD_SOAK_KILLS"
SIDECAR_VARIABLE: Final = "FRAUD_SOAK_SIDECAR"
"""0: no sidecar follows the log."""
START_SECONDS: Final = 60.0
DEADLINE_SECONDS: Final = 5.0
SINGLES, BATCHES = 4, 2
"""Callers side by side: of single rows, and of up to 48 rows."""
BEFORE_READY_SHARE: Final = 0.12
"""Lives that end while the server still starts: recovery is killed, too."""
_SOURCE: Final = wire.VERDICT_COLUMNS.index("source")

Answer = tuple[bytes, bytes]
"""The bits of a score and of a verdict."""


@dataclass
class Tally:
    """What came of it. `missing` and `different` are the promise; the rest says that something was tried."""

    seed: int
    kills: int = 0
    lives: int = 0
    acknowledged: int = 0
    missing: int = 0
    labels: int = 0
    labels_missing: int = 0
    late_labels: int = 0
    """Logged in one life, acknowledged after its count: what a count that forgets would call missing."""
    retries: int = 0
    failed_starts: int = 0
    """Lives in which Triton itself ended before it was ready; the supervisor, too, starts it again."""
    fallback: int = 0
    """Answers of the scorecard: the log could be written all the time, so there must be none."""
    logged_twice: int = 0
    """Transactions that are in the log more than once as new."""
    answered_two_ways: int = 0
    """Transactions whose rows in the log differ in score or verdict."""
    only_as_repeat: int = 0
    """Recorded before a kill and not yet logged: first logged when the caller asked again."""
    miscounted: int = 0
    """Decisions that the sidecar counted twice or not at all."""
    torn_tails: int = 0
    findings: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    first_trouble: str = ""

    @property
    def nothing_lost(self) -> bool:
        lost = self.missing, self.labels_missing, self.fallback, self.miscounted, self.findings
        return not any((*lost, self.logged_twice, self.answered_two_ways)) and not self.first_trouble

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "seconds": round(self.seconds, 1)})


class Callers:
    """Threads that ask, ask again while there is no answer, and remember every answer."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._ids = iter(range(time.time_ns() // 1000, 1 << 62))
        self._lock = threading.Lock()
        self._serving = threading.Event()
        self._stopped = threading.Event()
        self.answers: dict[int, Answer] = {}
        self.labels: set[tuple[int, ...]] = set()
        self.retries = self.fallback = 0
        self.trouble = ""
        self._known: list[int] = []
        self._threads = [
            threading.Thread(target=self._run, args=(work, random.Random(seed * 1000 + i)), daemon=True)
            for i, work in enumerate([self._score_one] * SINGLES + [self._score_many] * BATCHES + [self._label])
        ]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        self._serving.set()

    def pause(self) -> None:
        """Ask nothing new: no server is there."""
        self._serving.clear()

    def take(self) -> tuple[dict[int, Answer], set[tuple[int, ...]]]:
        """The answers and labels since the last time that were acknowledged."""
        with self._lock:
            answers, labels = self.answers, self.labels
            self.answers, self.labels = {}, set()
            self._known = list(answers)[:2000] or self._known
        return answers, labels

    def stop(self) -> None:
        self._stopped.set()
        self._serving.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS + 10)
            assert not thread.is_alive()

    def _run(self, work: Callable[[FraudClient, random.Random], None], rng: random.Random) -> None:
        client: FraudClient | None = None
        try:
            while not self._stopped.is_set():
                self._serving.wait()
                client = client or FraudClient(self._url, deadline=DEADLINE_SECONDS)
                again = self._ask(work, client, rng)
                while again is not None and not self._stopped.is_set():
                    client.close()  # a channel that has seen the server die waits a second before it looks again
                    self._stopped.wait(0.02)
                    self._serving.wait()
                    client = FraudClient(self._url, deadline=DEADLINE_SECONDS)
                    with self._lock:
                        self.retries += 1
                    again = self._ask(lambda one, _, task=again: task(one), client, rng)
        except Exception as bug:  # noqa: BLE001 - a caller that dies in silence would make the test pass
            self.trouble = self.trouble or repr(bug)
        finally:
            if client is not None:
                client.close()

    def _ask(
        self, work: Callable[[FraudClient, random.Random], object], client: FraudClient, rng: random.Random
    ) -> Callable[[FraudClient], None] | None:
        """None if it was answered; else the very same question, to be asked again."""
        try:
            work(client, rng)
        except _Unanswered as unanswered:
            return unanswered.again
        return None

    def _score_one(self, client: FraudClient, rng: random.Random) -> None:
        self._score(self._rows(1, rng))(client)

    def _score_many(self, client: FraudClient, rng: random.Random) -> None:
        self._score(self._rows(rng.randint(2, 48), rng))(client)

    def _label(self, client: FraudClient, rng: random.Random) -> None:
        with self._lock:
            known = self._known or list(self.answers)[:50]
        if not known:
            self._stopped.wait(0.01)
            return
        now_us = time.time_ns() // 1000
        labels = np.array([[rng.choice(known), rng.random() < 0.1, now_us + i] for i in range(3)], np.int64)

        def send(client: FraudClient) -> None:
            try:
                client.label_rows(labels, deadline=DEADLINE_SECONDS)
            except InvalidRequest:
                raise
            except FraudClientError as error:
                raise _Unanswered(send) from error
            with self._lock:
                self.labels |= {tuple(one) for one in labels.tolist()}

        send(client)
        self._stopped.wait(0.01)

    def _score(self, rows: np.ndarray) -> Callable[[FraudClient], None]:
        def send(client: FraudClient) -> None:
            try:
                scored = client.score_rows(rows)
            except InvalidRequest:
                raise
            except FraudClientError as error:
                raise _Unanswered(send) from error
            verdicts = np.ascontiguousarray(scored.verdict, np.int32)
            scores = np.ascontiguousarray(scored.score, np.float32)
            with self._lock:
                self.fallback += int((verdicts[:, _SOURCE] == wire.Source.SCORECARD).sum())
                for row, score, verdict in zip(rows, scores, verdicts, strict=True):
                    self.answers[int(row[0])] = (score.tobytes(), verdict.tobytes())

        return send

    def _rows(self, count: int, rng: random.Random) -> np.ndarray:
        now_us = time.time_ns() // 1000 - 60_000_000
        with self._lock:
            ids = [next(self._ids) for _ in range(count)]
        return np.array(
            [[i, now_us, rng.randint(1, 20_000), rng.randint(1, 20_000), rng.randint(1, 60_000)] for i in ids], np.int64
        )


class _Unanswered(Exception):
    def __init__(self, again: Callable[[FraudClient], None]) -> None:
        super().__init__()
        self.again = again


class Ledger:
    """Reads every writer on from where it had come to, and says what was acknowledged and is not there."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._positions: dict[str, Position] = {}
        self._recent: dict[int, tuple[Answer, int]] = {}
        self._labels: set[tuple[int, ...]] = set()

    def check(self, answers: dict[int, Answer], labels: set[tuple[int, ...]], tally: Tally) -> None:
        logged: dict[int, tuple[Answer, int]] = self._recent
        before = frozenset(self._labels)
        for name in writers(self._log):
            for frame, position in read(self._log / name, self._positions.get(name)):
                self._positions[name] = position
                content = frame.content()
                if isinstance(content, Labels):
                    self._labels |= {tuple(one) for one in content.label.tolist()}
                elif isinstance(content, Decisions):
                    self._enter(content, logged, tally)
        for identifier, answer in answers.items():
            seen = logged.get(identifier)
            if seen is None or seen[0] != answer:
                tally.missing += 1
            elif seen[1] == 0:
                tally.only_as_repeat += 1
        tally.labels_missing += len(labels - self._labels)
        tally.late_labels += len(labels & before)
        # a caller may look at its reply after the count of the life in which it came: what is left over stays
        self._labels -= labels
        tally.acknowledged += len(answers)
        tally.labels += len(labels)
        # a row that was logged and not acknowledged will be asked again in the next life
        self._recent = {one: value for one, value in logged.items() if one not in answers}

    @staticmethod
    def _enter(content: Decisions, logged: dict[int, tuple[Answer, int]], tally: Tally) -> None:
        rows = zip(content.transaction[:, 0].tolist(), content.score, content.verdict, content.repeat, strict=True)
        for identifier, score, verdict, repeat in rows:
            answer = (score.tobytes(), verdict.tobytes())
            before, new = logged.get(identifier, (answer, 0))
            tally.answered_two_ways += before != answer
            tally.logged_twice += new > 0 and not repeat
            logged[identifier] = (answer, new + (not repeat))


class Lives:
    """Starts the real server again and again in `home`, and kills its parts."""

    def __init__(
        self, repository: Path, home: Path, ports: tuple[int, int, int], seed: int, *, sidecar: bool = False
    ) -> None:
        home.mkdir(exist_ok=True)
        self._sidecar_home = home / "sidecar" if sidecar else None
        self._sidecar: SidecarProcess | None = None
        self.settings = ServeSettings(repository, home, Ports(*ports), f"lmdb://{(home / 'store').absolute()}")
        self.tally = Tally(seed)
        self._rng = random.Random(seed)
        self._callers = Callers(self.settings.url, seed)
        self._ledger = Ledger(self.settings.log_folder)

    def run(self, kills: int, report: Callable[[str], None]) -> Tally:
        """`kills` kills, in as many lives as that takes, and one life more that ends in peace."""
        began = time.monotonic()
        tally = self.tally
        try:
            while tally.kills < kills and not self._trouble():
                self._live()
                tally.seconds = time.monotonic() - began
                if tally.lives % 10 == 0 or tally.kills >= kills:
                    each = tally.seconds / max(1, tally.kills)
                    report(
                        f"{tally.kills} of {kills} kills in {tally.lives} lives, {tally.acknowledged} acknowledged, "
                        f"{tally.missing} missing, {tally.seconds:.0f} s, {each:.2f} s a kill"
                    )
            self._live(peaceful=True)
            if not self._trouble():
                self._count_again()
        finally:
            self._callers.stop()
            if self._sidecar is not None and self._sidecar.process.poll() is None:
                self._sidecar.kill()
        self._ledger.check(*self._callers.take(), tally)
        tally.retries, tally.fallback = self._callers.retries, self._callers.fallback
        tally.torn_tails = sum(1 for _ in self.settings.log_folder.glob("*/*.torn-*"))
        verified = verify_log(self.settings.log_folder, Signer.open(self.settings.log_key).public_key)
        tally.findings = len(verified.findings)
        if verified.findings:
            tally.first_trouble = tally.first_trouble or str(verified.findings[0])
        tally.seconds = time.monotonic() - began
        return tally

    def _trouble(self) -> bool:
        self.tally.first_trouble = self.tally.first_trouble or self._callers.trouble
        return bool(self.tally.first_trouble)

    def _live(self, peaceful: bool = False) -> None:
        rng, tally = self._rng, self.tally
        tally.lives += 1
        server = TritonProcess(self.settings, served_models([1]))
        try:
            if not peaceful and rng.random() < BEFORE_READY_SHARE:
                self._callers.begin()
                threading.Event().wait(rng.uniform(0.05, 1.2))
                self._kill("server while it starts", self._pid())
                return
            if not self._is_ready(server):
                return
            parts = self._parts()
            self._kill_sidecar()
            self._callers.begin()
            if peaceful:
                threading.Event().wait(0.3)
                self._callers.pause()
                server.drain()
                return
            for name in self._plan():
                threading.Event().wait(rng.expovariate(1 / 0.15) + 0.01)
                self._kill(name, parts[name])
            threading.Event().wait(rng.uniform(0, 0.03))  # what the death leaves goes on for a moment
        finally:
            self._callers.pause()
            server.kill()
        self._ledger.check(*self._callers.take(), tally)

    def _plan(self) -> list[str]:
        """Who dies in this life, in order; the last one takes the answers with it."""
        rng = self._rng
        plan = [name for name, share in (("fraud_feedback", 0.5), ("fraud_features", 0.3)) if rng.random() < share]
        return [*plan, rng.choice(["server", "fraud_front_door"])]

    def _kill(self, name: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.tally.kills += 1
            self.tally.killed[name] = self.tally.killed.get(name, 0) + 1

    def _kill_sidecar(self) -> None:
        """In most lives; the first time only begin one."""
        if self._sidecar_home is None:
            return
        if self._sidecar is not None:
            if self._rng.random() < 0.2:
                return
            if self._sidecar.process.poll() is not None:
                self.tally.first_trouble = f"the sidecar ended: {self._sidecar.said[-300:]}"
                return
            self._sidecar.kill()
            self.tally.kills += 1
            self.tally.killed["sidecar"] = self.tally.killed.get("sidecar", 0) + 1
        self._begin_sidecar()

    def _begin_sidecar(self) -> SidecarProcess:
        from support.sidecars import SidecarProcess

        assert self._sidecar_home is not None
        self._sidecar_home.mkdir(exist_ok=True)
        options = ("--checkpoint-every", "0.05", "--settle", "0.05")
        self._sidecar = SidecarProcess(self.settings.log_folder, self._sidecar_home, *options, forked=True)
        return self._sidecar

    def _count_again(self) -> None:
        """Compare what the sidecar has counted over all its lives with what is in the log."""
        if self._sidecar_home is None:
            return
        from support.decision_logs import recount
        from support.sidecars import await_that, decisions_in

        if self._sidecar is not None:
            self._sidecar.kill()
        wanted: Counter[tuple[str, str, str]] = Counter()
        for (release, _, decision, source), count in recount(self.settings.log_folder).items():
            named = wire.Decision(decision).name.lower(), wire.Source(source).name.lower()
            wanted[(release_name(release), *named)] += count
        sidecar = self._begin_sidecar().wait_until_ready()
        with suppress(AssertionError):
            await_that(lambda: decisions_in(sidecar.metrics()) == wanted, "the sidecar has counted everything")
        found = decisions_in(sidecar.metrics())
        self.tally.miscounted = sum(((wanted - found) + (found - wanted)).values())

    def _pid(self) -> int:
        found: int = json.loads((self.settings.run_folder / "server.json").read_text())["pid"]
        return found

    def _parts(self) -> dict[str, int]:
        """Process ids of the server and of its python stubs, by model without the release."""
        parts = {"server": self._pid()}
        for child in psutil.Process(parts["server"]).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                for folder in Path(child.cmdline()[1]).parts:
                    parts[folder.removesuffix("_r0001")] = child.pid
        return parts

    def _is_ready(self, server: TritonProcess) -> bool:
        """True once it answers; False if it ended by itself, which must stay rare."""
        give_up = time.monotonic() + START_SECONDS
        url = f"http://127.0.0.1:{self.settings.ports.http}/v2/health/ready"
        while True:
            with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=1):
                return True
            if died := server.what_died():
                tally = self.tally
                tally.failed_starts += 1
                if tally.failed_starts > 2 + tally.lives // 20:
                    tally.first_trouble = f"the server does not start: {died}: {server.last_error()}"
                return False
            assert time.monotonic() < give_up, "the server is not ready"
            threading.Event().wait(0.02)


def to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def wanted_kills(default: int) -> int:
    """How many kills the environment asks for."""
    return int(os.environ.get(KILLS_VARIABLE, default))


def sidecar_wanted() -> bool:
    return os.environ.get(SIDECAR_VARIABLE, "1") != "0"
