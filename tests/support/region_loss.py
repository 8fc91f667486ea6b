"""A rehearsal of losing a region: two regions on loopback, callers who do not wait, and the procedure's own commands.

Region A serves over a Redis of its own, ships its log, and makes an archive. Then it is lost, or moved while it lives,
and region B takes over by what deploy/runbooks/procedures/RegionLoss.md says, line by line.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np

from fraud_client import FraudClient, Policy, Scored
from fraud_data import Transactions
from fraud_recovery.errors import ArchiveRefused
from fraud_recovery.log_part import check_log, continues
from fraud_scoring.decision_log import Signer
from fraud_scoring.features import FeatureSet, replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.stores import open_store
from fraud_scoring.wire import Source
from support.open_loop import OpenLoop
from support.recovery import PATIENT, answered, frauds_told, kill_all
from support.redis import RedisServer
from support.release import empty_repository
from support.rows import Int64
from support.server import FRAUDCTL, Server, json_of, until

PROCEDURE: Final = Path(__file__).parents[2] / "deploy" / "runbooks" / "procedures" / "RegionLoss.md"
DAY_US: Final = 86_400_000_000
BATCH: Final = 256
PROBES: Final = 800


class Way(Enum):
    """What region B has, or what becomes of region A."""

    ARCHIVE = "the newest archive and the shipped log"
    REPLICA = "a Redis replica and the shipped log"
    MOVED = "a Redis replica; the first region lives and is fenced"


@dataclass(frozen=True)
class Figures:
    """Seconds from the moment that A answered its last, and transactions. `unproved`: B knows the answer, the log that
    was shipped does not hold it. `answered_otherwise`: of those that were lost, sent again."""

    way: str
    acknowledged: int
    restored_s: float
    healthy_s: float
    first_answer_s: float
    lost: int
    unproved: int
    windows_that_differ_of: tuple[int, int]
    sent_again: int
    answered_otherwise: int
    refused_by_the_fence: int


class Answers:
    """What callers were told: id → (row, bits of score and verdict)."""

    def __init__(self) -> None:
        self.told: dict[int, tuple[tuple[int, ...], bytes]] = {}

    def add(self, rows: Int64, scored: Scored) -> None:
        for row, score, verdict in zip(rows.tolist(), scored.score, scored.verdict, strict=True):
            self.told[row[0]] = tuple(row), score.tobytes() + verdict.tobytes()

    def rows(self, chosen: set[int] | None = None) -> Int64:
        """In order of (time, id)."""
        found = [row for one, (row, _) in self.told.items() if chosen is None or one in chosen]
        return ordered(np.array(found, np.int64).reshape(-1, 5))


class Rehearsal:
    """Two regions; `names` turns what the procedure says into what is here."""

    def __init__(
        self, folder: Path, one: RedisServer, two: RedisServer, models: Path, pipeline: Pipeline, way: Way
    ) -> None:
        self.one, self.two, self.way, self.pipeline = one, two, way, pipeline
        self.a, self.b = folder / "a", folder / "b"
        self.models, self.archives, self.shipped = models, folder / "backups", folder / "shipped" / "log"
        for region in (self.a, self.b):
            region.mkdir()
        empty_repository(self.b / "model_repository")
        (self.a / "model_repository").symlink_to(models)
        self.names = {
            "redis://redis-1": one.url,
            "redis://redis-2": two.url,
            "/backups": str(self.archives),
            "/shipped/log": str(self.shipped),
        }
        self.answers = Answers()
        self._page = re.findall(r"^ {6,}(fraudctl .*)$", PROCEDURE.read_text(), flags=re.MULTILINE)
        self.unused = set(self._page)

    def line(self, *words: str) -> list[str]:
        """The one command of the procedure with these words in it, the names being the ones here."""
        (found,) = [line for line in self._page if all(word in line for word in words)]
        self.unused.discard(found)
        return [self.names.get(word, word) for word in shlex.split(found)[1:]]

    def do(self, *words: str, region: Path | None = None, expect: int = 0, more: tuple[str, ...] = ()) -> str:
        """Run a command of the procedure in a region's folder; what it said."""
        done = subprocess.run(
            [FRAUDCTL, *self.line(*words), *more],
            cwd=region or self.b,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, done
        return done.stdout + done.stderr

    def serve(self, region: Path, *options: str) -> Server:
        return Server(region / "model_repository", region / "var", *options)

    @contextmanager
    def shipping(self, every_s: float) -> Iterator[subprocess.Popen[bytes]]:
        asked = ["log", "ship", "--home", self.a / "var", "--to", self.shipped, "--every", str(every_s)]
        process = subprocess.Popen([FRAUDCTL, *asked], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def is_shipped(self, archive: Path) -> bool:
        """Whether what was shipped holds all that the archive's log does."""
        try:
            continues(archive / "log", self.shipped)
        except ArchiveRefused:
            return False
        return True

    def known(self, ids: Int64) -> set[int]:
        """Which of the ids region B has an answer of."""
        store = open_store(self.two.url, self.pipeline.schema)
        try:
            found = store.recall(ids)
        finally:
            store.close()
        return {one for one, known in zip(ids.tolist(), found, strict=True) if known is not None and known.answer}

    def different(self, rows: Int64) -> tuple[int, int]:
        """(how many new payments' features by B's windows differ in any bit from the replay of `rows`, of how many)."""
        probes = rows[:: max(1, len(rows) // PROBES)][-PROBES:].copy()
        probes[:, 0] = (1 << 55) + np.arange(len(probes))
        probes[:, 1] = time.time_ns() // 1000
        store = open_store(self.two.url, self.pipeline.schema)
        try:
            found = FeatureSet(self.pipeline.schema).compute(probes, store.read(probes))
        finally:
            store.close()
        everything = np.concatenate([rows, probes])
        frauds = frauds_told(self.a / "var" / "log", everything[:, 0])
        expected = np.ascontiguousarray(replay(self.pipeline.schema, everything, frauds)[-len(probes) :])
        return int((found.view(np.uint32) != expected.view(np.uint32)).any(axis=1).sum()), len(probes)

    def warm(self, url: str, data: Transactions, count: int) -> None:
        """A month of history, answered by region A, its frauds told."""
        every = max(1, len(data.rows) // 2 // count)
        rows = np.ascontiguousarray(data.rows[::-1][: count * every : every][::-1])
        is_fraud = data.is_fraud[::-1][: count * every : every][::-1]
        rows[:, 1] += time.time_ns() // 1000 - rows[-1, 1] - 60_000_000
        with FraudClient(url, deadline=PATIENT) as client:
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                self.answers.add(part, client.score_rows(part))
            labels = np.column_stack([rows[:, 0], is_fraud, rows[:, 1] + DAY_US // 1440])
            client.label_rows(np.ascontiguousarray(labels[is_fraud.astype(bool)].astype(np.int64)))


def ordered(rows: Int64) -> Int64:
    return np.ascontiguousarray(rows[np.lexsort((rows[:, 0], rows[:, 1]))])


def rehearse(
    scene: Rehearsal, data: Transactions, *, history: int, payments: int, rate: float, ship_s: float
) -> Figures:
    """Lose region A after so many payments, bring up B by the procedure, and check all that is promised."""
    moved = scene.way is Way.MOVED
    with ExitStack() as stack:
        if scene.way is not Way.ARCHIVE:
            scene.two.ask("REPLICAOF", "127.0.0.1", scene.one.port)
            until(lambda: b"master_link_status:up" in scene.two.ask("INFO", "replication"))
        server = stack.enter_context(scene.serve(scene.a, "--store", scene.one.url))
        scene.warm(server.url, data, history)
        shipping = stack.enter_context(scene.shipping(ship_s))
        load = stack.enter_context(OpenLoop(server.url, rate, deadline=PATIENT, policy=Policy.plain()))
        load.wait_for(lambda: len(load.replies) > payments // 3)
        home = ("--repository", scene.models, "--home", scene.a / "var", "--store", scene.one.url)
        archive = Path(str(json_of("backup", *home, "--out", scene.archives, "--with-keys")["archive"]))
        until(lambda: scene.is_shipped(archive))
        load.wait_for(lambda: len(load.replies) > payments)
        ended = time.monotonic()
        refused = 0
        if moved:
            scene.do("store fence", region=scene.a)
            ended = time.monotonic()
            load.wait_for(lambda: sum(reply.due > ended for reply in load.replies) > 20)
        else:
            shipping.kill()
            scene.one.kill()
            kill_all(server)
        takeover = Takeover(scene, server, load)
        figures = takeover.run(ended)
        load.stop()
        if moved:
            late = [reply for reply in load.replies if reply.due > ended]
            refused = len(late)
            assert [reply for reply in late if reply.scored is not None] == [], "the fenced region answered"
            assert any("fenced: another region answers" in reply.error for reply in late)
            shipping.kill()
            kill_all(server)
            scene.one.kill()
        takeover.the_first_region_does_not_come_back()
    return Figures(**{**figures, "refused_by_the_fence": refused})


class Takeover:
    """Region B by the procedure; what was sent to A lies in `load`."""

    def __init__(self, scene: Rehearsal, server: Server, load: OpenLoop) -> None:
        self.scene, self.server, self.load = scene, server, load

    def run(self, ended: float) -> dict[str, Any]:
        scene, answers = self.scene, self.scene.answers
        self.fill()
        restored = time.monotonic() - ended
        if scene.way is not Way.MOVED:
            self.load.stop()
        for reply in list(self.load.replies):
            if reply.scored is not None:
                answers.add(reply.rows, reply.scored)
        sent = np.concatenate([answers.rows(), *list(self.load.sent)])
        before = time.monotonic()
        known = scene.known(np.unique(sent[:, 0]))
        lost = set(answers.told) - known
        kept = ordered(np.unique(sent[np.isin(sent[:, 0], list(known))], axis=0))
        assert scene.different(kept)[0] == 0, "windows are those of what region B knows"
        differ = scene.different(answers.rows())
        proved = answered(scene.shipped, scene.pipeline.schema)
        looked = time.monotonic() - before  # the rehearsal's own, no part of the procedure
        with scene.serve(scene.b, *scene.line("serve")[1:]) as second:
            scene.do("fraudctl health", more=("--url", second.url, "--timeout", "20"))
            healthy = time.monotonic() - ended - looked
            again, otherwise = self.send_again(second.url, known, lost)
            first = self.first_s - ended - looked
            self.moved_callers(second.url)
            everything = ordered(np.unique(np.concatenate([kept, answers.rows()]), axis=0))
            assert scene.different(everything)[0] == 0, "nothing is counted twice, and nothing is missing"
            for words in (("log replay",), ("log verify",), ("routes show",), ("incident timeline",)):
                scene.do(*words)
        check_log(scene.a / "var" / "log", self.key(scene.a), "the first region's log")
        check_log(scene.shipped, self.key(scene.b), "the second region's log")
        return {
            "way": scene.way.value,
            "acknowledged": len(known | lost),
            "restored_s": round(restored, 1),
            "healthy_s": round(healthy, 1),
            "first_answer_s": round(first, 1),
            "lost": len(lost),
            "unproved": len((known & set(answers.told)) - proved),
            "windows_that_differ_of": differ,
            "sent_again": again,
            "answered_otherwise": otherwise,
            "refused_by_the_fence": 0,
        }

    def fill(self) -> None:
        """Step 3."""
        scene = self.scene
        if scene.way is Way.ARCHIVE:
            scene.do("restore", "--latest /backups --surviving-log")
            return
        if scene.way is Way.MOVED:
            until(lambda: offset(scene.one) == offset(scene.two))
        scene.two.ask("REPLICAOF", "NO", "ONE")
        scene.do("restore", "--only releases")
        if scene.way is Way.MOVED:
            scene.do("store status", expect=1)
            scene.do("store accept")
        scene.do("store status")

    def send_again(self, url: str, known: set[int], lost: set[int]) -> tuple[int, int]:
        """Callers send everything again; what B knows gets its first answer: (how many, how many lost differ)."""
        told = dict(self.scene.answers.told)
        rows = self.scene.answers.rows()
        again = Answers()
        with FraudClient(url, deadline=PATIENT) as client:
            for start in range(0, len(rows), BATCH):
                part = np.ascontiguousarray(rows[start : start + BATCH])
                again.add(part, client.score_rows(part))
                if not start:
                    self.first_s = time.monotonic()
        different = {one for one in told if again.told[one][1] != told[one][1]}
        assert different <= lost, "what region B knew got its first answer"
        return len(rows), len(different)

    def moved_callers(self, url: str) -> None:
        with OpenLoop(url, 60.0, deadline=PATIENT, seed=2) as moved:
            moved.wait_for_more(60)
        assert moved.failed() == []
        assert Source.PRIMARY in moved.sources()
        for reply in moved.replies:
            assert reply.scored is not None
            self.scene.answers.add(reply.rows, reply.scored)

    def the_first_region_does_not_come_back(self) -> None:
        """Its Redis is back with all that it had, and is fenced first; its servers and its shipping start then."""
        scene = self.scene
        scene.one.start()
        if scene.way is not Way.MOVED:
            scene.do("store fence", region=scene.a)
        back = Server(scene.models, scene.a / "var", "--store", scene.one.url, wait=False)
        assert back.wait() == 1
        assert any("fenced: another region answers now" in line for line in back.said.lines), back.said.lines
        asked = ["log", "ship", "--home", scene.a / "var", "--to", scene.shipped]
        ship = subprocess.run([FRAUDCTL, *asked], capture_output=True, text=True, timeout=60, check=False)
        assert ship.returncode == 1, ship
        assert "a server went on from it" in ship.stderr

    def key(self, region: Path) -> str:
        return Signer.open(region / "var" / "keys" / "decision-log.key").public_key


def offset(redis: RedisServer) -> bytes:
    found = re.search(rb"master_repl_offset:(\d+)", redis.ask("INFO", "replication"))
    assert found is not None
    return found[1]
