"""Real Redis servers for tests: one, one with users, one with TLS, a cluster. Ended with the `with` block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import hiredis

from support.server import free_ports, until

PROGRAM: Final = shutil.which("redis-server")
MISSING: Final = "redis-server is not installed: apt-get install redis-server"
PATIENT: Final = "timeout_ms=20000"
"""As an option of a store URL: tests ask whether an answer is right, on machines that are busy."""
HASTY_MS: Final = 1_000
"""After so long a cluster that begins holds a server for lost: they come to know each other the faster."""
NODE_TIMEOUT_MS: Final = 15_000
"""The same once it is whole. On a busy machine a server may be silent for a second and be well."""


class RedisServer:
    """A server on a free loopback port; `folder` holds what it keeps."""

    def __init__(
        self, folder: Path, *options: str, port: int | None = None, tls: bool = False, password: str = ""
    ) -> None:
        assert PROGRAM is not None, MISSING
        self.folder = folder
        self.port = port or free_ports()[0]
        self._options = (*options, "--requirepass", password) if password else options
        self._tls = tls
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/?{PATIENT}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port = ["--port", "0", "--tls-port", str(self.port)] if self._tls else ["--port", str(self.port)]
        self._process = subprocess.Popen(
            [str(PROGRAM), *port, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(self._listens, 20)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While this lasts it keeps its connections and answers nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def ask(self, *parts: object) -> Any:
        """The reply to one command; an error is raised."""
        words = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            reader = hiredis.Reader()
            commands = [("AUTH", self._password), tuple(words)] if self._password else [tuple(words)]
            for command in commands:
                connection.sendall(hiredis.pack_command(command))
                while (reply := reader.gets()) is False:
                    reader.feed(connection.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"redis-server ended with code {self._process.returncode}"
        try:
            if self._tls:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return True
            self.ask("PING")
        except hiredis.ReplyError as refusal:
            return str(refusal).startswith("NOAUTH")
        except OSError:
            return False
        return True


class RedisCluster:
    """Three primaries, each with a replica."""

    def __init__(self, folder: Path, *, node_timeout_ms: int = NODE_TIMEOUT_MS) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(HASTY_MS))
        options += ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
        ports: set[int] = set()
        while len(ports) < 12:  # one for callers and one for the other servers, each
            ports |= set(free_ports())
        self._buses = dict(zip(sorted(ports)[:6], sorted(ports)[6:], strict=False))
        self.servers = [
            RedisServer(folder / str(port), *options, "--cluster-port", str(bus), port=port)
            for port, bus in self._buses.items()
        ]
        self.primaries, self.replicas = self.servers[:3], self.servers[3:]
        self._node_timeout_ms = node_timeout_ms
        self._running = ExitStack()

    def __enter__(self) -> RedisCluster:
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def _start(self) -> None:
        for server in self.servers:
            self._running.enter_context(server)
        first = self.servers[0]
        for i, server in enumerate(self.primaries):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            server.ask("CLUSTER", "ADDSLOTSRANGE", i * 16384 // 3, (i + 1) * 16384 // 3 - 1)
        for server in self.servers[1:]:
            server.ask("CLUSTER", "MEET", "127.0.0.1", first.port, self._buses[first.port])
        until(lambda: all(len(server.ask("CLUSTER", "NODES").splitlines()) == 6 for server in self.servers), 30)
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            name = primary.ask("CLUSTER", "MYID")
            until(lambda replica=replica, name=name: name in replica.ask("CLUSTER", "NODES"))
            replica.ask("CLUSTER", "REPLICATE", name)
        until(lambda: self.is_whole() and self._know_who_follows_whom(), 30)
        for server in self.servers:
            server.ask("CONFIG", "SET", "cluster-node-timeout", self._node_timeout_ms)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def url(self) -> str:
        """Names one primary and one replica; the store learns the others."""
        return f"redis://127.0.0.1:{self.primaries[0].port},127.0.0.1:{self.replicas[1].port}/?{PATIENT}"

    def is_whole(self) -> bool:
        """Whether all agree that all slots are served, and every replica follows its primary."""
        return all(b"cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in self.servers) and all(
            b"master_link_status:up" in server.ask("INFO", "replication") for server in self.replicas
        )

    def _know_who_follows_whom(self) -> bool:
        """Whether every server knows all replicas as such: before that it gives none of them its vote."""
        nodes = [server.ask("CLUSTER", "NODES").splitlines() for server in self.servers]
        return all(sum(b"slave" in line for line in lines) == len(self.replicas) for lines in nodes)
