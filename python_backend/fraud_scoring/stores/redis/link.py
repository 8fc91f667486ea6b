"""One connection to one Redis: bytes out, replies in, each within a time; and what happens when the server is gone.

A link that fails is closed at once, since a reply that comes late would be taken for the next one. Until its next
attempt is due, every call is refused without waiting: a server that is gone costs its callers one time-out and not one
each. Attempts are spread by chance, so that many processes do not return to a restarted server in the same moment.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import hiredis

from fraud_scoring.stores.redis.address import Address, Host

OLDEST_VERSION: Final = 7
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
_RECEIVE_BYTES: Final = 1 << 18

Reply = Any
"""bytes, int, None, a list of them, or a `hiredis.ReplyError`."""

_LOG = logging.getLogger(__name__)


class LinkFailed(Exception):
    """The server did not take the commands or did not answer them in time; says why, and names no address."""


class LinkRefused(LinkFailed):
    """The server is there and will not have us: wrong password, too old, not allowed."""


def command(*parts: bytes) -> bytes:
    """One command as Redis reads it."""
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


@dataclass(frozen=True)
class Greeting:
    """What a server says of itself."""

    clustered: bool
    primary: bool


class Link:
    """A connection that is opened when it is needed. `scripts` are loaded each time that it is."""

    def __init__(self, host: Host, address: Address, scripts: Sequence[str], seed: int | None = None) -> None:
        self.host = host
        self._address = address
        self._scripts = scripts
        self._chance = random.Random(seed)  # noqa: S311 - spreads attempts, guards nothing
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._failures = 0
        self._gone_since = 0.0
        self._not_before = 0.0
        self._why = ""
        self.greeting = Greeting(clustered=False, primary=True)

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self, deadline: float) -> None:
        """Connect, prove who we are, load the scripts; nothing if that was done. `deadline`: of time.monotonic."""
        if self._socket is not None:
            return
        now = time.monotonic()
        if now < self._not_before:
            raise LinkFailed(f"{self._why}; trying again in {self._not_before - now:.1f} s")
        try:
            self._connect(deadline)
        except LinkFailed as failure:
            self._note_failure(failure)
            raise
        if self._failures:
            _LOG.warning("window store: %s:%d is back after %.1f s", *self.host, time.monotonic() - self._gone_since)
        self._failures = 0

    def send(self, payload: bytes, deadline: float) -> None:
        """Hand over commands."""
        self.open(deadline)
        try:
            assert self._socket is not None
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(payload)
        except OSError as error:
            raise self._failed(error) from None

    def receive(self, count: int, deadline: float) -> list[Reply]:
        """The next `count` replies."""
        if self._socket is None:
            raise LinkFailed(self._why)
        replies: list[Reply] = []
        try:
            while True:
                while len(replies) < count:
                    reply = self._reader.gets()
                    if reply is False:
                        break
                    replies.append(reply)
                if len(replies) == count:
                    return replies
                self._socket.settimeout(_left(deadline))
                got = self._socket.recv_into(self._buffer)
                if not got:
                    raise ConnectionResetError("it closed the connection")
                self._reader.feed(self._buffer, 0, got)  # type: ignore[arg-type]  # it takes any buffer
        except (OSError, hiredis.HiredisError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Let go; the link can be opened again."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _failed(self, error: Exception) -> LinkFailed:
        failure = LinkFailed(_reason(error))
        self.close()
        self._note_failure(failure)
        return failure

    def _note_failure(self, failure: LinkFailed) -> None:
        self.close()
        now = time.monotonic()
        if not self._failures:
            self._gone_since = now
            # the first attempt after a connection broke is free: most often the server was restarted, and is there
            self._not_before = now
            _LOG.error("window store: %s:%d is gone: %s", *self.host, failure)
        else:
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
            self._not_before = now + pause * self._chance.uniform(0.5, 1.0)
        self._why = str(failure)
        self._failures += 1

    def _connect(self, deadline: float) -> None:
        try:
            self._socket = self._secured(socket.create_connection(self.host, _left(deadline)))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError as error:
            raise LinkFailed(_reason(error)) from None
        self._reader = hiredis.Reader()
        try:
            self._introduce(deadline)
        except OSError as error:
            raise LinkFailed(_reason(error)) from None

    def _secured(self, plain: socket.socket) -> socket.socket:
        trust = self._address.tls
        if trust is None:
            return plain
        try:
            context = ssl.create_default_context(cafile=trust.ca)
            if trust.certificate is not None:
                context.load_cert_chain(trust.certificate, trust.key)
            return context.wrap_socket(plain, server_hostname=self.host[0])
        except BaseException:
            plain.close()
            raise

    def _introduce(self, deadline: float) -> None:
        address = self._address
        login = [b"AUTH", (address.user or "default").encode(), address.password.encode()] if address.password else []
        hello = self._ask(deadline, command(b"HELLO", b"2", *login))
        if isinstance(hello, hiredis.ReplyError):
            raise LinkRefused(_refusal(hello))
        said = dict(zip(hello[::2], hello[1::2], strict=True))
        if int(said[b"version"].split(b".")[0]) < OLDEST_VERSION:
            raise LinkRefused(f"it is version {said[b'version'].decode()}; version {OLDEST_VERSION} or newer is needed")
        self.greeting = Greeting(said[b"mode"] == b"cluster", said[b"role"] == b"master")
        if address.database and not self.greeting.clustered:
            self._expect_ok(deadline, command(b"SELECT", b"%d" % address.database))
        for script in self._scripts:
            self._expect_ok(deadline, command(b"SCRIPT", b"LOAD", script.encode()))

    def _expect_ok(self, deadline: float, payload: bytes) -> None:
        if isinstance(reply := self._ask(deadline, payload), hiredis.ReplyError):
            raise LinkRefused(_refusal(reply))

    def _ask(self, deadline: float, payload: bytes) -> Reply:
        assert self._socket is not None
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(payload)
        while (reply := self._reader.gets()) is False:
            self._socket.settimeout(_left(deadline))
            if not (got := self._socket.recv(_RECEIVE_BYTES)):
                raise ConnectionResetError("it closed the connection")
            self._reader.feed(got)
        return reply


def _left(deadline: float) -> float:
    """Seconds to wait for; a moment even when time is up, so that what has arrived by then is still taken."""
    return max(deadline - time.monotonic(), 0.001)


def _reason(error: Exception) -> str:
    """What an operating-system, TLS or protocol error means, without addresses and paths."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or type(error).__name__})"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error)


def _refusal(reply: hiredis.ReplyError) -> str:
    text = str(reply)
    if text.startswith(("WRONGPASS", "NOAUTH")):
        return "user or password is wrong or missing"
    if text.startswith("NOPERM"):
        return f"the user may not do what is needed ({text})"
    if text.startswith("LOADING"):
        return "it is loading its data"
    return text[:200]
