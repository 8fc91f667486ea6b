"""A disk of a known size, and how to fill it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk_of(mib: int, folder: Path) -> Iterator[Path]:
    """`folder` as a disk of so many MiB; the test is skipped where nothing may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("a small disk needs the command mount")
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def fill(path: Path, leave_bytes: int = 0) -> None:
    """Take the space that a disk has left, but for `leave_bytes`."""
    part = bytes(1 << 16)
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(part)
        except OSError:
            file.truncate(max(0, file.tell() - leave_bytes))
