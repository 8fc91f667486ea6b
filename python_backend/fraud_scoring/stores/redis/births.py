"""Whether a Redis is still the one that was written to: a server that lost its data must not look like a quiet month.

When a store is first used it gets an id, by chance: a marker in each of the 48 partitions, fraud{tag}birth. Each
exchange with a server asks for the marker of a partition that it owns, in the same round trip. Markers lie with the
data: they move with their slots, are replicated, and are gone when a server's data is, with or without a restart.

Clients remember the id: in a file where a folder for it is given, and else as long as they live. A marker that is
missing, or another than the one remembered: nothing is read until somebody says that the store is right (`Accepting`).

A store is fenced (`Fencing`) by a word before the id in each marker: whoever uses it learns that with the next
exchange, or when it is opened, and a replica or a copy has it, too. `Accepting` takes the word away.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hiredis

from fraud_scoring.errors import StoreEmptied, StoreFenced
from fraud_scoring.stores.redis.address import Address
from fraud_scoring.stores.redis.link import Reply, command
from fraud_scoring.stores.redis.partitions import tags

ID_BYTES: Final = 16
SOMEBODY_ELSE_S: Final = 0.2
"""Two may use a store first, at the same moment: the later one looks again, so many times."""
LOOKS: Final = 5
FENCED: Final = b"fenced:"

Ask = Callable[[Sequence[tuple[int, bytes]]], list[Reply]]
"""The replies to commands, each for the server of a partition; those that are errors are raised."""


class Remembered:
    """The id of the store at an address, kept in `folder`; None: only here."""

    def __init__(self, address: Address, folder: Path | None = None) -> None:
        place = f"{address!r}/{address.database}/{address.namespace}"
        name = hashlib.sha256(place.encode()).hexdigest()[:ID_BYTES]
        self._file = None if folder is None else folder / f"redis-{name}"
        self._here = b""

    def read(self) -> bytes:
        """Empty where no store was seen at this address."""
        if self._file is not None:
            try:
                return self._file.read_bytes().strip()
            except FileNotFoundError:
                return b""
        return self._here

    def write(self, identity: bytes) -> None:
        self._here = identity
        if self._file is not None and self.read() != identity:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_suffix(f".{secrets.token_hex(4)}")
            new.write_bytes(identity + b"\n")
            new.replace(self._file)


class Births:
    """The markers of the store at `address`, against what is `remembered`."""

    def __init__(self, address: Address, remembered: Remembered) -> None:
        self._remembered = remembered
        self._names = [b"%b{%b}birth" % (address.namespace.encode(), tag) for tag in tags()]
        self._identity = b""

    def question(self, partition: int) -> bytes:
        """The command that asks for a partition's marker."""
        return command(b"GET", self._names[partition])

    def check(self, reply: Reply) -> None:
        """Raise StoreEmptied or StoreFenced if this is not the right answer to the question; errors tell nothing."""
        if reply == self._identity or isinstance(reply, hiredis.ReplyError):
            return
        if _is_fence(reply):
            raise StoreFenced
        self._identity = self._remembered.read() or self._identity  # it may have been accepted
        if reply != self._identity:
            raise StoreEmptied

    def meet(self, ask: Ask) -> None:
        """Look at all markers when a store is opened; a store without any, that nobody remembers, gets them."""
        for _ in range(LOOKS):
            found = self.found(ask)
            known = self._remembered.read()
            present = set(found) - {None}
            if any(map(_is_fence, present)):
                raise StoreFenced
            if known and (present != {known} or None in found):
                raise StoreEmptied
            if len(present) == 1 and None not in found:
                self._identity = found[0]
                self._remembered.write(self._identity)
                return
            if present:
                time.sleep(SOMEBODY_ELSE_S)
            else:
                self._mark(ask)
        raise StoreEmptied

    def found(self, ask: Ask) -> list[Reply]:
        """Each partition's marker."""
        return ask([(partition, self.question(partition)) for partition in range(len(self._names))])

    def _mark(self, ask: Ask) -> None:
        mine = secrets.token_hex(ID_BYTES).encode()
        (before,) = ask([(0, command(b"SET", self._names[0], mine, b"NX", b"GET"))])
        self._put(ask, before or mine, range(1, len(self._names)))

    def _identity_of(self, found: Sequence[Reply]) -> bytes:
        """What most markers name, fenced or not; else what is remembered, or a new one."""
        there = Counter(one.removeprefix(FENCED) for one in found if isinstance(one, bytes)).most_common(1)
        return there[0][0] if there else self._remembered.read() or secrets.token_hex(ID_BYTES).encode()

    def _put(self, ask: Ask, identity: bytes, partitions: Sequence[int]) -> None:
        ask([(one, command(b"SET", self._names[one], identity)) for one in partitions])


class Filling(Births):
    """For who fills a store with history: it is not read, and whether it is right is said later."""

    def meet(self, ask: Ask) -> None:
        """Nothing is looked at."""

    def check(self, reply: Reply) -> None:
        """Everything is right."""


class Accepting(Births):
    """Whatever is there is right: markers that lack are put there, a fence is taken away, and the id is remembered."""

    def meet(self, ask: Ask) -> None:
        found = self.found(ask)
        identity = self._identity_of(found)
        if wrong := [partition for partition, one in enumerate(found) if one != identity]:
            self._put(ask, identity, wrong)
        self._identity = identity
        self._remembered.write(identity)


class Fencing(Births):
    """From the moment that this has met a store, nobody answers from it; one that is empty is fenced as well."""

    def meet(self, ask: Ask) -> None:
        self._put(ask, FENCED + self._identity_of(self.found(ask)), range(len(self._names)))


@dataclass(frozen=True)
class Seen:
    """What a look at a store found: of how many partitions the marker is the one remembered, another, missing, or a
    fence."""

    remembered: bool
    right: int
    other: int
    missing: int
    fenced: int = 0

    @property
    def is_right(self) -> bool:
        """Whether it will be read: all is as remembered, or nothing is and a first use can begin."""
        if self.other or self.fenced:
            return False
        return not self.missing if self.remembered else not (self.right and self.missing)


class Looking(Births):
    """Looks, and changes nothing."""

    def meet(self, ask: Ask) -> None:
        found = self.found(ask)
        known = self._remembered.read()
        fenced = sum(map(_is_fence, found))
        reference = known or next((one for one in found if one is not None and not _is_fence(one)), b"")
        right, missing = sum(one == reference for one in found), sum(one is None for one in found)
        self.seen = Seen(bool(known), right, len(found) - right - missing - fenced, missing, fenced)


def _is_fence(reply: Reply) -> bool:
    return isinstance(reply, bytes) and reply.startswith(FENCED)
