"""The floor: what Triton and its python backend cost before anybody computes anything.

Two models answer a transaction with itself: `identity`, one python hop, and `identity_chain`, an ensemble of three.
They are served with the settings of the real server. Each has one instance, as the front door, and Triton's dynamic
batcher.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fraud_scoring.wire import TRANSACTION

ONE_HOP: Final = "identity"
THREE_HOPS: Final = "identity_chain"
_PARTS: Final = ("identity_first", "identity_second", "identity_third")

_MODEL: Final = """import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            rows = pb_utils.get_input_tensor_by_name(request, "transaction").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("answer", rows)]))
        return answers
"""
_TENSORS: Final = """max_batch_size: 4096
input {{ name: "{transaction}" data_type: TYPE_INT64 dims: [ {columns} ] }}
output {{ name: "answer" data_type: TYPE_INT64 dims: [ {columns} ] }}
"""
_HOP: Final = """name: "{name}"
backend: "python"
{tensors}dynamic_batching {{ }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""
_STEP: Final = """  step {{
    model_name: "{name}"
    model_version: 1
    input_map {{ key: "{transaction}" value: "{before}" }}
    output_map {{ key: "answer" value: "{after}" }}
  }}
"""


def write_repository(folder: Path, columns: int) -> Path:
    """A model repository of the two, for transactions of `columns` columns; returns the folder."""
    tensors = _TENSORS.format(transaction=TRANSACTION, columns=columns)
    for name in (ONE_HOP, *_PARTS):
        version = folder / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(_MODEL, encoding="utf-8")
        (folder / name / "config.pbtxt").write_text(_HOP.format(name=name, tensors=tensors), encoding="utf-8")
    (folder / THREE_HOPS / "1").mkdir(parents=True)
    names = [TRANSACTION, *(f"after_{name}" for name in _PARTS[:-1]), "answer"]
    steps = "".join(
        _STEP.format(name=part, transaction=TRANSACTION, before=before, after=after)
        for part, before, after in zip(_PARTS, names, names[1:], strict=False)
    )
    config = f'name: "{THREE_HOPS}"\nplatform: "ensemble"\n{tensors}ensemble_scheduling {{\n{steps}}}\n'
    (folder / THREE_HOPS / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder
