"""Images built and containers run without a service and without a registry: buildah and podman, on Debian's packages.

The base is a root that mmdebstrap makes once and that is kept below var/. Containers run as they do on a cluster: no
network but each other's, the root read-only, no capability, nothing to gain by a set-uid program.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from fraud_deploy.check import CheckSkipped
from fraud_deploy.toolbox import Toolbox

PROGRAMS: Final = ("buildah", "mmdebstrap", "podman", "runc")
BASE: Final = "localhost/fraudserve-base"
_SUITE: Final = "bookworm"
_PACKAGES: Final = ("python3", "libpython3.11", "ca-certificates", "libgomp1", "libjemalloc2")
_LENT: Final = ("/etc/ssl/certs", "/etc/pip.conf")
"""What a build needs of this machine to reach the package registries that this machine reaches."""
_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_ROOM_BYTES: Final = 8 << 30
_TIDYING_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Image:
    """What is built of a Dockerfile below deploy/docker: its `target` stage, with these arguments."""

    name: str
    dockerfile: str
    arguments: Mapping[str, str]
    target: str | None = None

    @property
    def tag(self) -> str:
        return f"localhost/fraudserve-{self.name}:check"


class Containers:
    """Images and containers in a store of their own; `with` ends every container and takes the store away."""

    def __init__(self, toolbox: Toolbox) -> None:
        if os.geteuid() != 0:
            raise CheckSkipped("images are built by root here (chroot and mounts): run make deploy-check as root")
        self._toolbox = toolbox
        # podman takes no path of more than 50 characters for what it keeps while containers run
        self._short = tempfile.TemporaryDirectory(prefix="fraud-", dir="/run", ignore_cleanup_errors=True)
        room = _roomy(toolbox.scratch)
        self._graph = tempfile.TemporaryDirectory(prefix="fraud-images-", dir=room, ignore_cleanup_errors=True)
        self._store = ["--root", self._graph.name, "--runroot", f"{self._short.name}/run", "--storage-driver", "vfs"]
        self._podman = [*self._store, "--tmpdir", str(Path(self._short.name, "work")), "--cgroup-manager", "cgroupfs"]
        self._podman += ["--events-backend", "file", "--runtime", "runc"]
        self._names: list[str] = []

    def __enter__(self) -> Containers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._short, self._graph:
            for name in reversed(self._names):  # who shares another's network goes first
                self.podman("rm", "--force", "--time", "0", name)
            _remove(Path(self._graph.name))

    def make_base(self) -> str:
        """The digest of an image that holds Debian's packages, and nothing else."""
        root = _base_root(self._toolbox)
        context = self._toolbox.scratch / "base"
        context.mkdir()
        os.link(root, context / "root.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n", encoding="utf-8")
        self._buildah("build", "--isolation", "chroot", "--layers=false", "--tag", f"{BASE}:check", str(context))
        found = json.loads(self._buildah("inspect", "--type", "image", f"{BASE}:check"))
        return str(found["FromImageDigest"])

    def build(self, image: Image) -> None:
        """Build `image` in Docker's format, which keeps its HEALTHCHECK."""
        arguments = [part for key, value in image.arguments.items() for part in ("--build-arg", f"{key}={value}")]
        lent = [part for path in _LENT if Path(path).exists() for part in ("--volume", f"{path}:{path}:ro")]
        stage = ["--target", image.target] if image.target else []
        file = self._toolbox.deploy / "docker" / image.dockerfile
        how = ["--isolation", "chroot", "--layers=false", "--format", "docker", "--file", str(file)]
        self._buildah("build", *how, *stage, *arguments, *lent, "--tag", image.tag, str(self._toolbox.root))

    def health_command(self, image: Image) -> list[str]:
        """The program and its arguments that the image's HEALTHCHECK runs; empty where it has none."""
        found = self.podman("image", "inspect", "--format", "{{json .HealthCheck}}", image.tag)
        check = (json.loads(found) or {}).get("Test", ["NONE"])
        return list(check[1:]) if check[0] == "CMD" else []

    def run(
        self,
        image: Image,
        *arguments: str,
        network: str,
        volumes: Sequence[str] = (),
        options: Sequence[str] = (),
        good: Sequence[int] = (0,),
    ) -> str:
        """Run `image` as a cluster would; what it printed."""
        most = str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        how = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]  # noqa: S108
        how += ["--ulimit", f"nofile={most}:{most}", "--ulimit", "nproc=10000:10000", "--shm-size", "512m"]
        how += ["--no-healthcheck", "--log-driver", "k8s-file", "--network", network]
        how += [part for volume in volumes for part in ("--volume", volume)]
        return self.podman("run", *how, *options, image.tag, *arguments, good=good)

    def start(self, name: str, image: Image, *, network: str, volumes: Sequence[str]) -> None:
        """Run `image` in the background as container `name`, until `with` ends."""
        self._names.append(name)
        self.run(image, network=network, volumes=volumes, options=["--detach", "--name", name])

    def podman(self, *arguments: str, good: Sequence[int] = (0,)) -> str:
        return self._toolbox.run("podman", *self._podman, *arguments, good=good)

    def _buildah(self, command: str, *arguments: str) -> str:
        return self._toolbox.run("buildah", *self._store, command, *arguments, timeout=420)


def _remove(folder: Path) -> None:
    """Remove what podman may still be tidying up for a moment after its last container ended."""
    give_up = time.monotonic() + _TIDYING_SECONDS
    while folder.exists() and time.monotonic() < give_up:
        shutil.rmtree(folder, ignore_errors=True)


def _roomy(otherwise: Path) -> Path:
    """Where images are kept: in memory if it has room, for they are hundreds of thousands of small files."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES else otherwise


def _base_root(toolbox: Toolbox) -> Path:
    """The tar of a Debian root with Python in it, made once (a minute) and kept below var/."""
    kept = toolbox.root / "var" / "deploy" / f"{_SUITE}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        made = kept.with_suffix(".new.tar")
        leave_out = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
        packages = f"--include={','.join(_PACKAGES)}"
        toolbox.run("mmdebstrap", "--quiet", "--variant=minbase", packages, *leave_out, _SUITE, made, timeout=420)
        made.rename(kept)
    return kept
