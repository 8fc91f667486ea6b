"""The server's pod of the chart, run here: a release fetched and verified, served, asked, canaried, drained."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from fraud_deploy.check import CheckFailed
from fraud_deploy.manifests import Document, of_kind, part_of, pod_spec, workloads
from fraud_deploy.pod import Pod
from fraud_deploy.rules import DRAIN_SECONDS
from fraud_deploy.toolbox import Toolbox
from fraud_server.ports import free_ports

_PASSWORD: Final = "correct horse battery staple/&?"  # noqa: S105 - of a Redis that lives for a minute
_GIT_MODELS: Final = ("fraud_score", "fraud_front_door", "fraud_feedback", "release_template")


def run_server_pod(toolbox: Toolbox, documents: list[Document]) -> None:
    """Run the pod of a rendering with a Redis of its own and releases from a mounted image."""
    fraudctl = toolbox.root / ".venv" / "bin" / "fraudctl"
    made = toolbox.scratch / "made"
    volumes = {name: toolbox.scratch / name for name in ("releases", "route-table", "release-key", "redis-password")}
    for folder in (made, *volumes.values()):
        folder.mkdir()
    _make_releases(toolbox, fraudctl, made, volumes)
    grpc, http, metrics, sidecar, redis = free_ports(5)
    (volumes["redis-password"] / "password").write_text(_PASSWORD)
    replaced = {
        "127.0.0.1:8001": f"127.0.0.1:{grpc}",
        "0.0.0.0": "127.0.0.1",
        "8003": str(sidecar),
        "redis://fraudserve-redis:6379": f"redis://127.0.0.1:{redis}",
    }
    spec = pod_spec(workloads(documents, "server")[0])
    with ExitStack() as stack:
        stack.enter_context(_redis(toolbox, documents, redis))
        pod = Pod(toolbox, spec, made / "image", volumes, replaced)
        stack.callback(pod.end)
        pod.run_to_its_end("repository")
        pod.run_to_its_end("releases")
        pod.start("routes")
        pod.start("sidecar")
        pod.start("server", "--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics))
        pod.until("server", "startupProbe", 120)
        for probe in ("readinessProbe", "livenessProbe"):
            if (trouble := pod.probe("server", probe)) is not None:
                raise CheckFailed(f"the server is up, and its {probe} does not pass: {trouble}")
        url = f"127.0.0.1:{grpc}"
        _pay(toolbox, fraudctl, url)
        _canary(toolbox, fraudctl, pod, volumes["route-table"], url)
        _pay(toolbox, fraudctl, url)
        pod.stop("server", DRAIN_SECONDS)
        pod.stop("sidecar", 20)
        pod.stop("routes", 20)
        toolbox.run(fraudctl, "log", "verify", "--home", pod.folder("data"))
        _no_secret_is_left(pod)


def _make_releases(toolbox: Toolbox, fraudctl: Path, made: Path, volumes: dict[str, Path]) -> None:
    """Two signed releases in the store, the key that signed them, and a table that names the first."""
    repository, data, home = made / "models", made / "tx.parquet", made / "home"
    for name in _GIT_MODELS:
        for target in (repository, made / "image" / "model_repository"):
            source = toolbox.root / "model_repository" / name
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    size = ("--customers", "200", "--terminals", "400", "--days", "50")
    toolbox.run(fraudctl, "data", "simulate", "--out", data, *size)
    where = ("--repository", repository, "--home", home)
    days = ("--train-days", "20", "--validation-days", "7", "--test-days", "7")
    for trees in ("20", "30"):
        toolbox.run(fraudctl, "release", "train", "--data", data, *where, *days, "--trees", trees)
    for name in ("r0001", "r0002"):
        toolbox.run(fraudctl, "release", "publish", name, "--to", f"folder://{volumes['releases']}", *where)
    shutil.copy(home / "keys" / "release.pub", volumes["release-key"] / "release.pub")
    table = toolbox.run(fraudctl, "routes", "show", "--json", "--repository", repository)
    (volumes["route-table"] / "routes.json").write_text(table)


def _canary(toolbox: Toolbox, fraudctl: Path, pod: Pod, mounted: Path, url: str) -> None:
    """A new table appears where the ConfigMap is mounted: the pod fetches the release, asks it, and follows."""
    document = json.loads((mounted / "routes.json").read_text())
    document["epoch"] += 1
    document["canary"] = {"release": "r0002", "share": 5_000}
    staged = mounted / "next"
    staged.write_text(json.dumps(document))
    staged.replace(mounted / "routes.json")
    asked = (
        "health",
        "--repository",
        pod.folder("models"),
        "--url",
        url,
        "--timeout",
        "10",
        "--every-release",
        "--json",
    )
    give_up = time.monotonic() + 60
    while True:
        releases = json.loads(toolbox.run(fraudctl, *asked))["releases"]
        if releases.get("r0002") == "right":
            return
        if time.monotonic() > give_up:
            raise CheckFailed(f"the canary is not taken: {releases}\n{pod.said('routes')}")
        time.sleep(0.5)


def _pay(toolbox: Toolbox, fraudctl: Path, url: str) -> None:
    payment = ("--customer", "17", "--terminal", "4", "--amount", "12.50")
    answer = json.loads(toolbox.run(fraudctl, "score", *payment, "--url", url, "--json"))
    if answer["source"] not in ("primary", "canary"):
        raise CheckFailed(f"a payment is answered by {answer['source']}, and not by a release")


def _no_secret_is_left(pod: Pod) -> None:
    for volume in ("data", "models"):
        for path in pod.folder(volume).rglob("*"):
            if path.is_file() and not path.is_symlink() and _PASSWORD.encode() in path.read_bytes():
                raise CheckFailed(f"{path.name} on volume {volume} holds the password of the Redis")


@contextmanager
def _redis(toolbox: Toolbox, documents: list[Document], port: int) -> Iterator[None]:
    """The chart's own Redis by the chart's own configuration, on another port and in another folder."""
    folder = toolbox.scratch / "redis"
    folder.mkdir()
    (folder / "auth.conf").write_text(f'requirepass "{_PASSWORD}"\n')
    (maps,) = [one for one in of_kind(documents, "ConfigMap") if part_of(one) == "redis"]
    text = maps["data"]["redis.conf"].replace("/etc/redis/secret", str(folder)).replace("dir /data", f"dir {folder}")
    (folder / "redis.conf").write_text(text)
    program = toolbox.program("redis-server")
    command = [str(program), str(folder / "redis.conf"), "--port", str(port), "--bind", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + 10
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > give_up:
                raise CheckFailed(
                    f"redis-server does not take the chart's configuration:\n{(folder / 'log').read_text()}"
                )
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0
