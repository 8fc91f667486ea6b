"""One rollout, several servers: their logs are read as one, and the trouble of one does not bend what others say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fraud_judge.business import Costs, compare
from fraud_judge.course import Judgement
from fraud_judge.following import Following
from fraud_judge.journal import JOURNAL_FILE, Journal, read_journal
from fraud_judge.log_rows import rows_of
from fraud_judge.logs import LogFolders, Logs
from fraud_judge.loop import JudgeLoop
from fraud_judge.rollout import Trial
from fraud_judge.trial_log import arms_of_routes, decided
from fraud_scoring import wire
from fraud_scoring.decision_log import Decisions
from fraud_scoring.decision_log.segments import segment_path
from fraud_scoring.routes import Routes
from support.decision_logs import FRONT_DOOR, MINUTE_US, DecisionLog, decision_log
from support.rollouts import CANARY, CHAMPION, PATIENT, QUICK, Answer, RoutedLog, raised, repository, rows
from support.rows import DEFAULT_SCHEMA

A_SECOND = 400
"""Rows."""


class Fleet:
    """Servers behind a balancer, each with a log at <folder>/<server>/log, one table, one judge of all logs."""

    def __init__(self, folder: Path, logs: list[DecisionLog], canary: Answer) -> None:
        self.folder = folder
        self.repository = repository(folder / "repository")
        for log in logs[1:]:
            log.clock = logs[0].clock
        self.traffic = RoutedLog(logs[0], self.repository, canary, logs[1:])
        self.folders = LogFolders(tuple(log.folder for log in logs))
        self.settings = QUICK
        self.said: list[str] = []
        self.judgements: list[Judgement] = []
        self.journal: Journal | None = None

    def start(self) -> None:
        """A new judge process."""
        if self.journal is not None:
            self.journal.close()
        self.journal = Journal(self.folder / "judge", self.traffic.clock)
        self.judge = JudgeLoop(
            self.folders, self.repository, self.journal, self.settings, self.traffic.clock, self.said.append
        )

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.traffic.seconds(1.0, rows_per_second=A_SECOND)
            judged = self.judge.look()
            if judged is not None:
                self.judgements.append(judged)

    def begin(self, share: int = 500) -> None:
        """Traffic to compare with, then a canary, under a salt that every run has."""
        self.start()
        self.seconds(5)
        replace(self.routes.with_canary(CANARY, share), salt="the same").write(self.repository)
        self.judge.look()
        assert self.judge.rollout is not None

    @property
    def routes(self) -> Routes:
        return Routes.read(self.repository)

    @property
    def acts(self) -> list[tuple[str, str]]:
        return [(one["kind"], one["action"]) for one in read_journal(self.folder / "judge") if one["kind"] == "done"]

    @property
    def counts(self) -> tuple[dict, dict]:
        assert self.judge.rollout is not None
        return self.judge.rollout.evidence.counts(), self.judge.rollout.calibration.counts()

    def of(self, server: int) -> dict:
        """How the judge sees a server's log."""
        name = str(self.traffic.servers[server].folder)
        return next(one for one in self.judge.logs.documents() if one["log"] == name)


MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[MakeFleet]:
    with ExitStack() as stack:

        def make(servers: int = 2, canary: Answer = lambda answers: answers) -> Fleet:
            folder = tmp_path / f"of-{servers}"
            logs = [
                stack.enter_context(decision_log(folder / f"server-{i}" / "log", seed=3, release=CHAMPION, fraud=8.0))
                for i in range(servers)
            ]
            made = Fleet(folder, logs, canary)
            stack.callback(lambda: made.journal and made.journal.close())
            return made

        yield make


def declining(answers: Decisions) -> Decisions:
    """Scores twice as high."""
    return raised(answers, 2.0)


@pytest.mark.parametrize(
    ("canary", "end"), [(lambda answers: answers, "promote"), (declining, "roll back")], ids=["good", "bad"]
)
def test_the_same_rows_in_three_logs_or_in_one_get_the_same_verdict_at_every_look(
    fleet: MakeFleet, canary: Answer, end: str
) -> None:
    judged, counted = [], []
    for servers in (1, 3):
        made = fleet(servers, canary)
        made.begin()
        seen = []
        for _ in range(60):
            truth = np.random.default_rng(2)
            made.traffic.label(0.5, lambda answers, truth=truth: truth.random(len(answers)) < answers.score)
            made.seconds(1)
            if made.acts[-1:] == [("done", end)]:
                break
            seen.append(made.counts)
        assert made.acts[-1] == ("done", end)
        judged.append(made.judgements)
        counted.append(seen)
    assert judged[0] == judged[1]
    assert counted[0] == counted[1]
    assert counted[0][-1][1]["labels"] > 0


