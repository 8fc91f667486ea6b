"""Programs that are told to stop: they do, whatever they are doing, and end what they started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from fraud_scoring.stopping import leaving_on_sigterm

TOLD_OFTEN = """
import threading
from fraud_scoring.stopping import on_stop

told, stopped = 0, threading.Event()

def stop():
    global told
    told += 1
    if told >= 300:
        stopped.set()
    seen.set()

seen = threading.Event()
on_stop(stop)
print("ready", flush=True)
while not stopped.is_set():
    seen.wait(1e-6)  # the lock of the event is held for much of the time
    seen.clear()
print("stopped", flush=True)
"""


def test_a_program_that_waits_for_what_a_signal_sets_hears_every_signal() -> None:
    with subprocess.Popen([sys.executable, "-c", TOLD_OFTEN], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        give_up = threading.Timer(30, program.kill)
        give_up.start()
        try:
            while program.poll() is None:
                program.send_signal(signal.SIGTERM)
        finally:
            give_up.cancel()
            program.kill()
        assert program.stdout.readline() == "stopped\n"


def test_sigterm_unwinds_what_was_begun_and_is_afterwards_what_it_was() -> None:
    before, ended = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(10)
        finally:
            ended.append(True)

    with pytest.raises(SystemExit) as left, leaving_on_sigterm():
        work()
    assert left.value.code == 143
    assert ended == [True]
    assert signal.getsignal(signal.SIGTERM) is before
