"""Labels into the log and the window store, a request at a time: each is taken whole or refused whole."""

import numpy as np

from fraud_scoring import triton_io, wire
from fraud_scoring.decision_log import Context, Labels, open_writer
from fraud_scoring.errors import FraudError
from fraud_scoring.releases import pinned_schema
from fraud_scoring.routes import Routes
from fraud_scoring.settings import Settings
from fraud_scoring.stores.guarded import open_guarded
from fraud_scoring.validation import check_labels


class TritonPythonModel:
    def initialize(self, args):
        settings, repository = Settings.read(), triton_io.repository_of(args)
        release = Routes.read(repository).production
        schema = pinned_schema(repository, release)
        self.store = open_guarded(settings.store_url, schema, settings.store_ids)
        self.log = open_writer(settings.log, "feedback-0", Context(release, schema.document))

    @triton_io.answering_all
    def execute(self, requests):
        return [self._apply(triton_io.array(request, wire.LABEL)) for request in requests]

    def _apply(self, labels):
        try:
            check_labels(labels)
            if self.log is not None:
                self.log.append(Labels(labels))
            accepted = self.store.label(labels)
        except FraudError as error:
            return triton_io.error_response(error)
        return triton_io.responses([len(labels)], accepted=accepted.astype(np.int32)[:, None])[0]

    def finalize(self):
        if self.log is not None:
            self.log.close()
        self.store.close()
