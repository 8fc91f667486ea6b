"""The front door asks the model that FRAUD_ENGINES names: here, without TensorRT, the plain form in ONNX Runtime."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import onnx
import pytest
import tritonclient.grpc as triton

from fraud_release.plain_onnx import plain_form
from fraud_scoring.releases import ENGINES_VARIABLE
from fraud_server.ports import free_ports
from fraud_server.probe import GoldenProbe, NotReady
from fraud_server.process import TritonProcess, served_models
from fraud_server.settings import Ports, ServeSettings

ENGINE = "fraud_engine_r0001_cpu_onnxruntime_fp16"


def put_beside(repository: Path) -> None:
    """The plain form of release 1, counting in FP16, under an engine's name."""
    part = repository / "fraud_model_r0001"
    (repository / ENGINE / "1").mkdir(parents=True)
    onnx.save(plain_form(onnx.load(part / "1" / "model.onnx"), half=True), repository / ENGINE / "1" / "model.onnx")
    config = (part / "config.pbtxt").read_text().replace("fraud_model_r0001", ENGINE)
    (repository / ENGINE / "config.pbtxt").write_text(config)


def executions(client: triton.InferenceServerClient, model: str) -> int:
    (found,) = client.get_inference_statistics(model).model_stats
    return int(found.execution_count)


@pytest.mark.triton
def test_a_release_with_an_engine_gives_its_golden_vectors_to_the_bit_and_its_own_model_is_not_asked(
    served_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models"
    shutil.copytree(served_repository, repository)
    put_beside(repository)
    monkeypatch.setenv(ENGINES_VARIABLE, f"fraud_engine_r0009_elsewhere,{ENGINE}")
    settings = ServeSettings(repository, tmp_path / "home", Ports(*free_ports(3)), f"lmdb://{tmp_path}/store", "off")
    process = TritonProcess(settings, [*served_models([1]), ENGINE])
    probe, client = GoldenProbe(repository, settings.url), triton.InferenceServerClient(settings.url)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                probe.check(timeout=5)
                break
            except NotReady:
                assert time.monotonic() < until, process.last_error()
                time.sleep(0.05)
        assert executions(client, ENGINE) > 0
        assert executions(client, "fraud_model_r0001") == 0
    finally:
        client.close()
        probe.close()
        process.kill()
