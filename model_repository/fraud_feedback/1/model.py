"""Labels into the window store, a request at a time: each is applied whole or refused whole."""

import numpy as np

from fraud_scoring import triton_io, wire
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import Routes, pinned_schema
from fraud_scoring.settings import Settings
from fraud_scoring.stores import open_store
from fraud_scoring.validation import check_labels


class TritonPythonModel:
    def initialize(self, args):
        repository = triton_io.repository_of(args)
        schema = pinned_schema(repository, Routes.read(repository).production)
        self.store = open_store(Settings.read().store_url, schema)

    def execute(self, requests):
        return [self._apply(triton_io.array(request, wire.LABEL)) for request in requests]

    def _apply(self, labels):
        try:
            check_labels(labels)
            accepted = self.store.label(labels)
        except FraudError as error:
            return triton_io.error_response(error)
        return triton_io.responses([len(labels)], accepted=accepted.astype(np.int32)[:, None])[0]

    def finalize(self):
        self.store.close()
