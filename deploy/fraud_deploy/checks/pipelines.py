"""deploy/pipelines: the workflows by GitHub's schema and our rules, every command of theirs by the program it calls."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml

from fraud_deploy.check import Check, CheckFailed
from fraud_deploy.toolbox import Toolbox
from fraud_deploy.workflows import Command, commands, findings

_WORKFLOWS: Final = "pipelines/*.yaml"
_OPTION: Final = re.compile(r"--[a-z][a-z-]*")


def checks() -> list[Check]:
    both = (_WORKFLOWS, "pipelines/ship.mk")
    return [
        Check("pipelines.schema", (_WORKFLOWS,), "schema", ("check-jsonschema",), _schema_takes_them),
        Check("pipelines.rules", (_WORKFLOWS,), "lint", (), _rules_hold),
        Check("pipelines.commands", both, "lint", ("make",), _every_command_is_one),
        Check(
            "pipelines.scan",
            ("docker/*.Dockerfile", "terraform/**/*.tf"),
            "lint",
            ("make", "trivy"),
            _scan_finds_nothing,
        ),
    ]


def _workflows(toolbox: Toolbox) -> dict[str, Any]:
    return {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in toolbox.deploy.glob(_WORKFLOWS)}


def _schema_takes_them(toolbox: Toolbox) -> None:
    paths = sorted(toolbox.deploy.glob(_WORKFLOWS))
    toolbox.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *paths)


def _rules_hold(toolbox: Toolbox) -> None:
    if found := [f"{name}: {said}" for name, one in _workflows(toolbox).items() for said in findings(one)]:
        raise CheckFailed("\n".join(found))


def _every_command_is_one(toolbox: Toolbox) -> None:
    """`make` knows the target, and can say what it would do; `fraudctl` knows the command and each of its options."""
    for name, workflow in _workflows(toolbox).items():
        for command in commands(workflow):
            if command.words[0] == "make":
                toolbox.run("make", "--dry-run", *command.words[1:])
            elif unknown := _unknown_to_fraudctl(toolbox, command):
                raise CheckFailed(f"{name}: {command.where}: fraudctl knows no {unknown}; see its --help")


def _unknown_to_fraudctl(toolbox: Toolbox, command: Command) -> str | None:
    """The first option of `command` that the command's help does not name; ProgramFailed for an unknown command."""
    fraudctl = Path(sys.executable).parent / "fraudctl"
    group, name = command.words[1:3]
    told = toolbox.run(fraudctl, group, name, "--help")
    known = set(_OPTION.findall(told))
    return next((word for word in command.words if word.startswith("--") and word not in known), None)


def _scan_finds_nothing(toolbox: Toolbox) -> None:
    toolbox.run("make", "--no-print-directory", "scan")
