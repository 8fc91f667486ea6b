"""How many rows the sidecar counts in a second of one core: reading, joining, counting, labels, checkpoints.

python -m pytest tests/soak/test_sidecar_soak.py -s

By processor time; a machine that does other work at the same time is slower by that, too.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from drift_sidecar.books import Books
from drift_sidecar.checkpoint import Checkpoint
from drift_sidecar.settings import SidecarSettings
from fraud_scoring.decision_log.tail import Tail
from support.decision_logs import decision_log, write_reference

ROWS_PER_SECOND = 50_000


@pytest.mark.parametrize("frame_rows", [1, 16, 64])
def test_fifty_thousand_rows_a_second_are_counted_on_one_core(tmp_path: Path, frame_rows: int) -> None:
    with decision_log(tmp_path / "log", seed=6) as log:
        write_reference(tmp_path / "repository", log.traffic, rows=3_000)
        n = 50_000 if frame_rows == 1 else 200_000
        frames = [log.traffic.decisions(frame_rows, log.clock.now_us) for _ in range(100)]
        for at in range(n // frame_rows):
            log.writer().append(frames[at % 100])
            log.clock.now_us += round(1e6 * frame_rows / 500)
        log.close()

        def later() -> int:
            return log.clock.now_us + 10_000_000

        settings = SidecarSettings(log.folder, tmp_path / "repository", tmp_path / "home")
        books, tail = Books(settings, later, pytest.fail), Tail(log.folder, {}, later, lambda _: None)
        checkpoint = Checkpoint(settings.home, pytest.fail)
        before = time.process_time()
        while (taken := tail.take(16_384)).frames:
            books.apply(taken, tail.places)
            checkpoint.write(books.sections)
        took = time.process_time() - before
        checkpoint.close()
    assert books.rows == n
    rate = books.rows / took
    json.dump({"frame_rows": frame_rows, "rows_per_second": round(rate)}, sys.stdout)
    assert rate >= ROWS_PER_SECOND, f"{rate:,.0f} rows/s"
