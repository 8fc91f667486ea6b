"""Forgetting on one server: batches that came longer ago than records are kept, and the ids that refer to them.

An id that expires by itself would cost as much again as to enter it, and 40 bytes. So whoever records removes more than
it adds, now and then: the oldest batches, with what they name. Records that lie under their ids expire by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import numpy as np

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.feed import HOME, FeedNames
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import KeyNames, argument
from fraud_scoring.stores.redis.script import Script
from fraud_scoring.stores.redis.servers import Piece, Servers

EACH: Final = 1_024
"""So many transactions were recorded, and older ones are looked for."""
EACH_CALLS: Final = 32
MOST_BATCHES: Final = 2 * EACH_CALLS

_LOG = logging.getLogger(__name__)


class Forgetting:
    """Removes what is too old, beside what one client records."""

    def __init__(
        self, servers: Servers, script: Script, names: FeedNames, transactions: KeyNames, drain: Callable[[], object]
    ) -> None:
        """`drain` writes the events that wait in batches to where they belong."""
        self._servers = servers
        self._script = script
        self._names = names
        self._transactions = transactions
        self._drain = drain
        self._rows, self._calls = EACH, 0
        self._oldest_day = 0
        """When the oldest batch came, as far as is known."""

    def recorded(self, rows: int, first_day: int) -> None:
        """So many were recorded; what came before `first_day` is to go."""
        self._rows, self._calls = self._rows + rows, self._calls + 1
        if (self._rows < EACH and self._calls < EACH_CALLS) or self._oldest_day >= first_day:
            return
        try:
            self._forget(first_day, 2 * self._rows + 16)
        except StoreUnavailable as failure:
            _LOG.warning("old transactions in the window store could not be removed: %s", failure)
        self._rows = self._calls = 0

    def _forget(self, first_day: int, most: int) -> None:
        asked = command(b"GET", self._names.oldest), command(b"GET", self._names.head)
        oldest, head = self._servers.ask_one(HOME, asked)
        first, newest = 1 if oldest is None else feed.number_of(oldest), feed.head_of(head).number
        numbers = range(first, min(first + MOST_BATCHES, newest))  # the newest stays
        if not numbers:
            self._oldest_day = first_day
            return
        old, rows = 0, 0
        for packed in self._servers.ask_one(HOME, [self._names.beginning(number) for number in numbers]):
            if packed:
                day, size = feed.day_and_size(packed)
                if day >= first_day:
                    self._oldest_day = day
                    break
                rows += size
            old += 1
            if rows >= most:
                break
        if old:
            (drained,) = self._servers.ask_one(HOME, [command(b"GET", self._names.drained)])
            if drained is not None and feed.numbers_of(drained).min() < first + old - 1:
                self._drain()
            self._remove(first, first + old)

    def _remove(self, first: int, stop: int) -> None:
        asked = [command(b"GET", self._names.batch(number)) for number in range(first, stop)]
        found = self._servers.ask_one(HOME, asked)
        named = [feed.parse(packed).ids for packed in found if packed is not None]
        ids = np.concatenate([np.empty(0, np.int64), *named])
        names = self._transactions.all(ids)
        names += argument(self._names.head) + argument(self._names.oldest)
        numbers = feed.number_bytes(first), feed.number_bytes(stop)
        self._servers.ask([Piece(HOME, self._script.call(len(ids) + 2, names, *numbers))], rows=len(ids), writes=True)