def test_a_label_waits_until_the_row_that_it_is_for_was_read_from_another_log(fleet: MakeFleet) -> None:
    made = fleet()
    made.traffic.down = {1}
    made.traffic.seconds(4, rows_per_second=A_SECOND)
    made.traffic.label(1.0, lambda answers: answers.score > 0.5)
    made.traffic.log.clock.now_us += 5_000_000
    logs = Logs(made.folders, made.traffic.clock, made.said.append, settle_us=1_000_000, rows_a_look=A_SECOND)
    logs.since_us = 0
    seen, given = [], []
    for _ in range(10):
        found, labels = logs.take(lambda batch: rows_of(batch, 2, "salt"))
        seen += [] if found is None else found.identifier.tolist()
        assert set(labels[:, 0].tolist()) <= set(seen)
        given.append(len(labels))
        if logs.is_read_up:
            break
    assert len(given) > 3, "the other log took several looks"
    assert given[:2] == [0, 0]
    assert sum(given) == len(made.traffic.last)


def test_a_server_that_died_is_silent_and_stops_nobody(fleet: MakeFleet) -> None:
    made = fleet()
    made.begin(2_500)
    made.traffic.down = {1}
    made.seconds(45)
    assert made.acts[-1] == ("done", "promote")
    made.traffic.log.clock.now_us += MINUTE_US
    made.seconds(1)
    assert [made.of(place)["state"] for place in (0, 1)] == ["read", "silent"]
    assert made.of(1)["rows"] > 0
    made.traffic.down = set()
    made.seconds(2)
    assert made.of(1)["state"] == "read"


