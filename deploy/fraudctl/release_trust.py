"""`fraudctl release sign | verify | keys | admit | seal | unseal`: who vouches for a release, whom a host believes."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fraudctl.options import home_option, json_option, release_key_option, repository_option, signing_key_option
from fraudctl.report import emit

if TYPE_CHECKING:
    from fraud_release.statement import Statement


@click.command()
@click.argument("name")
@repository_option
@home_option
@signing_key_option
@json_option
def sign(name: str, repository: Path, home: Path, signing_key: Path | None, as_json: bool) -> None:
    """Sign release NAME, in place of an earlier signature: for one that was made unsigned, or when the key changes.

    Its files must be those of its manifest. The public key is written beside the private one, as release.pub.
    """
    from fraud_release.signing import sign_release
    from fraud_release.trust import home_signing_key, open_signing_key, public_key_file
    from fraud_scoring.key_files import public_text
    from fraud_scoring.releases import release_number

    path = signing_key or home_signing_key(home)
    key = open_signing_key(path)
    statement = sign_release(repository, release_number(name), key)
    result = {"release": name, **_facts(statement), "public_key": public_text(key), "file": public_key_file(path)}
    emit(result, as_json)


@click.command()
@click.argument("name", required=False)
@repository_option
@home_option
@release_key_option
@json_option
def verify(name: str | None, repository: Path, home: Path, release_key: Path | None, as_json: bool) -> None:
    """Verify release NAME (default: all) as a server does: every file, by the pinned key, and no older than seen.

    Exit code 1 at the first release that is refused, with the file and the rule that it breaks.
    """
    from fraud_release.signing import verify_release
    from fraud_release.trust import TrustSettings
    from fraud_scoring.errors import ReleaseUnavailable
    from fraud_scoring.releases import existing, release_name, release_number

    numbers = [release_number(name)] if name else existing(repository)
    if not numbers:
        raise ReleaseUnavailable("there is no release; make one with: fraudctl release train --data FILE")
    trust = TrustSettings.read(home, release_key, remember=False)
    checked = {release_name(number): _facts(verify_release(repository, number, trust).statement) for number in numbers}
    lines = [(release, f"{f['files']} files as signed on {f['signed_at']}") for release, f in checked.items()]
    emit({"verified": checked}, as_json, table=lines)


@click.command()
@click.argument("name")
@repository_option
@home_option
@release_key_option
@json_option
def admit(name: str, repository: Path, home: Path, release_key: Path | None, as_json: bool) -> None:
    """Let release NAME in although newer ones were verified here before: else it is refused as a downgrade.

    It is verified like any other. A signature older than one that was seen of the same release stays refused.
    """
    from fraud_release.signing import admit_release
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_number

    verified = admit_release(repository, release_number(name), TrustSettings.read(home, release_key))
    emit({"admitted": name, **_facts(verified.statement)}, as_json)


@click.command()
@home_option
@release_key_option
@json_option
def keys(home: Path, release_key: Path | None, as_json: bool) -> None:
    """The public keys that this host trusts, and what it has verified so far."""
    from fraud_release.record import read_record
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_name

    trust = TrustSettings.read(home, release_key)
    record = None if trust.record is None else read_record(trust.record)
    seen = {} if record is None else {release_name(n): _time(one.epoch) for n, one in sorted(record.releases.items())}
    lines = [("trusted", key) for key in trust.public_keys]
    lines += [(release, f"verified here, signed on {moment}") for release, moment in seen.items()]
    emit({"trusted": list(trust.public_keys), "verified": seen}, as_json, table=lines)


_sealing_key_option = click.option(
    "--sealing-key",
    envvar="FRAUD_SEALING_KEY",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the key that encrypts, 32 bytes; `seal` makes it if there is none.",
)


@click.command()
@click.argument("name")
@click.option(
    "--into", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where rNNNN.sealed goes."
)
@_sealing_key_option
@repository_option
@home_option
@release_key_option
@json_option
def seal(
    name: str, into: Path, sealing_key: Path, repository: Path, home: Path, release_key: Path | None, as_json: bool
) -> None:
    """Encrypt release NAME into folder NAME.sealed: for keeping where others can read.

    Each file on its own, AES-256-GCM, bound to its path and to the hash that was signed. The release stays as it is.
    """
    from fraud_release.sealing import seal_release, sealed_name
    from fraud_release.sealing import sealing_key as read_key
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_number

    trust = TrustSettings.read(home, release_key, remember=False)
    into.mkdir(parents=True, exist_ok=True)
    number = release_number(name)
    verified = seal_release(repository, number, trust, read_key(sealing_key, make=True), into)
    emit({"sealed": name, "folder": into / sealed_name(number), "files": verified.files}, as_json)


@click.command()
@click.argument("name")
@click.option(
    "--from",
    "source",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder that holds rNNNN.sealed.",
)
@_sealing_key_option
@repository_option
@home_option
@release_key_option
@json_option
def unseal(
    name: str, source: Path, sealing_key: Path, repository: Path, home: Path, release_key: Path | None, as_json: bool
) -> None:
    """Open sealed release NAME into the repository: once every file is what was signed, and not before.

    Give a repository in memory (a private folder of a tmpfs) if the model must not lie on a disk in the clear.
    """
    from fraud_release.sealing import open_sealed
    from fraud_release.sealing import sealing_key as read_key
    from fraud_release.trust import TrustSettings
    from fraud_scoring.releases import release_number

    trust = TrustSettings.read(home, release_key)
    verified = open_sealed(source, release_number(name), trust, read_key(sealing_key), repository)
    emit({"opened": name, **_facts(verified.statement)}, as_json)


def _facts(statement: Statement) -> dict[str, Any]:
    return {
        "files": len(statement.digests),
        "signed_at": _time(statement.epoch),
        "epoch": statement.epoch,
        "digest": statement.root,
    }


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch / 1e6, timezone.utc).isoformat(timespec="seconds")
