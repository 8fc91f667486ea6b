"""What `verify_log` finds: every change, and nothing in a log that a writer wrote, closed, lost or writes now."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring.decision_log import Context, LogWriter, Signer, Verification, segments, verify_log
from fraud_scoring.decision_log.segments import HEAD_FILE, frames_of, root_path, segment_path
from support.decision_logs import FRONT_DOOR, Traffic
from support.rows import MONDAY_US, Clock
from support.tampering import WAYS, WRITERS, Tamperer, write_log

TAMPERINGS = 150


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "log", signer)


def found(log: Path, signer: Signer) -> list[str]:
    return [finding.what for finding in verify_log(log, signer.public_key).findings]


def opened(folder: Path, signer: Signer, clock: Clock | None = None, **options: object) -> LogWriter:
    clock = clock or Clock(MONDAY_US)
    context = Context(7, Traffic(np.random.default_rng(0)).schema.document)
    return LogWriter(folder, context, signer, durable=False, now_us=clock, **options)  # type: ignore[arg-type]


def abandoned(log: Path, signer: Signer, tmp_path: Path, frames: int = 12, **options: object) -> Path:
    """The log of a writer that died: as it lay on the disk, with its last head a moment old."""
    clock, traffic = Clock(MONDAY_US), Traffic(np.random.default_rng(5))
    writer = opened(log / FRONT_DOOR, signer, clock, **options)
    for _ in range(frames):
        clock.now_us += 2_000_000
        writer.append(traffic.decisions(3, clock.now_us))
    copy = Path(shutil.copytree(log, tmp_path / "abandoned"))
    writer.close()
    return copy


def test_a_log_as_it_was_written_has_no_findings(log: Path, signer: Signer) -> None:
    result = verify_log(log, signer.public_key)
    assert result.findings == []
    assert result.writers == len(WRITERS)
    assert result.segments == sum(len(segments(log / name)) for name in WRITERS) > 10
    assert result.frames == sum(1 for name in WRITERS for n in segments(log / name) for _ in frames_of(log / name, n))


@pytest.mark.parametrize("part", range(5))
def test_every_tampering_is_found(log: Path, signer: Signer, tmp_path: Path, part: int) -> None:
    unseen = []
    each = TAMPERINGS // 5
    for seed in range(part * each, (part + 1) * each):
        copy = Path(shutil.copytree(log, tmp_path / str(seed)))
        tamperer = Tamperer(copy, seed)
        tamperer.tamper()
        if not found(copy, signer):
            unseen.append((seed, tamperer.done))
        shutil.rmtree(copy)
    assert unseen == []


@pytest.mark.parametrize("way", sorted({way.__name__ for way in WAYS}))
def test_each_way_to_tamper_is_found(log: Path, signer: Signer, tmp_path: Path, way: str) -> None:
    for seed in range(4):
        copy = Path(shutil.copytree(log, tmp_path / str(seed)))
        getattr(Tamperer(copy, seed), way)()
        assert found(copy, signer), (way, seed)


def test_a_finding_names_writer_segment_byte_and_frame(log: Path, signer: Signer, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(log, tmp_path / "copy"))
    path = segment_path(copy / FRONT_DOOR, 2)
    frames = list(frames_of(copy / FRONT_DOOR, 2))
    at = frames[0].size + frames[1].size
    data = bytearray(path.read_bytes())
    data[at + 100] ^= 1
    path.write_bytes(data)
    first = verify_log(copy, signer.public_key).findings[0]
    assert (first.writer, first.segment, first.byte) == (FRONT_DOOR, 2, at)
    assert first.sequence == frames[2].sequence
    assert first.what == f"frame {frames[2].sequence} does not match its checksum"


def test_the_key_of_somebody_else_signed_nothing_here(log: Path) -> None:
    stranger = Signer(Ed25519PrivateKey.generate())
    assert any("is not signed by the log's key" in what for what in found(log, stranger))


def test_an_empty_folder_and_no_folder_have_no_findings(tmp_path: Path, signer: Signer) -> None:
    assert verify_log(tmp_path, signer.public_key) == Verification()
    assert verify_log(tmp_path / "none", signer.public_key) == Verification()


class TestWithoutAProperEnd:
    def test_a_writer_that_died_leaves_no_finding(self, tmp_path: Path, signer: Signer) -> None:
        copy = abandoned(tmp_path / "log", signer, tmp_path)
        assert not root_path(copy / FRONT_DOOR, 1).exists()
        assert found(copy, signer) == []

    def test_nor_does_the_next_one_that_takes_up_its_log(self, tmp_path: Path, signer: Signer) -> None:
        copy = abandoned(tmp_path / "log", signer, tmp_path)
        opened(copy / FRONT_DOOR, signer).close()
        assert segments(copy / FRONT_DOOR) == [1, 2]
        assert found(copy, signer) == []

    @pytest.mark.parametrize("taken_up", [False, True])
    @pytest.mark.parametrize("damage", ["flip first", "flip", "flip last", "cut", "remove"])
    def test_a_change_to_what_it_left_is_found_even_when_the_next_writer_has_taken_it_up(
        self, tmp_path: Path, signer: Signer, damage: str, taken_up: bool
    ) -> None:
        copy = abandoned(tmp_path / "log", signer, tmp_path)
        path = segment_path(copy / FRONT_DOOR, 1)
        data = bytearray(path.read_bytes())
        sizes = [frame.size for frame in frames_of(copy / FRONT_DOOR, 1)]
        if damage == "remove":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(data[: sum(sizes[:-2])])
        else:
            data[{"flip first": 70, "flip": sum(sizes[:4]) + 80, "flip last": len(data) - 1}[damage]] ^= 4
            path.write_bytes(data)
        if taken_up:
            writer = opened(copy / FRONT_DOOR, signer)
            writer.append(Traffic(np.random.default_rng(0)).decisions(3, MONDAY_US))
            writer.close()
        assert found(copy, signer) != []

    def test_half_a_frame_at_its_end_was_never_acknowledged_and_is_cut_off(
        self, tmp_path: Path, signer: Signer
    ) -> None:
        copy = abandoned(tmp_path / "log", signer, tmp_path)
        path = segment_path(copy / FRONT_DOOR, 1)
        data = path.read_bytes()
        path.write_bytes(data + data[:50])
        assert found(copy, signer) == ["the segment ends inside a frame"]
        opened(copy / FRONT_DOOR, signer).close()
        assert found(copy, signer) == []
        (torn,) = (copy / FRONT_DOOR).glob("*.torn-*")
        assert torn.read_bytes() == data[:50]


def test_a_log_that_is_being_written_has_no_findings(tmp_path: Path, signer: Signer) -> None:
    traffic, stop = Traffic(np.random.default_rng(2)), threading.Event()
    clock = Clock(MONDAY_US)
    writer = opened(tmp_path / FRONT_DOOR, signer, clock, segment_bytes=30_000)

    def write() -> None:
        while not stop.is_set():
            clock.now_us += 1_000_000  # a new head each time
            writer.append(traffic.decisions(5, clock.now_us))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while len(segments(tmp_path / FRONT_DOOR)) < 4:
            assert found(tmp_path, signer) == []
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert found(tmp_path, signer) == []


def test_statements_are_replaced_in_one_step(log: Path) -> None:
    for name in WRITERS:
        assert [path.name for path in (log / name).iterdir() if path.name.endswith(".part")] == []
        assert os.access(log / name / HEAD_FILE, os.R_OK)
