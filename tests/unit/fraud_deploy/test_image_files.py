"""What the images are made of: read from the Dockerfiles and the locked packages, without building anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fraud_deploy.checks.images import pinned

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deploy" / "docker"
LAST_STAGES = {
    "server": ("server.Dockerfile", "server"),
    "sidecar": ("python.Dockerfile", "sidecar"),
    "load": ("python.Dockerfile", "load"),
    "tools": ("python.Dockerfile", "tools"),
}


def stage(image: str) -> str:
    """The text of the stage that becomes the image."""
    file, name = LAST_STAGES[image]
    stages = re.split(r"^FROM ", (DOCKER / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    (found,) = (one for one in stages if one.splitlines()[0].endswith(f" AS {name}"))
    return found


def packages(image: str) -> dict[str, str]:
    return pinned((DOCKER / "requirements" / f"{image}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("image", LAST_STAGES)
def test_an_image_runs_as_user_1000_and_installs_nothing_in_its_last_stage(image: str) -> None:
    text = stage(image)
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["1000:1000"]
    assert not re.search(r"^RUN .*(apt-get|pip)", text, re.MULTILINE)


@pytest.mark.parametrize("image", LAST_STAGES)
def test_every_base_is_named_by_digest(image: str) -> None:
    text = (DOCKER / LAST_STAGES[image][0]).read_text(encoding="utf-8")
    (base,) = (line for line in text.splitlines() if line.startswith("FROM $"))
    assert re.fullmatch(r"FROM \$\{\w+_IMAGE\}@\$\{\w+_DIGEST\} AS base", base)


def test_the_servers_health_is_its_golden_vectors() -> None:
    assert re.search(r'^HEALTHCHECK .*\\\n\s+CMD \["fraudctl", "health", ', stage("server"), re.MULTILINE)


@pytest.mark.parametrize("image", LAST_STAGES)
def test_every_image_has_the_numpy_that_the_python_backend_needs(image: str) -> None:
    assert packages(image)["numpy"] == "1.26.4"


def test_the_server_holds_no_triton_of_a_wheel_and_nothing_that_trains() -> None:
    assert packages("server").keys().isdisjoint({"nvidia-pytriton", "scikit-learn", "lightgbm", "mlflow-skinny"})
    assert "nvidia-pytriton" in packages("server-cpu")


def test_the_sidecar_holds_nothing_that_scores_or_reaches_a_store() -> None:
    assert (
        packages("sidecar").keys().isdisjoint({"onnxruntime", "lightgbm", "tritonclient", "grpcio", "lmdb", "hiredis"})
    )


@pytest.mark.parametrize("image", [*LAST_STAGES, "server-cpu"])
def test_an_image_has_the_versions_that_the_tests_ran_with(image: str) -> None:
    ours = pinned((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    other = {name: version for name, version in packages(image).items() if ours.get(name, version) != version}
    assert other == {}


def test_no_release_key_or_environment_is_sent_to_a_build() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert rules[1] == "*"
    assert {"model_repository/fraud_*r[0-9]*", "model_repository/.*", "deploy/compose"} <= set(rules)
    assert [rule for rule in rules if rule.startswith("!") and ("var" in rule or "keys" in rule)] == []
