"""A copy of the trained release, and settings for a server that is never started."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fraud_server.settings import Ports, ServeSettings


@pytest.fixture
def repository(served_repository: Path, tmp_path: Path) -> Path:
    """A repository of the test's own, whose release 1 takes the traffic."""
    return Path(shutil.copytree(served_repository, tmp_path / "models"))


@pytest.fixture
def free_ports() -> Iterator[Ports]:
    """Three ports that are bound here, listened on by nobody, and so given to no other process."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield Ports(*(one.getsockname()[1] for one in sockets))


@pytest.fixture
def settings(repository: Path, free_ports: Ports, tmp_path: Path) -> ServeSettings:
    home = tmp_path / "home"
    return ServeSettings(repository=repository, home=home, ports=free_ports, store_url=f"lmdb://{home / 'store'}")
