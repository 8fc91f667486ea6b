"""The procedures that nobody has time to try in the night: each command in them is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fraudctl.cli import cli

ROOT = Path(__file__).parents[2]
PROCEDURES = ROOT / "deploy" / "runbooks" / "procedures"
PAGES = [*sorted(PROCEDURES.glob("*.md")), ROOT / "docs" / "recovery.md", ROOT / "docs" / "production.md"]


def commands(page: Path) -> list[str]:
    """Every fraudctl command of a page: lines that are indented by four or more, and code in a line."""
    found = re.findall(r"^ {4,}(fraudctl .*?)(?: {2,}#.*)?$|`(fraudctl [^`]*)`", page.read_text(), flags=re.MULTILINE)
    return ["".join(pair) for pair in found]


ALL = [(page, line) for page in PAGES for line in commands(page)]


def parse(line: str) -> None:
    """UsageError unless the command line would take this: its names, options, their values, all that is required."""
    command: click.Command = cli
    context = click.Context(command)
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"there is no {words[0]}")
        command, words = found, words[1:]
        context = click.Context(command)
    given, _, _ = command.make_parser(context).parse_args(list(words))
    for parameter in command.params:
        if (value := given.get(parameter.name)) is not None and isinstance(parameter.type, click.Choice):
            parameter.type_cast_value(context, value)
        if parameter.required and value is None and not parameter.envvar:
            raise click.UsageError(f"{command.name} needs {parameter.name}")


@pytest.mark.parametrize(("page", "line"), ALL, ids=[f"{page.stem}: {line}" for page, line in ALL])
def test_a_command_of_a_procedure_is_one_that_exists(page: Path, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    "line",
    [
        "fraudctl unmake",
        "fraudctl routes canary r0002 --share 5",
        "fraudctl routes canary r0002",
        "fraudctl release promote r0002 --to heaven --reason x",
        "fraudctl backup --out",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)


def test_the_procedures_are_looked_at() -> None:
    names = {page.stem for page in PAGES}
    assert {"RestoreFromBackup", "StoreLost", "RegionLoss", "Incident", "Deployment", "recovery"} <= names
    assert all(commands(page) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_link_of_a_procedure_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_a_procedure_for_the_night_says_what_it_means_what_to_do_and_when_it_is_over() -> None:
    for name in ("RestoreFromBackup", "StoreLost", "RegionLoss"):
        text = (PROCEDURES / f"{name}.md").read_text()
        assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == [
            "What it means for customers",
            "What to do",
            "How to know that it is over",
        ]
