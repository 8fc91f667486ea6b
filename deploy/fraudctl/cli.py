"""The one command line. Every command is thin: it calls a package and reports what it says.

Exit code 0: done and good. 1: a check failed or a target was missed. 2: bad usage or bad input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fraud_client import FraudClientError, InvalidRequest
from fraud_scoring.errors import FraudError, InvalidDefinition, InvalidInput

_GROUPS = {
    "backup": "fraudctl.recovery:backup",
    "bench": "fraudctl.bench:bench",
    "data": "fraudctl.data:data",
    "demo": "fraudctl.demo:demo",
    "drift": "fraudctl.drift:drift",
    "features": "fraudctl.features:features",
    "health": "fraudctl.server:health",
    "incident": "fraudctl.incident:incident",
    "judge": "fraudctl.judge:judge",
    "label": "fraudctl.score:label",
    "load": "fraudctl.load:load",
    "log": "fraudctl.log:log",
    "plan": "fraudctl.plan:plan",
    "release": "fraudctl.release:release",
    "restore": "fraudctl.recovery:restore",
    "routes": "fraudctl.routes:routes",
    "score": "fraudctl.score:score",
    "serve": "fraudctl.server:serve",
    "store": "fraudctl.store:store",
}


class _Commands(click.Group):
    """Commands by name, each imported when it is asked for, so that `--help` and short commands stay quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        module, name = _GROUPS[cmd_name].split(":")
        command: click.Command = getattr(__import__(module, fromlist=[name]), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="fraudserve", prog_name="fraudctl")
def cli() -> None:
    """Real-time fraud scoring on Triton: data, features, releases, server, scores.

    \b
    A first tour:
      fraudctl demo                              the whole way, once
      fraudctl data simulate --out var/tx.parquet
      fraudctl release train --data var/tx.parquet
      fraudctl serve
      fraudctl score --help
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` without `arguments`); an error that is no bug is one line and an exit code."""
    try:
        cli.main(arguments, prog_name="fraudctl")
    except FraudError as error:
        click.echo(f"fraudctl: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidInput | InvalidDefinition) else 1)
    except FraudClientError as error:
        click.echo(f"fraudctl: {error}", err=True)
        sys.exit(2 if isinstance(error, InvalidRequest) else 1)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        what = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
        click.echo(f"fraudctl: {what}{error.strerror or error}", err=True)
        sys.exit(2)
