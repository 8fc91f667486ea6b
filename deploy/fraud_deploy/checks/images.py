"""deploy/docker: read by hadolint and trivy, packages by their hashes, and three of the four images built and run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.containers import PROGRAMS
from fraud_deploy.image_stack import try_images
from fraud_deploy.toolbox import Toolbox

_PINNED: Final = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)
_RUN_HERE: Final = ("server-cpu", "sidecar", "load", "build")
DOCKERFILES: Final = ("docker/*.Dockerfile",)


def checks() -> list[Check]:
    packages = tuple(f"docker/requirements/{name}.*" for name in _RUN_HERE)
    ran = (*DOCKERFILES, "docker/install-packages", "docker/requirements/server.in", *packages)
    return [
        Check("images.hadolint", DOCKERFILES, "lint", ("hadolint",), _hadolint_has_nothing_to_say),
        Check("images.trivy", DOCKERFILES, "lint", ("trivy",), _trivy_has_nothing_to_say),
        Check("images.locks", ("docker/requirements/*",), "schema", (), _packages_are_the_projects_by_their_hashes),
        Check("images.sbom", ("docker/requirements/*.txt",), "schema", ("cyclonedx-py",), _bill_of_materials_is_whole),
        Check("images.run", ran, "run", PROGRAMS, try_images),
    ]


def _hadolint_has_nothing_to_say(toolbox: Toolbox) -> None:
    toolbox.run("hadolint", *sorted((toolbox.deploy / "docker").glob("*.Dockerfile")))


def _trivy_has_nothing_to_say(toolbox: Toolbox) -> None:
    options = ("config", "--quiet", "--skip-check-update", "--skip-version-check", "--exit-code", "1")
    toolbox.run("trivy", *options, "--cache-dir", toolbox.scratch, toolbox.deploy / "docker")


def pinned(text: str) -> dict[str, str]:
    """Version of each package that a locked requirements file names."""
    return dict(_PINNED.findall(text))


def _packages_are_the_projects_by_their_hashes(toolbox: Toolbox) -> None:
    """What an image installs is what the tests ran with: the versions of requirements.lock, each file by its hash."""
    ours = pinned((toolbox.root / "requirements.lock").read_text(encoding="utf-8"))
    for path in _locks(toolbox):
        text = path.read_text(encoding="utf-8")
        bare = [entry.split("==")[0] for entry in re.split(r"\n(?=\S)", text) if "--hash=sha256:" not in entry]
        if bare:
            raise CheckFailed(f"{path.name}: {bare[0]} has no hash; write the locks with: make lock")
        other = {name: version for name, version in pinned(text).items() if ours.get(name, version) != version}
        if other:
            raise CheckFailed(f"{path.name} has other versions than requirements.lock: {other}; run: make lock")


def _bill_of_materials_is_whole(toolbox: Toolbox) -> None:
    """The CycloneDX bill that `make sbom` writes is valid by its schema and names every package that is locked."""
    for path in _locks(toolbox):
        bill = json.loads(bill_of_materials(toolbox, path))
        named = {component["name"] for component in bill["components"]}
        if missing := set(pinned(path.read_text(encoding="utf-8"))) - named:
            raise CheckFailed(f"the bill of materials of {path.name} does not name {', '.join(sorted(missing))}")


def bill_of_materials(toolbox: Toolbox, locked: Path) -> str:
    """CycloneDX 1.6 as JSON, the same bytes for the same lock."""
    options = ("--schema-version", "1.6", "--output-format", "JSON", "--output-reproducible", "--validate")
    return toolbox.run("cyclonedx-py", "requirements", *options, locked)


def _locks(toolbox: Toolbox) -> list[Path]:
    return sorted((toolbox.deploy / "docker" / "requirements").glob("*.txt"))
