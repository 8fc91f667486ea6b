"""A pod's commands with the folders of this machine in the place of its mounts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_deploy.check import CheckFailed
from fraud_deploy.pod import Pod, moved
from fraud_deploy.toolbox import Toolbox

PLACES = {"/models": "/tmp/x/models", "/data": "/tmp/x/data", "/data/deep": "/tmp/x/deep", "/releases": "/tmp/x/r"}


@pytest.mark.parametrize(
    ("word", "here"),
    [
        ("/models", "/tmp/x/models"),
        ("/models/fraud_score", "/tmp/x/models/fraud_score"),
        ("--home=/data", "--home=/tmp/x/data"),
        ("/data/deep/er", "/tmp/x/deep/er"),
        ("cp -R /models/. /data/ && ls /data", "cp -R /tmp/x/models/. /tmp/x/data/ && ls /tmp/x/data"),
        ("folder:///releases", "folder:///tmp/x/r"),
        ("redis://h?password_file=/data/password&a=9", "redis://h?password_file=/tmp/x/data/password&a=9"),
        ("/models2 /x/models /var/data", "/models2 /x/models /var/data"),
    ],
)
def test_a_path_of_a_mount_is_moved_and_one_that_only_looks_like_it_is_not(word: str, here: str) -> None:
    assert moved(word, PLACES) == here


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    """Containers that write to their mount, fail, wait to be told to end, and refuse to."""

    def container(name: str, script: str) -> dict[str, object]:
        return {
            "name": name,
            "image": "registry/fraudserve/server@sha256:0",
            "command": [sys.executable, "-c", f"import signal; {script}"],
            "env": [{"name": "WHERE", "value": "/data/here"}],
            "startupProbe": {"exec": {"command": ["sh", "-c", "cat /data/ready || { echo not yet; exit 1; }"]}},
            "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": name}],
        }

    block = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); open('/data/ready', 'w').close(); "
    spec = {
        "initContainers": [
            container("writes", "import os; open(os.environ['WHERE'], 'w').write('x')"),
            container("fails", "raise SystemExit('no table')"),
        ],
        "containers": [
            container("waits", block + "signal.sigwait([signal.SIGTERM])"),
            container("deaf", block + "signal.sigwait([signal.SIGUSR1])"),
        ],
    }
    (tmp_path / "scratch").mkdir()
    pod = Pod(Toolbox(tmp_path / "scratch"), spec, tmp_path, {}, {})
    yield pod
    pod.end()


def test_a_container_finds_its_mount_and_its_environment_in_a_folder_of_its_own(pod: Pod) -> None:
    pod.run_to_its_end("writes")
    assert (pod.folder("data") / "writes" / "here").read_text() == "x"


def test_a_container_that_ends_otherwise_than_well_is_told_with_its_last_words(pod: Pod) -> None:
    with pytest.raises(CheckFailed, match="container fails ended with code 1: no table"):
        pod.run_to_its_end("fails")


def test_a_probe_passes_when_the_container_is_ready_and_the_container_ends_when_it_is_told(pod: Pod) -> None:
    assert "not yet" in str(pod.probe("waits", "startupProbe"))
    pod.start("waits")
    pod.until("waits", "startupProbe", 20)
    pod.stop("waits", 20)


def test_a_container_that_does_not_end_when_it_is_told_is_named(pod: Pod) -> None:
    pod.start("deaf")
    pod.until("deaf", "startupProbe", 20)
    with pytest.raises(CheckFailed, match="container deaf did not end within"):
        pod.stop("deaf", 0.2)
