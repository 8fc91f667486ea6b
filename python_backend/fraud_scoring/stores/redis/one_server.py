"""How a store reads and records where all lies on one server, in one round trip a call: entities are held in memory
(copies.py), what is recorded is one value (feed.py), and one script checks, enters and adds all of it (record.lua).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from fraud_scoring.schema import Schema
from fraud_scoring.stores import arena
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.records import Answers
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.busy import Place
from fraud_scoring.stores.redis.copies import Copies
from fraud_scoring.stores.redis.feed import HOME, FeedNames, Form, Head
from fraud_scoring.stores.redis.forgetting import Forgetting
from fraud_scoring.stores.redis.layout import pack_events
from fraud_scoring.stores.redis.link import command
from fraud_scoring.stores.redis.partitions import KeyNames, argument
from fraud_scoring.stores.redis.script import Script
from fraud_scoring.stores.redis.servers import Piece, Servers
from fraud_scoring.windows import Folding, History, Int64, for_kernels

ROWS_A_SCRIPT: Final = 1024
"""More are recorded by several scripts: Redis answers nobody else while one runs."""
_SOMEBODY: Final = Head(0, b"\xff" * 8)
"""The newest batch, where it is not known."""
_NO_KEYS: Final = np.empty(0, np.int64)

Asked = tuple[Int64, Int64]
"""Keys of entities int64 [K], and which of them each row names int64 [N]."""


class OneServer:
    """Reads and records where all keys lie on one server."""

    def __init__(
        self,
        servers: Servers,
        scripts: tuple[Script, Script],
        namespace: str,
        schema: Schema,
        limits: Sequence[tuple[bytes, bytes]],
        folding: Folding,
    ) -> None:
        """`scripts`: record and forget; `limits`: keep (µs) and expire (s) of each entity column."""
        arena.load()
        self._servers = servers
        self._script, forget = scripts
        self._transactions = KeyNames(namespace, "t")
        self._entities = [(column, KeyNames(namespace, name)) for column, name in schema.entities]
        self._feed = FeedNames(namespace)
        self._schema = schema
        self._limits = limits
        layout = Layout.of(schema)
        self._form = Form(schema.width, schema.id_index, layout.key)
        self._copies = Copies(layout, folding)
        self._forgetting = Forgetting(servers, forget, self._feed, self._transactions)
        self._lock = threading.Lock()

    def read(self, rows: Int64) -> tuple[list[History | None], list[Asked], list[list[bytes | None]]]:
        """A history for each entity column; where it is None not all entities are held: what was asked, and the strings
        of its keys.
        """
        rows = for_kernels(rows)
        histories: list[History | None] = []
        asked: list[Asked] = []
        values: list[list[bytes | None]] = []
        with self._holding() as copies:
            slots, others = self._bring(copies, rows)
            for position, (column, _) in enumerate(self._entities):
                mine, found = slots[position], others[position]
                if not found:
                    histories.append(History(*copies.gather(position, mine)))
                    asked.append((_NO_KEYS, _NO_KEYS))
                    values.append([])
                    continue
                keys, first, segment = np.unique(rows[:, column], return_index=True, return_inverse=True)
                places = zip(keys.tolist(), mine[first].tolist(), strict=True)
                histories.append(None)
                asked.append((keys, segment.astype(np.int64, copy=False)))
                values.append([found[key] if at < 0 else copies.value(position, at) for key, at in places])
        return histories, asked, values

    def record(
        self, rows: Int64, answers: Answers | None, day: int, first_day: int
    ) -> tuple[list[bytes | None], list[Place]]:
        """What stood under each row's id, as a record; None: it was added. And which entities are to be sealed.

        `day`: today; what came before `first_day` counts as forgotten.
        """
        schema = self._schema
        records = feed.records_of(rows, answers)
        events = pack_events(rows[:, schema.time_index], rows[:, schema.id_index], rows[:, schema.amount_index])
        stood: list[bytes | None] = []
        full: list[Place] = []
        with self._holding() as copies:
            pieces, parts = [], []
            newest = copies.seen or _SOMEBODY
            for start in range(0, len(rows), ROWS_A_SCRIPT):
                part = slice(start, start + ROWS_A_SCRIPT)
                own = Head(newest.number + 1, secrets.token_bytes(8))
                batch = self._form.pack(records[part], (), day, newest, own.by_chance)
                references = self._form.references(records[part], own.number)
                sizes = (first_day, 8 * schema.width, records.shape[1] - 8 * schema.width)
                arguments = (references, batch, newest.pack(), *[b"%d" % one for one in sizes], events[part].tobytes())
                pieces.append(self._recording(copies, rows[part], arguments))
                parts.append((rows[part], newest, own))
                newest = own
            replies = self._servers.ask(pieces, rows=len(rows), writes=True)
            for ((before, filled, other, has_batch),), (mine, newest, own) in zip(replies, parts, strict=True):
                if has_batch:
                    there = newest if other is None else feed.head_of(other)
                    copies.goes_on(there, Head(there.number + 1, own.by_chance))
                if before is not None:
                    copies.drop_all_of(mine[[one is not None for one in before]])
                stood += [None] * len(mine) if before is None else before
                for at in filled:
                    key, i = divmod(at - 1, len(mine))
                    full.append(Place(key - 1, int(mine[i, self._entities[key - 1][0]])))
        return stood, full

    def forget(self, rows: int, first_day: int) -> None:
        """After so many were recorded: remove some of what came before `first_day`."""
        self._forgetting.recorded(rows, first_day)

    def batch_of_changed(self, rows: Int64, day: int) -> bytes:
        """A batch that tells that the entities of `rows` were changed."""
        changed = [(at, key) for at, (column, _) in enumerate(self._entities) for key in rows[:, column].tolist()]
        return self._form.pack(np.empty((0, 0), np.uint8), changed, day, feed.NOBODY, secrets.token_bytes(8))

    @contextmanager
    def _holding(self) -> Iterator[Copies]:
        """The copies, for one thread at a time; forgotten where it fails, since nobody knows then what happened."""
        with self._lock:
            try:
                yield self._copies
            except BaseException:
                self._copies.clear()
                raise

    def _recording(self, copies: Copies, rows: Int64, arguments: Sequence[bytes]) -> Piece:
        """The script over up to ROWS_A_SCRIPT rows, which are added to the copies."""
        ids = rows[:, self._schema.id_index]
        names = [self._transactions.all(ids)]
        names += [kind.all(rows[:, column]) for column, kind in self._entities]
        names.append(argument(self._feed.head))
        all_differ = len(set(ids.tolist())) == len(ids)
        how = copies.add(rows)
        columns = [part for limits, kinds in zip(self._limits, how, strict=True) for part in (*limits, kinds.tobytes())]
        keys = len(rows) * (1 + len(self._entities)) + 1
        counts = (b"%d" % len(rows), b"%d" % all_differ)
        return Piece(HOME, self._script.call(keys, b"".join(names), *counts, *arguments, *columns))

    def _bring(self, copies: Copies, rows: Int64) -> tuple[list[Int64], list[dict[int, bytes]]]:
        """Bring the copies to where the server is, with all entities of `rows`: (where they are held, strings of those
        that cannot be), for each entity column.
        """
        others: list[dict[int, bytes]] = [{} for _ in self._entities]
        looked = False
        while True:
            slots, missing = [], []
            for position, (column, _) in enumerate(self._entities):
                mine = copies.slots(position, rows)
                slots.append(mine)
                wanted = dict.fromkeys(rows[mine < 0, column].tolist())
                missing.append([key for key in wanted if key not in others[position]])
            before = copies.seen
            if not looked or any(missing):
                self._look(copies, missing, others, len(rows))
                looked = True
            if copies.seen == before and not any(missing):
                return slots, others

    def _look(self, copies: Copies, missing: list[list[int]], others: list[dict[int, bytes]], rows: int) -> None:
        """One round trip: the head, first; the batches that may be new; the entities that are missing."""
        seen, ahead = copies.seen, copies.behind
        asked = command(b"GET", self._feed.head)
        if seen is not None and ahead:
            asked += self._batch_commands(range(seen.number + 1, seen.number + 1 + ahead))
        else:
            ahead = 0
        pieces = [Piece(HOME, asked, 1 + ahead)]
        for (_, names), keys in zip(self._entities, missing, strict=True):
            if keys:
                of_all = names.all(np.array(keys, np.int64))
                pieces.append(Piece(HOME, b"*%d\r\n$4\r\nMGET\r\n%b" % (1 + len(keys), of_all)))
        (head, *batches), *found = self._servers.ask(pieces, rows=rows, writes=False)
        copies.follow(feed.head_of(head), batches, self._batches)
        values = iter(found)
        for position, keys in enumerate(missing):
            if keys:
                (strings,) = next(values)
                copies.make_room(position, len(keys))
                for key, string in zip(keys, strings, strict=True):
                    if not copies.hold(position, key, string or b""):
                        others[position][key] = string

    def _batch_commands(self, numbers: Iterable[int]) -> bytes:
        return b"".join([command(b"GET", self._feed.batch(number)) for number in numbers])

    def _batches(self, numbers: Sequence[int]) -> list[bytes | None]:
        if not numbers:
            return []
        piece = Piece(HOME, self._batch_commands(numbers), len(numbers))
        (found,) = self._servers.ask([piece], rows=1024 * len(numbers), writes=False)
        return found
