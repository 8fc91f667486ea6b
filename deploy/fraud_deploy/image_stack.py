"""The images at work: a release is served, watched and loaded by containers that share one network and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fraud_deploy.check import CheckFailed
from fraud_deploy.containers import BASE, Containers, Image
from fraud_deploy.toolbox import ProgramFailed, Toolbox

USER: Final = 1000
READY_SECONDS: Final = 150
_LOOK_EVERY_S: Final = 0.5
_BUILD_TOOLS: Final = ("pip", "pip3", "gcc", "cc", "make", "hatch", "apt-add-repository")
_BUILT: Final = ("fraud_*r[0-9]*", ".*", "routes.json", "__pycache__")
_DATA: Final = ("--customers", "400", "--terminals", "800", "--days", "60")
_TRAINING: Final = (
    "--train-days",
    "21",
    "--validation-days",
    "7",
    "--test-days",
    "7",
    "--trees",
    "20",
    "--background",
    "0",
)


def images(digest: str) -> dict[str, Image]:
    """The images that are built here, by name, on a base with this digest."""
    on_base = {"BASE_IMAGE": BASE, "BASE_DIGEST": digest}
    server = {"TRITON_IMAGE": BASE, "TRITON_DIGEST": digest, "TRITON_HOME": "", "REQUIREMENTS": "server-cpu"}
    return {
        "server": Image("server", "server.Dockerfile", server),
        "sidecar": Image("sidecar", "python.Dockerfile", on_base, "sidecar"),
        "load": Image("load", "python.Dockerfile", on_base, "load"),
    }


@dataclass(frozen=True)
class Volumes:
    """Folders outside the containers, which belong to their user."""

    models: Path
    data: Path
    sidecar: Path
    load: Path


def make_volumes(toolbox: Toolbox) -> Volumes:
    """A small release, trained here, in a repository of its own, and the key that it is verified by."""
    volumes = Volumes(*(toolbox.scratch / name for name in ("models", "data", "sidecar", "load")))
    shutil.copytree(toolbox.root / "model_repository", volumes.models, ignore=shutil.ignore_patterns(*_BUILT))
    fraudctl = Path(sys.executable).parent / "fraudctl"
    data = toolbox.scratch / "transactions.parquet"
    toolbox.run(fraudctl, "data", "simulate", *_DATA, "--out", data)
    folders = ("--repository", volumes.models, "--home", volumes.data)
    toolbox.run(fraudctl, "release", "train", "--data", data, *folders, *_TRAINING)
    (volumes.data / "keys" / "release.key").unlink()  # a server verifies, and signs nothing
    for folder in vars(volumes).values():
        folder.mkdir(exist_ok=True)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
    return volumes


def try_images(toolbox: Toolbox) -> None:
    """Build the images, serve a release with them, and look at what a cluster relies on."""
    with Containers(toolbox) as containers:
        built = images(containers.make_base())
        with ThreadPoolExecutor(len(built)) as at_once:  # each waits for the network and the disk most of its time
            list(at_once.map(containers.build, built.values()))
        for image in built.values():
            _expect_no_build_tools(containers, image)
        volumes = make_volumes(toolbox)
        with _serving(containers, built["server"], volumes):
            _expect_confined(containers, "server")
            with _watching(containers, built["sidecar"], volumes):
                sent = _load(containers, built["load"], volumes)
                _expect_rows_seen(containers, sent)
            containers.podman("stop", "--time", "30", "server")
            code = containers.podman("inspect", "--format", "{{.State.ExitCode}}", "server").strip()
            if code != "0":
                raise CheckFailed(
                    f"the server ended with code {code} when it was told to stop; it must drain and end with 0"
                )


@contextmanager
def _serving(containers: Containers, image: Image, volumes: Volumes) -> Iterator[None]:
    mounts = [f"{volumes.models}:/models:rw", f"{volumes.data}:/data:rw"]
    containers.start("server", image, network="none", volumes=mounts)
    _await_healthy(containers, "server", containers.health_command(image))
    yield


@contextmanager
def _watching(containers: Containers, image: Image, volumes: Volumes) -> Iterator[None]:
    mounts = [f"{volumes.models}:/models:ro", f"{volumes.data / 'log'}:/log:ro", f"{volumes.sidecar}:/data:rw"]
    containers.start("sidecar", image, network="container:server", volumes=mounts)
    _await_healthy(containers, "sidecar", containers.health_command(image))
    yield
    containers.podman("stop", "--time", "10", "sidecar")


def _load(containers: Containers, image: Image, volumes: Volumes) -> int:
    """Answers that the load generator counted."""
    arguments = ("load", "run", "smoke", "--url", "127.0.0.1:8001", "--rate", "50", "--duration", "4", "--json")
    mounts = [f"{volumes.load}:/data:rw"]
    name = ["--rm"]
    # 1: a target was missed, which on a busy machine says nothing about the image
    containers.run(
        image, *arguments, "--out", "/data/run", network="container:server", volumes=mounts, options=name, good=(0, 1)
    )
    totals = json.loads((volumes.load / "run" / "run.json").read_text(encoding="utf-8"))["totals"]
    if not totals["ok"] or totals["failed"]:
        raise CheckFailed(f"the load generator was answered {totals['ok']} times and failed {totals['failed']} times")
    return int(totals["ok"])


def _await_healthy(containers: Containers, name: str, command: list[str]) -> None:
    """Return once the image's own health check is content."""
    if not command:
        raise CheckFailed(f"image {name} has no HEALTHCHECK; give it one that asks for what the container is there for")

    def ask() -> None:
        containers.podman("exec", name, *command)

    _await(ask, f"{name} is healthy", containers, name)


