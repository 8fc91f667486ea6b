"""Transactions to features, by the schema that the release pins. Reads the window store, never writes it."""

import numpy as np

from fraud_scoring import kernels, triton_io, wire
from fraud_scoring.errors import FraudError
from fraud_scoring.features import FeatureSet
from fraud_scoring.releases import SCHEMA_FILE
from fraud_scoring.schema import load_schema
from fraud_scoring.settings import Settings
from fraud_scoring.stores.guarded import open_guarded


class TritonPythonModel:
    def initialize(self, args):
        schema = load_schema(triton_io.version_folder(args) / SCHEMA_FILE)
        settings = Settings.read()
        self.store = open_guarded(settings.store_url, schema, settings.store_ids)
        self.features = FeatureSet(schema)
        kernels.load()

    def execute(self, requests):
        rows, counts = triton_io.joined(requests, wire.TRANSACTION)
        group = np.repeat(np.arange(len(counts)), counts)
        try:
            features = self.features.compute(rows, self.store.read(rows), group)
        except FraudError as error:
            return [triton_io.error_response(error) for _ in requests]
        return triton_io.responses(counts, features=features)

    def finalize(self):
        self.store.close()
