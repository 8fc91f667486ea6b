"""The command line explains itself: these fail when a command or an option does not."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from fraudctl.cli import cli

GROUPS = ["data", "demo", "features", "health", "label", "release", "score", "serve"]
REPORTS_NOTHING = {"routes follow", "judge run", "serve"}
"""Commands that run until they are stopped, and tell what happens on standard error."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(cli))
LEAVES = {words: command for words, command in ALL.items() if not isinstance(command, click.Group)}


def test_help_lists_every_group(fraudctl) -> None:
    ran = fraudctl("--help")
    assert ran.code == 0
    listed = {line.split()[0] for line in ran.out.partition("Commands:")[2].splitlines() if line.strip()}
    assert set(GROUPS) <= listed
    assert listed == {words for words in ALL if " " not in words}


@pytest.mark.parametrize("words", ALL)
def test_every_command_says_what_it_does_in_a_sentence(words: str) -> None:
    help_text = (ALL[words].help or "").strip()
    first = help_text.partition("\n\n")[0]
    assert len(first) > 20
    assert first.replace("\n", " ").split("\b")[0].rstrip()[-1] in ".:"


@pytest.mark.parametrize("words", LEAVES)
def test_every_option_and_argument_is_explained(words: str) -> None:
    command = LEAVES[words]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"fraudctl {words} {parameter.opts[0]} has no help"
        else:
            name = parameter.make_metavar(click.Context(command)).strip("[].")
            assert name in (command.help or ""), f"fraudctl {words}: its help does not name the argument {name}"


@pytest.mark.parametrize("words", LEAVES)
def test_every_default_is_shown(words: str) -> None:
    for parameter in LEAVES[words].params:
        if isinstance(parameter, click.Option) and isinstance(parameter.default, int | float | str):
            shown = parameter.show_default or parameter.is_flag or str(parameter.default) in (parameter.help or "")
            assert shown, f"fraudctl {words} {parameter.opts[0]} does not show its default"


@pytest.mark.parametrize("words", sorted(LEAVES.keys() - REPORTS_NOTHING))
def test_every_command_that_reports_takes_json(words: str) -> None:
    (option,) = [parameter for parameter in LEAVES[words].params if "--json" in parameter.opts]
    assert isinstance(option, click.Option)
    assert option.is_flag


@pytest.mark.parametrize("words", ALL)
def test_help_is_printed_for_every_command(words: str, fraudctl) -> None:
    ran = fraudctl(*words.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: fraudctl {words}")


def test_the_version_is_that_of_the_package(fraudctl) -> None:
    assert fraudctl("--version").out.startswith("fraudctl, version 0.")
