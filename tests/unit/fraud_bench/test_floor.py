"""The floor's repository: two models, one hop and three, instanced and batched as the front door is."""

from __future__ import annotations

import re
from pathlib import Path

from fraud_bench.floor import ONE_HOP, THREE_HOPS, write_repository
from support.release import MODEL_REPOSITORY


def settings(config: str) -> list[str]:
    """The lines that say how a model is batched and instanced."""
    return sorted(re.findall(r"^(?:max_batch_size|dynamic_batching|instance_group).*$", config, re.MULTILINE))


def test_a_hop_is_batched_and_instanced_as_the_front_door(tmp_path: Path) -> None:
    repository = write_repository(tmp_path, 5)
    front_door = (MODEL_REPOSITORY / "fraud_score" / "config.pbtxt").read_text()
    assert settings((repository / ONE_HOP / "config.pbtxt").read_text()) == settings(front_door)


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
