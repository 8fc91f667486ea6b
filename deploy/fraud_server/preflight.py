"""What is checked before Triton is started: each finding is one line that says what to do."""

from __future__ import annotations

import fcntl
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from fraud_release.assembly import remove_caches
from fraud_release.signing import verify_release
from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.releases import pinned_schema
from fraud_scoring.routes import Routes
from fraud_scoring.settings import STORE_VARIABLE, Settings
from fraud_scoring.stores import open_store
from fraud_server.errors import CannotServe
from fraud_server.settings import LOOPBACK, RESTORING_FILE, ServeSettings

LEAST_FREE_MIB: Final = 256
LOCK_FILE: Final = "server.lock"


def check(settings: ServeSettings, least_free_mib: int = LEAST_FREE_MIB) -> int:
    """The number of the release that is to be served; raises the first finding."""
    if (settings.home / RESTORING_FILE).exists():
        raise CannotServe(
            f"a restore into {settings.home} was begun and did not end: what is there is not whole; "
            "run the same fraudctl restore again"
        )
    release = Routes.read(settings.repository).production
    Settings.read({STORE_VARIABLE: settings.store_url})  # the wrong NumPy is found here
    if settings.store_url.startswith("memory:"):
        raise InvalidDefinition(
            "store memory: is one process's own, and a server has several; write lmdb:///folder or redis://host"
        )
    taken: dict[int, str] = {}
    for name, port in vars(settings.ports).items():
        if port is None:
            continue
        if port in taken:
            raise CannotServe(f"port {port} is given twice ({taken[port]}, {name}); choose another with --{name}-port")
        taken[port] = name
        _check_port(name, port, settings.listen if name in ("grpc", "metrics") else LOOPBACK)
    try:
        settings.run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(f"folder {settings.home}: {error.strerror}; choose another with --home") from None
    _check_space(settings.home, "--home", least_free_mib)
    if settings.store_url.startswith("lmdb:"):
        # LMDB maps its lock file: on a full disk that ends the process, without an error to catch
        _check_space(Path(urlsplit(settings.store_url).path), "--store", least_free_mib)
    remove_caches(settings.repository)  # the front door's, too
    verify_release(settings.repository, release, settings.trust)
    open_store(settings.store_url, pinned_schema(settings.repository, release), settings.store_ids).close()
    return release


@contextmanager
def own_home(settings: ServeSettings) -> Iterator[None]:
    """The home folder for this supervisor alone: two would take each other's files away. The kernel frees it."""
    with (settings.run_folder / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotServe(
                f"another server runs with folder {settings.home}; end it, or choose another folder with --home"
            ) from None
        yield


def _check_space(folder: Path, option: str, least_free_mib: int) -> None:
    there = next((one for one in (folder, *folder.parents) if one.is_dir()), None)
    if there is not None and (free := shutil.disk_usage(there).free >> 20) < least_free_mib:
        raise CannotServe(
            f"the disk of folder {folder} has {free} MiB left; the server wants {least_free_mib}: "
            f"free some, or choose another disk with {option}"
        )


def _check_port(name: str, port: int, address: str) -> None:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((address, port))
        except OSError as error:
            raise CannotServe(
                f"port {port} ({name}) cannot be used: {error.strerror}; end what listens there, "
                f"or choose another with --{name}-port"
            ) from None
