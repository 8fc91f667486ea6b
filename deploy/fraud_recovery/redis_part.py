"""A window store in Redis, walked key by key while it is used, and put back; no right on the server's disk is needed.

    redis.keys      for each key: <u32 bytes of the name> <u32 bytes of the value> <i64 expires at, UTC ms; -1 never>,
                    the name without its namespace, the value; little-endian

The walk is no moment, so its order matters: all records of transactions first; then up to which batch events are
written into entities; entities and batches after, last the number of the newest batch. An entity then has at least the
events of every record in the copy, in its string or waiting in a batch, and no batch that is referred to lacks or will
have its number taken; what is there beyond is added again, now or from the log, which changes nothing. An entity's
newest events and its ledger are read by one MGET: events move between the two. Put back, the markers of the store's id
come last: a store that was half put back is never read as a right one (`redis.births`).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from fraud_recovery.archive import Progress
from fraud_recovery.errors import ArchiveRefused, RestoreRefused
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.address import Address, parse
from fraud_scoring.stores.redis.births import Births, Filling, Remembered
from fraud_scoring.stores.redis.feed import FeedNames
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import PARTITIONS, tags
from fraud_scoring.stores.redis.servers import Piece, Servers

KEYS_FILE: Final = "redis.keys"
BIRTH: Final = b"}birth"
TRANSACTION: Final = b"}t:"
BATCHES: Final = b"}#"
LEDGER: Final = b"l"
_HEAD: Final = struct.Struct("<IIq")
_SCAN: Final = 1_000
_PATIENCE_S: Final = 30.0
_NEVER: Final = -1
_KEY_BYTES: Final = 8


class Key(NamedTuple):
    """`name` begins with the tag's brace: the namespace is the target's."""

    name: bytes
    value: bytes
    expires_at_ms: int


def export(url: str, ids: Path, target: Path, progress: Progress) -> dict[str, Any]:
    """Write every key of the store of `url` into `target`; a store that lost its data is refused (StoreEmptied)."""
    address = parse(url)
    servers = Servers(address, [], Births(address, Remembered(address, ids)))
    counts = {"transactions": 0, "entities": 0, "batches": 0, "markers": 0}
    target.mkdir(parents=True, exist_ok=True)
    try:
        with (target / KEYS_FILE).open("wb") as file:
            for wanted in (True, False):
                for key in _walk(servers, address, transactions=wanted):
                    file.write(_HEAD.pack(len(key.name), len(key.value), key.expires_at_ms) + key.name + key.value)
                    counts[_kind(key.name)] += 1
                    if sum(counts.values()) % 10_000 == 0:
                        progress(0.0, f"window store: {sum(counts.values()):,} keys")
    finally:
        servers.close()
    return {"entries": counts}


def check_empty(url: str) -> None:
    """RestoreRefused if any key lies in the store's namespace."""
    address = parse(url)
    servers = Servers(address, [], _filling(address))
    try:
        if next(_names(servers, address), None) is not None:
            raise RestoreRefused(
                "the Redis holds a window store already, and nothing of a Redis is removed here: empty it yourself, or "
                "name another namespace in the store URL"
            )
    finally:
        servers.close()


def put(folder: Path, url: str, progress: Progress) -> None:
    """Set every key of a copy; the markers of the store's id last."""
    address = parse(url)
    servers = Servers(address, [], _filling(address))
    now_ms, done = time.time_ns() // 1_000_000, 0
    markers: list[Key] = []
    try:
        pieces: list[Piece] = []
        for key in read_keys(folder / KEYS_FILE):
            if key.name.endswith(BIRTH):
                markers.append(key)
            elif key.expires_at_ms == _NEVER or key.expires_at_ms > now_ms:
                pieces.append(_set(address, key))
            if len(pieces) >= _SCAN:
                _ask(servers, pieces, writes=True)
                done, pieces = done + len(pieces), []
                progress(0.0, f"window store: {done:,} keys")
        _ask(servers, pieces, writes=True)
        _ask(servers, [_set(address, key) for key in markers], writes=True)
    finally:
        servers.close()


def read_keys(path: Path) -> Iterator[Key]:
    """The keys of a copy, in its order; ArchiveRefused where the file ends inside of one."""
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            name, value, expires = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 1, 0)
            key = Key(file.read(name), file.read(value), expires)
            if not name or len(key.value) != value:
                raise ArchiveRefused(f"{path.name} ends inside a key; restore another archive")
            yield key


