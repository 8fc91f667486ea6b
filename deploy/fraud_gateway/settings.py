"""What a gateway is told: one YAML file, read once, as frozen objects.

Whatever breaks a rule is `InvalidGateway`, which names the setting by its path in the file, the rule and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import yaml

Identity = Literal["token", "certificate", "either"]
ClientCertificates = Literal["required", "optional", "none"]
LeastTls = Literal["1.3", "1.2"]

_ADDRESS: Final = re.compile(r"^(\[[0-9a-f:.]+\]|[a-z0-9.-]+):(\d{1,5})$", re.IGNORECASE)
_CALLER: Final = re.compile(r"^[\x21-\x2b\x2d-\x7e]{1,200}$")

NOBODY: Final = "-"

T = TypeVar("T")


class InvalidGateway(Exception):
    """A setting breaks its rule."""


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @classmethod
    def read(cls, name: str, value: object) -> Address:
        found = _ADDRESS.match(value) if isinstance(value, str) else None
        if found is None or not 0 < int(found[2]) < 65536:
            raise InvalidGateway(f"{name} must be host:port, such as 0.0.0.0:8443")
        return cls(found[1].strip("[]"), int(found[2]))

    @property
    def is_number(self) -> bool:
        """Whether the host is an IP address and needs no name server."""
        return ":" in self.host or re.fullmatch(r"[0-9.]+", self.host) is not None


@dataclass(frozen=True)
class Tls:
    """`folder` holds tls.crt, tls.key and, where clients show certificates, ca.crt; replaced by a move, all at once."""

    folder: Path = Path("/etc/fraudserve/tls")
    least: LeastTls = "1.3"
    client_certificates: ClientCertificates = "required"


@dataclass(frozen=True)
class Tokens:
    """JSON Web Tokens: who issued them, for whom, and the file of the issuer's public keys."""

    issuer: str
    audience: str
    jwks: Path = Path("/etc/fraudserve/jwks/jwks.json")
    clock_skew_s: int = 10


@dataclass(frozen=True)
class CallerLimits:
    """`rate` requests a second with bursts of `burst`; `concurrency` requests on their way at any moment."""

    rate: int = 200
    burst: int = 400
    concurrency: int = 64


@dataclass(frozen=True)
class Limits:
    """Of every call: bytes of a message, seconds; of the gateway: connections, streams of each."""

    message_bytes: int = 1 << 20
    seconds: float = 10.0
    connections: int = 1000
    streams: int = 100


@dataclass(frozen=True)
class Retries:
    """A call that a server refused, lost or leaves waiting goes to another server once, within a budget.

    `share` is of a caller's calls that are on their way; `reserve` of them may be repeats however few there are.
    `hedge_after_ms`: a call whose own deadline is under a second is sent to a second server when the first took longer.
    """

    share: float = 0.2
    reserve: int = 10
    hedge_after_ms: int = 40


