"""`fraudctl log`: what each command reports, and with which exit code it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

from fraud_scoring import wire
from fraud_scoring.decision_log import Context, Decisions, LogWriter, Signer, segments
from fraud_scoring.decision_log.segments import root_path, segment_path
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import NOT_WORKED_OUT, reason_text
from support.decision_logs import FRONT_DOOR, Traffic
from support.rows import MONDAY_US, Clock
from support.server import FRAUDCTL

DECISIONS = 400


@pytest.fixture(scope="module")
def made(served_pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose log holds decisions of release r0001 and some of the scorecard."""
    home = tmp_path_factory.mktemp("home")
    traffic, clock = Traffic(np.random.default_rng(2), schema=served_pipeline.schema, release=1), Clock(MONDAY_US)
    context = Context(1, served_pipeline.schema.document)
    writer = LogWriter(
        home / "log" / FRONT_DOOR,
        context,
        Signer.open(home / "keys" / "decision-log.key"),
        durable=False,
        segment_bytes=20_000,
        now_us=clock,
    )
    for number in range(DECISIONS // 10):
        clock.now_us += 60_000_000
        drawn = traffic.decisions(10, clock.now_us)
        answers = served_pipeline.decide(drawn.features)
        verdict = answers.verdict.copy()
        features = drawn.features
        if number % 10 == 9:
            verdict[:, wire.VERDICT_COLUMNS.index("source")] = wire.Source.SCORECARD
            features = np.empty((10, 0), np.float32)
        changes = {"features": features, "score": answers.score.reshape(-1), "verdict": verdict}
        writer.append(Decisions(**{**vars(drawn), **changes}))
    writer.close()
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """One of the test's own."""
    return Path(shutil.copytree(made, tmp_path / "home"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


class TestVerify:
    def test_a_sound_log_is_exit_code_0_with_counts(self, fraudctl, home: Path) -> None:
        ran = fraudctl("log", "verify", "--home", home, "--json")
        assert ran.code == 0
        found = ran.json
        assert found["findings"] == []
        assert (found["writers"], found["decisions"]) == (1, DECISIONS)
        assert found["segments"] == len(segments(home / "log" / FRONT_DOOR)) > 2
        assert found["key"] == Signer.open(home / "keys" / "decision-log.key").public_key

    def test_a_flipped_bit_is_exit_code_1_and_named(self, fraudctl, home: Path) -> None:
        flip(segment_path(home / "log" / FRONT_DOOR, 2), 5_000)
        ran = fraudctl("log", "verify", "--home", home, "--json")
        assert ran.code == 1
        first = ran.json["findings"][0]
        assert (first["writer"], first["segment"]) == (FRONT_DOOR, 2)
        assert "does not match its checksum" in first["what"]
        assert f"{FRONT_DOOR} segment 2 byte {first['byte']} frame" in fraudctl("log", "verify", "--home", home).out

    def test_for_people_a_sound_log_says_so(self, fraudctl, home: Path) -> None:
        assert "none: the log is what was written" in fraudctl("log", "verify", "--home", home).out

    def test_an_auditor_needs_the_public_key_only(self, fraudctl, home: Path, tmp_path: Path) -> None:
        public = Signer.open(home / "keys" / "decision-log.key").public_key
        assert fraudctl("log", "verify", "--log", home / "log", "--home", tmp_path / "x", "--key", public).code == 0
        other = Signer.open(tmp_path / "other").public_key
        assert fraudctl("log", "verify", "--log", home / "log", "--home", tmp_path / "x", "--key", other).code == 1

    def test_a_missing_log_or_key_is_bad_input(self, fraudctl, home: Path, tmp_path: Path) -> None:
        for arguments in (("--home", tmp_path / "none"), ("--log", home / "log", "--home", tmp_path / "none")):
            ran = fraudctl("log", "verify", *arguments)
            assert ran.code == 2
            assert "is not there; name the server's --home, or the log with --log" in ran.complaint
        assert not (tmp_path / "none").exists()


class TestReplay:
    def test_everything_again_to_the_bit_is_exit_code_0(self, fraudctl, home: Path, served_repository: Path) -> None:
        ran = fraudctl("log", "replay", "--home", home, "--repository", served_repository, "--json")
        assert ran.code == 0
        assert ran.json == {
            "replayed": DECISIONS * 9 // 10,
            "different": 0,
            "scorecard": DECISIONS // 10,
            "unknown_release": 0,
            "unexplained": 0,
            "first_different": None,
        }

    def test_reasons_that_were_not_worked_out_are_counted_and_all_else_compared(
        self, fraudctl, served_pipeline: Pipeline, served_repository: Path, tmp_path: Path
    ) -> None:
        traffic = Traffic(np.random.default_rng(3), schema=served_pipeline.schema, release=1, fraud=20.0)
        context = Context(1, served_pipeline.schema.document)
        drawn = traffic.decisions(100, MONDAY_US)
        answers = served_pipeline.decide(drawn.features)
        flagged = answers.verdict[:, 0] > 0
        assert flagged.any()
        for wrong in (False, True):
            home = tmp_path / str(wrong)
            writer = LogWriter(home / "log" / FRONT_DOOR, context, Signer.open(home / "key"), durable=False)
            verdict = answers.verdict.copy()
            verdict[flagged, 1:4] = [NOT_WORKED_OUT, 0, 0]
            if wrong:
                verdict[np.argmax(flagged), 0] = 3 - verdict[np.argmax(flagged), 0]
            writer.append(Decisions(**{**vars(drawn), "score": answers.score.reshape(-1), "verdict": verdict}))
            writer.close()
            ran = fraudctl("log", "replay", "--home", home, "--repository", served_repository, "--json")
            assert (ran.json["unexplained"], ran.json["different"], ran.code) == (flagged.sum(), wrong, wrong)

    def test_another_model_under_the_same_name_is_exit_code_1(
        self, fraudctl, home: Path, served_repository: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(served_repository, tmp_path / "other"))
        path = other / "fraud_decision_r0001" / "1" / "decision.json"
        document = json.loads(path.read_text())
        document["calibration"]["probabilities"] = [p * 0.999 for p in document["calibration"]["probabilities"]]
        path.unlink()
        path.write_text(json.dumps(document))
        ran = fraudctl("log", "replay", "--home", home, "--repository", other, "--json")
        assert ran.code == 1
        assert ran.json["different"] > 0
        assert ran.json["first_different"] is not None

    def test_a_release_that_is_not_here_proves_nothing_and_is_exit_code_1(
        self, fraudctl, home: Path, repository: Path
    ) -> None:
        ran = fraudctl("log", "replay", "--home", home, "--repository", repository, "--json")
        assert ran.code == 1
        assert (ran.json["replayed"], ran.json["unknown_release"]) == (0, DECISIONS * 9 // 10)

    def test_a_damaged_log_is_one_line_and_exit_code_1(self, fraudctl, home: Path, served_repository: Path) -> None:
        flip(segment_path(home / "log" / FRONT_DOOR, 1), 5_000)
        ran = fraudctl("log", "replay", "--home", home, "--repository", served_repository)
        assert ran.code == 1
        assert "does not match its checksum" in ran.complaint


class TestExport:
    def test_parquet_holds_every_decision_and_a_second_run_adds_nothing(
        self, fraudctl, home: Path, tmp_path: Path
    ) -> None:
        first = fraudctl("log", "export", "--home", home, "--out", tmp_path / "out", "--json")
        assert first.code == 0
        assert first.json["decisions"] == DECISIONS
        frame = polars.read_parquet(tmp_path / "out" / "*" / "*.parquet")
        assert frame.height == DECISIONS
        assert frame["transaction_id"].n_unique() == DECISIONS
        again = fraudctl("log", "export", "--home", home, "--out", tmp_path / "out", "--json")
        assert again.json == {"segments": 0, "files": 0, "decisions": 0}

    def test_pruned_segments_are_counted_and_the_rest_verifies(self, fraudctl, home: Path, tmp_path: Path) -> None:
        before = segments(home / "log" / FRONT_DOOR)
        ran = fraudctl("log", "export", "--home", home, "--out", tmp_path / "out", "--prune-days", 1, "--json")
        assert ran.json["pruned_segments"] == len(before) - 1
        assert segments(home / "log" / FRONT_DOOR) == before[-1:]
        assert not root_path(home / "log" / FRONT_DOOR, 1).exists()
        assert fraudctl("log", "verify", "--home", home).code == 0

    def test_without_a_folder_to_write_to_it_is_bad_usage(self, fraudctl, home: Path) -> None:
        assert fraudctl("log", "export", "--home", home).code == 2


class TestExplain:
    @pytest.fixture
    def flagged(self, fraudctl, home: Path) -> dict[str, Any]:
        rows = map(json.loads, fraudctl("log", "tail", "--home", home, "-n", DECISIONS, "--json").out.splitlines())
        return next(row for row in rows if row["decision"] != "approve" and row["source"] == "primary")

    def test_the_groups_add_up_from_the_base_to_the_margin_most_first(
        self, fraudctl, home: Path, served_repository: Path, served_pipeline: Pipeline, flagged: dict[str, Any]
    ) -> None:
        ran = fraudctl(
            "log", "explain", flagged["transaction_id"], "--home", home, "--repository", served_repository, "--json"
        )
        assert ran.code == 0
        found = ran.json
        values = [one["value"] for one in found["groups"]]
        assert values == sorted(values, reverse=True)
        assert found["base"] + sum(values) == pytest.approx(found["margin"], abs=2**-23)
        assert found["base"] == served_pipeline.rule.explanation.base
        assert (found["decision"], found["score"]) == (flagged["decision"], flagged["score"])
        assert found["reasons"] == [reason_text(flagged[f"reason_{i}"]) for i in (1, 2, 3) if flagged[f"reason_{i}"]]
        seen = {name: value for one in found["groups"] for name, value in one["features"].items()}
        assert seen == {name: flagged[name] for name in served_pipeline.schema.feature_names}

    def test_for_people_a_bar_for_each_group(
        self, fraudctl, home: Path, served_repository: Path, flagged: dict[str, Any]
    ) -> None:
        said = fraudctl(
            "log", "explain", flagged["transaction_id"], "--home", home, "--repository", served_repository
        ).out
        assert f"{flagged['transaction_id']}: {flagged['decision']}" in said
        for group in ("amount", "customer history", "terminal history", "time", "a usual genuine payment"):
            assert group in said
        assert "█" in said
        assert reason_text(flagged["reason_1"]) in said

    def test_what_is_not_in_the_log_is_bad_input(self, fraudctl, home: Path, served_repository: Path) -> None:
        ran = fraudctl("log", "explain", 2**60, "--home", home, "--repository", served_repository)
        assert ran.code == 2
        assert f"transaction {2**60} is not in the log" in ran.complaint

    def test_the_scorecards_answers_cannot_be_explained(self, fraudctl, home: Path, served_repository: Path) -> None:
        last = json.loads(fraudctl("log", "tail", "--home", home, "-n", 1, "--json").out)
        ran = fraudctl("log", "explain", last["transaction_id"], "--home", home, "--repository", served_repository)
        assert ran.code == 2
        assert "was answered by the scorecard: no model to be explained" in ran.complaint

    def test_a_release_without_a_background_says_so(
        self, fraudctl, home: Path, served_repository: Path, tmp_path: Path, flagged: dict[str, Any]
    ) -> None:
        other = Path(shutil.copytree(served_repository, tmp_path / "other"))
        path = other / "fraud_decision_r0001" / "1" / "decision.json"
        path.chmod(0o644)
        document = json.loads(path.read_text())
        del document["explanation"]
        path.write_text(json.dumps({**document, "version": 1}))
        ran = fraudctl("log", "explain", flagged["transaction_id"], "--home", home, "--repository", other)
        assert ran.code == 2
        assert "release r0001 has no background" in ran.complaint


class TestTail:
    def test_json_is_one_object_a_line_with_words_for_codes(self, fraudctl, home: Path) -> None:
        ran = fraudctl("log", "tail", "--home", home, "-n", 15, "--json")
        assert ran.code == 0
        rows = [json.loads(line) for line in ran.out.splitlines()]
        assert len(rows) == 15
        assert {row["release"] for row in rows} == {"r0001"}
        assert [row["source"] for row in rows] == ["primary"] * 5 + ["scorecard"] * 10
        assert rows[-1]["amount"] is None  # the scorecard looks at no feature; NaN is no JSON
        assert rows[0]["amount"] is not None
        assert {row["decision"] for row in rows} <= {"approve", "review", "decline"}

    def test_for_people_one_line_each(self, fraudctl, home: Path) -> None:
        lines = fraudctl("log", "tail", "--home", home, "-n", 3).out.splitlines()
        assert len(lines) == 3
        assert all("r0001 scorecard" in line for line in lines)
        assert fraudctl("log", "tail", "--home", home, "-n", 0).out == ""

    def test_following_shows_what_comes_until_it_is_stopped(self, home: Path, served_pipeline: Pipeline) -> None:
        process = subprocess.Popen(
            [FRAUDCTL, "log", "tail", "--home", home, "-n", "1", "--follow", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        with process:
            try:
                assert json.loads(process.stdout.readline())["source"] == "scorecard"
                traffic = Traffic(np.random.default_rng(9), schema=served_pipeline.schema, release=1, next_id=10**9)
                writer = LogWriter(
                    home / "log" / FRONT_DOOR,
                    Context(1, served_pipeline.schema.document),
                    Signer.open(home / "keys" / "decision-log.key"),
                )
                fresh = traffic.decisions(200, MONDAY_US)
                # what comes before it has looked for the first time is not new: go on until it tells of something
                import threading

                stop = threading.Event()

                def write() -> None:
                    while not stop.wait(0.1):
                        writer.append(fresh)

                thread = threading.Thread(target=write)
                thread.start()
                try:
                    shown = json.loads(process.stdout.readline())
                finally:
                    stop.set()
                    thread.join()
                    writer.close()
                assert shown["transaction_id"] == fresh.transaction[0, 0]
            finally:
                process.kill()


def test_every_command_has_help(fraudctl) -> None:
    for command in ("verify", "replay", "export", "tail"):
        ran = fraudctl("log", command, "--help")
        assert ran.code == 0
        assert "--home" in ran.out
