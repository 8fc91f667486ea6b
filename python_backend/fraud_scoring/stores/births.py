"""Whether a window store is still the one that was there, looked at and said to be right, by its URL."""

from __future__ import annotations

from pathlib import Path

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.stores.redis.address import is_redis, parse
from fraud_scoring.stores.redis.births import Accepting, Births, Fencing, Looking, Remembered, Seen
from fraud_scoring.stores.redis.servers import Servers


def status(url: str, ids: Path) -> Seen:
    """What is there, against what the folder `ids` remembers; nothing is changed."""
    address = parse(_redis(url))
    looking = Looking(address, Remembered(address, ids))
    Servers(address, [], looking).close()
    return looking.seen


def accept(url: str, ids: Path) -> Seen:
    """What is there is right from here on: for this folder, and for all that remember the same id."""
    address = parse(_redis(url))
    accepting: Births = Accepting(address, Remembered(address, ids))
    Servers(address, [], accepting).close()
    return status(url, ids)


def fence(url: str, ids: Path) -> Seen:
    """Nobody answers from this store from here on, whoever remembers what, until it is accepted."""
    address = parse(_redis(url))
    Servers(address, [], Fencing(address, Remembered(address, ids))).close()
    return status(url, ids)


def _redis(url: str) -> str:
    if not is_redis(url):
        raise InvalidDefinition("store URL: only a store in Redis has an id; a folder of LMDB cannot be emptied unseen")
    return url
