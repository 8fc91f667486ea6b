"""The floor's repository: two models, one hop and three, instanced and batched as the front door is."""

from __future__ import annotations

import re
from pathlib import Path

from fraud_bench.floor import ONE_HOP, THREE_HOPS, write_repository
from fraud_scoring.wire import FRONT_DOOR_MODEL
from support.release import MODEL_REPOSITORY


def settings(config: str) -> list[str]:
    """The lines that say how a model is batched and instanced."""
    return sorted(re.findall(r"^(?:max_batch_size|dynamic_batching|instance_group).*$", config, re.MULTILINE))


def test_a_hop_has_tritons_batcher_the_limit_of_what_callers_name_and_the_instance_of_the_front_door(
    tmp_path: Path,
) -> None:
    repository = write_repository(tmp_path, 5)
    named, behind = (
        (MODEL_REPOSITORY / name / "config.pbtxt").read_text() for name in ("fraud_score", FRONT_DOOR_MODEL)
    )
    (limit,) = (line for line in settings(named) if line.startswith("max_batch_size"))
    (instance,) = (line for line in settings(behind) if line.startswith("instance_group"))
    hop = (repository / ONE_HOP / "config.pbtxt").read_text()
    assert settings(hop) == ["dynamic_batching { }", instance, limit]


def test_the_chain_hands_the_transaction_through_three_models(tmp_path: Path) -> None:
    config = (write_repository(tmp_path, 5) / THREE_HOPS / "config.pbtxt").read_text()
    inputs = re.findall(r'input_map { key: "transaction" value: "(\w+)" }', config)
    outputs = re.findall(r'output_map { key: "answer" value: "(\w+)" }', config)
    assert len(outputs) == 3
    assert inputs == ["transaction", *outputs[:-1]]
    assert outputs[-1] == "answer"
    assert all((tmp_path / name / "1" / "model.py").exists() for name in re.findall(r'model_name: "(\w+)"', config))


def test_every_model_takes_the_schemas_columns(tmp_path: Path) -> None:
    configs = [path.read_text() for path in write_repository(tmp_path, 7).glob("*/config.pbtxt")]
    assert len(configs) == 5
    assert all(config.count("dims: [ 7 ]") == 2 for config in configs)
