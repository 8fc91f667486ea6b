"""The tail gives every frame of every writer once, whatever was damaged, taken back, rotated or removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.decision_log import Context, Decisions, LogDamaged, read, segments
from fraud_scoring.decision_log.batches import Pile, join
from fraud_scoring.decision_log.contents import Kind, Shape
from fraud_scoring.decision_log.frames import NO_HASH, Frame, decode, encode
from fraud_scoring.decision_log.segments import segment_path
from fraud_scoring.decision_log.tail import Place, Tail, Taken
from support.decision_logs import FEEDBACK, FRONT_DOOR, DecisionLog, Traffic, decision_log
from support.rows import MONDAY_US, Clock, Int64

SECOND_US = 1_000_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[DecisionLog]:
    with decision_log(tmp_path / "log", seed=3) as made:
        yield made


class Follow:
    """A tail at the log's own clock, and what it gave and said."""

    def __init__(self, log: DecisionLog, places: dict[str, Place] | None = None, **options: object) -> None:
        self.said: list[str] = []
        self.clock = Clock(log.clock.now_us)
        self.tail = Tail(log.folder, places or {}, self.clock, self.said.append, **options)  # type: ignore[arg-type]

    def look(self, rows: int = 1 << 20, later_us: int = 3600 * SECOND_US) -> Taken:
        self.clock.now_us += later_us
        return self.tail.take(rows)


def ids(taken: Taken) -> Int64:
    """Transaction ids of what was taken."""
    parts = [batch.decisions.transaction[:, batch.id_column] for batch in taken.batches]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def drain(follow: Follow, rows: int = 1 << 20) -> Int64:
    """Ids of everything that there is."""
    found = [np.empty(0, np.int64)]
    while (taken := follow.look(rows)).frames:
        found.append(ids(taken))
    return np.concatenate(found)


def logged(log: DecisionLog) -> Int64:
    """Ids of everything in the log, by its own reader."""
    found = [np.empty(0, np.int64)]
    for folder in sorted(log.folder.iterdir()):
        for frame, _ in read(folder):
            content = frame.content()
            if isinstance(content, Decisions):
                found.append(content.transaction[:, 0])
    return np.concatenate(found)


def same(one: Int64, other: Int64) -> bool:
    """Whether both hold the same ids, each as often."""
    return np.array_equal(np.sort(one), np.sort(other))


@pytest.mark.parametrize("frame_rows", [1, 3, 16, 64])
def test_every_row_of_every_writer_is_given_once(log: DecisionLog, frame_rows: int) -> None:
    log.write(500, frame_rows)
    log.write(300, frame_rows, writer="front-door-1")
    assert same(drain(Follow(log)), logged(log))


def test_a_small_budget_gives_the_same_rows_in_more_looks(log: DecisionLog) -> None:
    log.write(500, 3)
    follow = Follow(log)
    sizes = []
    while (taken := follow.look(50)).frames:
        sizes.append(taken.rows)
    assert sum(sizes) == 500
    assert max(sizes) <= 53


def test_joined_frames_hold_what_each_frame_holds(log: DecisionLog) -> None:
    for frame_rows in (1, 5, 1, 7):
        log.write(20, frame_rows)
    taken = Follow(log).look()
    frames = [frame for frame, _ in read(log.folder / FRONT_DOOR) if frame.kind == Kind.DECISIONS]
    parsed = [(frame, Decisions.parse(frame.payload)) for frame in frames]
    (batch,) = taken.batches
    rows = np.concatenate([one.transaction for _, one in parsed])
    order, expected_order = np.argsort(batch.decisions.transaction[:, 0]), np.argsort(rows[:, 0])
    for name in ("transaction", "features", "score", "verdict", "repeat", "deadline_left_us"):
        expected = np.concatenate([getattr(one, name) for _, one in parsed])[expected_order]
        assert getattr(batch.decisions, name)[order].tobytes() == expected.tobytes(), name
    assert sorted(batch.written_at_us.tolist()) == sorted(frame.written_at_us for frame in frames)
    assert np.array_equal(batch.stage_us.sum(axis=0), np.sum([one.stage_us for _, one in parsed], axis=0))
    assert int(batch.refused.sum()) == batch.decisions.refused == sum(one.refused for _, one in parsed)
    assert int(batch.failed.sum()) == batch.decisions.failed == sum(one.failed for _, one in parsed)
    assert int(batch.rows.sum()) == len(batch) == 80


