"""The window store: what happened before, per entity, and what was answered, per transaction.

    read(rows)             the events of the entities that the rows name
    recall(ids)            what was recorded for these transactions
    record(rows, answers)  add the transactions, each once, with what was answered; `record_new`: all, or none
    label(labels)          fraud or not, once it is known

Guarantees, the same for every implementation (tests/contract/test_window_store.py):
- `record` and `label` are atomic per call and visible to every later call of every process once they return;
- a transaction id counts once, whatever is sent again; the first answer stays;
- an event that comes late is inserted at its own time;
- what returned survives the death of any process. `lmdb://…?sync=commit` survives a power cut too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import parse_qs, urlsplit

from fraud_scoring.errors import InvalidDefinition
from fraud_scoring.schema import Schema
from fraud_scoring.stores.records import Answers, Recorded, each, together
from fraud_scoring.stores.redis.address import is_redis, parse
from fraud_scoring.windows import History, Int64

_WHOLE_FROM_1: Final = re.compile(r"[1-9][0-9]{0,4}")

__all__ = ["Answers", "Recorded", "WindowStore", "each", "open_store", "together"]


class WindowStore(Protocol):
    """What every window store does. Every method raises StoreUnavailable where the store cannot serve."""

    def read(self, rows: Int64) -> list[History]:
        """One History per entity column of the schema, for `rows` int64 [N, C]."""

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        """What was recorded under each id int64 [N]; None for an id that is not known."""

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        """Add `rows` int64 [N, C] with their answers; None for each that was added now, else what stood there before.

        Without `answers` the rows are history that was never answered here; an answer may follow later.
        """

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        """Add `rows` int64 [N, C] of distinct ids, if none of them is known, in place of `recall` and `record`.

        False, and nothing is added, where one is. (On a Redis Cluster, and with more than 1,024 rows over Redis, some
        may be added where another server records one of them meanwhile.)
        """

    def label(self, labels: Int64) -> Int64:
        """Apply `labels` int64 [N, 3] (wire.LABEL_COLUMNS); wire.Accepted per row, int64 [N]."""

    def catch_up(self) -> None:
        """Take up what other processes recorded, so that the next caller does not wait for it; any thread may."""

    def bound(self, until: float) -> None:
        """Where calls wait for a server, this thread's end `until` (time.monotonic), whatever the URL says."""

    def close(self) -> None:
        """Release what is held; the store can be opened again."""


def open_store(url: str, schema: Schema, ids: Path | None = None, *, filling: bool = False) -> WindowStore:
    """A store by its URL: `memory:`, `lmdb:///folder[?sync=commit][&limit_gib=64]`, or `redis[s]://host…`.

    `ids` is a folder that remembers which store was there, so that one that lost its data is noticed after a restart;
    who is `filling` a store may do so nevertheless.
    """
    if is_redis(url):
        from fraud_scoring.stores.redis.store import RedisStore

        return RedisStore(parse(url), schema, ids=ids, filling=filling)
    parts = urlsplit(url)
    options = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    if url in ("memory:", "memory://"):
        from fraud_scoring.stores.memory import MemoryStore

        return MemoryStore(schema)
    if parts.scheme == "lmdb" and parts.path.startswith("/") and not parts.netloc and not parts.fragment:
        from fraud_scoring.stores.embedded import LmdbStore

        sync = options.pop("sync", "background")
        limit = options.pop("limit_gib", "64")
        if options or sync not in ("background", "commit") or not _WHOLE_FROM_1.fullmatch(limit):
            raise InvalidDefinition(
                "store URL: options are sync=background or sync=commit, and limit_gib=<whole number from 1 on>"
            )
        return LmdbStore(Path(parts.path), schema, power_safe=sync == "commit", limit_bytes=int(limit) << 30)
    raise InvalidDefinition(
        f"store URL {url!r}: write lmdb:///folder (an absolute path, without #), redis://host:port or memory:"
    )
