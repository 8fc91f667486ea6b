"""Programs beside the benchmark: waited for, explained when they fail, gone at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from fraud_bench.servers import CannotMeasure, program, wait_until

SAYS_READY = "import time; print('first', flush=True); print('ready now', flush=True); time.sleep(60)"


def test_a_program_is_there_from_when_it_says_so_until_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with program([sys.executable, "-c", SAYS_READY], log, lambda line: "ready" in line) as pid:
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)
    assert log.read_text() == "first\nready now\n"


def test_a_program_that_ends_instead_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('port 80 is taken')"]
    with (
        pytest.raises(CannotMeasure, match="did not start: port 80 is taken"),
        program(command, tmp_path / "log", lambda line: False),
    ):
        pass


def test_waiting_ends_when_the_program_has(tmp_path: Path) -> None:
    with (
        program([sys.executable, "-c", ""], tmp_path / "log", None) as pid,
        pytest.raises(CannotMeasure, match="it ended while it started"),
    ):
        wait_until(lambda: False, "it", pid)
