"""SIGTERM and Ctrl-C, for programs that run until they are told to stop, and for those that started others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Final, NoReturn

_TOLD_TO_STOP: Final = (signal.SIGTERM, signal.SIGINT)


def on_stop(stop: Callable[[], None]) -> None:
    """From here on SIGTERM and Ctrl-C call `stop`, in a thread of its own.

    A handler runs between any two steps of the main thread, which may hold the very lock that `stop` takes: an Event
    that is waited for there, and set by the handler, hangs. A SimpleQueue may be put into anywhere.
    """
    told: SimpleQueue[int] = SimpleQueue()

    def wait() -> None:
        while True:
            told.get()
            stop()

    threading.Thread(target=wait, name="stop", daemon=True).start()
    for number in _TOLD_TO_STOP:
        signal.signal(number, lambda received, _frame: told.put(received))


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """While this lasts SIGTERM ends what runs as Ctrl-C does, by an exception: what was started is ended, too."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
