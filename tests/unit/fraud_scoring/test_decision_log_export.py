"""The log for others: Parquet by day, rows with names, retention, and decisions decided again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring import wire
from fraud_scoring.decision_log import (
    STAGES,
    Context,
    Decisions,
    Labels,
    LogDamaged,
    LogWriter,
    Signer,
    read,
    segments,
    verify_log,
    writers,
)
from fraud_scoring.decision_log.export import export, last_rows, new_rows, prune
from fraud_scoring.decision_log.replay import Replay, replay_log
from fraud_scoring.decision_log.segments import segment_path
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.releases import pinned_schema
from support.decision_logs import FRONT_DOOR, Traffic
from support.rows import DAY_US, DEFAULT_SCHEMA, MONDAY_US, Clock

SIGNER = Signer(Ed25519PrivateKey.generate())
CONTEXT = Context(7, DEFAULT_SCHEMA.document)


def writer_of(log: Path, name: str, clock: Clock, context: Context = CONTEXT, segment_bytes: int = 20_000) -> LogWriter:
    return LogWriter(log / name, context, SIGNER, durable=False, segment_bytes=segment_bytes, now_us=clock)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """Two writers over three days, several segments each; the last segment of the first is still open."""
    traffic, writers_, clock = Traffic(np.random.default_rng(8), repeats=0.1), [], Clock(MONDAY_US)
    for name in (FRONT_DOOR, "front-door-1"):
        clock.now_us = MONDAY_US
        writers_.append(writer_of(tmp_path / "log", name, clock))
        for number in range(60):
            clock.now_us += DAY_US // 20
            changes = {"features": np.empty((9, 0), np.float32)} if number % 10 == 3 else {}
            writers_[-1].append(traffic.decisions(9, clock.now_us, **changes))
    writers_[1].close()
    yield tmp_path / "log"
    writers_[0].close()


def logged(log: Path) -> dict[tuple[str, int, int], tuple[object, ...]]:
    """(writer, sequence, id) → what the log's own reader finds, for closed segments."""
    found = {}
    for name in writers(log):
        closed = {int(path.stem.split(".")[0]) for path in (log / name).glob("*.root.json")}
        for frame, position in read(log / name):
            content = frame.content()
            if isinstance(content, Decisions) and position.segment in closed:
                for i in range(len(content)):
                    found[name, frame.sequence, int(content.transaction[i, 0])] = (
                        content.transaction[i].tolist(),
                        content.score[i].tobytes(),
                        content.verdict[i].tolist(),
                        bool(content.repeat[i]),
                        int(content.deadline_left_us[i]),
                        content.stage_us.tolist(),
                        content.features[i].tobytes() or None,
                        frame.written_at_us,
                    )
    return found


def exported(out: Path) -> dict[tuple[str, int, int], tuple[object, ...]]:
    found = {}
    for path in sorted(out.glob("day=*/*.parquet")):
        day = path.parent.name.removeprefix("day=")
        for row in polars.read_parquet(path).iter_rows(named=True):
            assert str(np.datetime64(row["written_at_us"], "us").astype("datetime64[D]")) == day
            features = np.array([row[name] for name in DEFAULT_SCHEMA.feature_names], np.float32)
            key = (row["writer"], row["sequence"], row["transaction_id"])
            assert key not in found
            found[key] = (
                [row[name] for name in DEFAULT_SCHEMA.column_names],
                np.float32(row["score"]).tobytes(),
                [row[name] for name in wire.VERDICT_COLUMNS],
                row["repeat"],
                row["deadline_left_us"],
                [row[f"{stage}_us"] for stage in STAGES],
                None if np.isnan(features).all() else features.tobytes(),
                row["written_at_us"],
            )
    return found


