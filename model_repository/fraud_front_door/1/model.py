"""The front door as Triton runs it: one instance, so that a batch sees everything that was answered before it."""

from fraud_scoring import triton_io
from fraud_scoring.serving import Serving
from fraud_scoring.settings import Settings


class TritonPythonModel:
    def initialize(self, args):
        repository = triton_io.repository_of(args)
        settings = Settings.read()
        models = triton_io.opener(settings, repository)
        # fraud_score waits for the disk, so that after a large batch the next one begins meanwhile
        serving = Serving(settings, repository, models, "front-door-0", hands_over=triton_io.HANDS_OVER)
        self.door = triton_io.FrontDoorModel(serving)
        triton_io.freeze()

    @triton_io.answering_all
    def execute(self, requests):
        return [self.door.response(request) for request in requests]

    def finalize(self):
        self.door.close()
