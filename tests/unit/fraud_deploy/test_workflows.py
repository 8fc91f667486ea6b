"""The rules that the workflows of deploy/pipelines keep, and that every command in them is one that exists."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from fraud_deploy.workflows import commands, findings
from fraudctl.cli import cli

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / "deploy" / "pipelines").glob("*.yaml"))
Workflow = dict[Any, Any]


def read(name: str) -> Workflow:
    found: Workflow = yaml.safe_load((ROOT / "deploy" / "pipelines" / name).read_text(encoding="utf-8"))
    return found


@pytest.fixture
def software() -> Workflow:
    # by way of JSON, which has no anchors: a change of one job is no change of another
    copied: Workflow = json.loads(json.dumps(read("software.yaml")))
    return copied


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_workflows_as_they_are_keep_every_rule(path: Path) -> None:
    assert findings(read(path.name)) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_fraudctl_takes_every_command_of_a_workflow_with_its_options(path: Path) -> None:
    asked = [command for command in commands(read(path.name)) if command.words[0].endswith("fraudctl")]
    for command in asked:
        context = click.Context(cli)
        found: click.Command = cli
        words = list(command.words[1:])
        while isinstance(found, click.Group):
            name, inner, words = found.resolve_command(context, words)
            assert inner is not None, command
            found, context = inner, click.Context(inner, info_name=name, parent=context)
        found.make_parser(context).parse_args(words)  # raises for an option that is none, or lacks its value


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_knows_every_target_of_a_workflow(path: Path) -> None:
    targets = {command.words[1] for command in commands(read(path.name)) if command.words[0] == "make"}
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "deploy/pipelines/ship.mk"))
    assert {target for target in targets if f"\n{target}:" not in text} == set()


@pytest.mark.parametrize(
    "step", ["lint", "test", "deploy-check", "scan", "images", "sbom", "push", "sign", "deploy", "back"]
)
def test_software_goes_through_every_step(software: Workflow, step: str) -> None:
    assert any(command.words[:2] == ("make", step) for command in commands(software))


def set_in(job: str, **changed: Any) -> Callable[[Workflow], None]:
    return lambda workflow: workflow["jobs"][job].update(changed)


def step_of(job: str, number: int, **changed: Any) -> Callable[[Workflow], None]:
    return lambda workflow: workflow["jobs"][job]["steps"][number].update(changed)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (step_of("check", 0, uses="actions/checkout@v4"), "may be another program tomorrow"),
        (step_of("check", 1, run="make lint && make test"), "is a script"),
        (step_of("check", 1, run="curl https://example.org"), "runs curl"),
        (step_of("check", 1, run="make lint X=${{ github.head_ref }}"), "writes an expression into a command"),
        (set_in("check", **{"timeout-minutes": 0}), "may run for ever"),
        (lambda workflow: workflow["jobs"]["images"].pop("permissions"), "has the rights of the workflow"),
        (lambda workflow: workflow["jobs"]["canary"].pop("environment"), "no environment guards it"),
        (lambda workflow: workflow["jobs"]["canary"]["steps"].pop(), "no step takes it back"),
        (lambda workflow: workflow.update(permissions={"contents": "write"}), "begin with permissions: {}"),
        (lambda workflow: workflow.pop("concurrency"), "two runs may cross"),
        (lambda workflow: workflow.update(on={"pull_request_target": {}}), "whoever opens a pull request"),
    ],
)
def test_what_breaks_a_rule_is_named(software: Workflow, break_it: Callable[[Workflow], Any], said: str) -> None:
    break_it(software)
    assert [line for line in findings(software) if said in line] != []


def test_a_deploy_without_a_cluster_is_said_in_full_before_anything_is_done() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "deploy", "ENVIRONMENT=production", "SETTINGS=ours.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--kube-context production " in said
    assert "--values var/images.yaml --values ours.yaml" in said
    assert "--rollback-on-failure" in said