@dataclass(frozen=True)
class Gateway:
    servers: tuple[Address, ...]
    tokens: Tokens | None = None
    identity: Identity = "certificate"
    tls: Tls = field(default_factory=Tls)
    listen: Address = Address("0.0.0.0", 8443)
    metrics: Address = Address("127.0.0.1", 9464)
    drain: Address = Address("127.0.0.1", 9465)
    """Where the gateway is told, before it ends, to send its callers elsewhere: on loopback, for who runs it."""
    sockets: Path = Path("/run/fraudserve-gateway")
    """Folder for the sockets that the gateway makes for itself: its admin page, the issuer's keys."""
    configuration: Path = Path("/etc/fraudserve/gateway")
    """Where the rendered files will lie."""
    callers: Mapping[str, CallerLimits] = field(default_factory=dict)
    """By identity: a token's subject or a certificate's URI name."""
    other_callers: CallerLimits | None = None
    """Of a caller that is not listed; None: it is refused."""
    limits: Limits = field(default_factory=Limits)
    retries: Retries = field(default_factory=Retries)

    def __post_init__(self) -> None:
        _check(bool(self.servers), "servers", "name one server or more, each as host:port")
        _check(
            self.identity == "certificate" or self.tokens is not None,
            "tokens",
            f"be given when identity is {self.identity}: issuer, audience and jwks",
        )
        wanted = {
            "certificate": ("required",),
            "either": ("optional", "required"),
            "token": get_args(ClientCertificates),
        }
        _check(
            self.tls.client_certificates in wanted[self.identity],
            "tls.client_certificates",
            f"be {' or '.join(wanted[self.identity])} when identity is {self.identity}",
        )
        _check(
            bool(self.callers) or self.other_callers is not None,
            "callers",
            "list a caller, or other_callers give limits to those that are not listed: else nobody is let in",
        )
        _check(self.drain.host in ("127.0.0.1", "::1"), "drain", "be on loopback: 127.0.0.1:9465")
        for caller in self.callers:
            _check(caller != NOBODY, f"callers.{caller}", "not be: it is what no identity is written as")
            _check(
                _CALLER.match(caller) is not None,
                f"callers.{caller}",
                "be 1 to 200 printable characters without space or comma, as the token or the certificate has them",
            )

    @classmethod
    def read(cls, path: Path) -> Gateway:
        """The settings in a file; InvalidGateway, or OSError where it cannot be read."""
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InvalidGateway(f"it is not YAML: {_one_line(error)}") from None
        return cls.parse(found)

    @classmethod
    def parse(cls, found: object) -> Gateway:
        given = _mapping("the file", found)
        readers: dict[str, Callable[[str, Any], Any]] = {
            "servers": _servers,
            "tokens": lambda name, value: None if value is None else _object(Tokens, name, value),
            "identity": lambda name, value: _one_of(name, value, get_args(Identity)),
            "tls": lambda name, value: _object(Tls, name, value),
            "listen": Address.read,
            "metrics": Address.read,
            "drain": Address.read,
            "sockets": _path,
            "configuration": _path,
            "callers": lambda name, value: {
                str(caller): _object(CallerLimits, f"{name}.{caller}", limits or {})
                for caller, limits in _mapping(name, value).items()
            },
            "other_callers": lambda name, value: None if value is None else _object(CallerLimits, name, value),
            "limits": lambda name, value: _object(Limits, name, value),
            "retries": lambda name, value: _object(Retries, name, value),
        }
        _known("", given, tuple(readers))
        _check("servers" in given, "servers", "name one server or more, each as host:port")
        return cls(**{name: readers[name](name, value) for name, value in given.items()})


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


def _servers(name: str, value: object) -> tuple[Address, ...]:
    _check(isinstance(value, list), name, "be a list of host:port")
    assert isinstance(value, list)
    return tuple(Address.read(f"{name}[{index}]", one) for index, one in enumerate(value))


_POSITIVE: Final = ("rate", "burst", "concurrency", "message_bytes", "connections", "streams", "hedge_after_ms")
_CHOICES: Final = {"least": get_args(LeastTls), "client_certificates": get_args(ClientCertificates)}


def _object(kind: type[T], name: str, value: object) -> T:
    """A settings object of plain fields."""
    given = _mapping(name, value)
    names = tuple(one.name for one in fields(kind))  # type: ignore[arg-type]
    _known(f"{name}.", given, names)
    try:
        return kind(**{key: _plain(f"{name}.{key}", key, one) for key, one in given.items()})
    except TypeError:
        raise InvalidGateway(f"{name} must have {', '.join(names)}: one without a default is missing") from None


def _plain(name: str, key: str, value: object) -> object:
    if key in _CHOICES:
        return _one_of(name, str(value), _CHOICES[key])
    if key in ("folder", "jwks"):
        return _path(name, value)
    if key in _POSITIVE:
        _check(isinstance(value, int) and value > 0 and value is not True, name, "be a whole number above 0")
    elif key == "share":
        _check(isinstance(value, int | float) and 0 <= value <= 1, name, "be a share from 0 to 1")
    elif key == "seconds":
        _check(isinstance(value, int | float) and 0.1 <= value <= 60, name, "be seconds from 0.1 to 60")
    elif key in ("reserve", "clock_skew_s"):
        _check(isinstance(value, int) and value >= 0, name, "be a whole number, 0 or more")
    else:
        _check(isinstance(value, str) and value != "", name, "be text")
    return value


def _path(name: str, value: object) -> Path:
    _check(isinstance(value, str) and value.startswith("/"), name, "be an absolute path")
    return Path(str(value))


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> Any:
    _check(value in choices, name, f"be one of {', '.join(choices)}")
    return value


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidGateway(f"{name} must be a mapping of settings, not {type(value).__name__}")
    return value


def _known(prefix: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        _check(name in known, f"{prefix}{name}", f"not be there: the settings are {', '.join(known)}")


def _check(good: bool, name: str, rule: str) -> None:
    if not good:
        raise InvalidGateway(f"{name} must {rule}")
