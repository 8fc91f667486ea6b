"""The writer: sequence and chain, segments, what a dead one left, full disks, failed syncs."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring.decision_log import (
    Context,
    Decisions,
    Frame,
    Gap,
    LogUnavailable,
    LogWriter,
    Signer,
    open_writer,
    read,
    segments,
    verify_log,
)
from fraud_scoring.decision_log.frames import NO_HASH
from fraud_scoring.decision_log.segments import HEAD_FILE, pruned_path, root_path, segment_path
from fraud_scoring.decision_log.signing import Says, read_statement
from fraud_scoring.settings import LogSettings
from support.decision_logs import Traffic, is_sound, logged_ids
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock
from support.server import until

KEY = Ed25519PrivateKey.generate()
CONTEXT = Context(7, DEFAULT_SCHEMA.document)
SECOND_US = 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock(MONDAY_US)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(np.random.default_rng(4))


@pytest.fixture
def signer() -> Signer:
    return Signer(KEY)


Open = Callable[..., LogWriter]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log" / "front-door-0"


@pytest.fixture
def opened(folder: Path, signer: Signer, clock: Clock) -> Iterator[Open]:
    """Opens the writer of `folder`; what is still open at the end is closed."""
    made: list[LogWriter] = []

    def open_it(durable: bool = True, context: Context = CONTEXT, **options: object) -> LogWriter:
        made.append(LogWriter(folder, context, signer, durable=durable, now_us=clock, **options))  # type: ignore[arg-type]
        return made[-1]

    yield open_it
    for writer in made:
        writer.close()


def frames(folder: Path) -> list[Frame]:
    return [frame for frame, _ in read(folder)]


def ids(content: Decisions) -> list[int]:
    found: list[int] = content.transaction[:, 0].tolist()
    return found


def is_clean(folder: Path) -> bool:
    return is_sound(folder, Signer(KEY))


def test_the_first_frame_is_the_context_and_each_holds_the_one_before_it(
    opened: Open, folder: Path, traffic: Traffic
) -> None:
    writer = opened()
    sent = [traffic.decisions(3, MONDAY_US) for _ in range(5)]
    for one in sent:
        writer.append(one)
    found = frames(folder)
    assert found[0].content() == CONTEXT
    assert [frame.sequence for frame in found] == list(range(6))
    assert [frame.previous for frame in found] == [NO_HASH, *(frame.digest for frame in found[:-1])]
    assert [frame.payload for frame in found[1:]] == [one.payload() for one in sent]


def test_a_frame_says_when_it_was_written(opened: Open, folder: Path, traffic: Traffic, clock: Clock) -> None:
    writer = opened()
    clock.now_us += 5
    writer.append(traffic.decisions(1, MONDAY_US))
    assert [frame.written_at_us for frame in frames(folder)] == [MONDAY_US, MONDAY_US + 5]


def test_a_full_segment_is_closed_and_signed_and_the_chain_goes_on_in_the_next(
    opened: Open, folder: Path, traffic: Traffic, signer: Signer
) -> None:
    writer = opened(segment_bytes=9_000)
    for _ in range(20):
        writer.append(traffic.decisions(10, MONDAY_US))
    numbers = segments(folder)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 3
    assert [root_path(folder, number).exists() for number in numbers] == [True] * (len(numbers) - 1) + [False]
    assert [frame.sequence for frame in frames(folder)] == list(range(20 + len(numbers)))
    firsts = [next(iter(read(folder, None if n == 1 else _start(folder, n))))[0].content() for n in numbers]
    assert firsts == [CONTEXT] * len(numbers)
    root = read_statement(root_path(folder, 1), signer.public_key, Says.ROOT)
    assert (root.writer, root.segment, root.size) == (folder.name, 1, segment_path(folder, 1).stat().st_size)
    assert root.rows == 10 * (root.frames - 1)
    writer.close()
    assert is_clean(folder)


def _start(folder: Path, number: int):  # type: ignore[no-untyped-def]
    from fraud_scoring.decision_log import Position

    *_, (_, before) = (item for item in read(folder) if item[1].segment < number)
    return Position(number, 0, before.sequence, before.digest)


def test_the_head_says_how_far_the_writer_has_come_once_a_second(
    opened: Open, folder: Path, traffic: Traffic, clock: Clock, signer: Signer
) -> None:
    def head() -> int:
        return read_statement(folder / HEAD_FILE, signer.public_key, Says.HEAD, Says.CLOSED).sequence

    writer = opened()
    assert head() == 0
    writer.append(traffic.decisions(1, MONDAY_US))
    assert head() == 0
    clock.now_us += SECOND_US
    writer.append(traffic.decisions(1, MONDAY_US))
    assert head() == 2
    writer.append(traffic.decisions(1, MONDAY_US))
    writer.close()
    assert head() == 3


def test_a_writer_that_syncs_seldom_signs_its_head_as_seldom(
    opened: Open, folder: Path, traffic: Traffic, clock: Clock, signer: Signer
) -> None:
    writer = opened(durable=False, sync_interval_s=10.0)
    signed = []
    for _ in range(12):
        clock.now_us += SECOND_US
        writer.append(traffic.decisions(1, clock.now_us))
        signed.append(read_statement(folder / HEAD_FILE, signer.public_key, Says.HEAD).sequence)
    assert signed == [0] * 9 + [10] * 3
    writer.close()
    assert is_clean(folder)


def test_a_new_context_is_logged_before_what_it_explains(opened: Open, folder: Path, traffic: Traffic) -> None:
    writer = opened()
    writer.set_context(CONTEXT)
    assert len(frames(folder)) == 1
    other = Context(8, CONTEXT.schema)
    writer.set_context(other)
    writer.append(traffic.decisions(1, MONDAY_US))
    assert [frame.content() for frame in frames(folder)[:2]] == [CONTEXT, other]
    writer.close()
    opened(context=other)
    assert frames(folder)[-1].content() == other
    assert is_clean(folder)


def test_a_closed_log_is_signed_and_let_go_and_closing_again_does_nothing(opened: Open, folder: Path) -> None:
    writer = opened()
    writer.close()
    writer.close()
    assert root_path(folder, 1).exists()
    assert is_clean(folder)
    opened()


def test_a_second_writer_is_refused_while_the_first_lives(opened: Open, folder: Path, traffic: Traffic) -> None:
    first = opened()
    with pytest.raises(LogUnavailable, match=f"another process writes the decision log {folder.name}"):
        opened()
    first.append(traffic.decisions(1, MONDAY_US))
    first.close()
    opened().append(traffic.decisions(1, MONDAY_US))
    assert is_clean(folder)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path, signer: Signer) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogUnavailable, match="the decision log's folder cannot be used: Not a directory"):
        LogWriter(tmp_path / "file" / "w", CONTEXT, signer)


@pytest.mark.parametrize("durable", [True, False])
def test_on_return_a_frame_is_as_safe_as_the_mode_says(
    opened: Open, traffic: Traffic, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
    writer = opened(durable=durable)
    began = len(synced)
    for number in range(5):
        writer.append(traffic.decisions(1, MONDAY_US))
        if durable:
            assert len(synced) == began + number + 1
    until(lambda: len(synced) > began)  # without being asked, and within moments


class TestAfterADeath:
    """`dies` leaves the folder as a SIGKILL would: nothing closed, the lock gone."""

    @staticmethod
    def dies(writer: LogWriter) -> None:
        writer._close_descriptor()
        writer._closed.set()
        writer._lock.close()

    def test_the_next_writer_goes_on_in_a_new_segment_behind_the_last_frame(
        self, opened: Open, folder: Path, traffic: Traffic
    ) -> None:
        writer, sent = opened(), traffic.decisions(4, MONDAY_US)
        writer.append(sent)
        self.dies(writer)
        after = traffic.decisions(2, MONDAY_US)
        opened().append(after)
        assert segments(folder) == [1, 2]
        assert root_path(folder, 1).exists()
        assert [frame.sequence for frame in frames(folder)] == [0, 1, 2, 3]
        assert logged_ids(folder) == ids(sent) + ids(after)
        assert is_clean(folder)

    @pytest.mark.parametrize("torn", [1, 63, 64, 65, 200])
    def test_half_a_frame_is_put_aside(self, opened: Open, folder: Path, traffic: Traffic, torn: int) -> None:
        writer, sent = opened(), traffic.decisions(4, MONDAY_US)
        writer.append(sent)
        self.dies(writer)
        tail = segment_path(folder, 1).read_bytes()[:torn]
        with segment_path(folder, 1).open("ab") as file:
            file.write(tail)
        opened()
        assert [path.read_bytes() for path in folder.glob("*.torn-*")] == [tail]
        assert logged_ids(folder) == ids(sent)
        assert is_clean(folder)

    @pytest.mark.parametrize("begun", [b"", b"FRD1", b"FRD1\x01\0\0\0"])
    def test_a_segment_in_which_nothing_was_begun_breaks_no_chain(
        self, opened: Open, folder: Path, traffic: Traffic, begun: bytes
    ) -> None:
        writer, sent = opened(), traffic.decisions(4, MONDAY_US)
        writer.append(sent)
        self.dies(writer)
        segment_path(folder, 2).write_bytes(begun)
        opened()
        assert [frame.sequence for frame in frames(folder)] == [0, 1, 2]
        assert is_clean(folder)

    def test_a_first_segment_in_which_nothing_was_begun_is_begun_again(self, opened: Open, folder: Path) -> None:
        folder.mkdir(parents=True)
        segment_path(folder, 1).write_bytes(b"")
        opened()
        assert segments(folder) == [1]
        assert is_clean(folder)

    def test_a_log_of_which_only_retention_s_word_is_left_goes_on_behind_it(
        self, opened: Open, folder: Path, traffic: Traffic, signer: Signer
    ) -> None:
        from dataclasses import replace

        writer = opened()
        writer.append(traffic.decisions(4, MONDAY_US))
        writer.close()
        root = read_statement(root_path(folder, 1), signer.public_key, Says.ROOT)
        signer.write(pruned_path(folder, 1), replace(root, says=Says.PRUNED))
        segment_path(folder, 1).unlink()
        root_path(folder, 1).unlink()
        opened().append(traffic.decisions(1, MONDAY_US))
        assert segments(folder) == [2]
        assert [frame.sequence for frame in frames(folder)] == [2, 3]
        assert is_clean(folder)

    def test_many_deaths_leave_one_chain(self, opened: Open, folder: Path, traffic: Traffic) -> None:
        rng, sent = np.random.default_rng(9), []
        for _ in range(12):
            writer = opened(segment_bytes=4_000)
            for _ in range(int(rng.integers(0, 5))):
                sent.append(traffic.decisions(int(rng.integers(1, 20)), MONDAY_US))
                writer.append(sent[-1])
            if rng.random() < 0.3:
                writer.close()
                continue
            self.dies(writer)
            if rng.random() < 0.5:
                with segment_path(folder, segments(folder)[-1]).open("ab") as file:
                    file.write(b"FRD1" + rng.bytes(30))
        opened()
        assert logged_ids(folder) == [identifier for one in sent for identifier in ids(one)]
        assert is_clean(folder)


class TestFullDisk:
    def test_nothing_is_acknowledged_and_a_gap_tells_when_there_is_room_again(self, folder: Path) -> None:
        """In a process of its own, whose files cannot grow; the clock is the test's."""
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=write_on_a_full_disk, args=(folder, theirs))
        process.start()
        theirs.close()
        with ours:
            acknowledged, refusals, missed = ours.recv()
        process.join(20)
        assert process.exitcode == 0
        assert len(refusals) == 3
        assert set(refusals) == {"the decision log cannot be written: File too large; free some disk"}
        assert logged_ids(folder) == acknowledged
        gaps = [frame.content() for frame in frames(folder) if isinstance(frame.content(), Gap)]
        assert gaps == [Gap(MONDAY_US + 10 * SECOND_US, missed, "File too large")]
        assert verify_log(folder.parent, _shared_signer(folder).public_key).findings == []

    def test_the_same_in_the_middle_of_many_segments_and_again_and_again(
        self, opened: Open, folder: Path, traffic: Traffic, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Writes that fail at random, some of them half done: what was acknowledged is there, in one chain."""
        rng, real, left = np.random.default_rng(11), os.write, [0]

        def write(descriptor: int, data: bytes) -> int:
            if left[0] <= 0 or Path(f"/proc/self/fd/{descriptor}").readlink().suffix != ".frdlog":
                return real(descriptor, data)
            left[0] -= 1
            if rng.random() < 0.5 and len(data) > 1:
                return real(descriptor, bytes(data[: len(data) // 2]))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", write)
        writer, acknowledged, missed = opened(segment_bytes=6_000), [], 0
        for _ in range(200):
            clock.now_us += 300_000
            if rng.random() < 0.15:
                left[0] = int(rng.integers(1, 6))
            content = traffic.decisions(3, clock.now_us)
            try:
                writer.append(content)
                acknowledged += ids(content)
            except LogUnavailable:
                missed += 3
                writer.miss(3)
        left[0] = 0
        clock.now_us += 2 * SECOND_US
        writer.check()
        writer.close()
        assert missed > 30
        assert logged_ids(folder) == acknowledged
        told = [content.answers for frame in frames(folder) if isinstance(content := frame.content(), Gap)]
        assert sum(told) == missed
        assert is_clean(folder)

    def test_a_failed_sync_is_a_refusal_and_its_descriptor_is_never_used_again(
        self, opened: Open, folder: Path, traffic: Traffic, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, used = os.fdatasync, []
        writer, before = opened(), traffic.decisions(2, MONDAY_US)
        writer.append(before)
        failed = writer._descriptor

        def sync(descriptor: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", sync)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            writer.append(traffic.decisions(2, MONDAY_US))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(failed)
        writer.miss(2)
        assert writer.missed == 2
        monkeypatch.setattr(os, "fdatasync", lambda descriptor: (used.append(descriptor), real(descriptor))[0])
        with pytest.raises(LogUnavailable, match="Input/output error"):
            writer.check()  # not yet a second later: the disk is left alone
        assert used == []
        clock.now_us += SECOND_US
        writer.check()
        after = traffic.decisions(1, MONDAY_US)
        writer.append(after)
        assert writer.missed == 0
        assert segments(folder) == [1, 2]
        assert logged_ids(folder) == ids(before) + ids(after)
        assert [frame.content() for frame in frames(folder)][2:4] == [
            CONTEXT,
            Gap(MONDAY_US, 2, "Input/output error"),
        ]
        assert is_clean(folder)

    def test_a_sync_that_failed_behind_the_back_of_an_async_writer_is_told_by_the_next_append(
        self, opened: Open, folder: Path, traffic: Traffic, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer, tried, real = opened(durable=False), [], os.fdatasync

        def sync(descriptor: int) -> None:
            tried.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", sync)
        writer.append(traffic.decisions(1, MONDAY_US))
        until(lambda: writer._sync_error is not None)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            writer.append(traffic.decisions(1, MONDAY_US))
        monkeypatch.setattr(os, "fdatasync", real)
        clock.now_us += SECOND_US
        writer.append(traffic.decisions(1, MONDAY_US))
        writer.close()
        assert is_clean(folder)


def write_on_a_full_disk(folder: Path, report: Connection) -> None:
    """Appends until refused, is refused three times, gets room again, and appends some more."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    clock, traffic = Clock(MONDAY_US), Traffic(np.random.default_rng(1))
    writer = LogWriter(folder, CONTEXT, _shared_signer(folder), now_us=clock)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    acknowledged: list[int] = []
    refusals: list[str] = []
    missed = 0
    for step in range(30):
        if step == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        clock.now_us = MONDAY_US + 10 * SECOND_US + step * 700_000 * bool(refusals)
        content = traffic.decisions(2, clock.now_us)
        try:
            writer.check()
            writer.append(content)
            acknowledged += ids(content)
        except LogUnavailable as refusal:
            refusals.append(str(refusal))
            writer.miss(2)
            missed += 2
        if len(refusals) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    writer.close()
    report.send((acknowledged, refusals, missed))
    report.close()


def _shared_signer(folder: Path) -> Signer:
    return Signer.open(folder.parents[1] / "key")


def test_a_log_is_opened_as_the_settings_say(tmp_path: Path, traffic: Traffic) -> None:
    assert open_writer(None, "front-door-0", CONTEXT) is None
    settings = LogSettings(tmp_path / "log", tmp_path / "keys" / "k", durable=True)
    writer = open_writer(settings, "front-door-0", CONTEXT)
    assert writer is not None
    writer.append(traffic.decisions(1, MONDAY_US))
    writer.close()
    assert verify_log(tmp_path / "log", Signer.open(settings.key).public_key).decisions == 1
    assert settings.key.stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_no_key_is_unavailable_and_says_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(LogUnavailable, match="give a file of 32 bytes"):
        Signer.open(tmp_path / "key")
