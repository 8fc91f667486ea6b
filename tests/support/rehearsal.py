"""Rollouts on real servers: traffic of new customers, a judge in this process or in one of its own."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import tritonclient.grpc as triton

from fraud_judge.journal import Journal, last_course, read_journal
from fraud_judge.logs import LogFolders
from fraud_judge.loop import JudgeLoop
from fraud_judge.settings import JudgeSettings, Step
from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule
from fraud_scoring.routes import Routes
from support.rollouts import QUICK
from support.server import FRAUDCTL, Said, Server

if TYPE_CHECKING:
    from conftest import Fresh

SETTINGS = replace(
    QUICK,
    steps=(Step(500, 2.0, 50), Step(2_500, 2.0, 100), Step(5_000, 2.0, 200)),
    baseline_rows=1_000,
    tolerances=replace(QUICK.tolerances, slow_ratio=20.0, slow_share=0.9),  # this machine's other work is no release's
)
WITHIN_S = 100.0


def now_us() -> int:
    return time.time_ns() // 1000


def higher(rule: DecisionRule) -> DecisionRule:
    """A calibration that is off by 3 on the scale of log odds."""
    p = np.clip(rule.probabilities, 1e-9, 1 - 1e-9)
    odds = p / (1 - p) * np.exp(3.0)
    return replace(rule, probabilities=odds / (1 + odds))


class Rehearsal:
    """Servers of one repository, traffic of new customers that goes to them by turns, and a judge of all their logs."""

    def __init__(self, servers: Sequence[Server], fresh: Fresh, settings: JudgeSettings = SETTINGS) -> None:
        self.repository, self.home = servers[0].repository, servers[0].home
        self.logs = tuple(server.home / "log" for server in servers)
        self.fresh = fresh
        self.clients = [triton.InferenceServerClient(server.url) for server in servers]
        self._turns = itertools.cycle(range(len(servers)))
        self.journal = Journal(self.home / "judge", now_us)
        self.judge = JudgeLoop(
            LogFolders(self.logs),
            self.repository,
            self.journal,
            settings,
            now_us,
            lambda _line: None,
            settle_us=200_000,
        )
        self.releases: list[list[int]] = [[] for _ in servers]
        """What answered, by server."""

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.journal.close()

    def traffic(self, count: int = 300) -> None:
        """One request of new customers, a twentieth of them with an amount that is declined."""
        rows = self.fresh.rows(count)
        rows[::20, 4] = 150_000
        given = triton.InferInput(wire.TRANSACTION, list(rows.shape), "INT64")
        given.set_data_from_numpy(rows)
        wanted = [triton.InferRequestedOutput(name) for name in (wire.SCORE, wire.VERDICT)]
        parameters = {wire.PARAMETER_DEADLINE: 10_000_000}  # a busy machine's fallback answers are no release's
        place = next(self._turns)
        answer = self.clients[place].infer(wire.SCORE_MODEL, [given], outputs=wanted, parameters=parameters)
        self.releases[place] += np.unique(answer.as_numpy(wire.VERDICT)[:, 4]).tolist()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Traffic and looks until something holds."""
        ends = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < ends, f"not within {WITHIN_S} s: {what}; {self.journal.records[-1]}"
            self.traffic()
            self.judge.look()

    @property
    def routes(self) -> Routes:
        return Routes.read(self.repository)

    @property
    def ended(self) -> str:
        course = last_course(read_journal(self.home / "judge"))
        return "" if course is None else course.ended

    def begin(self, release: int) -> None:
        self.until(lambda: self.judge.ready, "enough of the champion's answers")
        self.routes.with_canary(release, 500).write(self.repository)

    def thrown_out_by_a_process_of_its_own(self, release: int, at_once: int = 300) -> list[str]:
        """`fraudctl judge run`, as it is shipped, sees a canary come and rolls it back: exit code 1. What it said.

        The canary's time brings requests of `at_once` rows.
        """
        self.journal.close()
        where = ["--home", str(self.home), "--repository", str(self.repository)]
        logs = [text for log in self.logs for text in ("--log", str(log))]
        command = [FRAUDCTL, "judge", "run", "--once", "--every", "0.2", *where, *logs]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as judge:
            assert judge.stderr is not None
            said = Said(judge.stderr)
            said.wait_for("waiting for a canary", 30.0)
            for _ in range(10):
                self.traffic()
            self.routes.with_canary(release, 500).write(self.repository)
            ends = time.monotonic() + WITHIN_S
            while judge.poll() is None:
                assert time.monotonic() < ends, said.lines
                self.traffic(at_once)
            said.finish()
        assert judge.returncode == 1, said.lines
        return said.lines
