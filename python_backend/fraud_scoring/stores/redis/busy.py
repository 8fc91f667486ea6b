"""Busy entities: their older events are in a ledger, a second string beside the one with the newest (ledger.lua).

A string of more than `seal_at` events is sealed by the client whose call made it so: all but the newest `recent` move
into the ledger, by one compare-and-set of both strings (seal.lua). Who is second changes nothing and need not try
again: the next event of the entity asks for it. So it does where a client died first; nothing is ever half done.

Ledgers that were read are kept here, each with the stamp that it is right for, so that a read is one round trip most of
the time, and one more where somebody has changed a ledger since.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from fraud_scoring import events, ledger
from fraud_scoring.ledger import Ledger
from fraud_scoring.stores.redis.partitions import KeyNames, partition_of
from fraud_scoring.stores.redis.script import Script
from fraud_scoring.stores.redis.servers import Piece, Servers
from fraud_scoring.windows import NEVER, Folding, Int64

STAMP: Final = struct.Struct("<8sII")
"""Begins the string of an entity that has a ledger: its version (random), its bytes, amendments behind it."""
CACHE_BYTES: Final = 64 << 20
AT_ONCE: Final = 16
"""Ledgers of up to about 0.3 MB that one round trip moves."""
_EVENT_BYTES: Final = events.EVENT.size
_WIDTH: Final = 5
_LATE: Final = 0
_NO_STAMP: Final = b""


class Place(NamedTuple):
    """An entity: which column of the schema's, and its key."""

    column: int
    key: int


class Sealed(NamedTuple):
    """What replaces the first `size` bytes of an entity's string, if their SHA-1 is `digest`: a stamp; and a ledger."""

    digest: bytes
    size: int
    stamp: bytes
    ledger: bytes


def split(value: bytes) -> tuple[bytes, bytes]:
    """(stamp, packed events) of an entity's string; the stamp is empty where there is no ledger."""
    size = len(value) % _EVENT_BYTES
    return value[:size], value[size:]


def amended(stamp: bytes, stored: bytes, newest_us: int, folding: Folding) -> Ledger:
    """The ledger in a second string, with what was told since it was written; EMPTY where the stamp is empty."""
    if not stamp or not stored:
        return ledger.EMPTY
    _, size, _ = STAMP.unpack(stamp)
    found = ledger.unpack(stored[:size])
    for kind, *change in np.frombuffer(stored, np.int64, offset=size).reshape(-1, _WIDTH).tolist():
        if kind == _LATE:
            found = _with_late(found, np.array(change, np.int64), newest_us, folding)
        else:
            found = _with_label(found, change, newest_us, folding)
    return found


def seal(value: bytes, stored: bytes, keep_us: int, folding: Folding) -> Sealed | None:
    """How the entity of these two strings is to be sealed; None if there is nothing to do."""
    stamp, recent = split(value)
    newer = len(recent) // _EVENT_BYTES
    cut = _EVENT_BYTES * (newer - folding.recent if newer > folding.seal_at else 0)
    if not cut and (not stamp or not STAMP.unpack(stamp)[2]):
        return None
    newest_us, _ = events.newest(recent)
    older = amended(stamp, stored, newest_us, folding)
    if cut:
        older = ledger.append(older, events.unpack(recent[:cut]), newest_us, keep_us, folding)
    packed = ledger.pack(older)
    start = value[: len(stamp) + cut]
    digest = hashlib.sha1(start, usedforsecurity=False).hexdigest().encode()
    return Sealed(digest, len(start), STAMP.pack(secrets.token_bytes(8), len(packed), 0), packed)


def _with_late(older: Ledger, event: Int64, newest_us: int, folding: Folding) -> Ledger:
    changed = ledger.insert(older, event, newest_us, folding)
    time, identifier, _, known_at_us = event.tolist()
    if changed is older or known_at_us == NEVER:
        return changed
    return _with_label(changed, [time, identifier, known_at_us, NEVER], newest_us, folding)


def _with_label(older: Ledger, change: Sequence[int], newest_us: int, folding: Folding) -> Ledger:
    time, identifier, known_at_us, before_us = change
    if before_us != NEVER:
        older = ledger.set_fraud_known_at(older, time, identifier, NEVER, newest_us, before_us, folding)
    if known_at_us != NEVER:
        older = ledger.set_fraud_known_at(older, time, identifier, known_at_us, newest_us, NEVER, folding)
    return older