class TestExport:
    def test_parquet_by_day_holds_what_the_closed_segments_hold(self, log: Path, tmp_path: Path) -> None:
        done = export(log, tmp_path / "out")
        assert exported(tmp_path / "out") == logged(log)
        assert done["decisions"] == len(logged(log)) > 500
        days = sorted(path.name for path in (tmp_path / "out").glob("day=*"))
        assert days == ["day=2026-03-02", "day=2026-03-03", "day=2026-03-04", "day=2026-03-05"]
        assert done["files"] == len(list((tmp_path / "out").glob("day=*/*.parquet")))

    def test_a_second_time_writes_nothing(self, log: Path, tmp_path: Path) -> None:
        export(log, tmp_path / "out")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
        assert export(log, tmp_path / "out") == {"segments": 0, "files": 0, "decisions": 0}
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before

    def test_one_that_was_broken_off_is_taken_up(self, log: Path, tmp_path: Path) -> None:
        def break_off(share: float, text: str) -> None:
            if share > 0.5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(log, tmp_path / "out", break_off)
        assert 0 < len(exported(tmp_path / "out")) < len(logged(log))
        export(log, tmp_path / "out")
        assert exported(tmp_path / "out") == logged(log)

    def test_an_open_segment_comes_when_it_is_closed(self, log: Path, tmp_path: Path) -> None:
        export(log, tmp_path / "out")
        open_one = segments(log / FRONT_DOOR)[-1]
        assert not list((tmp_path / "out").glob(f"*/{FRONT_DOOR}-{open_one:08d}.parquet"))

    def test_damage_is_an_error_and_not_a_shorter_export(self, log: Path, tmp_path: Path) -> None:
        path = segment_path(log / "front-door-1", 2)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(LogDamaged):
            export(log, tmp_path / "out")


