"""The plain form in Triton's python backend on a GPU: what `gpu_served.py` puts beside model.onnx as model.py."""

import json

from gpu_executors import open_executor

from fraud_scoring import triton_io


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in config["parameters"].items()}
        graph = triton_io.version_folder(args) / "model.onnx"
        self.margin = open_executor(said["executor"], graph, said["device"])

    def execute(self, requests):
        features, counts = triton_io.joined(requests, "features")
        return triton_io.responses(counts, margin=self.margin(features))
