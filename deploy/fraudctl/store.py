"""`fraudctl store`: whether the window store is still the one that was there, and saying that it is right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraudctl.options import home_option, json_option
from fraudctl.report import emit

if TYPE_CHECKING:
    from fraud_scoring.stores.redis.births import Seen

store_option = click.option(
    "--store",
    "url",
    required=True,
    envvar="FRAUD_STORE",
    show_envvar=True,
    help="The window store's URL, redis://host or rediss://host.",
)

_EPILOG = """\b
A Redis came back without its data; the server answers without windows meanwhile:
  fraudctl store status --store redis://redis-1
  fraudctl features load --data history.parquet --store redis://redis-1
  fraudctl store accept --store redis://redis-1
"""


@click.group(epilog=_EPILOG)
def store() -> None:
    """Look after a window store in Redis that may have lost its data, or whose region another one replaces.

    A store gets an id when it is first used, and the server's home folder remembers it. A store that lacks it, in part
    or whole, is not read: its windows would look as if nothing had happened. Payments are answered without them.
    """


@store.command()
@store_option
@home_option
@json_option
def status(url: str, home: Path, as_json: bool) -> None:
    """Say whether the store is the one that this home remembers; exit code 1 if not. Changes nothing."""
    from fraud_scoring.stores.births import status as look
    from fraud_server.settings import store_ids

    seen = look(url, store_ids(home))
    _report(seen, as_json)
    if not seen.is_right:
        sys.exit(1)


@store.command()
@store_option
@home_option
@json_option
def accept(url: str, home: Path, as_json: bool) -> None:
    """Say that the store is right as it is now: it is read again from here on.

    Where the home remembers an id and the store has none, it gets that one back, and every server that remembers it
    reads the store again.
    """
    from fraud_scoring.stores.births import accept as take
    from fraud_server.settings import store_ids

    _report(take(url, store_ids(home)), as_json)


@store.command()
@store_option
@home_option
@json_option
def fence(url: str, home: Path, as_json: bool) -> None:
    """Let nobody answer from this store any more: another region answers now.

    Every front door over it refuses payments from its next call on, repeats and last resorts included, and no server
    starts over it. What is in the store stays. `fraudctl store accept` takes the fence away.
    """
    from fraud_scoring.stores.births import fence as raise_fence
    from fraud_server.settings import store_ids

    _report(raise_fence(url, store_ids(home)), as_json)


def _report(seen: Seen, as_json: bool) -> None:
    result = {
        "right": seen.is_right,
        "remembered": seen.remembered,
        "parts": {"right": seen.right, "of_another_store": seen.other, "missing": seen.missing, "fenced": seen.fenced},
    }
    if seen.fenced:
        verdict = "fenced: another region answers, and nobody from this one"
    elif not seen.remembered:
        verdict = "not seen before" if seen.is_right else "lost its data in part"
    else:
        verdict = "the one that was there" if seen.is_right else "emptied, in part or whole, or another one"
    everything = seen.right + seen.other + seen.missing + seen.fenced
    parts = f"{seen.right} of {everything} parts are right, {seen.missing} are empty, {seen.fenced} are fenced"
    emit(result, as_json, table=[("store", verdict), ("parts", parts)])
