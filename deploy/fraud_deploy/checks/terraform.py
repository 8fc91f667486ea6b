"""deploy/terraform: format, rules, checkov, Terraform's own validation, and what moto can pretend to be is applied.

Terraform fetches its provider from a registry. Where it may not, the provider is taken from a folder that is laid out
as a mirror: FRAUD_TERRAFORM_PLUGINS names it, or it is one of those below /opt that hold the pinned version.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from fraud_deploy.check import Check, CheckFailed, CheckSkipped
from fraud_deploy.terraform_files import findings
from fraud_deploy.toolbox import ProgramFailed, Toolbox

PROVIDER: Final = "registry.terraform.io/hashicorp/aws/5.100.0"
PLUGINS_VARIABLE: Final = "FRAUD_TERRAFORM_PLUGINS"
APPLIED: Final = ("bucket", "edge", "images", "keys", "network", "storage")
"""Modules that moto can pretend to make; of the others it lacks calls (EKS access entries, ElastiCache parameters)."""
_EVERYTHING: Final = ("terraform/**/*.tf", "terraform/*.example")
_READY_SECONDS: Final = 60
_OVERRIDE: Final = """
terraform {
  backend "local" {}
}
provider "aws" {
  access_key                  = "check"
  secret_key                  = "check"
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_requesting_account_id  = true
  skip_metadata_api_check     = true
}
"""


def checks() -> list[Check]:
    applied = tuple(f"terraform/modules/{module}/*.tf" for module in APPLIED)
    root = ("terraform/*.tf", "terraform/production.tfvars.example")
    return [
        Check("terraform.rules", _EVERYTHING, "lint", (), _rules_hold),
        Check("terraform.format", _EVERYTHING, "lint", ("terraform",), _formatted),
        Check("terraform.checkov", ("terraform/**/*.tf",), "lint", ("checkov",), _checkov_has_nothing_to_say),
        Check("terraform.validate", ("terraform/**/*.tf",), "schema", ("terraform",), _terraform_takes_it),
        Check("terraform.apply", (*applied, *root), "run", ("terraform", "moto_server"), _moto_makes_it),
    ]


def _rules_hold(toolbox: Toolbox) -> None:
    if found := findings(toolbox.deploy / "terraform"):
        raise CheckFailed("\n".join(found))


def _formatted(toolbox: Toolbox) -> None:
    folder = _copy(toolbox)
    for path in folder.glob("*.example"):
        path.rename(path.with_suffix("").with_suffix(".tfvars"))
    _terraform(toolbox, folder, "fmt", "-check", "-diff", "-recursive")


def _checkov_has_nothing_to_say(toolbox: Toolbox) -> None:
    options = ("--framework", "terraform", "--quiet", "--compact", "--skip-download")
    toolbox.run("checkov", "--directory", toolbox.deploy / "terraform", *options, environment={"LOG_LEVEL": "CRITICAL"})


def _terraform_takes_it(toolbox: Toolbox) -> None:
    """Every argument is one that the provider's schema knows, every reference leads somewhere."""
    _terraform(toolbox, _initialised(toolbox), "validate")


def _moto_makes_it(toolbox: Toolbox) -> None:
    """Make, look again and find nothing to change: what is written is what the API says back."""
    folder = _initialised(toolbox)
    (folder / "production.tfvars.example").rename(folder / "production.tfvars")
    targets = [f"-target=module.{name}" for name in APPLIED if name != "bucket"]
    common = ("-input=false", "-var-file=production.tfvars", *targets)
    with _moto(toolbox) as url:
        environment = {"AWS_ENDPOINT_URL": url}
        _terraform(toolbox, folder, "apply", "-auto-approve", *common, environment=environment)
        _terraform(toolbox, folder, "plan", "-detailed-exitcode", *common, environment=environment)


def _initialised(toolbox: Toolbox) -> Path:
    """A copy of the files whose state is kept beside them, with the provider that they pin."""
    folder = _copy(toolbox)
    (folder / "check_override.tf").write_text(_OVERRIDE, encoding="utf-8")
    plugins = _plugins()
    given = [] if plugins is None else [f"-plugin-dir={plugins}"]
    try:
        _terraform(toolbox, folder, "init", "-input=false", *given)
    except ProgramFailed:
        if plugins is not None:
            raise
        raise CheckSkipped(
            f"the provider hashicorp/aws 5.100.0 cannot be fetched; name a mirror of it with {PLUGINS_VARIABLE}"
        ) from None
    return folder


def _copy(toolbox: Toolbox) -> Path:
    folder = toolbox.scratch / "terraform"
    shutil.copytree(toolbox.deploy / "terraform", folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    return folder


def _plugins() -> Path | None:
    """A folder that holds the pinned provider as a mirror does; None: Terraform asks its registry."""
    if named := os.environ.get(PLUGINS_VARIABLE):
        return Path(named)
    return next((path.parents[3] for path in Path("/opt").glob(f"*/{PROVIDER}")), None)


def _terraform(
    toolbox: Toolbox, folder: Path, command: str, *arguments: str, environment: dict[str, str] | None = None
) -> None:
    still = {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1", "AWS_EC2_METADATA_DISABLED": "true"}
    still |= environment or {}
    toolbox.run("terraform", command, "-no-color", *arguments, cwd=folder, environment=still, timeout=300)


@contextmanager
def _moto(toolbox: Toolbox) -> Iterator[str]:
    """The address of an AWS that is none, on this machine's loopback."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with (toolbox.scratch / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [toolbox.program("moto_server"), "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await_listening(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _await_listening(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _READY_SECONDS
    while server.poll() is None and time.monotonic() < give_up:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise CheckFailed("moto_server does not listen; run: make deploy-tools")