def test_no_step_goes_forward_beside_a_damaged_log_until_it_is_mended(fleet: MakeFleet) -> None:
    made = fleet()
    made.begin(2_500)
    made.seconds(3)
    path = segment_path(made.traffic.servers[1].folder / FRONT_DOOR, 1)
    whole = path.stat().st_size
    made.traffic.seconds(1, rows_per_second=A_SECOND)
    flip(path, whole + 60)
    made.seconds(25)
    assert made.routes.canary is not None
    assert made.routes.canary.share == 2_500
    assert f"{made.traffic.servers[1].folder} is damaged" in made.judgements[-1].reason
    assert made.of(1)["state"] == "trouble"
    assert made.of(0)["state"] == "read"
    name = str(made.traffic.servers[1].folder)
    assert sum(line.startswith(name) and "is damaged" in line for line in made.said) == 1
    flip(path, whole + 60)
    made.seconds(3)
    assert made.acts == [("done", "step up")]
    assert any("is followed again" in line for line in made.said)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def test_a_bad_canary_is_rolled_back_though_a_log_is_damaged(fleet: MakeFleet) -> None:
    made = fleet(canary=declining)
    made.begin()
    made.traffic.seconds(1, rows_per_second=A_SECOND)
    path = segment_path(made.traffic.servers[1].folder / FRONT_DOOR, 1)
    flip(path, path.stat().st_size // 2)
    made.seconds(30)
    assert made.acts == [("done", "roll back")]


def test_a_writer_that_was_pruned_whole_is_no_trouble_and_one_whose_folder_is_gone_is(
    fleet: MakeFleet,
) -> None:
    made = fleet()
    made.begin()
    made.traffic.label(1.0, lambda answers: answers.score > 0.5)
    made.seconds(2)
    folder = made.traffic.servers[1].folder / "feedback-0"
    for segment in folder.glob("*.frdlog"):
        segment.unlink()
    made.seconds(1)
    assert made.of(1)["trouble"] == ""
    shutil.move(folder, made.folder / "elsewhere")
    made.seconds(1)
    assert "has lost the folder of writer feedback-0" in made.of(1)["trouble"]


def test_a_log_that_is_named_and_not_there_holds_the_step_and_is_named(fleet: MakeFleet) -> None:
    made = fleet()
    made.traffic.down = {1}
    made.begin(2_500)
    made.seconds(20)
    assert made.acts == []
    assert "is not there: start its server" in made.judgements[-1].reason
    made.traffic.down = set()
    made.seconds(2)
    assert made.acts == [("done", "step up")]


def test_a_log_that_appears_below_a_folder_in_the_middle_of_a_rollout_is_counted(fleet: MakeFleet) -> None:
    made = fleet()
    made.folders = LogFolders((), (made.folder,))
    made.settings = PATIENT
    made.traffic.down = {1}
    made.begin()
    made.seconds(3)
    assert len(made.judge.logs.documents()) == 1
    made.traffic.down = set()
    made.seconds(6)
    assert {Path(one["log"]).parent.name for one in made.judge.logs.documents()} == {"server-0", "server-1"}
    assert made.of(1)["rows"] > 500
    assert made.counts[0]["rows"][0] + made.counts[0]["rows"][1] >= 6 * A_SECOND
    # a judge that comes back does not go on without a log that it had read
    made.seconds(30)
    shutil.move(made.folder / "server-1", made.folder.with_name("elsewhere"))
    made.start()
    made.judge.look()
    assert "is not there" in made.of(1)["trouble"]
    assert made.of(0)["trouble"] == ""


def test_a_restarted_judge_reads_each_log_from_its_own_place_and_counts_the_same(fleet: MakeFleet) -> None:
    made = fleet(3)
    made.settings = PATIENT
    made.begin()
    for _ in range(2):
        made.seconds(5)
        counted = made.counts
        made.start()
        made.judge.look()
        assert made.counts == counted
    assert {one["log"] for one in made.judge.logs.documents()} == {str(log.folder) for log in made.traffic.servers}


def test_a_journal_of_a_judge_that_knew_one_log_is_gone_on_with(fleet: MakeFleet) -> None:
    made = fleet(1)
    made.settings = PATIENT
    made.begin()
    made.seconds(5)
    counted = made.counts
    path = made.folder / "judge" / JOURNAL_FILE
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for one in records:
        if "places" in one:
            one["places"] = {Path(key).name: place for key, place in one["places"].items()}
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    made.start()
    made.judge.look()
    assert made.counts == counted


def test_a_server_that_answers_by_another_table_is_named_and_holds_the_step(fleet: MakeFleet) -> None:
    made = fleet()
    made.settings = replace(QUICK, slots=1 << 18)
    made.traffic.without_canary = {1}
    made.begin(2_500)
    made.seconds(20)
    assert made.acts == []
    assert "answers by another route table" in made.judgements[-1].reason
    assert str(made.traffic.servers[1].folder) in made.judgements[-1].reason
    assert made.of(1)["by_another_table"] > 10
    assert made.of(0)["by_another_table"] == 0
    made.traffic.without_canary = set()
    made.seconds(3)
    assert "were given by another route table" in made.judgements[-1].reason
    made.traffic.seconds(12, rows_per_second=10_000)
    made.seconds(2)
    assert made.acts == [("done", "step up")], made.judgements[-1]
    evidence = next(one for one in read_journal(made.folder / "judge") if one["kind"] == "intent")
    strays = sum(one["by_another_table"] for one in evidence["logs"])
    assert 0 < strays <= 0.05 * evidence["counts"]["rows"][0]


def test_a_server_whose_clock_is_ahead_makes_no_step_pass(fleet: MakeFleet) -> None:
    made = fleet()
    clock = made.traffic.clock
    made.traffic.servers[1].clock = lambda: clock() + 3_600_000_000  # type: ignore[assignment]
    made.begin(2_500)
    made.seconds(20)
    assert made.acts == []
    assert "its server's clock is 3,600 s ahead" in made.judgements[-1].reason
    assert made.judge.rollout is not None
    assert made.judge.rollout.evidence.seconds < 30


def test_a_server_whose_clock_is_behind_is_named(fleet: MakeFleet) -> None:
    made = fleet()
    clock = made.traffic.clock
    made.traffic.servers[1].clock = lambda: clock() - 30_000_000  # type: ignore[assignment]
    made.begin(2_500)
    made.seconds(20)
    assert made.acts == []
    assert "s late: its server's clock is behind" in made.judgements[-1].reason


def test_figures_of_an_experiment_are_the_same_from_three_logs_as_from_one(fleet: MakeFleet) -> None:
    found = []
    for servers in (1, 3):
        made = fleet(servers)
        made.begin(2_500)
        made.seconds(5)
        made.traffic.label(1.0, lambda answers: answers.score > 0.5)
        folders = LogFolders((), (made.folder,)).readable()
        assert len(folders) == servers
        arms = arms_of_routes(made.routes)
        found.append(compare(decided(folders, DEFAULT_SCHEMA, arms, 0, 2**62), arms.names, arms.base, Costs()))
    assert found[0]["arms"]["r0001"]["transactions"] + found[0]["arms"]["r0002"]["transactions"] == 10 * A_SECOND
    assert found[0]["arms"]["r0002"]["frauds"] > 0
    assert json.dumps(found[0], default=float) == json.dumps(found[1], default=float)


def test_a_folder_of_homes_or_logs_is_found_and_nothing_else(tmp_path: Path) -> None:
    for place in ("a/log", "b"):
        folder = tmp_path / place / FRONT_DOOR
        folder.mkdir(parents=True)
        segment_path(folder, 1).touch()
    (tmp_path / "c" / "log").mkdir(parents=True)
    (tmp_path / "d").touch()
    named = tmp_path / "a" / "log"
    assert LogFolders((named,), (tmp_path, tmp_path / "nothing")).found() == [named, tmp_path / "b"]


def test_fallback_answers_do_not_stray_and_say_that_the_canary_was_asked() -> None:
    trial = Trial(CANARY, CHAMPION, "salt")
    following = Following(trial, 500)
    following.take(rows(20, bucket=100, release=CHAMPION))
    assert (following.strays, following.canary_rows, following.is_astray) == (20, 20, True)
    following.take(rows(20, bucket=100, release=0, source=wire.Source.SCORECARD))
    assert (following.strays, following.is_astray) == (20, True)
    following.take(rows(20, bucket=100, release=CHAMPION, source=wire.Source.FALLBACK_RELEASE))
    assert (following.strays, following.canary_rows, following.is_astray) == (20, 60, False)
    following.take(rows(1, bucket=5_000, release=CANARY))
    assert (following.strays, following.canary_rows, following.is_astray) == (21, 60, True)
