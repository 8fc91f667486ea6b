"""A python-based Triton backend: serves `backend: "onnxruntime"` where the C++ backend is not installed.

It reads what the C++ backend reads (model.onnx beside it, `intra_op_thread_count` in the model's parameters), so that
the same repository runs on either. Only the first dimension may vary, as with any batching model.
"""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

import onnxruntime


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        parameters = config.get("parameters", {})
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", {}).get("string_value", 1))
        options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]
        self._check_names()

    def execute(self, requests):
        batches = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        ]
        rows = [len(part) for part in batches[0]]
        joined = [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in batches]
        results = self.session.run(self.outputs, dict(zip(self.inputs, joined, strict=True)))
        responses, start = [], 0
        for count in rows:
            part = slice(start, start + count)
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(result[part]))
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
            start += count
        return responses

    def _check_names(self):
        """Fail at load, and not at the first request, where configuration and model differ."""
        for kind, wanted, found in (
            ("input", self.inputs, [entry.name for entry in self.session.get_inputs()]),
            ("output", self.outputs, [entry.name for entry in self.session.get_outputs()]),
        ):
            if missing := sorted(set(wanted) - set(found)):
                raise pb_utils.TritonModelException(
                    f"model.onnx has no {kind} {missing[0]!r}; it has {', '.join(found)}: correct config.pbtxt"
                )
