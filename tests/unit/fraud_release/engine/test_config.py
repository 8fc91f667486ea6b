"""config.pbtxt as Triton reads it: parsed by the protocol's own definition."""

from __future__ import annotations

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from fraud_release.engine.config import MAX_BATCH_SIZE, PREFERRED, PROFILES, engine_config
from fraud_release.engine.running import profile_for
from fraud_release.engine.toolkit import Profile
from support.release import MODEL_REPOSITORY

NAME = "fraud_engine_r0007_sm90_tensorrt_10_16_1_11_fp16"


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_it_takes_and_gives_what_the_served_model_takes_and_gives() -> None:
    engine = parsed(engine_config(NAME, 17))
    template = (MODEL_REPOSITORY / "release_template" / "model" / "config.pbtxt").read_text(encoding="utf-8")
    served = parsed(template.replace("$features", "17").replace("$release", "r0007"))
    assert engine.name == NAME
    assert list(engine.input) == list(served.input)
    assert list(engine.output) == list(served.output)
    assert engine.max_batch_size == served.max_batch_size == MAX_BATCH_SIZE
    assert (engine.platform, engine.backend) == ("tensorrt_plan", "tensorrt")


def test_it_takes_every_batch_that_the_front_door_may_send() -> None:
    front_door = parsed((MODEL_REPOSITORY / "fraud_score" / "config.pbtxt").read_text(encoding="utf-8"))
    assert front_door.max_batch_size <= MAX_BATCH_SIZE
    for rows in (1, 64, 256, 257, 1_024, MAX_BATCH_SIZE):
        profile = PROFILES[profile_for(rows, PROFILES)]
        assert profile.least <= rows <= profile.most
    assert profile_for(256, PROFILES) == 0
    assert profile_for(257, PROFILES) == 1


def test_a_cuda_graph_is_for_exactly_its_size_and_there_is_one_for_1_and_each_preferred_size() -> None:
    engine = parsed(engine_config(NAME, 17))
    cuda = engine.optimization.cuda
    assert cuda.graphs
    assert [spec.batch_size for spec in cuda.graph_spec] == [1, *PREFERRED]
    for spec in cuda.graph_spec:
        assert spec.graph_lower_bound.batch_size == spec.batch_size
        assert list(spec.input["features"].dim) == list(spec.graph_lower_bound.input["features"].dim) == [17]
    assert list(engine.dynamic_batching.preferred_batch_size) == list(PREFERRED)
    assert engine.dynamic_batching.max_queue_delay_microseconds == 0


def test_it_waits_busily_and_runs_its_instances_on_the_gpu_with_all_profiles() -> None:
    engine = parsed(engine_config(NAME, 17, profiles=(Profile(1, 8, 16), Profile(1, 32, 64)), instances=2))
    assert engine.optimization.cuda.busy_wait_events
    (group,) = engine.instance_group
    assert (group.count, group.kind, list(group.profile)) == (
        2,
        model_config_pb2.ModelInstanceGroup.KIND_GPU,
        ["0", "1"],
    )
    assert engine.max_batch_size == 64
