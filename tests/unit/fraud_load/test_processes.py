"""What process trees cost, against processes that use a known share of a core."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from fraud_load.processes import CpuMeter, tree, tree_usage, usage

BURN = """
import sys, time
while time.process_time() < float(sys.argv[1]):
    pass
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}, sys.argv[1]], check=True)
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("done", flush=True)
input()
child.communicate(b"\\n")
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a Python program that waits for a line at its end; it gets the line when the test ends."""
    running: list[subprocess.Popen[str]] = []

    def begin(program: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *arguments]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        process.communicate("\n" if process.poll() is None else None, timeout=20)


def said_done(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"


def test_a_tree_is_a_process_and_all_under_it(start: Start) -> None:
    parent = start(PARENT, "0")
    said_done(parent)
    found = tree(parent.pid)
    assert found[0] == parent.pid
    assert len(found) == 2


def test_the_cpu_of_a_child_that_ended_is_its_parents(start: Start) -> None:
    parent = start(PARENT, "0.3")
    said_done(parent)
    used = tree_usage(parent.pid)
    assert used.cpu_seconds > 0.25  # the kernel counts in ticks of 10 ms, user and system apart
    assert used.rss_bytes > 1_000_000


def test_a_process_in_two_trees_counts_once(start: Start) -> None:
    parent = start(PARENT, "0")
    said_done(parent)
    assert tree_usage(parent.pid, parent.pid).processes == len(tree(parent.pid))


def test_a_process_that_is_gone_counts_as_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert tree(gone.pid) == []
    assert usage([gone.pid]) == tree_usage(gone.pid)
    assert usage([gone.pid]).processes == 0


def test_the_meter_says_what_a_group_used_between_two_moments(start: Start) -> None:
    waiting, burning = start("input()"), start("input()\n" + BURN + "print('done', flush=True)\ninput()", "0.5")
    with CpuMeter({"idle": [waiting.pid], "busy": [burning.pid]}, every_s=0.02) as meter:
        began = time.time_ns()
        assert burning.stdin is not None
        burning.stdin.write("\n")
        burning.stdin.flush()
        said_done(burning)
        ended = time.time_ns()
    assert meter.seconds("busy", began, ended) == pytest.approx(0.5, abs=0.25)
    assert meter.seconds("idle", ended, ended) == 0.0
    assert meter.seconds("busy", began - 10**9, began - 5 * 10**8) == 0.0
    assert meter.peak_rss_bytes("busy") > 1_000_000


def test_the_meter_never_falls_when_a_tree_is_gone(start: Start) -> None:
    burning = start(BURN + "print('done', flush=True)", "0.2")
    with CpuMeter({"busy": [burning.pid]}, every_s=0.02) as meter:
        said_done(burning)
        running = time.time_ns()
        burning.wait()
    assert meter.seconds("busy", running, time.time_ns()) >= 0.0
