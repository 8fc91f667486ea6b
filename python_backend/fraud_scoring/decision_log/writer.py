"""The writer of a decision log: one per process, one folder each.

durable   `append` returns once the frame is on the disk (`fdatasync`).
async     `append` returns once the kernel has it: the death of any process loses nothing, a power cut at most
          SYNC_INTERVAL_S, or what the writer is told instead.

Where the disk is full or a sync fails, `append` raises LogUnavailable and nothing is acknowledged. A descriptor whose
sync failed is never trusted again: the segment is cut back to its last acknowledged frame and a new one is begun.

A durable writer may leave the sync of large frames to another process, and write on meanwhile (handover.py): then
`append` only writes them, and nobody is told an answer before what `unsynced` names is on the disk, or `sync` returned.
What the writer signs is on the disk by its own sync, once all that was handed over is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from fraud_scoring.decision_log.contents import Content, Context, Decisions, Gap
from fraud_scoring.decision_log.errors import LogDamaged, LogUnavailable
from fraud_scoring.decision_log.frames import NO_HASH, Frame, decode, encode
from fraud_scoring.decision_log.handover import Handover
from fraud_scoring.decision_log.segments import (
    HEAD_FILE,
    LOCK_FILE,
    LOST_HEADS,
    PRUNED_SUFFIX,
    TORN,
    Position,
    read,
    root_path,
    segment_path,
    segments,
)
from fraud_scoring.decision_log.signing import Says, Signer, Statement, read_statement
from fraud_scoring.disk import sync
from fraud_scoring.settings import LogSettings

SEGMENT_BYTES: Final = 64 << 20
SYNC_INTERVAL_S: Final = 0.2
HEAD_INTERVAL_US: Final = 1_000_000
RETRY_AFTER_US: Final = 1_000_000
SETTLED_WITHIN_S: Final = 2.0
"""Who was handed something has a sync to do, and no more."""


class _Reached(NamedTuple):
    """A segment behind a frame; `sequence` and `digest` are of the next one, and of this."""

    size: int
    frames: int
    rows: int
    sequence: int
    digest: bytes


def _now_us() -> int:
    return time.time_ns() // 1000


class LogWriter:
    """Appends frames to `folder` (named for its writer); raises LogUnavailable if another process holds it.

    Frames of at least so many rows as `hands_over` says (0: none) are safe only once who takes what is `unsynced` has
    brought it to the disk.
    """

    def __init__(
        self,
        folder: Path,
        context: Context,
        signer: Signer,
        *,
        durable: bool = True,
        hands_over: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        sync_interval_s: float = SYNC_INTERVAL_S,
        now_us: Callable[[], int] = _now_us,
    ) -> None:
        self._folder = folder
        self._context = context
        self._signer = signer
        self._durable = durable
        self._hands_over = hands_over
        self._segment_bytes = segment_bytes
        self._sync_interval_s = sync_interval_s
        self._head_interval_us = max(HEAD_INTERVAL_US, round(1e6 * sync_interval_s))
        self._now_us = now_us
        self._descriptor = -1
        self._failed_at_us: int | None = None
        self._failed_since_us = 0
        self._missed = 0
        self._why = ""
        self._lock = self._lock_folder()
        self._segment = 0
        self._size = self._frames = self._rows = 0
        self._sequence, self._digest = 0, NO_HASH
        self._unsynced: deque[_Reached] = deque()
        """Where the segment was last known to be on the disk, and behind each frame since."""
        self._handed = 0
        self._handover: Handover | None = None
        self._head_at_us = 0
        self._sync_error: OSError | None = None
        self._descriptor_lock = threading.Lock()
        self._dirty = threading.Event()
        self._closed = threading.Event()
        try:
            if durable and hands_over:
                self._handover = Handover(folder / LOCK_FILE)
            self._recover()
            self._begin_segment()
        except OSError as error:
            self._close_descriptor()
            self._let_go()
            raise LogUnavailable(f"the decision log cannot be written: {error.strerror}; free some disk") from None
        if not durable:
            threading.Thread(target=self._sync_in_background, name="log-sync", daemon=True).start()

    @property
    def missed(self) -> int:
        """Answers that were given while the log could not be written, and are not in it."""
        return self._missed

    def check(self) -> None:
        """Raise LogUnavailable if a frame cannot be written now; after a failure, try anew once in a while."""
        if self._failed_at_us is not None:
            self._try_again(self._now_us())
        try:
            self._check_handover()
        except OSError as error:
            self._fail(error, self._now_us())

    def append(self, content: Content) -> None:
        """Write one frame; on return it is as safe as the mode says, or `unsynced`.

        LogUnavailable: it is not in the log.
        """
        self.check()
        now_us = self._now_us()
        head_is_due = now_us - self._head_at_us >= self._head_interval_us
        try:
            if self._sync_error is not None:
                error, self._sync_error = self._sync_error, None
                raise error
            if self._size >= self._segment_bytes:
                self._end_segment()
                self._begin_segment()
            self._write(content, now_us)
            if head_is_due or _rows(content) < self._hands_over:
                self._settle()
        except OSError as error:
            self._fail(error, now_us)
        if head_is_due:
            self._sign_head(now_us)

    def unsynced(self) -> bytes | None:
        """What was written and not handed over yet, for who brings it to the disk; None where there is nothing."""
        if self._handover is None or self._descriptor < 0 or self._handed == self._size:
            return None
        self._handed = self._size
        return self._handover.name(self._segment, self._size, segment_path(self._folder, self._segment))

    def sync(self) -> None:
        """Bring what was written to the disk here and now; LogUnavailable: it is not there."""
        if self._handover is None or self._descriptor < 0 or self._handed == self._size:
            return
        try:
            self._sync()
        except OSError as error:
            self._fail(error, self._now_us())

    def miss(self, answers: int) -> None:
        """Count answers that were given without the log; a gap frame tells of them as soon as it can be written."""
        self._missed += answers

    def set_context(self, context: Context) -> None:
        """What the next decisions mean."""
        if context != self._context:
            self._context = context
            self.append(context)

    def close(self) -> None:
        """End the segment, sign it, let go of the folder."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._dirty.set()
        if self._failed_at_us is None:
            try:
                self._end_segment()
            except OSError as error:
                with suppress(LogUnavailable):
                    self._fail(error, self._now_us())
        self._close_descriptor()
        self._let_go()

    def _let_go(self) -> None:
        if self._handover is not None:
            self._handover.close()
        self._lock.close()

    def _lock_folder(self) -> IO[bytes]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = (self._folder / LOCK_FILE).open("ab")
        except OSError as error:
            raise LogUnavailable(f"the decision log's folder cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LogUnavailable(
                f"another process writes the decision log {self._folder.name}; give each front door its own"
            ) from None
        return lock

    def _recover(self) -> None:
        """Take up where the last writer ended: cut off what it did not finish, sign what it did not close."""
        kept = segments(self._folder)
        while kept and not self._take_up(kept.pop()):
            pass
        if self._segment == 0 and (pruned := sorted(self._folder.glob(f"*{PRUNED_SUFFIX}"))):
            self._go_on_behind(self._signed(pruned[-1], Says.PRUNED))
        self._keep_head_that_saw_more()

    def _take_up(self, number: int) -> bool:
        """Go on behind segment `number`; False if nothing was begun in it, and it was put aside."""
        if self._go_on_behind(self._signed(root_path(self._folder, number), Says.ROOT)):
            return True  # what is in it now is for `log verify` to say
        path = segment_path(self._folder, number)
        first = self._first_frame(path)
        if first is None:
            self._set_aside(path, 0)
            path.unlink()
            return False
        self._segment = number
        position = Position(number, 0, first.sequence, first.previous)
        try:
            for frame, end in read(self._folder, position):
                position = end
                self._frames += 1
                self._rows += _rows(frame.content())
                self._sequence, self._digest = frame.sequence + 1, frame.digest
        except LogDamaged:
            pass  # what follows is torn or was changed: it is kept aside for `log verify`, not overwritten
        self._size = position.offset
        self._set_aside(path, position.offset)
        self._sign_root()
        return True

    def _go_on_behind(self, closed: Statement | None) -> bool:
        if closed is None:
            return False
        self._segment = closed.segment
        self._sequence, self._digest = closed.sequence + 1, bytes.fromhex(closed.digest)
        return True

    def _signed(self, path: Path, *says: Says) -> Statement | None:
        """The statement in `path`; None where there is none that this log's key signed."""
        try:
            return read_statement(path, self._signer.public_key, *says)
        except LogDamaged:
            return None

    def _keep_head_that_saw_more(self) -> None:
        """A head that names a frame which is gone is the only witness of it: the next head must not replace it."""
        path = self._folder / HEAD_FILE
        head = self._signed(path, Says.HEAD, Says.CLOSED)
        if head is not None and head.sequence >= self._sequence:
            path.rename(path.with_name(LOST_HEADS.replace("*", str(self._now_us()))))

    @staticmethod
    def _first_frame(path: Path) -> Frame | None:
        """The frame at the start of a segment, as it stands; the chain is for `log verify`."""
        with path.open("rb") as file:
            start = file.read(1 << 20)
        try:
            return decode(start, 0)
        except LogDamaged:
            return None

    def _set_aside(self, path: Path, end: int) -> None:
        """Cut a segment at `end`; the bytes behind it go into a file beside it."""
        if tail := path.read_bytes()[end:]:
            path.with_suffix(f".{TORN}{self._now_us()}").write_bytes(tail)
            os.truncate(path, end)

    def _begin_segment(self) -> None:
        self._segment += 1
        self._size = self._frames = self._rows = 0
        path = segment_path(self._folder, self._segment)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
        self._unsynced.clear()
        self._handed = 0
        self._write(self._context, self._now_us())
        self._settle()
        sync(self._folder)
        self._sign_head(self._now_us())

    def _end_segment(self) -> None:
        self._sync()
        self._close_descriptor()
        self._sign_root()
        self._sign_head(self._now_us(), Says.CLOSED)

    def _write(self, content: Content, now_us: int) -> None:
        frame, digest = encode(content, self._sequence, now_us, self._digest)
        left = memoryview(frame)
        while left:
            left = left[os.write(self._descriptor, left) :]
        if not self._durable:
            self._dirty.set()
        elif self._handover is None:
            os.fdatasync(self._descriptor)
        self._size += len(frame)
        self._frames += 1
        self._rows += _rows(content)
        self._sequence, self._digest = self._sequence + 1, digest
        if self._handover is not None:
            self._unsynced.append(self._reached())

    def _reached(self) -> _Reached:
        return _Reached(self._size, self._frames, self._rows, self._sequence, self._digest)

    def _check_handover(self) -> None:
        """OSError if what was handed over could not be synced."""
        if self._handover is None:
            return
        if self._handover.lost(self._segment) is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        synced = self._handover.synced(self._segment)
        while len(self._unsynced) > 1 and self._unsynced[1].size <= synced:
            self._unsynced.popleft()

    def _settle(self) -> None:
        """Bring to the disk what could be handed over."""
        if self._handover is not None:
            self._sync()

    def _sync(self) -> None:
        """Bring all to the disk: after what was handed over, so that it is known which of it was acknowledged."""
        if self._handover is not None:
            self._handover.wait(SETTLED_WITHIN_S)
            self._check_handover()
        os.fdatasync(self._descriptor)
        self._handed = self._size
        self._unsynced.clear()
        self._unsynced.append(self._reached())

    def _go_back(self) -> None:
        """Forget what was handed to nobody, and what cannot be synced: nobody is told of it."""
        if self._handover is None or not self._unsynced:
            return
        lost = self._handover.lost(self._segment)
        while len(self._unsynced) > 1 and self._unsynced[-1].size > (self._handed if lost is None else lost):
            self._unsynced.pop()
        self._size, self._frames, self._rows, self._sequence, self._digest = self._unsynced[-1]

    def _fail(self, error: OSError, now_us: int) -> None:
        """Forget the frame that could not be written, and everything that this descriptor may still do."""
        if self._failed_at_us is None:
            self._failed_since_us = now_us
        self._failed_at_us, self._why = now_us, error.strerror or type(error).__name__
        if self._descriptor >= 0:
            self._go_back()
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            self._close_descriptor()
        raise LogUnavailable(f"the decision log cannot be written: {self._why}; free some disk") from None

    def _try_again(self, now_us: int) -> None:
        """Begin a new segment, not more often than once in RETRY_AFTER_US, and tell of the gap first."""
        assert self._failed_at_us is not None
        is_settled = self._handover is None or self._handover.is_settled()
        if now_us - self._failed_at_us < RETRY_AFTER_US or not is_settled:
            raise LogUnavailable(f"the decision log cannot be written: {self._why}; free some disk")
        try:
            self._go_back()
            path = segment_path(self._folder, self._segment)
            if path.exists() and path.stat().st_size > self._size:
                os.truncate(path, self._size)
            if self._frames:
                if self._handover is not None:
                    sync(path)
                self._sign_root()
            else:
                path.unlink(missing_ok=True)
                self._segment -= 1
            self._begin_segment()
            self._write(Gap(self._failed_since_us, self._missed, self._why), now_us)
        except OSError as error:
            self._fail(error, now_us)
        self._failed_at_us, self._missed = None, 0

    def _sign_root(self) -> None:
        self._signer.write(root_path(self._folder, self._segment), self._statement(Says.ROOT, self._now_us()))

    def _sign_head(self, now_us: int, says: Says = Says.HEAD) -> None:
        self._head_at_us = now_us
        with suppress(OSError):  # the next head, a second later, says the same and more
            self._signer.write(self._folder / HEAD_FILE, self._statement(says, now_us))

    def _statement(self, says: Says, now_us: int) -> Statement:
        return Statement(
            says=says,
            writer=self._folder.name,
            segment=self._segment,
            sequence=self._sequence - 1,
            digest=self._digest.hex(),
            size=self._size,
            frames=self._frames,
            rows=self._rows,
            at_us=now_us,
        )

    def _close_descriptor(self) -> None:
        with self._descriptor_lock:
            if self._descriptor >= 0:
                with suppress(OSError):
                    os.close(self._descriptor)
                self._descriptor = -1

    def _sync_in_background(self) -> None:
        while self._dirty.wait() and not self._closed.wait(self._sync_interval_s):
            self._dirty.clear()
            with self._descriptor_lock:
                if self._descriptor < 0:
                    continue
                try:
                    os.fdatasync(self._descriptor)
                except OSError as error:
                    self._sync_error = error  # the next append tells


def open_writer(
    settings: LogSettings | None,
    name: str,
    context: Context,
    sync_interval_s: float = SYNC_INTERVAL_S,
    *,
    hands_over: int = 0,
) -> LogWriter | None:
    """The writer `name` of the log that the settings ask for; None where they ask for none."""
    if settings is None:
        return None
    signer = Signer.open(settings.key)
    folder = settings.folder / name
    return LogWriter(
        folder,
        context,
        signer,
        durable=settings.durable,
        hands_over=hands_over,
        sync_interval_s=sync_interval_s,
    )


def _rows(content: Content) -> int:
    return len(content) if isinstance(content, Decisions) else 0
