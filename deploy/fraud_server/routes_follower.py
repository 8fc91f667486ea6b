"""Brings the route table that an operator wrote for many servers, and the releases that it names, into one repository.

    the table elsewhere ──▶ releases: fetched, verified ──▶ loaded, golden vectors right ──▶ the table here
                            refused: the table here stays as it is

A table is taken once, by its epoch: an older one than was taken is refused, as a store that was set back would show it.
The table in the repository counts its own epochs, for whoever changes it there.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fraud_release.release_store import ReleaseStore, fetch_release
from fraud_release.trust import TrustSettings
from fraud_scoring.errors import FraudError, InvalidDefinition, ReleaseUnavailable
from fraud_scoring.releases import existing, release_name
from fraud_scoring.routes import Routes, StaleRoutes
from fraud_server.probe import NotReady
from fraud_server.release_probe import Ask
from fraud_server.route_changes import ChangeFailed, check_columns

FOLLOWED_FILE: Final = ".routes.followed.json"
"""In the repository: epoch and digest of the table that was taken last."""
LOOK_EVERY_S: Final = 0.5
TRY_AGAIN_AFTER_S: Final = 10.0
_ASK_EVERY_S: Final = 0.1


@dataclass(frozen=True)
class RoutesFollower:
    """`ask` asks a release of the running server for its golden vectors; None: no server runs yet.

    `patience_s` is how long a server may take to load a release.
    """

    repository: Path
    store: ReleaseStore
    trust: TrustSettings
    report: Callable[[str], None]
    ask: Ask | None = None
    patience_s: float = 120.0

    def take(self, text: str) -> bool:
        """Take a table, `text` as `fraudctl routes show --json` gives it; False if it was taken before.

        Any FraudError: the table and the releases that are asked stay as they were.
        """
        wanted = Routes.parse(text)
        digest = hashlib.sha256(wanted.to_json().encode()).hexdigest()
        if not self._is_news(wanted, digest):
            return False
        self._fetch(wanted)
        check_columns(self.repository, wanted)
        if self.ask is not None:
            self._warm(wanted, self.ask)
        replace(wanted, epoch=self._present_epoch()).write(self.repository)
        self._remember(wanted.epoch, digest)
        self.report(f"the table of epoch {wanted.epoch} is followed: {release_name(wanted.production)} in production")
        return True

    def follow(self, table: Path, stop: threading.Event) -> None:
        """Take each table that appears in the file `table` until `stop` is set; what is refused is tried again."""
        seen, not_before, told = "", 0.0, ""
        while not stop.is_set():
            with suppress(OSError, UnicodeDecodeError):  # between two tables, or not there yet
                text = table.read_text(encoding="utf-8")
                if text != seen and (time.monotonic() >= not_before or text != told):
                    try:
                        self.take(text)
                        seen = text
                    except FraudError as refusal:
                        if text != told:
                            self.report(f"the table is not followed: {refusal}")
                        told, not_before = text, time.monotonic() + TRY_AGAIN_AFTER_S
            stop.wait(LOOK_EVERY_S)

    def _is_news(self, wanted: Routes, digest: str) -> bool:
        try:
            followed = json.loads((self.repository / FOLLOWED_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return True
        epoch = int(followed["epoch"])
        if wanted.epoch < epoch:
            raise StaleRoutes(
                f"its epoch is {wanted.epoch}, and the one of {epoch} is followed: a table is never taken twice; "
                "write the next one with fraudctl routes"
            )
        if wanted.epoch == epoch and followed["digest"] != digest:
            raise InvalidDefinition(
                f"another table of epoch {epoch} is followed: write the next one with fraudctl routes, not by hand"
            )
        return wanted.epoch > epoch

    def _fetch(self, wanted: Routes) -> None:
        """What is not here yet, older releases first: else they would be refused as older than what was seen."""
        for release in sorted(set(wanted.loaded) - set(existing(self.repository))):
            began = time.monotonic()
            fetch_release(self.repository, release, self.store, self.trust)
            self.report(f"release {release_name(release)} fetched and verified in {time.monotonic() - began:.1f} s")

    def _warm(self, wanted: Routes, ask: Ask) -> None:
        """Have the server load what is new, and ask it, before any customer's payment does."""
        try:
            present = Routes.read(self.repository)
        except (ReleaseUnavailable, InvalidDefinition):
            return  # no table yet: the server waits for this one
        new = [release for release in wanted.loaded if release not in present.loaded]
        if not new:
            return
        warm = present
        for release in new:
            warm = warm.with_warm(release)
        warm = warm.write(self.repository)
        try:
            for release in new:
                self._until_right(release, ask)
        except FraudError:
            with suppress(StaleRoutes):
                replace(present, epoch=warm.epoch).write(self.repository)
            raise

    def _until_right(self, release: int, ask: Ask) -> None:
        give_up = time.monotonic() + self.patience_s
        while True:
            try:
                ask(release)
            except NotReady as not_yet:
                if time.monotonic() > give_up:
                    raise ChangeFailed(f"not within {self.patience_s:g} s: {not_yet}") from None
                time.sleep(_ASK_EVERY_S)
            else:
                self.report(f"release {release_name(release)} is loaded and gives its golden vectors")
                return

    def _present_epoch(self) -> int:
        with suppress(ReleaseUnavailable, InvalidDefinition):
            return Routes.read(self.repository).epoch
        return 0

    def _remember(self, epoch: int, digest: str) -> None:
        staged = self.repository / f"{FOLLOWED_FILE}.new"
        staged.write_text(json.dumps({"epoch": epoch, "digest": digest}) + "\n", encoding="utf-8")
        staged.replace(self.repository / FOLLOWED_FILE)
