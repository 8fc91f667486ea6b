"""What must hold of the workflows in deploy/pipelines: each step one command that a person may run as well."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

FRAUDCTL: Final = ".venv/bin/fraudctl"
_PINNED: Final = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
_EXPRESSION: Final = re.compile(r"\$\{\{")
_SHELL: Final = re.compile(r"[;&|`<>\n]|\$\(")
_MOST_MINUTES: Final = 1440


@dataclass(frozen=True)
class Command:
    """One `run` of a step, split as a shell would; `where` is job and step."""

    where: str
    words: tuple[str, ...]


def commands(workflow: Mapping[Any, Any]) -> list[Command]:
    """Every command of a workflow, in order."""
    return [
        Command(where, tuple(shlex.split(step["run"])))
        for where, _, step in _steps(workflow)
        if step.get("run") is not None
    ]


def findings(workflow: Mapping[Any, Any]) -> list[str]:
    """Each as job: what, the rule; empty where every rule holds."""
    found = [f"{name}: {said}" for name, job in workflow["jobs"].items() for said in _of_job(job)]
    found += [f"{where}: {said}" for where, _, step in _steps(workflow) for said in _of_step(step)]
    # YAML reads the key `on` as true
    triggers = workflow.get("on", workflow.get(True, {}))
    if "pull_request_target" in triggers or "workflow_run" in triggers:
        found.append("workflow: it starts with the rights of the main branch for whoever opens a pull request")
    if workflow.get("permissions") != {}:
        found.append("workflow: begin with permissions: {}, and give each job what it needs")
    if "concurrency" not in workflow:
        found.append("workflow: two runs may cross; give it a concurrency group")
    return found


def _steps(workflow: Mapping[Any, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, job in workflow["jobs"].items():
        for number, step in enumerate(job["steps"], 1):
            yield f"{name}, step {number}", name, step


def _of_job(job: Mapping[str, Any]) -> Iterator[str]:
    if not 0 < job.get("timeout-minutes", 0) <= _MOST_MINUTES:
        yield "may run for ever; write timeout-minutes"
    if "permissions" not in job:
        yield "has the rights of the workflow; write which it needs"
    deploys = [step for step in job["steps"] if step.get("id") in ("deploy", "begin")]
    if deploys and "environment" not in job:
        yield "changes what runs, and no environment guards it"
    if deploys and not any("back" in step.get("run", "") and "if" in step for step in job["steps"]):
        yield "changes what runs, and no step takes it back when the next ones fail"


def _of_step(step: Mapping[str, Any]) -> Iterator[str]:
    if "uses" in step and not _PINNED.match(step["uses"]):
        yield f"uses {step['uses']}, which may be another program tomorrow; name the commit"
    run = step.get("run")
    if run is None:
        return
    if _EXPRESSION.search(run):
        yield "writes an expression into a command, where its value would be read by the shell; hand it over in env"
    if _SHELL.search(run.strip()):
        yield "is a script; make it one target or command that a person may run as well"
    elif not run.startswith(("make ", f"{FRAUDCTL} ")):
        yield f"runs {run.split()[0]}; every step is a make target or a fraudctl command"
