"""Rollouts on a real server under traffic: a good release is promoted, a bad one thrown out, by the judge alone."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from conftest import Fresh
from fraud_judge.journal import Journal, last_course, read_journal
from fraud_judge.logs import LogFolders
from fraud_judge.loop import JudgeLoop
from fraud_judge.settings import Step
from fraud_scoring import wire
from fraud_scoring.decision import DecisionRule
from fraud_scoring.routes import Routes
from support.rollouts import QUICK
from support.server import FRAUDCTL, Said, Server
from support.variants import variant

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

SETTINGS = replace(
    QUICK,
    steps=(Step(500, 2.0, 50), Step(2_500, 2.0, 100), Step(5_000, 2.0, 200)),
    baseline_rows=1_000,
    tolerances=replace(QUICK.tolerances, slow_ratio=20.0, slow_share=0.9),  # this machine's other work is no release's
)
WITHIN_S = 100.0


def higher(rule: DecisionRule) -> DecisionRule:
    """A calibration that is off by 3 on the scale of log odds."""
    p = np.clip(rule.probabilities, 1e-9, 1 - 1e-9)
    odds = p / (1 - p) * np.exp(3.0)
    return replace(rule, probabilities=odds / (1 + odds))


class Rehearsal:
    """A server of three releases, traffic of new customers, and a judge."""

    def __init__(self, server: Server, fresh: Fresh) -> None:
        self.server, self.fresh = server, fresh
        self.client = triton.InferenceServerClient(server.url)
        self.journal = Journal(server.home / "judge", now_us)
        self.judge = JudgeLoop(
            LogFolders((server.home / "log",)),
            server.repository,
            self.journal,
            SETTINGS,
            now_us,
            lambda _line: None,
            settle_us=200_000,
        )
        self.releases: list[int] = []

    def traffic(self, count: int = 300) -> None:
        """One request of new customers, a twentieth of them with an amount that is declined."""
        rows = self.fresh.rows(count)
        rows[::20, 4] = 150_000
        given = triton.InferInput(wire.TRANSACTION, list(rows.shape), "INT64")
        given.set_data_from_numpy(rows)
        wanted = [triton.InferRequestedOutput(name) for name in (wire.SCORE, wire.VERDICT)]
        parameters = {wire.PARAMETER_DEADLINE: 10_000_000}  # a busy machine's fallback answers are no release's
        answer = self.client.infer(wire.SCORE_MODEL, [given], outputs=wanted, parameters=parameters)
        self.releases += np.unique(answer.as_numpy(wire.VERDICT)[:, 4]).tolist()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Traffic and looks until something holds."""
        ends = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < ends, f"not within {WITHIN_S} s: {what}; {self.journal.records[-1]}"
            self.traffic()
            self.judge.look()

    @property
    def routes(self) -> Routes:
        return Routes.read(self.server.repository)

    @property
    def ended(self) -> str:
        course = last_course(read_journal(self.server.home / "judge"))
        return "" if course is None else course.ended

    def begin(self, release: int) -> None:
        self.until(lambda: self.judge.ready, "enough of the champion's answers")
        self.routes.with_canary(release, 500).write(self.server.repository)


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture
def rehearsal(served_repository: Path, tmp_path: Path, fresh: Fresh) -> Iterator[Rehearsal]:
    repository = Path(shutil.copytree(served_repository, tmp_path / "models"))
    good, bad = variant(repository), variant(repository, rule=higher)
    Routes.read(repository).with_warm(good).with_warm(bad).write(repository)
    with Server(repository, tmp_path / "home") as server:
        made = Rehearsal(server, fresh)
        yield made
        made.client.close()
        made.journal.close()


def test_a_good_release_takes_over_and_a_bad_one_is_thrown_out(rehearsal: Rehearsal) -> None:
    rehearsal.begin(2)
    rehearsal.until(lambda: bool(rehearsal.ended), "an end of the good release's rollout")
    assert rehearsal.ended == "promote", read_journal(rehearsal.server.home / "judge")[-2]
    assert (rehearsal.routes.production, rehearsal.routes.previous) == (2, (1,))
    rehearsal.until(lambda: rehearsal.releases[-1:] == [2], "answers of the promoted release")

    thrown_out_by_a_process_of_its_own(rehearsal, 3)
    assert (rehearsal.routes.production, rehearsal.routes.canary) == (2, None)
    intent = [one for one in read_journal(rehearsal.server.home / "judge") if one["kind"] == "intent"][-1]
    assert intent["action"] == "roll back"
    assert intent["test"] in ("scores", "reviews", "declines")


def thrown_out_by_a_process_of_its_own(rehearsal: Rehearsal, release: int) -> None:
    """`fraudctl judge run`, as it is shipped, sees a canary come and rolls it back: exit code 1."""
    rehearsal.journal.close()
    where = ["--home", str(rehearsal.server.home), "--repository", str(rehearsal.server.repository)]
    command = [FRAUDCTL, "judge", "run", "--once", "--every", "0.2", *where]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as judge:
        assert judge.stderr is not None
        said = Said(judge.stderr)
        said.wait_for("waiting for a canary", 30.0)
        for _ in range(10):
            rehearsal.traffic()
        rehearsal.routes.with_canary(release, 500).write(rehearsal.server.repository)
        ends = time.monotonic() + WITHIN_S
        while judge.poll() is None:
            assert time.monotonic() < ends, said.lines
            rehearsal.traffic()
        said.finish()
    assert judge.returncode == 1, said.lines
    assert release in rehearsal.releases
    assert any("roll back: r0003" in line for line in said.lines)