class TestRetention:
    def test_what_is_left_verifies_reads_and_grows(self, log: Path, tmp_path: Path) -> None:
        export(log, tmp_path / "out")
        before = logged(log)
        removed = prune(log, tmp_path / "out", MONDAY_US + DAY_US + DAY_US // 2, SIGNER)
        assert removed > 2
        assert verify_log(log, SIGNER.public_key).findings == []
        left = logged(log)
        assert 0 < len(left) < len(before)
        assert {key: before[key] for key in left} == left
        assert exported(tmp_path / "out") == before
        clock = Clock(MONDAY_US + 4 * DAY_US)
        writer_of(log, "front-door-1", clock).close()
        assert verify_log(log, SIGNER.public_key).findings == []
        assert prune(log, tmp_path / "out", MONDAY_US + DAY_US + DAY_US // 2, SIGNER) == 0

    def test_what_was_not_exported_or_is_open_or_newest_stays(self, log: Path, tmp_path: Path) -> None:
        assert prune(log, tmp_path / "out", MONDAY_US + 99 * DAY_US, SIGNER) == 0
        export(log, tmp_path / "out")
        counts = {name: len(segments(log / name)) for name in writers(log)}
        assert prune(log, tmp_path / "out", MONDAY_US + 99 * DAY_US, SIGNER) == sum(counts.values()) - len(counts)
        assert verify_log(log, SIGNER.public_key).findings == []

    def test_a_pruned_log_with_another_segment_missing_does_not_verify(self, log: Path, tmp_path: Path) -> None:
        export(log, tmp_path / "out")
        prune(log, tmp_path / "out", MONDAY_US + DAY_US, SIGNER)
        first = segments(log / "front-door-1")[0]
        segment_path(log / "front-door-1", first).unlink()
        found = [finding.what for finding in verify_log(log, SIGNER.public_key).findings]
        assert found[0] == "the segment is missing"

    def test_without_the_log_s_key_nothing_is_removed(self, log: Path, tmp_path: Path) -> None:
        export(log, tmp_path / "out")
        with pytest.raises(LogDamaged, match="is not signed by the log's key"):
            prune(log, tmp_path / "out", MONDAY_US + 99 * DAY_US, Signer(Ed25519PrivateKey.generate()))
        assert verify_log(log, SIGNER.public_key).findings == []


class TestRows:
    def test_the_last_rows_of_all_writers_in_the_order_of_time(self, log: Path) -> None:
        rows = last_rows(log, 25)
        assert len(rows) == 25
        times = [row["written_at_us"] for row in rows]
        assert times == sorted(times)
        assert {row["writer"] for row in rows} == {FRONT_DOOR, "front-door-1"}
        assert {row["decision"] for row in last_rows(log, 500)} == {"approve", "review", "decline"}
        assert rows[0]["release"] == "r0007"
        assert rows[0]["source"] in {"primary", "canary", "fallback_release"}

    def test_none_and_more_than_there_are(self, log: Path) -> None:
        assert last_rows(log, 0) == []
        assert len(last_rows(log, 10**6)) == 2 * 60 * 9

    def test_new_rows_are_those_that_come(self, tmp_path: Path) -> None:
        clock, traffic = Clock(MONDAY_US), Traffic(np.random.default_rng(1))
        writer = writer_of(tmp_path / "log", FRONT_DOOR, clock)
        writer.append(traffic.decisions(3, MONDAY_US))
        follow = new_rows(tmp_path / "log", poll_s=0.0)
        fresh = traffic.decisions(2, MONDAY_US)

        polled = iter([None])
        import time as module

        def write_meanwhile(_: float) -> None:
            if next(polled, "done") is None:
                writer.append(Labels(np.ones((1, 3), np.int64)))
                writer.append(fresh)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "sleep", write_meanwhile)
            found = [next(follow)["transaction_id"] for _ in range(2)]
        follow.close()  # type: ignore[attr-defined]
        writer.close()
        assert found == fresh.transaction[:, 0].tolist()


class TestReplay:
    @pytest.fixture
    def decided(self, served_pipeline: Pipeline, fresh) -> Decisions:  # type: ignore[no-untyped-def]
        """What release r0001 answers to 3,000 transactions of very different features."""
        rng, n = np.random.default_rng(3), 3_000
        rows = fresh.rows(n)
        features = Traffic(rng, schema=served_pipeline.schema).features(n, rows[:, 1])
        features[rng.random(features.shape) < 0.02] = np.nan
        answers = served_pipeline.decide(np.ascontiguousarray(features))
        return Decisions(
            transaction=rows,
            features=answers.features,
            score=answers.score.reshape(-1),
            verdict=answers.verdict,
            repeat=np.zeros(n, np.bool_),
            deadline_left_us=np.full(n, 70_000),
            stage_us=np.zeros(4, np.int64),
        )

    @staticmethod
    def written(log: Path, repository: Path, content: Decisions, frame_rows: int = 50) -> Path:
        context = Context(1, pinned_schema(repository, 1).document)
        writer = writer_of(log, FRONT_DOOR, Clock(), context, segment_bytes=100_000)
        for start in range(0, len(content), frame_rows):
            part = slice(start, start + frame_rows)
            columns = ("transaction", "features", "score", "verdict", "repeat", "deadline_left_us")
            writer.append(replace(content, **{name: getattr(content, name)[part] for name in columns}))
        writer.close()
        return log

    def test_every_decision_is_decided_again_to_the_bit_however_it_was_batched(
        self, tmp_path: Path, served_repository: Path, decided: Decisions
    ) -> None:
        for frame_rows in (1, 7, 1024):
            log = self.written(tmp_path / str(frame_rows), served_repository, decided, frame_rows)
            assert replay_log(log, served_repository) == Replay(replayed=len(decided))

    @pytest.mark.parametrize("what", ["score", "features", "verdict"])
    def test_a_changed_bit_is_found_and_the_transaction_named(
        self, tmp_path: Path, served_repository: Path, decided: Decisions, what: str
    ) -> None:
        row = 1_234
        values = getattr(decided, what).copy()
        if what == "score":
            values[row] = np.nextafter(values[row], np.float32(2))
        elif what == "verdict":
            values[row, 0] = (values[row, 0] + 1) % 3
        else:
            values[row] = values[(decided.score != decided.score[row]).argmax()]
        log = self.written(tmp_path / "log", served_repository, replace(decided, **{what: values}))
        found = replay_log(log, served_repository)
        assert (found.different, found.first_different) == (1, int(decided.transaction[row, 0]))

    def test_a_release_that_is_not_here_or_did_not_decide_is_told(
        self, tmp_path: Path, served_repository: Path, decided: Decisions
    ) -> None:
        verdict = decided.verdict.copy()
        verdict[5:9, wire.VERDICT_COLUMNS.index("release")] = 9
        log = self.written(tmp_path / "log", served_repository, replace(decided, verdict=verdict))
        assert replay_log(log, served_repository) == Replay(replayed=len(decided) - 4, unknown_release=4)
        other = Path(shutil.copytree(served_repository, tmp_path / "other"))
        rule = other / "fraud_decision_r0001" / "1" / "decision.json"
        rule.chmod(0o644)
        text = rule.read_text()
        import json

        document = json.loads(text)
        document["calibration"]["probabilities"] = [p * 0.999 for p in document["calibration"]["probabilities"]]
        rule.unlink()
        rule.write_text(json.dumps(document))
        changed = replay_log(log, other)
        assert changed.different > 0.5 * changed.replayed

    def test_scorecard_answers_are_counted_and_a_limit_is_kept(
        self, tmp_path: Path, served_repository: Path, decided: Decisions
    ) -> None:
        verdict = decided.verdict.copy()
        verdict[:10, wire.VERDICT_COLUMNS.index("source")] = wire.Source.SCORECARD
        log = self.written(tmp_path / "log", served_repository, replace(decided, verdict=verdict))
        assert replay_log(log, served_repository) == Replay(replayed=len(decided) - 10, scorecard=10)
        limited = replay_log(log, served_repository, limit=100)
        assert 100 <= limited.replayed <= 150
