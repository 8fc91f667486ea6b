"""Keeps the releases of the route table loaded in a running server, and mends those whose processes die or stand still.

A release is verified before Triton is told of it, each time. The front door answers by the fallback chain meanwhile, so
that none of this is an outage: only its own process, or the one that takes labels, is worth a new server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from fraud_release.signing import verify_release
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import PARTS, ensemble_name, part_name, release_name
from fraud_scoring.routes import Routes, RoutesWatch
from fraud_server.settings import ServeSettings

LOOK_EVERY_S: Final = 0.2
LET_GO_AFTER_S: Final = 30.0
"""A release that the table does not name any more is unloaded after this: nothing of it may still be on its way."""
TRY_AGAIN_AFTER_S: Final = 5.0
"""A release that could not be loaded is tried again after this, or with the next table."""


class Served(Protocol):
    """What the keeper needs of a running server."""

    def load(self, model: str) -> None:
        """Load a model and what it is made of; CannotServe says why not."""

    def unload(self, models: Sequence[str]) -> None:
        """Let models go; those that are not there are passed over."""

    def still_stubs(self) -> dict[str, str]:
        """Models whose python process is dead or stopped, each with what it is."""


class ReleaseKeeper:
    """Looks after `server`'s releases in a thread of its own; `loaded` are there when it begins."""

    def __init__(
        self, settings: ServeSettings, server: Served, loaded: Sequence[int], report: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._server = server
        self._report = report
        self._watch = RoutesWatch(settings.repository)
        self._loaded = dict.fromkeys(loaded, float("inf"))
        self._wanted: tuple[int, ...] = tuple(loaded)
        self._not_before: dict[int, float] = {}
        self._suspected: set[int] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="release-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when it looks after nothing any more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def suspect(self, release: int) -> None:
        """Somebody saw that a release does not answer: load it anew."""
        self._suspected.add(release)

    def look(self) -> None:
        """One look: what is new in the table, what stands still, what may go."""
        self._take_up_news()
        still = self._server.still_stubs()
        for release in list(self._loaded):
            why = next((why for part, why in still.items() if part.endswith(f"_{release_name(release)}")), None)
            if why is None and release in self._suspected:
                why = "it does not answer"
            if why is not None:
                self._mend(release, why)
        self._suspected.clear()
        now = time.monotonic()
        for release in self._wanted:
            if release not in self._loaded and now >= self._not_before.get(release, 0.0):
                self._load(release)
        for release, let_go_at in list(self._loaded.items()):
            if now >= let_go_at:
                self._unload(release)

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            try:
                self.look()
            except FraudError as error:
                self._report(f"releases: {error}")
            except OSError:
                continue  # the server is gone, which the supervisor sees

    def _take_up_news(self) -> None:
        try:
            routes = self._watch.news()
        except FraudError as refusal:
            self._report(f"routes: {refusal}; the releases stay as they are")
            return
        if routes is None:
            return
        self._wanted = routes.loaded
        self._not_before.clear()
        let_go_at = time.monotonic() + LET_GO_AFTER_S
        for release, at in self._loaded.items():
            self._loaded[release] = float("inf") if release in self._wanted else min(at, let_go_at)

    def _load(self, release: int) -> None:
        began = time.monotonic()
        try:
            verify_release(self._settings.repository, release, self._settings.trust)
            self._server.load(ensemble_name(release))
        except FraudError as refusal:
            self._not_before[release] = time.monotonic() + TRY_AGAIN_AFTER_S
            self._report(f"release {release_name(release)} is not loaded: {refusal}")
            return
        self._loaded[release] = float("inf")
        self._report(f"release {release_name(release)} loaded in {time.monotonic() - began:.1f} s")

    def _mend(self, release: int, why: str) -> None:
        self._report(f"release {release_name(release)}: {why}; loading it anew")
        self._unload(release)
        self._load(release)

    def _unload(self, release: int) -> None:
        self._loaded.pop(release, None)
        self._server.unload([ensemble_name(release), *(part_name(part, release) for part in PARTS)])


def admissible(settings: ServeSettings, routes: Routes, report: Callable[[str], None]) -> list[int]:
    """The releases of a table that may be loaded, production first; those that may not are reported."""
    found = []
    for release in routes.loaded:
        try:
            verify_release(settings.repository, release, settings.trust)
        except FraudError as refusal:
            if release == routes.production:
                raise
            report(f"release {release_name(release)} is not loaded: {refusal}")
            continue
        found.append(release)
    return found
