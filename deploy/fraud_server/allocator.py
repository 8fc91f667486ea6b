"""The server's memory allocator: jemalloc where it is installed, else the C library's.

Triton allocates in one thread what it frees in another, many small pieces for each request. jemalloc is made for that:
a fifth less CPU time for a single-row request (docs/performance.md).
"""

from __future__ import annotations

import ctypes.util
from collections.abc import Callable, Mapping
from typing import Final

PRELOAD: Final = "LD_PRELOAD"


def allocator_environment(
    environment: Mapping[str, str], find: Callable[[str], str | None] = ctypes.util.find_library
) -> dict[str, str]:
    """What the server's environment needs for jemalloc. A LD_PRELOAD that is set, also to nothing, is left as it is."""
    library = None if PRELOAD in environment else find("jemalloc")
    return {} if library is None else {PRELOAD: library}
