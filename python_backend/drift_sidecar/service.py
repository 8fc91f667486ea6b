"""The sidecar's life: look at the log, count, judge, checkpoint, show; until it is told to stop.

One thread does all of the work and hands out pictures; the pages' threads only read the last picture. So nothing needs
a lock, and a slow reader of metrics delays nobody.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from drift_sidecar.books import Books
from drift_sidecar.checkpoint import Checkpoint
from drift_sidecar.errors import CheckpointFailed
from drift_sidecar.metrics import exposition
from drift_sidecar.picture import Painter, Picture, Progress
from drift_sidecar.settings import SidecarSettings
from drift_sidecar.status import health_document, status_document
from drift_sidecar.web import METRICS_TYPE, Answer, PageServer, as_json
from fraud_scoring.decision_log.tail import Tail

LOOK_ROWS: Final = 16_384
"""Rows of each writer that one look takes at most."""
POLL_SECONDS: Final = 0.2
"""How long to wait when a look brought all there was: many frames at once cost far less than one by one."""
IDLE_CHECKPOINT_SECONDS: Final = 10.0
"""A checkpoint is written this often even if nothing is new: so that a disk that fails shows."""

Report = Callable[[str], None]


def wall_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


class Sidecar:
    """Follows a log and serves its pages. `now_us` is the clock that the log's times are compared with; `monotonic`
    measures how long things take.

    CannotFollow if the home or the port cannot be had.
    """

    def __init__(
        self,
        settings: SidecarSettings,
        report: Report,
        *,
        now_us: Callable[[], int] = wall_us,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._report = report
        self._now_us = now_us
        self._monotonic = monotonic
        self._checkpoint = Checkpoint(settings.home, report)
        try:
            self.books = self._restored()
            self._tail = Tail(
                settings.log,
                self.books.places,
                now_us,
                report,
                settle_us=round(1e6 * settings.settle_s),
                skip_damaged=settings.skip_damaged,
            )
            self._painter = Painter(self.books)
            self._checkpoint_at = self._checkpoint_tried_at = self._painted_at = monotonic()
            self._rows_unwritten = 0
            self._behind = False
            self._failing = ""
            self.picture = self._paint()
            self._pages = PageServer(settings.host, settings.port, self._sources())
        except BaseException:
            self._checkpoint.close()
            raise

    @property
    def port(self) -> int:
        """Where the pages are."""
        return self._pages.port

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then keep what was counted."""
        try:
            while not stop.is_set():
                self.step()
                if not self._behind:
                    stop.wait(POLL_SECONDS)
            self._write_checkpoint()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the port and of the home, without a word to the disk."""
        self._pages.close()
        self._checkpoint.close()

    def step(self) -> int:
        """One look at the log and all that follows from it; the number of frames that it brought."""
        taken = self._tail.take(LOOK_ROWS)
        self._behind = taken.rows >= LOOK_ROWS
        if taken.frames:
            self.books.apply(taken, self._tail.places)
            self._rows_unwritten += max(1, taken.rows)
        lags = self._tail.lags()
        if lags:
            passed = [lag.watermark_us for lag in lags if not lag.damage]
            everything = min(lag.watermark_us for lag in lags)
            self.books.go_on(min(passed, default=everything), everything)
        waited = self._monotonic() - self._checkpoint_tried_at
        due = self._rows_unwritten and waited >= self._settings.checkpoint_every_s
        many = self._rows_unwritten >= self._settings.checkpoint_rows and not self._failing
        if due or many or waited >= IDLE_CHECKPOINT_SECONDS:
            self._write_checkpoint()
        if self._monotonic() - self._painted_at >= self._settings.look_every_s:
            self.picture = self._paint()
            self._painted_at = self._monotonic()
        return taken.frames

    def _restored(self) -> Books:
        """Books as the checkpoint has them; new ones if it means nothing to this code."""
        books = Books(self._settings, self._now_us, self._report)
        try:
            books.restore(self._checkpoint.load())
        except (ValueError, KeyError, TypeError) as error:
            self._checkpoint.discard(str(error))
            return Books(self._settings, self._now_us, self._report)
        return books

    def _write_checkpoint(self) -> None:
        """Keep everything; where that fails, say so once and try again when the next one is due."""
        self._checkpoint_tried_at = self._monotonic()
        try:
            self._checkpoint.write(self.books.sections)
        except CheckpointFailed as error:
            if str(error) != self._failing:
                self._report(str(error))
            self._failing = str(error)
            return
        if self._failing:
            self._report("checkpoints are written again")
        self._failing = ""
        self._checkpoint_at, self._rows_unwritten = self._monotonic(), 0

    def _paint(self) -> Picture:
        progress = Progress(
            made_at=self._monotonic(),
            checkpoint_at=self._checkpoint_at,
            checkpoint_bytes=self._checkpoint.size,
            lags=tuple(self._tail.lags()),
            log_free_bytes=_free_bytes(self._settings.log),
        )
        return self._painter.paint(self._now_us(), progress)

    def _sources(self) -> dict[str, Callable[[], Answer]]:
        """What the pages' threads call: they read the last picture and nothing else."""

        def healthz() -> Answer:
            status, document = health_document(self.picture, self._monotonic(), self._settings)
            return as_json(document, status)

        return {
            "/metrics": lambda: (200, METRICS_TYPE, exposition(lambda: self.picture, self._monotonic)),
            "/api/status": lambda: as_json(status_document(self.picture, self._monotonic(), self._settings)),
            "/healthz": healthz,
        }


def _free_bytes(folder: Path) -> int | None:
    """What an unprivileged process can still write on a folder's disk; None where there is no folder."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
