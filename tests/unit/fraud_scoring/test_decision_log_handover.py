"""A writer that leaves its syncs to another process: what is acknowledged is in the log, and nothing else for long."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fraud_scoring.decision_log import (
    Context,
    Gap,
    LogUnavailable,
    LogWriter,
    Signer,
    read,
    segments,
)
from fraud_scoring.decision_log import handover as handover_module
from fraud_scoring.decision_log.segments import HEAD_FILE, root_path, segment_path
from fraud_scoring.decision_log.signing import Says, read_statement
from support.decision_logs import Traffic, is_sound, logged_ids
from support.handovers import Disk, size_of
from support.rows import DEFAULT_SCHEMA, MONDAY_US, Clock

KEY = Ed25519PrivateKey.generate()
CONTEXT = Context(7, DEFAULT_SCHEMA.document)
SECOND_US = 1_000_000


class Writing:
    """A writer, its disk, and what was acknowledged."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.clock = Clock(MONDAY_US)
        self.traffic = Traffic(np.random.default_rng(4))
        self.disk = Disk()
        self.acknowledged: list[int] = []
        self.writer = LogWriter(
            folder,
            CONTEXT,
            Signer(KEY),
            now_us=self.clock,
            **{"hands_over": 1, **options},  # type: ignore[arg-type]
        )

    def write(self, rows: int = 2) -> tuple[bytes | None, list[int]]:
        """(what must be on the disk, the ids that are acknowledged then)."""
        content = self.traffic.decisions(rows, self.clock.now_us)
        self.writer.append(content)
        return self.writer.unsynced(), content.transaction[:, 0].tolist()

    def acknowledge(self, *written: tuple[bytes | None, list[int]]) -> None:
        for named, ids in written:
            assert self.disk.reach(named)
            self.acknowledged += ids

    def logged(self) -> list[int]:
        return logged_ids(self.folder)

    def is_clean(self) -> bool:
        return is_sound(self.folder, Signer(KEY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log" / "front-door-0"


Begin = Callable[..., Writing]


@pytest.fixture
def begin(folder: Path) -> Iterator[Begin]:
    made: list[Writing] = []

    def begin_it(**options: object) -> Writing:
        made.append(Writing(folder, **options))
        return made[-1]

    yield begin_it
    for one in made:
        one.writer.close()


@pytest.fixture
def writing(begin: Begin) -> Writing:
    return begin()


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that are synced, as they are."""
    real, seen = os.fdatasync, list[int]()
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (seen.append(descriptor), real(descriptor))[1])
    return seen


def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)


def broken_sync(descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_append_syncs_nothing_and_what_it_wrote_is_named_once(writing: Writing, synced: list[int]) -> None:
    named, _ = writing.write()
    assert synced == []
    assert named is not None
    assert size_of(named) == segment_path(writing.folder, 1).stat().st_size
    assert writing.writer.unsynced() is None


def test_several_frames_of_a_call_are_named_by_one_place(writing: Writing) -> None:
    writing.writer.append(writing.traffic.decisions(1, MONDAY_US))
    named, _ = writing.write()
    assert named is not None
    assert size_of(named) == segment_path(writing.folder, 1).stat().st_size


def test_it_writes_on_while_others_sync_and_the_log_is_as_any_other(writing: Writing) -> None:
    waiting = [writing.write() for _ in range(3)]
    writing.acknowledge(*waiting)
    writing.acknowledge(writing.write())
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


@pytest.mark.parametrize("then", ["the next segment", "the head", "the end"])
def test_what_is_signed_is_on_the_disk_and_what_others_have_before_it(
    then: str, begin: Begin, synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = begin(segment_bytes=1)
    first, second = writing.write(), writing.write()
    segment = segments(writing.folder)[-1]
    head = read_statement(writing.folder / HEAD_FILE, Signer(KEY).public_key, Says.HEAD)
    seen: list[bool] = []
    real = handover_module.Handover.wait

    def wait(self: handover_module.Handover, seconds: float) -> None:
        if not seen:  # others sync while the writer waits
            seen.append(root_path(writing.folder, segment).exists())
            assert read_statement(writing.folder / HEAD_FILE, Signer(KEY).public_key, Says.HEAD) == head
            assert not self.is_settled()
            writing.acknowledge(second)
        real(self, seconds)
        assert self.is_settled()

    writing.acknowledge(first)
    del synced[:]
    monkeypatch.setattr(handover_module.Handover, "wait", wait)
    match then:
        case "the next segment":
            writing.acknowledge(writing.write())
        case "the head":
            writing.clock.now_us += 2 * SECOND_US
            writing.acknowledge(writing.write())
        case "the end":
            writing.writer.close()
    assert seen == [False]
    assert len(synced) >= 2  # theirs, and the writer's own
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


def test_with_its_head_a_frame_is_on_the_disk_and_nothing_is_left_to_others(writing: Writing) -> None:
    writing.clock.now_us += 2 * SECOND_US
    named, _ = writing.write()
    assert named is None


def test_a_sync_that_fails_takes_back_what_was_written_behind_what_is_on_the_disk(
    writing: Writing,
) -> None:
    writing.acknowledge(writing.write(), writing.write())
    lost, behind = writing.write(), writing.write()
    assert lost[0] is not None
    writing.disk.lose(lost[0])
    assert not writing.disk.reach(behind[0])
    with pytest.raises(LogUnavailable, match="Input/output error"):
        writing.writer.check()
    assert writing.logged() == writing.acknowledged
    with pytest.raises(LogUnavailable):
        writing.write()
    writing.writer.miss(2)
    writing.clock.now_us += SECOND_US
    writing.acknowledge(writing.write())
    assert segments(writing.folder) == [1, 2]
    assert [c for frame, _ in read(writing.folder) if isinstance(c := frame.content(), Gap)] == [
        Gap(MONDAY_US, 2, "Input/output error")
    ]
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


def test_what_the_first_sync_of_a_segment_loses_is_all_but_its_beginning(writing: Writing) -> None:
    lost, _ = writing.write()
    assert lost is not None
    writing.disk.lose(lost)
    writing.writer.close()
    assert writing.logged() == []
    assert writing.is_clean()


@pytest.mark.parametrize("is_lost", [False, True])
def test_on_a_full_disk_nothing_is_begun_before_it_is_known_what_became_of_what_others_have(
    is_lost: bool, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing.acknowledge(writing.write())
    waiting = writing.write()
    with monkeypatch.context() as full:
        no_space(full)
        with pytest.raises(LogUnavailable, match="No space left"):
            writing.write()
    writing.clock.now_us += SECOND_US
    with pytest.raises(LogUnavailable, match="No space left"):
        writing.writer.check()
    assert segments(writing.folder) == [1]
    if is_lost:
        assert waiting[0] is not None
        writing.disk.lose(waiting[0])
    else:
        writing.acknowledge(waiting)
    writing.acknowledge(writing.write())
    assert segments(writing.folder) == [1, 2]
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


def test_of_a_call_that_fails_on_its_way_no_frame_stays(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    writing.acknowledge(writing.write())
    writing.writer.append(writing.traffic.decisions(1, MONDAY_US))
    with monkeypatch.context() as full:
        no_space(full)
        with pytest.raises(LogUnavailable):
            writing.write()
    assert writing.writer.unsynced() is None
    writing.clock.now_us += SECOND_US
    writing.acknowledge(writing.write())
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


def test_a_sync_of_its_own_that_fails_takes_back_what_nobody_was_told(
    writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing.acknowledge(writing.write())
    writing.clock.now_us += 2 * SECOND_US  # the head is due
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", broken_sync)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            writing.write()
    assert writing.logged() == writing.acknowledged
    writing.clock.now_us += SECOND_US
    writing.acknowledge(writing.write())
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert writing.is_clean()


def test_who_takes_nothing_over_has_it_synced_here(writing: Writing, synced: list[int]) -> None:
    writing.writer.append(writing.traffic.decisions(1, MONDAY_US))
    writing.writer.sync()
    writing.writer.sync()
    assert len(synced) == 1
    assert writing.writer.unsynced() is None


def test_and_is_told_where_that_fails(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    writing.writer.append(writing.traffic.decisions(1, MONDAY_US))
    monkeypatch.setattr(os, "fdatasync", broken_sync)
    with pytest.raises(LogUnavailable, match="Input/output error"):
        writing.writer.sync()
    assert writing.logged() == []


def test_a_small_frame_is_synced_here_and_with_it_all_that_was_left(begin: Begin, synced: list[int]) -> None:
    writing = begin(hands_over=3)
    del synced[:]
    large = writing.write(rows=3)
    assert synced == []
    writing.acknowledge(large)
    del synced[:]
    small, _ = writing.write(rows=2)
    assert small is None
    assert len(synced) == 1


def test_an_async_log_has_nothing_to_hand_over(begin: Begin) -> None:
    writing = begin(durable=False)
    named, _ = writing.write()
    assert named is None
    writing.writer.sync()


def test_a_writer_that_follows_one_that_died_waits_for_nothing_of_it(begin: Begin) -> None:
    dead = begin()
    dead.write()
    dead.writer._closed.set()  # it closes nothing any more
    dead.writer._close_descriptor()
    dead.writer._let_go()
    writing = begin()
    writing.acknowledge(writing.write())
    writing.clock.now_us += 2 * SECOND_US
    writing.acknowledge(writing.write())
    writing.writer.close()
    assert writing.is_clean()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_the_log_has_what_was_acknowledged_and_nothing_else(
    seed: int, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = random.Random(seed)
    writing = begin(segment_bytes=order.choice([4_000, 12_000, 1 << 20]), hands_over=order.choice([1, 2, 4]))
    waiting: list[tuple[bytes | None, list[int]]] = []
    monkeypatch.setattr(handover_module.Handover, "wait", lambda *_: settle(len(waiting)))

    def settle(count: int) -> None:
        """The first of what waits, in its order; now and then a sync fails."""
        for named, ids in waiting[:count]:
            if named is not None and order.random() < 0.05:
                writing.disk.lose(named)
            elif writing.disk.reach(named):
                writing.acknowledged += ids
        del waiting[:count]

    for _ in range(150):
        writing.clock.now_us += order.choice([0, 0, 300_000, SECOND_US])
        with monkeypatch.context() as broken:
            if (fault := order.random()) < 0.04:
                no_space(broken)
            elif fault < 0.08:
                broken.setattr(os, "fdatasync", broken_sync)
                broken.setattr(handover_module.Handover, "wait", lambda *_: None)
            try:
                waiting.append(writing.write(order.randint(1, 4)))
            except LogUnavailable:
                writing.writer.miss(1)
        settle(order.randint(0, len(waiting)))
    settle(len(waiting))
    writing.writer.close()
    assert writing.logged() == writing.acknowledged
    assert len(writing.acknowledged) > 20
    assert writing.is_clean()
