"""`fraudctl backup` and `fraudctl restore`: all that a server keeps, in one folder, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import click

from fraud_scoring.errors import InvalidInput
from fraudctl.options import home_option, json_option, release_key_option, repository_option
from fraudctl.report import emit, progress

store_option = click.option(
    "--store",
    envvar="FRAUD_STORE",
    help="Window store URL, as the server has it; also as FRAUD_STORE.  [default: lmdb:///<home>/store]",
)


@click.command()
@repository_option
@home_option
@store_option
@release_key_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the archive, a folder backup-<UTC time>, is put into: on another disk.",
)
@click.option("--with-keys", is_flag=True, help="Private keys, too. Then the archive is as secret as they are.")
@click.option(
    "--without",
    type=click.Choice(["store", "log", "registry"]),
    multiple=True,
    help="Leave a part out that is saved elsewhere, as a Redis by its own snapshots. May be given again.",
)
@json_option
def backup(
    repository: Path,
    home: Path,
    store: str | None,
    release_key: Path | None,
    out: Path,
    with_keys: bool,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Save window store, decision log, releases, route table, registry and what the home remembers, while it serves.

    The archive appears under its name once it is whole, on the disk and verified. Private keys stay out of it: the key
    that signs the log (keys/decision-log.key) must be kept where your secrets are.
    """
    from fraud_recovery.backup import Source, back_up

    source = Source(repository, home, store or _store(home), release_key)
    with progress("backup") as report:
        made = back_up(source, out, with_keys=with_keys, without=without, progress=report)
    table = [
        ("archive", str(made.archive)),
        ("took", f"{made.seconds:g} s"),
        ("size", f"{made.bytes / 1e6:,.1f} MB in {made.files:,} files"),
        *((name, _words(about)) for name, about in made.parts.items() if name != "noted"),
    ]
    emit(asdict(made), as_json, table=table)


@click.command()
@click.argument("archive", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option(
    "--latest",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The newest archive in this folder, in place of ARCHIVE.",
)
@repository_option
@home_option
@store_option
@release_key_option
@click.option("--log-key", help="The log's public key in hexadecimal, where you have it from elsewhere.")
@click.option(
    "--surviving-log",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A log that outlived the store, on a disk of its own or shipped: taken in place of the archive's.",
)
@click.option("--rebuild-store", is_flag=True, help="Build the store from the whole log, not from the archive's copy.")
@click.option(
    "--only",
    type=click.Choice(["store", "log", "releases", "registry"]),
    multiple=True,
    help="Put this part back alone; the log that is there completes the store. May be given again.  [default: all]",
)
@click.option("--replace", is_flag=True, help="Put aside what is in the way (into .before-<time>); nothing is removed.")
@click.option("--check", is_flag=True, help="Verify all of the archive, and touch nothing.")
@json_option
def restore(
    archive: Path | None,
    latest: Path | None,
    repository: Path,
    home: Path,
    store: str | None,
    release_key: Path | None,
    log_key: str | None,
    surviving_log: Path | None,
    rebuild_store: bool,
    only: tuple[str, ...],
    replace: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Put ARCHIVE back: first all of it is verified, then it is copied, then the log completes the store.

    Exit code 1, and nothing was touched, where anything in the archive is not what was saved, where the target holds
    something, or where a server runs in it.
    """
    from fraud_recovery.restore import PARTS, Target, check_archive
    from fraud_recovery.restore import restore as run

    chosen = _archive(archive, latest)
    target = Target(
        repository=repository,
        home=home,
        store_url=store or _store(home),
        release_key=release_key,
        log_key=log_key,
        surviving_log=surviving_log,
        replace=replace,
        rebuild_store=rebuild_store,
        only=frozenset(only or PARTS),
    )
    with progress("restore") as report:
        if check:
            found = check_archive(chosen, target, report)
            emit(
                {
                    "archive": chosen,
                    "whole": True,
                    "made_at": _moment(found.manifest.at_us),
                    "bytes": found.manifest.size,
                    "files": len(found.manifest.files),
                    "log_key": found.public_key,
                },
                as_json,
            )
            return
        done = run(chosen, target, report)
    result = {
        "archive": chosen,
        "archive_made_at": _moment(done.archive_at_us),
        "kept_until": _moment(done.kept_until_us),
        **{name: value for name, value in asdict(done).items() if not name.endswith("_us")},
    }
    emit(result, as_json)


def _archive(archive: Path | None, latest: Path | None) -> Path:
    from fraud_recovery.archive import archives

    if (archive is None) == (latest is None):
        raise InvalidInput("name one archive, or the folder that holds them: --latest FOLDER")
    if archive is not None:
        if not archive.is_dir():
            raise InvalidInput(f"{archive} is not there; name a folder backup-…")
        return archive
    assert latest is not None
    found = archives(latest)
    if not found:
        raise InvalidInput(f"no archive is in {latest}; make one with: fraudctl backup --out {latest}")
    return found[-1]


def _store(home: Path) -> str:
    return f"lmdb://{(home / 'store').absolute()}"


def _moment(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).isoformat(timespec="milliseconds")


def _words(about: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items() if name != "public_key")