class Busy:
    """The busy entities of the columns `kinds`, (column's name, microseconds kept, seconds to expire) each."""

    def __init__(
        self, servers: Servers, script: Script, namespace: str, kinds: Sequence[tuple[str, int, int]], folding: Folding
    ) -> None:
        self._servers = servers
        self._script = script
        self._names = [(KeyNames(namespace, name), KeyNames(namespace, name, b"l")) for name, _, _ in kinds]
        self._limits = [(keep_us, b"%d" % expire_s) for _, keep_us, expire_s in kinds]
        self._folding = folding
        self._held = _Held(CACHE_BYTES)

    def unfold(self, keys: Sequence[Int64], values: Sequence[list[bytes | None]]) -> list[list[tuple[int, bytes]]]:
        """Takes the stamps off `values`, each column's strings of `keys`; (index, packed ledger) of those with one.

        A value whose ledger is not held is read again together with it, so that the two belong to each other.
        """
        ledgers: list[list[tuple[int, bytes]]] = [[] for _ in keys]
        unknown: list[tuple[Place, int]] = []
        for column, found in enumerate(values):
            for u, value in [(u, one) for u, one in enumerate(found) if one and len(one) % _EVENT_BYTES]:
                place = Place(column, int(keys[column][u]))
                stamp, recent = split(value)
                held = self._held.get(place, stamp)
                if held is None:
                    unknown.append((place, u))
                else:
                    found[u] = recent
                    ledgers[column].append((u, held))
        read = self._fetch([place for place, _ in unknown])
        for (place, u), (value, stored) in zip(unknown, read, strict=True):
            stamp, recent = split(value)
            values[place.column][u] = recent
            if stamp:
                packed = ledger.pack(amended(stamp, stored, events.newest(recent)[0], self._folding))
                self._held.put(place, stamp, packed)
                ledgers[place.column].append((u, packed))
        for one in ledgers:
            one.sort()
        return ledgers

    def seal(self, full: Iterable[Place]) -> None:
        """Seal these entities, as far as they need it still."""
        for places in _some_at_once(list(dict.fromkeys(full))):
            pieces, changes = [], []
            for place, (value, stored) in zip(places, self._fetch(places), strict=True):
                keep_us, expire = self._limits[place.column]
                change = seal(value, stored, keep_us, self._folding)
                if change is not None:
                    arguments = (change.digest, b"%d" % change.size, change.stamp, change.ledger, expire)
                    partition, names = self._strings(place)
                    pieces.append(Piece(partition, self._script.call(2, names, *arguments)))
                    changes.append((place, change))
            done = self._servers.ask(pieces, rows=1024, writes=True) if pieces else []
            for (place, change), (reply,) in zip(changes, done, strict=True):
                if reply == 1:
                    self._held.put(place, change.stamp, change.ledger)

    def fetch(self, place: Place) -> tuple[bytes, bytes]:
        """An entity's two strings, as they are at one moment; b"" for one that is not there."""
        return self._fetch([place])[0]

    def _fetch(self, places: Sequence[Place]) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        for some in _some_at_once(places):
            named = [self._strings(place) for place in some]
            pieces = [Piece(partition, b"*3\r\n$4\r\nMGET\r\n" + names) for partition, names in named]
            for ((value, stored),) in self._servers.ask(pieces, rows=1024, writes=False):
                found.append((value or b"", stored or b""))
        return found

    def _strings(self, place: Place) -> tuple[int, bytes]:
        """(partition, names of its two strings) of an entity."""
        key = np.array([place.key], np.int64)
        partition = partition_of(key)
        entity, older = self._names[place.column]
        return int(partition[0]), entity.arguments(key, partition) + older.arguments(key, partition)


def _some_at_once(places: Sequence[Place]) -> list[Sequence[Place]]:
    return [places[start : start + AT_ONCE] for start in range(0, len(places), AT_ONCE)]


class _Held:
    """Ledgers by entity, each right for one stamp; those that were used last, up to `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ledgers: OrderedDict[Place, tuple[bytes, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, place: Place, stamp: bytes) -> bytes | None:
        with self._lock:
            found = self._ledgers.get(place)
            if found is None or found[0] != stamp:
                return None
            self._ledgers.move_to_end(place)
            return found[1]

    def put(self, place: Place, stamp: bytes, packed: bytes) -> None:
        with self._lock:
            _, before = self._ledgers.pop(place, (_NO_STAMP, b""))
            self._ledgers[place] = stamp, packed
            self._bytes += len(packed) - len(before)
            while self._bytes > self._most:
                _, (_, gone) = self._ledgers.popitem(last=False)
                self._bytes -= len(gone)
