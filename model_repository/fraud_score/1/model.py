"""The front door as Triton runs it: one instance, so that a batch sees everything that was answered before it."""

from functools import partial

from fraud_scoring import triton_io
from fraud_scoring.front_door import FrontDoor
from fraud_scoring.releases import Routes, pinned_schema
from fraud_scoring.settings import Settings
from fraud_scoring.stores import open_store


class TritonPythonModel:
    def initialize(self, args):
        repository = triton_io.repository_of(args)
        release = Routes.read(repository).production
        schema = pinned_schema(repository, release)
        self.store = open_store(Settings.read().store_url, schema)
        self.front_door = FrontDoor(schema, self.store, partial(triton_io.call_release, release))

    def execute(self, requests):
        asked = [triton_io.front_door_request(request) for request in requests]
        replies = self.front_door.answer(asked)
        return [
            triton_io.front_door_response(reply, request.wants_features)
            for reply, request in zip(replies, asked, strict=True)
        ]

    def finalize(self):
        self.store.close()