def _filling(address: Address) -> Filling:
    return Filling(address, Remembered(address))


def _kind(name: bytes) -> str:
    if name.endswith(BIRTH):
        return "markers"
    return "transactions" if TRANSACTION in name[:8] else "batches" if BATCHES in name[:8] else "entities"


def _walk(servers: Servers, address: Address, *, transactions: bool) -> Iterator[Key]:
    """All records; or all else: up to where events are written first, and the number of the newest batch last. A ledger
    goes with its entity.
    """
    waiting: list[bytes] = []
    names = FeedNames(address.namespace)
    drained = [] if transactions else list(_values(servers, address, [names.drained]))
    yield from drained
    first = min((int(feed.numbers_of(key.value).min()) + 1 for key in drained), default=None)
    for name in _names(servers, address):
        inside = name[len(address.namespace) :]
        if (TRANSACTION in inside[:8]) != transactions or _is_ledger(inside) or name in (names.head, names.drained):
            continue
        if first is not None and (number := names.number_of(name)) is not None and number >= first:
            continue
        waiting.append(name)
        if len(waiting) >= _SCAN:
            yield from _values(servers, address, waiting)
            waiting = []
    yield from _values(servers, address, waiting)
    if not transactions:
        yield from _newest(servers, address, names, first)


def _newest(servers: Servers, address: Address, names: FeedNames, first: int | None) -> Iterator[Key]:
    """All batches from `first` on, of which events may wait, and behind them the number of the newest: a walk may miss
    what is added while it goes on.
    """
    heads = list(_values(servers, address, [names.head]))
    newest = feed.head_of(heads[0].value).number if heads else 0
    numbers = range(newest + 1 if first is None else first, newest + 1)
    for start in range(0, len(numbers), _SCAN):
        yield from _values(servers, address, [names.batch(one) for one in numbers[start : start + _SCAN]])
    yield from heads


def _is_ledger(name: bytes) -> bool:
    """`{tag}<column>:<8 bytes>l`: the 8 bytes may be anything, so the length decides."""
    kind = name.find(b":")
    return kind >= 0 and len(name) == kind + 1 + _KEY_BYTES + len(LEDGER) and not name.endswith(BIRTH)


def _names(servers: Servers, address: Address) -> Iterator[bytes]:
    """Names of all keys of the store, each server's in turn; one may come twice."""
    pattern = b"%b{*" % address.namespace.encode()
    for partition in servers.one_partition_each():
        cursor = b"0"
        while True:
            scan = command(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % _SCAN)
            cursor, names = _ask(servers, [Piece(partition, scan)])[0][0]
            yield from names
            if cursor == b"0":
                break


def _values(servers: Servers, address: Address, names: list[bytes]) -> Iterator[Key]:
    pieces = []
    for name in names:
        asked = command(b"MGET", name, name + LEDGER) + command(b"PTTL", name) + command(b"PTTL", name + LEDGER)
        pieces.append(Piece(_partition(name), asked, 3))
    now_ms = time.time_ns() // 1_000_000
    for name, (values, *left) in zip(names, _ask(servers, pieces), strict=True):
        for one, value, milliseconds in zip((name, name + LEDGER), values, left, strict=True):
            if value is not None:
                expires = now_ms + milliseconds if milliseconds >= 0 else _NEVER
                yield Key(one[len(address.namespace) :], value, expires)


def _set(address: Address, key: Key) -> Piece:
    name = address.namespace.encode() + key.name
    expiry = () if key.expires_at_ms == _NEVER else (b"PXAT", b"%d" % key.expires_at_ms)
    return Piece(_partition(name), command(b"SET", name, key.value, *expiry))


def _partition(name: bytes) -> int:
    tag = name.partition(b"{")[2].partition(b"}")[0]
    try:
        return tags().index(tag)
    except ValueError:
        raise ArchiveRefused(f"key {name[:40]!r} is none of a window store with {PARTITIONS} partitions") from None


def _ask(servers: Servers, pieces: list[Piece], *, writes: bool = False) -> list[list[Any]]:
    if not pieces:
        return []
    servers.until = time.monotonic() + _PATIENCE_S
    return servers.ask(pieces, rows=len(pieces), writes=writes)
