"""Where a Redis is and how to speak to it, from a store URL; and that URL as it may be shown.

redis://[user:password@]host[:port][,host[:port]…][/database][?option=value&…]      rediss://… the same over TLS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote

from fraud_scoring.errors import InvalidDefinition

Host = tuple[str, int]
"""Name or address, and port."""

DEFAULT_PORT: Final = 6379
SCHEMES: Final = ("redis", "rediss")
FORM: Final = "redis[s]://[user:password@]host[:port][,host[:port]...][/database]"
OPTIONS: Final = (
    "timeout_ms (1 to 60000), replicas (0 to 9), namespace, password_file, and with rediss:// ca, cert, key (files)"
)
_URL: Final = re.compile(
    r"(?P<scheme>rediss?)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]+)(?:/(?P<database>\d{0,4}))?(?:\?(?P<query>[^#]*))?"
)
_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,32}")


@dataclass(frozen=True)
class Trust:
    """TLS: who is believed (`ca`; None: the system's), and what this side shows (`certificate`, `key`)."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class Address:
    """A server, or some servers of a cluster: the others are learned from them.

    `timeout_s` bounds each round trip of up to 1,024 rows; `replicas` is how many must have a write before it counts.
    """

    hosts: tuple[Host, ...]
    user: str = ""
    password: str = ""
    database: int = 0
    tls: Trust | None = None
    timeout_s: float = 0.05
    replicas: int = 0
    namespace: str = "fraud"

    def __repr__(self) -> str:
        """Without the password: this may land in a log."""
        return f"Address({', '.join(f'{name}:{port}' for name, port in self.hosts)})"


def is_redis(url: str) -> bool:
    """Whether a store URL means a Redis."""
    return url.split(":", 1)[0] in SCHEMES


def redacted(url: str) -> str:
    """A store URL as it may be shown: what could be a user and a password is left out."""
    if not is_redis(url):
        return url
    scheme, _, rest = url.partition(":")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else url


def parse(url: str) -> Address:
    """The address that a URL names; InvalidDefinition, without the password, if it is none."""
    match = _URL.fullmatch(url)
    hosts = [_HOST.fullmatch(one) for one in match["hosts"].split(",")] if match else []
    if not match or not all(hosts):
        raise InvalidDefinition(
            f"store URL {redacted(url)!r}: write {FORM}; in user and password, write @ / ? # % as %40 %2F %3F %23 %25"
        )
    user, _, password = (match["login"] or "").partition(":")
    user, password = unquote(user), unquote(password)
    options = {key: values[-1] for key, values in parse_qs(match["query"] or "", keep_blank_values=True).items()}
    secure = match["scheme"] == "rediss"
    named = {name: _file(options, name) for name in ("ca", "cert", "key")}
    password_file = _file(options, "password_file")
    timeout_ms = _number(options, "timeout_ms", 50, range(1, 60_001))
    replicas = _number(options, "replicas", 0, range(10))
    namespace = options.pop("namespace", "fraud")
    found = tuple((one["name"].strip("[]"), int(one["port"] or DEFAULT_PORT)) for one in hosts if one)
    wrong = (
        bool(options)
        or not _NAMESPACE.fullmatch(namespace)
        or (not secure and any(named.values()))
        or (named["cert"] is None) != (named["key"] is None)
        or any(not 0 < port < 65_536 for _, port in found)
        or (password_file is not None and password != "")
    )
    if wrong:
        raise _wrong_options()
    if password_file is not None:
        password = _password_in(password_file)
    return Address(
        hosts=found,
        user=user,
        password=password,
        database=int(match["database"] or 0),
        tls=Trust(named["ca"], named["cert"], named["key"]) if secure else None,
        timeout_s=timeout_ms / 1000,
        replicas=replicas,
        namespace=namespace,
    )


def _number(options: dict[str, str], name: str, default: int, allowed: range) -> int:
    text = options.pop(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) not in allowed:
        raise _wrong_options()
    return int(text)


def _file(options: dict[str, str], name: str) -> Path | None:
    text = options.pop(name, None)
    return None if text is None else Path(text)


def _password_in(file: Path) -> str:
    """A file's one line; read when the store is opened."""
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise InvalidDefinition(f"store URL: the password file, {file.name}, cannot be read") from None
    if not password:
        raise InvalidDefinition(f"store URL: the password file, {file.name}, is empty")
    return password


def _wrong_options() -> InvalidDefinition:
    return InvalidDefinition(f"store URL: ports are 1 to 65535, and options are {OPTIONS}")
