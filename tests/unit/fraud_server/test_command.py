"""What tritonserver is started with: what is open, to whom, and what is shut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fraud_server.allocator import allocator_environment
from fraud_server.process import RESTRICTED, _command, _environment, served_models
from fraud_server.settings import EVERYWHERE, ServeSettings
from fraud_server.wheel import TritonWheel

WHEEL = TritonWheel(Path("/wheel/tritonserver"), Path("/wheel/libs"), Path("/wheel/python"), Path("/wheel/stub"))


@pytest.fixture
def command(settings: ServeSettings) -> list[str]:
    return _command(settings, WHEEL, served_models([3, 4]), shm_prefix="fraudserve_1_", key="open-sesame")


def values(command: list[str], flag: str) -> list[str]:
    return [part.partition("=")[2] for part in command if part.partition("=")[0] == flag]


@pytest.mark.parametrize("endpoint", ["grpc", "http", "metrics"])
def test_every_endpoint_listens_on_loopback_only_and_on_its_own_port(
    command: list[str], settings: ServeSettings, endpoint: str
) -> None:
    assert values(command, f"--{endpoint}-address") == ["127.0.0.1"]
    assert values(command, f"--{endpoint}-port") == [str(getattr(settings.ports, endpoint))]


def test_in_a_container_grpc_and_metrics_are_open_to_others_and_http_is_not(settings: ServeSettings) -> None:
    command = _command(replace(settings, listen=EVERYWHERE), WHEEL, [], shm_prefix="fraudserve_1_", key="open-sesame")
    listening = {endpoint: values(command, f"--{endpoint}-address") for endpoint in ("grpc", "metrics", "http")}
    assert listening == {"grpc": ["0.0.0.0"], "metrics": ["0.0.0.0"], "http": ["127.0.0.1"]}


@pytest.mark.parametrize("flag", ["--grpc-restricted-protocol", "--http-restricted-api"])
def test_what_was_attacked_in_this_triton_is_shut_to_who_has_not_the_key(command: list[str], flag: str) -> None:
    (value,) = values(command, flag)
    apis, _, secret = value.partition(":")
    assert apis == RESTRICTED
    assert {"shared-memory", "model-repository"} <= set(apis.split(","))
    assert secret.endswith("=open-sesame")


def test_only_the_models_that_are_named_are_loaded(command: list[str]) -> None:
    assert values(command, "--model-control-mode") == ["explicit"]
    assert values(command, "--load-model") == [
        "fraud_r0003", "fraud_r0004", "fraud_score", "fraud_front_door", "fraud_feedback",
    ]  # fmt: skip
    assert "--disable-auto-complete-config" in command


def test_repository_and_backends_are_absolute_paths(command: list[str], settings: ServeSettings) -> None:
    assert command[0] == "/wheel/tritonserver"
    assert values(command, "--model-repository") == [str(settings.repository.absolute())]
    assert values(command, "--backend-directory") == [str(settings.run_folder.absolute() / "backends")]
    assert "python,shm-region-prefix-name=fraudserve_1_" in values(command, "--backend-config")


def test_jemalloc_is_taken_where_it_is_installed_and_the_user_preloads_nothing() -> None:
    assert allocator_environment({}, find=lambda name: f"lib{name}.so.2") == {"LD_PRELOAD": "libjemalloc.so.2"}
    assert allocator_environment({}, find=lambda name: None) == {}
    assert allocator_environment({"LD_PRELOAD": ""}, find=lambda name: f"lib{name}.so.2") == {}


def test_the_environment_names_the_store_and_the_wheels_libraries(settings: ServeSettings) -> None:
    environment = _environment(settings, WHEEL)
    assert environment["FRAUD_STORE"] == settings.store_url
    assert environment["LD_LIBRARY_PATH"].startswith("/wheel/libs:")
