"""A store that came to a cluster from one server, as a backup that is put there: what waits in its batches (waiting.py)
is written into the strings of its entities, since on a cluster nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.feed import HOME, FeedNames
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import PARTITIONS, KeyNames
from fraud_scoring.stores.redis.script import Script
from fraud_scoring.stores.redis.servers import Piece, Servers
from fraud_scoring.stores.redis.waiting import Waiting

_AT_ONCE: Final = 64


def write_what_waits(servers: Servers, insert: Script, namespace: str, expiry: Callable[[int], int]) -> None:
    """Nothing where nothing waits. Who is interrupted begins anew: an event that is written twice counts once."""
    names = FeedNames(namespace)
    ((packed_head, packed),) = servers.ask_one(HOME, [command(b"MGET", names.head, names.drained)], rows=1024)
    if packed is None:
        return
    head, drained = feed.head_of(packed_head), feed.numbers_of(packed)
    waiting = Waiting()
    waiting.begin(drained)
    numbers = range(int(drained.min()) + 1, head.number + 1)
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        batches = servers.ask_one(HOME, [command(b"GET", names.batch(one)) for one in some], rows=1024)
        for number, batch in zip(some, batches, strict=True):
            if batch is not None:
                found = feed.parse(batch)
                waiting.add(found.rows, found.waits, found.waiting_layout, feed.links_of(batch, number)[1])
    for partition in filter(waiting.waits_in, range(PARTITIONS)):
        pieces = []
        for kind, keys, counts, events in waiting.share(partition).kinds:
            of_each = KeyNames(namespace, kind.name).all(np.repeat(keys, counts))
            limits = b"%d" % kind.keep_us, b"%d" % expiry(kind.keep_us)
            pieces.append(Piece(partition, insert.call(len(events), of_each, events.tobytes(), *limits)))
        servers.ask(pieces, rows=1024, writes=True)
    if numbers:
        all_written = command(b"SET", names.drained, PARTITIONS * feed.number_bytes(head.number))
        servers.ask_one(HOME, [all_written], rows=1024, writes=True)