def test_frames_of_different_widths_are_batches_of_their_own() -> None:
    traffic = Traffic(np.random.default_rng(1))
    narrow = traffic.decisions(2, MONDAY_US, features=np.empty((2, 0), np.float32))
    frames = []
    for sequence, content in enumerate([traffic.decisions(2, MONDAY_US), narrow, traffic.decisions(3, MONDAY_US)]):
        frame = decode(encode(content, sequence, MONDAY_US, NO_HASH)[0], 0)
        assert frame is not None
        frames.append((Shape.of(frame.payload), frame))
    widths = {batch.decisions.features.shape[1]: len(batch) for batch in join(frames, 0)}
    assert widths == {17: 5, 0: 2}


def test_frames_of_a_log_that_did_not_count_failures_are_joined_with_those_that_do() -> None:
    traffic = Traffic(np.random.default_rng(1), failed=3)
    contents = [traffic.decisions(2, MONDAY_US) for _ in range(2)]
    old, new = contents[0].payload()[:-4], contents[1].payload()
    frames = [Frame(n, MONDAY_US, NO_HASH, NO_HASH, 0, Kind.DECISIONS, part) for n, part in enumerate((old, new))]
    (batch,) = join([(Shape.of(frame.payload), frame) for frame in frames], 0)
    assert batch.failed.tolist() == [0, 3]
    assert batch.decisions.score.tobytes() == b"".join(one.score.tobytes() for one in contents)


def test_a_frame_whose_length_is_not_what_it_says_is_damage() -> None:
    frame = Frame(4, MONDAY_US, NO_HASH, NO_HASH, 0, Kind.DECISIONS, bytes(60))
    with pytest.raises(LogDamaged, match="frame 4 cannot be read: a frame of 0 rows is 60 bytes long"):
        Pile().add(frame, None)


def test_what_was_taken_before_is_not_given_again(log: DecisionLog) -> None:
    log.write(100, 3)
    first = Follow(log)
    before = drain(first)
    log.write(70, 3)
    after = drain(Follow(log, first.tail.places))
    assert len(after) == 70
    assert same(np.concatenate([before, after]), logged(log))


def test_a_writer_that_comes_later_is_followed_from_its_start(log: DecisionLog) -> None:
    log.write(10)
    follow = Follow(log)
    drain(follow)
    log.write(20, writer="front-door-9")
    assert len(drain(follow)) == 20
    assert follow.said[-1] == "following writer front-door-9 from its oldest segment on"


