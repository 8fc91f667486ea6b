"""The servers of a store: one, or the primaries of a cluster. Commands go to all that are concerned before the first
reply is read, so that a batch takes one round trip and the servers work on it at the same time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import hiredis

from fraud_scoring.errors import InvalidDefinition, StoreUnavailable
from fraud_scoring.stores.redis.address import Address, Host
from fraud_scoring.stores.redis.births import Births
from fraud_scoring.stores.redis.link import Link, LinkFailed, Reply, command
from fraud_scoring.stores.redis.partitions import PARTITIONS, slot, tags

OPENING_S: Final = 2.0
"""How long opening a store may take; a call has the address's own, shorter time."""
_WORTH_A_TRY_S: Final = 0.005
_SCRIPT_LOST: Final = ("NOSCRIPT",)
_NOT_DONE: Final = ("MOVED", "READONLY", *_SCRIPT_LOST)
"""Refusals that leave everything as it was: the same can be sent again, to where it belongs."""
_FOR_NOW: Final = ("ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "READONLY", "MOVED", "UNBLOCKED")
_MAP_COMMAND: Final = command(b"CLUSTER", b"SLOTS")


@dataclass(frozen=True)
class Piece:
    """Commands for the server of one partition; `payload` holds `count` of them."""

    partition: int
    payload: bytes
    count: int = 1


class Servers:
    """Sends pieces to where their partitions are."""

    def __init__(self, address: Address, scripts: Sequence[str], births: Births) -> None:
        self._address = address
        self._scripts = scripts
        self._births = births
        self._links: dict[Host, Link] = {}
        self._owners: list[Host] = []
        self._lock = threading.Lock()
        self._closed = False
        self._stale = False
        self.clustered = False
        self._bounds = threading.local()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def until(self) -> float | None:
        """When this thread's calls end (time.monotonic); None: by the address's time."""
        found: float | None = getattr(self._bounds, "until", None)
        return found

    @until.setter
    def until(self, until: float | None) -> None:
        self._bounds.until = until

    def ask(self, pieces: Sequence[Piece], *, rows: int, writes: bool) -> list[list[Reply]]:
        """The replies to each piece; `rows` is the size of the whole batch.

        Pieces that a server refuses since they belong elsewhere are sent there. What only reads is sent again, once,
        where a connection broke. What `writes` has reached the replicas that the address wants; StoreUnavailable: some
        of it may have taken effect.
        """
        deadline = self.until or time.monotonic() + self._address.timeout_s * (1 + rows // 1024)
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the window store is closed")
            if self._stale:
                self._stale = not self._learn(deadline)
            replies: dict[int, list[Reply]] = {}
            waiting = list(range(len(pieces)))
            for attempt in range(2):
                try:
                    self._exchange(pieces, waiting, replies, deadline, writes)
                except StoreUnavailable:
                    if writes or attempt or time.monotonic() + _WORTH_A_TRY_S > deadline:
                        raise
                    self._learn(deadline)
                    continue
                waiting = [i for i in waiting if _starts(replies[i], _NOT_DONE)]
                if not waiting:
                    break
                for i in waiting:
                    if _starts(replies[i], _SCRIPT_LOST):
                        self._links[self._owners[pieces[i].partition]].close()  # opening it loads the scripts
                self._learn(deadline)
        found = [replies[i] for i in range(len(pieces))]
        for one in found:
            _check(one)
        return found

    def ask_one(
        self, partition: int, commands: Sequence[bytes], *, rows: int | None = None, writes: bool = False
    ) -> list[Reply]:
        """The replies to commands for one partition's server; `rows`: as many as there are commands, if not given."""
        piece = Piece(partition, b"".join(commands), len(commands))
        (replies,) = self.ask([piece], rows=len(commands) if rows is None else rows, writes=writes)
        return replies

    def one_partition_each(self) -> list[int]:
        """For each server one partition that it owns: where to send what is asked of servers and not of keys."""
        return sorted({owner: partition for partition, owner in enumerate(self._owners)}.values())

    def close(self) -> None:
        """Let all connections go."""
        with self._lock:
            self._closed = True
            for link in self._links.values():
                link.close()

    def _open(self) -> None:
        address, deadline = self._address, time.monotonic() + OPENING_S
        first, failure = None, LinkFailed("")
        for host in address.hosts:
            try:
                first = first or self._opened(host, deadline)
            except LinkFailed as one:
                failure = one
        if first is None:
            raise _unavailable(failure)
        self.clustered = first.greeting.clustered
        if not self.clustered:
            if len(address.hosts) > 1:
                raise InvalidDefinition("store URL: several hosts are given, and they are no cluster; give one")
            self._owners = [first.host] * PARTITIONS
        elif address.database:
            raise InvalidDefinition("store URL: a Redis Cluster has database 0 only; leave the number out")
        elif not self._learn(deadline):
            raise StoreUnavailable("the window store (a Redis Cluster) has slots that no server owns; mend the cluster")
        self._births.meet(lambda commands: self._ask_each(commands, deadline))

    def _ask_each(self, commands: Sequence[tuple[int, bytes]], deadline: float) -> list[Reply]:
        """The replies to commands, each for the server of a partition, and nothing beside them."""
        by_host: dict[Host, list[int]] = {}
        for i, (partition, _) in enumerate(commands):
            by_host.setdefault(self._owners[partition], []).append(i)
        replies: dict[int, Reply] = {}
        try:
            for host, mine in by_host.items():
                link = self._link(host)
                link.send(b"".join([commands[i][1] for i in mine]), deadline)
                replies |= zip(mine, link.receive(len(mine), deadline), strict=True)
        except LinkFailed as failure:
            raise _unavailable(failure) from None
        found = [replies[i] for i in range(len(commands))]
        _check(found)
        return found

    def _opened(self, host: Host, deadline: float) -> Link:
        link = self._link(host)
        link.open(deadline)
        return link

    def _link(self, host: Host) -> Link:
        if host not in self._links:
            self._links[host] = Link(host, self._address, self._scripts)
        return self._links[host]

    def _exchange(
        self,
        pieces: Sequence[Piece],
        waiting: Sequence[int],
        replies: dict[int, list[Reply]],
        deadline: float,
        writes: bool,
    ) -> None:
        """Send the pieces `waiting` and enter their replies; no link is left with a reply that is still to come."""
        by_host: dict[Host, list[int]] = {}
        for i in waiting:
            by_host.setdefault(self._owners[pieces[i].partition], []).append(i)
        sent: list[tuple[Link, list[int]]] = []
        failure: LinkFailed | None = None
        for host, mine in by_host.items():
            link = self._link(host)
            payload = b"".join([self._births.question(pieces[mine[0]].partition), *(pieces[i].payload for i in mine)])
            try:
                link.send(payload + self._wait_command(deadline) if writes else payload, deadline)
                sent.append((link, mine))
            except LinkFailed as one:
                failure = one
        too_few = False
        births: list[Reply] = []
        for link, mine in sent:
            counts = [pieces[i].count for i in mine]
            try:
                birth, *got = link.receive(1 + sum(counts) + (writes and self._address.replicas > 0), deadline)
            except LinkFailed as one:
                failure = one
                continue
            births.append(birth)
            start = 0
            for i, count in zip(mine, counts, strict=True):
                replies[i] = got[start : start + count]
                start += count
            too_few |= start < len(got) and (not isinstance(got[-1], int) or got[-1] < self._address.replicas)
        if failure is not None:
            self._stale = self.clustered  # a replica may take over
            raise _unavailable(failure)
        for birth in births:
            self._births.check(birth)
        if too_few:
            raise StoreUnavailable(
                f"the window store (Redis) could not bring a write to {self._address.replicas} replicas in time; "
                "send it again, and check the replicas"
            )

    def _wait_command(self, deadline: float) -> bytes:
        if not self._address.replicas:
            return b""
        milliseconds = max(1, int((deadline - time.monotonic()) * 800))
        return command(b"WAIT", b"%d" % self._address.replicas, b"%d" % milliseconds)

    def _learn(self, deadline: float) -> bool:
        """Ask whoever answers which server owns which slots; False if nobody knows all of it."""
        if not self.clustered:
            return False
        known = dict.fromkeys([*(host for host, link in self._links.items() if link.is_open), *self._address.hosts])
        for host in known:
            try:
                link = self._opened(host, deadline)
                link.send(_MAP_COMMAND, deadline)
                owners = _owners(link.receive(1, deadline)[0], host)
            except LinkFailed:
                continue
            if owners is not None:
                self._owners = owners
                for gone in set(self._links) - set(owners) - set(self._address.hosts):
                    self._links.pop(gone).close()
                return True
        return False


def _owners(ranges: Reply, asked: Host) -> list[Host] | None:
    """The owner of each partition, from what CLUSTER SLOTS answers; None if one has none."""
    if not isinstance(ranges, list):
        return None
    found: list[Host] = []
    for tag in tags():
        mine = slot(tag)
        owner = next((one[2] for one in ranges if one[0] <= mine <= one[1]), None)
        if owner is None:
            return None
        name = owner[0].decode() if owner[0] else asked[0]  # a server that knows no name of its own gives none
        found.append((asked[0] if name == "?" else name, int(owner[1])))
    return found


def _starts(replies: Sequence[Reply], words: tuple[str, ...]) -> bool:
    return any(isinstance(one, hiredis.ReplyError) and str(one).startswith(words) for one in replies)


def _check(replies: Sequence[Reply]) -> None:
    """Raise what a reply complains of."""
    for one in replies:
        if isinstance(one, hiredis.ReplyError):
            text = str(one)
            if text.startswith(_FOR_NOW):
                raise StoreUnavailable(
                    f"the window store (Redis) cannot serve just now ({text.split(' ', 1)[0]}: it is starting, failing "
                    "over or moving slots); send it again"
                )
            raise StoreUnavailable(
                f"the window store (Redis) refused a command ({text[:200]}); check its memory limit, its disk and what "
                "the user may do"
            )


def _unavailable(failure: LinkFailed) -> StoreUnavailable:
    return StoreUnavailable(
        f"the window store (Redis) cannot be used: {failure}; check that it runs and can be reached, "
        "and the host, user and password of the store URL"
    )
