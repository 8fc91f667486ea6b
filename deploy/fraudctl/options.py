"""Options that several commands share, with the same name, default and help everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click


class SchemaFile(click.Path):
    """A schema's file; the bare name of a packaged schema stands for its file, where no file here has that name."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from fraud_scoring.schema import PACKAGED, packaged_file

        if str(value) in PACKAGED and not Path(value).exists():
            return packaged_file(str(value))
        return super().convert(value, param, ctx)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on standard output, and nothing else there."
)
repository_option = click.option(
    "--repository",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("model_repository"),
    show_default=True,
    help="The model repository that Triton serves.",
)
schema_option = click.option(
    "--schema",
    type=SchemaFile(),
    help="Schema file, or the name of one that comes with the package: rich.  [default: the default schema]",
)
url_option = click.option(
    "--url", default="localhost:8001", show_default=True, help="The server's gRPC address, host:port."
)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """TLS, and who calls, for a server behind a gateway; the command gets it as `access`, None without any of them."""

    @wraps(command)
    def packed(
        *given: Any, ca: Path | None, certificate: Path | None, key: Path | None, token_file: Path | None, **others: Any
    ) -> None:
        from fraud_client import Access

        access = None
        if ca or certificate or key or token_file:
            access = Access(ca=ca, certificate=certificate, key=key, token_file=token_file)
        command(*given, access=access, **others)

    for option in reversed(_ACCESS):
        packed = option(packed)
    return packed


def _access_file(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}",
        envvar=f"FRAUD_GATEWAY_{name.upper().replace('-', '_')}",
        show_envvar=True,
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Of a gateway: {what}.",
    )


_ACCESS = (
    _access_file("ca", "file of the authorities that vouch for it; any of these four options means TLS"),
    _access_file("certificate", "file of the caller's own certificate, PEM"),
    _access_file("key", "file of its key"),
    _access_file("token-file", "file of the caller's token"),
)
seed_option = click.option(
    "--seed",
    default=7,
    show_default=True,
    type=click.IntRange(0, 2**31 - 1),
    help="The same seed and data give the same result.",
)
home_option = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Folder for the store and for what the running server needs.",
)
_folder = click.Path(file_okay=False, path_type=Path)


def logs_options(command: Callable[..., None]) -> Callable[..., None]:
    """The decision logs of one server or of several; the command gets them as `folders`, beside its `home`."""

    @click.option(
        "--log",
        "named",
        multiple=True,
        type=_folder,
        help="A server's log; again for each server of several.  [default: <home>/log]",
    )
    @click.option(
        "--logs",
        "parents",
        multiple=True,
        type=_folder,
        help="A folder with a folder for each server, its log or its home; one that appears later is read too.",
    )
    @wraps(command)
    def packed(*given: Any, named: tuple[Path, ...], parents: tuple[Path, ...], home: Path, **others: Any) -> None:
        from fraud_judge.logs import LogFolders

        chosen = named if named or parents else (home / "log",)
        command(*given, folders=LogFolders(chosen, parents), home=home, **others)

    return packed


release_key_option = click.option(
    "--release-key",
    envvar="FRAUD_RELEASE_KEY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the public keys that releases must be signed by, one a line; also as FRAUD_RELEASE_KEY.  "
    "[default: <home>/keys/release.pub]",
)
signing_key_option = click.option(
    "--signing-key",
    envvar="FRAUD_RELEASE_SIGNING_KEY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of the private key that signs, made if there is none; also as FRAUD_RELEASE_SIGNING_KEY.  "
    "[default: <home>/keys/release.key]",
)
model_option = click.option(
    "--model",
    type=click.Choice(["trees", "mlp", "blend"]),
    default="trees",
    show_default=True,
    help="Boosted trees, a small neural network, or a blend of both.",
)
