"""Programs that end when their parent does, however it went."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

# A program that then becomes the wanted one asks the kernel for it, and not the parent between fork and exec: there the
# threads of the parent's gRPC wake up, and may abort.
_TETHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def tethered(command: Sequence[str]) -> list[str]:
    """`command`, to be started by this process and sent SIGTERM when this process is gone."""
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]
