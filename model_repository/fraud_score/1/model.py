"""The front door as Triton runs it: one instance, so that a batch sees everything that was answered before it."""

from functools import partial

from fraud_scoring import triton_io
from fraud_scoring.decision_log import Context, open_writer
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.releases import decision_rule, pinned_schema
from fraud_scoring.routes import Routes
from fraud_scoring.scorecard import Scorecard
from fraud_scoring.settings import Settings
from fraud_scoring.stores import open_store


class TritonPythonModel:
    def initialize(self, args):
        settings, repository = Settings.read(), triton_io.repository_of(args)
        release = Routes.read(repository).production
        schema = pinned_schema(repository, release)
        self.store = open_store(settings.store_url, schema)
        self.log = open_writer(settings.log, "front-door-0", Context(release, schema.document))
        self.front_door = FrontDoor(
            schema,
            self.store,
            partial(triton_io.call_release, release),
            log=self.log,
            last_resort=Scorecard(schema, decision_rule(repository, release)),
        )

    @triton_io.answering_all
    def execute(self, requests):
        asked = [triton_io.front_door_request(request) for request in requests]
        replies = self.front_door.answer(asked)
        return [
            triton_io.front_door_response(reply, request.wants_features)
            for reply, request in zip(replies, asked, strict=True)
        ]

    def finalize(self):
        if self.log is not None:
            self.log.close()
        self.store.close()