def _expect_rows_seen(containers: Containers, rows: int) -> None:
    """The sidecar's metrics count what the load generator was answered."""
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8003/api/status').read().decode())"

    def seen() -> None:
        counted = json.loads(containers.podman("exec", "sidecar", "python", "-c", fetch))["checkpoint"]["rows_counted"]
        if counted < rows:
            raise ProgramFailed(f"the sidecar counted {counted} of {rows} rows")

    _await(seen, "the sidecar has counted the rows", containers, "sidecar")


def _await(attempt: Callable[[], None], what: str, containers: Containers, name: str) -> None:
    give_up = time.monotonic() + READY_SECONDS
    while True:
        try:
            return attempt()
        except ProgramFailed as failed:
            if time.monotonic() > give_up:
                log = containers.podman("logs", "--tail", "15", name)
                raise CheckFailed(f"not so within {READY_SECONDS} s: {what}\n{failed}\n{log}") from None
            time.sleep(_LOOK_EVERY_S)


def _expect_no_build_tools(containers: Containers, image: Image) -> None:
    script = f"for tool in {' '.join(_BUILD_TOOLS)}; do command -v $tool; done; true"
    found = containers.run(image, "-c", script, network="none", options=["--rm", "--entrypoint", "sh"]).split()
    module = containers.run(
        image,
        "-c",
        "import importlib.util as u; print(u.find_spec('pip'))",
        network="none",
        options=["--rm", "--entrypoint", "python"],
    )
    if found or module.strip() != "None":
        raise CheckFailed(
            f"image {image.name} holds {found or 'the module pip'}; leave build tools in an earlier stage"
        )


def _expect_confined(containers: Containers, name: str) -> None:
    """The process is not root, has no capability, and cannot write to its root."""
    touch = "touch /opt/written 2>/dev/null && echo writable || echo read-only"
    script = f"id -u; sed -n 's/^CapEff:[[:space:]]*//p' /proc/1/status; {touch}"
    user, capabilities, root = containers.podman("exec", name, "sh", "-c", script).split()
    if (user, int(capabilities, 16), root) != (str(USER), 0, "read-only"):
        raise CheckFailed(f"{name} runs as user {user} with capabilities {capabilities}, and its root is {root}")
