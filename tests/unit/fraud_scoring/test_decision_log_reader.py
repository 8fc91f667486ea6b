"""Reading: from where one was, while the writer writes, over segments, and never over damage."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from fraud_scoring.decision_log import LogDamaged, Position, read, segments, writers
from fraud_scoring.decision_log.segments import segment_path
from support.decision_logs import FRONT_DOOR, DecisionLog, Traffic
from support.rows import MONDAY_US


@pytest.fixture
def log(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = DecisionLog(tmp_path / "log", Traffic(np.random.default_rng(3)), segment_bytes=20_000)
    yield made
    made.close()


def sequences(folder: Path, position: Position | None = None) -> list[int]:
    return [frame.sequence for frame, _ in read(folder, position)]


def test_who_was_anywhere_reads_on_from_there(log: DecisionLog) -> None:
    log.write(600)
    folder = log.folder / FRONT_DOOR
    everything = list(read(folder))
    assert len(segments(folder)) > 2
    assert [frame.sequence for frame, _ in everything] == list(range(len(everything)))
    for number, (_, position) in enumerate(everything):
        assert sequences(folder, position) == list(range(number + 1, len(everything)))


def test_at_the_end_there_is_nothing_until_the_writer_goes_on(log: DecisionLog) -> None:
    log.write(16)
    folder = log.folder / FRONT_DOOR
    *_, (_, position) = read(folder)
    assert sequences(folder, position) == []
    log.write(32)
    assert sequences(folder, position) == [2, 3]


def test_a_frame_that_is_not_all_there_is_not_given_yet(log: DecisionLog, tmp_path: Path) -> None:
    log.write(32)
    path = segment_path(log.folder / FRONT_DOOR, 1)
    data = path.read_bytes()
    folder = tmp_path / "copy"
    folder.mkdir()
    given = [0]
    for length in range(0, len(data) + 1, 97):
        segment_path(folder, 1).write_bytes(data[:length])
        given.append(len(sequences(folder)))
    segment_path(folder, 1).write_bytes(data)
    assert given == sorted(given)
    assert sequences(folder) == [0, 1, 2]


def test_following_a_writer_gives_every_frame_once_and_in_order(log: DecisionLog) -> None:
    folder = log.folder / FRONT_DOOR
    log.writer()
    thread = threading.Thread(target=lambda: [log.write(16) for _ in range(150)])
    position: Position | None = None
    found: list[int] = []
    thread.start()
    while True:
        was_alive = thread.is_alive()
        for frame, behind in read(folder, position):
            found.append(frame.sequence)
            position = behind
        if not was_alive:
            break
    thread.join()
    assert found == list(range(len(found)))
    assert len(segments(folder)) > 5
    assert len(found) == 150 + len(segments(folder))


def test_no_log_and_no_writer_have_no_frames(tmp_path: Path) -> None:
    assert writers(tmp_path / "none") == []
    assert sequences(tmp_path / "none") == []


def test_writers_are_the_folders_that_hold_segments(log: DecisionLog) -> None:
    log.write(1)
    log.write(1, writer="front-door-1")
    (log.folder / "lost+found").mkdir()
    (log.folder / "file").write_text("")
    assert writers(log.folder) == [FRONT_DOOR, "front-door-1"]


def test_what_retention_removed_is_not_asked_for_without_a_position(log: DecisionLog) -> None:
    log.write(600)
    folder = log.folder / FRONT_DOOR
    oldest = sequences(folder)
    first = next(iter(read(folder)))[1]
    segment_path(folder, 1).unlink()
    assert sequences(folder) == oldest[-len(sequences(folder)) :]
    assert sequences(folder)[0] > 0
    with pytest.raises(LogDamaged, match="segment 1 of writer front-door-0 is missing"):
        sequences(folder, first)


class TestDamage:
    @pytest.fixture
    def folder(self, log: DecisionLog) -> Path:
        log.write(600)
        log.close()
        return log.folder / FRONT_DOOR

    def test_what_was_before_it_is_given(self, folder: Path) -> None:
        path = segment_path(folder, 1)
        data = bytearray(path.read_bytes())
        position = list(read(folder))[2][1]
        data[position.offset + 90] ^= 1
        path.write_bytes(data)
        frames = read(folder)
        assert [next(frames)[0].sequence for _ in range(3)] == [0, 1, 2]
        with pytest.raises(LogDamaged, match="frame 3 does not match its checksum"):
            next(frames)

    def test_a_frame_that_is_gone_breaks_the_sequence(self, folder: Path) -> None:
        path = segment_path(folder, 1)
        data, places = path.read_bytes(), [position.offset for _, position in list(read(folder))[:5]]
        path.write_bytes(data[: places[1]] + data[places[2] :])
        with pytest.raises(LogDamaged, match="frame 3 does not follow frame 1"):
            sequences(folder)

    def test_bytes_behind_the_last_frame_of_a_segment_that_has_a_next_are_damage(self, folder: Path) -> None:
        with segment_path(folder, 1).open("ab") as file:
            file.write(b"FRD1")
        with pytest.raises(LogDamaged, match=r"4 bytes from byte \d+ on are no frame"):
            sequences(folder)

    def test_a_segment_that_is_gone_from_the_middle_is_named(self, folder: Path) -> None:
        segment_path(folder, 2).unlink()
        with pytest.raises(LogDamaged):
            sequences(folder)

    def test_another_log_s_position_fits_nowhere(self, folder: Path) -> None:
        place = list(read(folder))[2][1]
        with pytest.raises(LogDamaged, match="does not follow"):
            sequences(folder, place._replace(digest=bytes(32)))


def test_times_are_the_writer_s(log: DecisionLog) -> None:
    log.write(32)
    assert {frame.written_at_us >= MONDAY_US for frame, _ in read(log.folder / FRONT_DOOR)} == {True}
