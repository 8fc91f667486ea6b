"""How a caller shows a gateway who it is: a token, or a certificate of its own, over TLS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fraud_client._errors import InvalidRequest

T = TypeVar("T")


@dataclass(frozen=True)
class Access:
    """TLS, and who calls; without anything, TLS with the machine's own authorities.

    `ca` is the file of the authorities that may have signed the gateway's certificate. `certificate` and `key` are the
    caller's own. All are PEM, and read when the client is made. The token goes with every call; a `token_file` is read
    again whenever it was replaced, so that a token may be renewed under a running client.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("Access: certificate and key belong together: give both files, or neither")
        if self.token is not None and self.token_file is not None:
            raise InvalidRequest("Access: give token or token_file, not both")
        if self.token is not None and not _sendable(self.token):
            raise InvalidRequest("Access: a token is printable ASCII without spaces")

    def credentials(self) -> Any:
        """`grpc.ChannelCredentials`."""
        import grpc

        ca, key, certificate = (_content(name, getattr(self, name)) for name in ("ca", "key", "certificate"))
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def headers(self) -> _Bearer:
        """What to call before each request for its headers."""
        return _Bearer(self.token, None if self.token_file is None else Path(self.token_file))


class _Bearer:
    """The header of the token there is now."""

    def __init__(self, token: str | None, file: Path | None) -> None:
        self._headers = {} if token is None else _bearer(token)
        self._file = file
        self._seen: tuple[int, int] | None = None

    def __call__(self) -> Mapping[str, str]:
        if self._file is not None:
            self._read(self._file)
        return self._headers

    def _read(self, file: Path) -> None:
        try:
            found = file.stat()
            if (found.st_mtime_ns, found.st_ino) == self._seen:
                return
            token = file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            token = ""
        if _sendable(token):
            self._headers, self._seen = _bearer(token), (found.st_mtime_ns, found.st_ino)
        elif self._seen is None:
            raise InvalidRequest(
                f"Access: {file.name} holds no token: it must be a file of one line of printable ASCII"
            )


def maker(kind: Callable[..., T], access: Access | None, transport: object) -> Callable[[str], T]:
    """Makes a transport of an address; with `access`, which cannot be given beside a transport."""
    if access is None:
        return kind
    if transport is not None:
        raise InvalidRequest("give access, or a transport that was made with credentials and headers, not both")
    return partial(kind, credentials=access.credentials(), headers=access.headers())


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _sendable(token: str) -> bool:
    return token != "" and token.isascii() and token.isprintable() and " " not in token


def _content(name: str, path: Path | str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"Access: {name} ({Path(path).name}) cannot be read: {error.strerror}") from None