def test_segments_that_end_are_followed_by_the_next(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log", Traffic(np.random.default_rng(1)), segment_bytes=20_000)
    follow = Follow(log)
    found = []
    for _ in range(20):
        log.write(60, 7)
        found.append(drain(follow, 13))
    log.close()
    assert len(segments(log.folder / FRONT_DOOR)) > 5
    assert same(np.concatenate(found), logged(log))


def test_a_young_frame_waits_because_it_may_be_taken_back(log: DecisionLog) -> None:
    log.write(8, 8)
    log.clock.now_us += 2 * SECOND_US
    written_at_us = log.clock.now_us
    log.write(8, 8)
    follow = Follow(log, settle_us=SECOND_US)
    follow.clock.now_us = written_at_us + SECOND_US // 2
    assert follow.look(later_us=0).rows == 8
    (lag,) = follow.tail.lags()
    assert lag.bytes > 0
    assert lag.watermark_us == written_at_us
    follow.clock.now_us = written_at_us + SECOND_US
    assert follow.look(later_us=0).rows == 8
    assert follow.tail.lags()[0].bytes == 0


def test_a_frame_that_was_taken_back_is_never_given(log: DecisionLog) -> None:
    log.write(8, 8)
    path = segment_path(log.folder / FRONT_DOOR, 1)
    kept = path.read_bytes()
    log.write(8, 8)
    follow = Follow(log, settle_us=SECOND_US)
    follow.clock.now_us = log.clock.now_us  # the second frame is 80 ms old
    assert follow.look(later_us=-80_000).rows == 0
    path.write_bytes(kept)  # its sync failed
    assert drain(follow).tolist() == [7919 * k for k in range(1, 9)]


def test_a_writer_with_a_clock_far_ahead_is_not_waited_for(log: DecisionLog) -> None:
    follow = Follow(log, settle_us=SECOND_US)
    log.clock.now_us += 365 * 86_400 * SECOND_US
    log.write(8, 8)
    assert follow.look(later_us=0).rows == 8


def flip(log: DecisionLog, segment: int, share: float, writer: str = FRONT_DOOR) -> None:
    """Turn one bit over, `share` into a segment."""
    path = segment_path(log.folder / writer, segment)
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 4
    path.write_bytes(bytes(data))


def test_a_damaged_writer_stops_at_the_damage_and_the_others_go_on(log: DecisionLog) -> None:
    log.write(100, 1)
    log.write(100, 1, writer="front-door-1")
    flip(log, 1, 0.5)
    follow = Follow(log)
    found = drain(follow)
    assert 120 < len(found) < 180
    damage = {lag.writer: lag.damage for lag in follow.tail.lags()}
    assert not damage["front-door-1"]
    assert "does not match its checksum" in damage[FRONT_DOOR] or "no frame" in damage[FRONT_DOOR]
    log.write(50, 1, writer="front-door-1")
    assert len(drain(follow)) == 50
    assert sum("fraudctl log verify" in line for line in follow.said) == 1


def test_damage_that_was_mended_is_read_on_from(log: DecisionLog) -> None:
    log.write(100, 1)
    good = segment_path(log.folder / FRONT_DOOR, 1).read_bytes()
    flip(log, 1, 0.5)
    follow = Follow(log)
    before = drain(follow)
    segment_path(log.folder / FRONT_DOOR, 1).write_bytes(good + b"")
    log.write(1, 1)  # the folder changes: the writer is looked at again
    assert same(np.concatenate([before, drain(follow)]), logged(log))
    assert not follow.tail.lags()[0].damage
    assert follow.said[-1] == f"writer {FRONT_DOOR}: its log can be read again"


def test_damage_is_skipped_where_that_is_wanted_and_what_is_missed_is_counted(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log", Traffic(np.random.default_rng(1)), segment_bytes=20_000)
    log.write(400, 1)
    log.close()
    whole = logged(log)
    flip(log, 2, 0.5)
    follow = Follow(log, skip_damaged=True)
    found = np.concatenate([drain(follow), drain(follow)])
    (lag,) = follow.tail.lags()
    assert 0 < len(whole) - len(found) <= lag.missed_frames < 100
    assert set(found.tolist()) < set(whole.tolist())
    assert len(set(found.tolist())) == len(found)
    assert any("skipped as damaged; going on at segment 3" in line for line in follow.said)


def test_what_retention_removed_before_it_was_counted_is_said(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log", Traffic(np.random.default_rng(1)), segment_bytes=20_000)
    log.write(30, 1)
    first = Follow(log)
    drain(first)
    log.write(400, 1)
    log.close()
    whole = len(logged(log))
    for number in segments(log.folder / FRONT_DOOR)[:3]:
        segment_path(log.folder / FRONT_DOOR, number).unlink()
    follow = Follow(log, first.tail.places)
    found = drain(follow)
    (lag,) = follow.tail.lags()
    assert not lag.damage
    assert 30 + len(found) + lag.missed_frames >= whole > 30 + len(found)
    assert "were removed before they were counted; going on at segment 4" in follow.said[-1]
    assert follow.tail.places[FRONT_DOOR].missed_frames == lag.missed_frames


def test_retention_behind_what_was_counted_misses_nothing(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path / "log", Traffic(np.random.default_rng(1)), segment_bytes=20_000)
    log.write(200, 1)
    log.close()  # the last segment is whole
    follow = Follow(log)
    drain(follow)
    log.write(20, 1)
    for number in segments(log.folder / FRONT_DOOR)[:-1]:
        segment_path(log.folder / FRONT_DOOR, number).unlink()
    assert len(drain(follow)) == 20
    assert follow.tail.lags()[0].missed_frames == 0
    log.close()


def test_a_log_that_was_replaced_by_a_shorter_one_is_damage_and_not_counted_again(log: DecisionLog) -> None:
    log.write(100, 1)
    first = Follow(log)
    drain(first)
    path = segment_path(log.folder / FRONT_DOOR, 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    follow = Follow(log, first.tail.places)
    assert not len(drain(follow))
    assert "start with an empty home" in follow.tail.lags()[0].damage


def test_labels_and_gaps_and_contexts_are_given_too(log: DecisionLog) -> None:
    log.write(10)
    log.gap(17)
    log.label(np.array([7919, 2 * 7919]), np.array([True, False]))
    log.writer().set_context(Context(8, "{}"))
    follow = Follow(log)
    taken = follow.look()
    assert {lag.writer for lag in follow.tail.lags()} == {FRONT_DOOR, FEEDBACK}
    (labels,) = taken.labels
    assert labels[:, :2].tolist() == [[7919, 1], [2 * 7919, 0]]
    assert labels[0, 3] == log.clock.now_us
    assert [gap.answers for _, gap in taken.gaps] == [17]
    assert taken.contexts == {7: log.traffic.schema.document, 8: "{}"}


def test_the_context_is_remembered_with_the_place(log: DecisionLog) -> None:
    log.write(10)
    first = Follow(log)
    drain(first)
    assert first.tail.places[FRONT_DOOR].context == Context(7, log.traffic.schema.document)


def test_an_empty_or_missing_log_is_waited_for(tmp_path: Path) -> None:
    said: list[str] = []
    tail = Tail(tmp_path / "nothing", {}, Clock(), said.append)
    assert tail.take(10).frames == 0
    assert not tail.lags()
    assert not said
