"""The front door with all that it holds: route table, releases, window store, decision log.

The served model and the benchmark's in-process job are this; they differ in where a release's model runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from fraud_scoring import kernels
from fraud_scoring.decision_log import Context, LogUnavailable, LogWriter, open_writer
from fraud_scoring.decision_log.contents import SHADOW_WRITERS
from fraud_scoring.errors import FraudError, ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.pipeline import Pipeline, load_graph
from fraud_scoring.releases import golden_vectors, pinned_schema, release_name
from fraud_scoring.requests import Reply, Request
from fraud_scoring.routes import Routes, RoutesWatch
from fraud_scoring.routing import Answered, Golden, InlineModel, Model, Router, ServedRelease
from fraud_scoring.schema import Schema, united
from fraud_scoring.settings import Settings
from fraud_scoring.shadow import SYNC_EVERY_S, Challenger, Shadow
from fraud_scoring.stores import open_store
from fraud_scoring.stores.guarded import open_guarded
from fraud_scoring.windows import History, Int64

_LOG = logging.getLogger(__name__)


def inline_model(repository: Path, release: int) -> Model:
    """A release's graph in this process."""
    return InlineModel(release, load_graph(repository, release))


class Serving:
    """Answers by the route table of `repository` as it is at that moment; `open_model` says where a model runs.

    `writer` names this process in the decision log; what its shadows say is written by `shadow-…` beside it. Without a
    log nothing shadows. Where the log `hands_over` frames of so many rows, an answer is not to be told before what is
    `unsynced` is on the disk, or `sync` returned.
    """

    def __init__(
        self,
        settings: Settings,
        repository: Path,
        open_model: Callable[[int], Model],
        writer: str,
        *,
        hands_over: int = 0,
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._open_model = open_model
        self._watch = RoutesWatch(repository)
        routes = self._watch.news()
        assert routes is not None, "the first look has news, or raises"
        self._kept = united(self._schemas(routes))
        self._store = open_guarded(settings.store_url, self._kept, settings.store_ids, stands_by=True)
        self._router = Router(routes, self._read, self._open_release)
        schema = self._router.schema
        self._log = open_writer(settings.log, writer, self._context(), hands_over=hands_over)
        self._shadow_writer = SHADOW_WRITERS + writer.rpartition("-")[2]
        self._shadow = Shadow(self._open_shadow_log)
        self._follow_shadows()
        self._front_door = FrontDoor(
            schema,
            self._store,
            self._router.answer,
            log=self._log,
            last_resort=self._router.last_resort,
            try_out=self._router.answer_by_production,
            contexts=self._router.context_of,
            decided=self._decided,
        )
        kernels.load()

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in their order, by the table that is there now."""
        self._follow()
        began = time.monotonic()
        try:
            return self._front_door.answer(requests)
        finally:
            self._shadow.worked(time.monotonic() - began)

    def unsynced(self) -> bytes | None:
        """What the disk must have before an answer is told, for who brings it there (decision_log/handover.py)."""
        return None if self._log is None else self._log.unsynced()

    def sync(self) -> None:
        """Bring it to the disk here; LogUnavailable: it is not there."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Release what is held."""
        self._shadow.close()
        self._router.close()
        if self._log is not None:
            self._log.close()
        self._store.close()

    def _follow(self) -> None:
        """Take up a new table; one that cannot be used is told once, and the one before stays."""
        try:
            routes = self._watch.news()
            if routes is None:
                return
            if (wanted := united(self._schemas(routes))) != self._kept:
                self._store.follow(lambda: open_store(self._settings.store_url, wanted, self._settings.store_ids))
                self._kept = wanted
            self._router.follow(routes)
            self._follow_shadows()
            _LOG.warning("routes: epoch %d is followed", routes.epoch)
        except FraudError as refusal:
            _LOG.error("routes: the table stays at epoch %d: %s", self._router.routes.epoch, refusal)

    def _follow_shadows(self) -> None:
        if self._settings.log is None:
            return
        self._shadow.follow(
            {number: partial(self._challenger, number) for number in self._router.routes.shadow}, self._context()
        )

    def _challenger(self, number: int) -> Challenger:
        return Challenger(self._router.pipeline_of(number), self._open_model(number))

    def _decided(self, rows: Int64, answers: Answered) -> None:
        if self._shadow.is_on and (seen := self._router.seen) is not None:
            self._shadow.take(rows, answers, seen)

    def _context(self) -> Context:
        """What decisions mean that no release says otherwise of."""
        context = self._router.context_of(self._router.routes.production)
        assert context is not None, "production is in its own table"
        return context

    def _open_shadow_log(self, context: Context) -> LogWriter:
        """A log that nobody waits for."""
        settings = self._settings.log and replace(self._settings.log, durable=False)
        writer = open_writer(settings, self._shadow_writer, context, SYNC_EVERY_S)
        if writer is None:
            raise LogUnavailable("no decision log is asked for")
        return writer

    def _read(self, rows: Int64) -> Sequence[History]:
        return self._store.read(rows)

    def _schemas(self, routes: Routes) -> list[Schema]:
        return [pinned_schema(self._repository, release) for release in routes.loaded]

    def _open_release(self, number: int) -> ServedRelease:
        golden = golden_vectors(self._repository, number)

        def not_here(features: Float32) -> Float32:
            raise ReleaseUnavailable(f"the model of release {release_name(number)} is not in this process")

        return ServedRelease(
            Pipeline.load(self._repository, number, not_here),
            self._open_model(number),
            Golden(golden["features"], golden["score"], golden["verdict"]),
        )
