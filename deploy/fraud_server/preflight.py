"""What is checked before Triton is started: each finding is one line that says what to do."""

from __future__ import annotations

import shutil
import socket
from typing import Final

from fraud_release.assembly import verify_release
from fraud_scoring.releases import Routes, pinned_schema
from fraud_scoring.settings import STORE_VARIABLE, Settings
from fraud_scoring.stores import open_store
from fraud_server.errors import CannotServe
from fraud_server.settings import ServeSettings

LEAST_FREE_MIB: Final = 256


def check(settings: ServeSettings, least_free_mib: int = LEAST_FREE_MIB) -> int:
    """The number of the release that is to be served; raises the first finding."""
    release = Routes.read(settings.repository).production
    verify_release(settings.repository, release)
    Settings.read({STORE_VARIABLE: settings.store_url})  # the wrong NumPy is found here
    taken: dict[int, str] = {}
    for name, port in vars(settings.ports).items():
        if port in taken:
            raise CannotServe(f"port {port} is given twice ({taken[port]}, {name}); choose another with --{name}-port")
        taken[port] = name
        _check_port(name, port)
    try:
        settings.run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(f"folder {settings.home}: {error.strerror}; choose another with --home") from None
    free = shutil.disk_usage(settings.home).free >> 20
    if free < least_free_mib:
        raise CannotServe(
            f"the disk of folder {settings.home} has {free} MiB left; the server wants {least_free_mib}: "
            "free some, or choose another disk with --home"
        )
    open_store(settings.store_url, pinned_schema(settings.repository, release)).close()
    return release


def _check_port(name: str, port: int) -> None:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotServe(
                f"port {port} ({name}) cannot be used: {error.strerror}; end what listens there, "
                f"or choose another with --{name}-port"
            ) from None
