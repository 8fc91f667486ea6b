"""The rules that the stack of deploy/compose keeps, and that each of them notices what breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fraud_deploy.compose_files import findings

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose" / "compose.yaml"
Stack = dict[str, Any]


@pytest.fixture
def stack() -> Stack:
    # by way of JSON, which has no anchors: a change of one service is no change of another
    copied: Stack = json.loads(json.dumps(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))))
    return copied


def in_service(name: str, **changed: Any) -> Callable[[Stack], None]:
    return lambda stack: stack["services"][name].update(changed)


def without(name: str, field: str) -> Callable[[Stack], None]:
    return lambda stack: stack["services"][name].pop(field)


def test_the_stack_as_it_is_keeps_every_rule(stack: Stack) -> None:
    assert findings(stack) == []


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (in_service("redis", image="docker.io/library/redis:7.4-alpine"), "redis: its image has no digest"),
        (in_service("redis", image="redis:7@${REDIS_DIGEST}"), "redis: its image has no digest"),
        (without("server-1", "read_only"), "server-1: may write to its root"),
        (in_service("server-1", cap_drop=["NET_RAW"]), "server-1: has capabilities"),
        (in_service("s3", cap_add=["CHOWN"]), "s3: has capabilities"),
        (in_service("s3", security_opt=[]), "s3: may gain privileges"),
        (in_service("server-2", network_mode="host"), "server-2: shares what is the host's"),
        (in_service("grafana", user="0:0"), "grafana: runs as root"),
        (without("sidecar-1", "user"), "sidecar-1: runs as root, or as whoever"),
        (without("mlflow", "healthcheck"), "mlflow: has no healthcheck"),
        (in_service("redis", restart="always"), "redis: is not started again"),
        (in_service("redis", ports=["6379:6379"]), "redis: publishes 6379:6379 to others"),
        (in_service("server-1", ports=["127.0.0.1:8001:8001"]), "server-1: publishes a port and is on no network"),
        (in_service("server-1", networks=["outside"]), "server-1: is on the network outside"),
        (in_service("postgres", environment={"POSTGRES_PASSWORD": "x"}), "postgres: has POSTGRES_PASSWORD in its"),
        (in_service("server-1", environment={"FRAUD_STORE": "redis://:x@redis"}), "server-1: has an address with a"),
        (in_service("mlflow", command=["--uri=postgresql://a:b@postgres/x"]), "mlflow: has an address with a"),
        (in_service("server-1", volumes=["/:/host"]), "server-1: mounts / of the host"),
        (without("gateway", "pre_stop"), "gateway: is stopped with calls on their way"),
        (in_service("gateway", pre_stop=[{"command": ["sleep", "12"]}]), "gateway: is stopped with calls on their way"),
        (lambda stack: stack["services"]["redis"]["deploy"]["resources"]["limits"].pop("pids"), "no limit of pids"),
        (lambda stack: stack["networks"].update(serving={}), "networks: serving has a way out"),
        (lambda stack: stack["secrets"].update(more={"file": "x"}), "secrets: more is used or declared, and not both"),
        (lambda stack: stack["secrets"].update(redis_auth={"environment": "X"}), "secrets: redis_auth is no file"),
        (lambda stack: stack["volumes"].update(more={}), "volumes: more is used by nobody"),
    ],
)
def test_what_breaks_a_rule_is_named(stack: Stack, break_it: Callable[[Stack], Any], said: str) -> None:
    break_it(stack)
    assert [line for line in findings(stack) if said in line] != []
