"""How a store reads and records where all lies on one server, in one round trip a call: entities are held in memory
(copies.py), what is recorded is one value (feed.py), which one script checks and enters (record.lua), and most events
wait until many of them are written at once (waiting.py).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np

from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.schema import Schema
from fraud_scoring.stores import arena
from fraud_scoring.stores.batches import Layout
from fraud_scoring.stores.records import Answers
from fraud_scoring.stores.redis import feed, waiting
from fraud_scoring.stores.redis.busy import Place
from fraud_scoring.stores.redis.copies import MOST_BEHIND, Copies
from fraud_scoring.stores.redis.feed import HOME, FeedNames, Form, Head, Waits
from fraud_scoring.stores.redis.forgetting import Forgetting
from fraud_scoring.stores.redis.layout import pack_events
from fraud_scoring.stores.redis.link import Reply, command
from fraud_scoring.stores.redis.partitions import PARTITIONS, KeyNames, argument, partition_of
from fraud_scoring.stores.redis.script import Script
from fraud_scoring.stores.redis.servers import Piece, Servers
from fraud_scoring.stores.redis.waiting import Kind, Share
from fraud_scoring.windows import Folding, History, Int64, for_kernels

ROWS_A_SCRIPT: Final = 1024
"""More are recorded by several scripts: Redis answers nobody else while one runs."""
_LOG = logging.getLogger(__name__)
_NO_KEYS: Final = np.empty(0, np.int64)

Asked = tuple[Int64, Int64]
"""Keys of entities int64 [K], and which of them each row names int64 [N]."""
Expiry = Callable[[int], int]
"""Seconds after which an entity is forgotten whose events are kept for so many microseconds."""
_TRIES: Final = 8


class Scripts(NamedTuple):
    """Of record.lua, drain.lua and forget.lua."""

    record: Script
    drain: Script
    forget: Script


class OneServer:
    """Reads and records where all keys lie on one server."""

    def __init__(
        self, servers: Servers, scripts: Scripts, namespace: str, schema: Schema, expiry: Expiry, folding: Folding
    ) -> None:
        arena.load()
        waiting.load()
        self._servers = servers
        self._scripts = scripts
        self._namespace = namespace
        self._transactions = KeyNames(namespace, "t")
        self._entities = [(column, KeyNames(namespace, name)) for column, name in schema.entities]
        self._names = {name: names for (_, name), (_, names) in zip(schema.entities, self._entities, strict=True)}
        """Also of entities that only another server's schema has, once it has left events of theirs."""
        self._position = {name: position for position, (_, name) in enumerate(schema.entities)}
        self._feed = FeedNames(namespace)
        self._schema = schema
        self._expiry = expiry
        layout = Layout.of(schema)
        self._limits = [self._limits_of(keep_us) for _, _, keep_us in layout.entities]
        self._form = Form(schema.width, layout)
        self._copies = Copies(layout, folding)
        self._behind = 0
        """How many batches others had added when it was last looked."""
        self._is_behind = False
        """Whether others have added some since, by what was said then."""
        self._forgetting = Forgetting(servers, scripts.forget, self._feed, self._transactions, self.drain)
        self._lock = threading.Lock()

    def catch_up(self) -> None:
        """Learn what waits, and what others have recorded since."""
        with self._holding() as copies:
            self._catch_up(copies)

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
        self, rows: Int64, answers: Answers | None, day: int, first_day: int, *, only_new: bool = False
    ) -> tuple[list[bytes | None] | None, list[Place]]:
        """What stood under each row's id, as a record; None: it was added. And which entities are to be sealed.

        `day`: today; what came before `first_day` counts as forgotten. With `only_new` up to ROWS_A_SCRIPT rows, which
        differ, are added if none is known; else nothing happens, and None stands in place of the first.
        """
        schema = self._schema
        records = feed.records_of(rows, answers)
        stood: list[bytes | None] = []
        full: list[Place] = []
        with self._holding() as copies:
            newest = self._catch_up(copies) if self._is_behind else self._begin(copies)
            shares, pieces = self._writing(copies, copies.waiting.is_due())
            parts: list[tuple[Int64, Waits, Head, Head, bool]] = []
            for start in range(0, len(rows), ROWS_A_SCRIPT):
                part = slice(start, start + ROWS_A_SCRIPT)
                mine = for_kernels(rows[part])
                own = Head(newest.number + 1, secrets.token_bytes(8))
                waits = copies.holds(mine)
                batch = self._form.pack(records[part], day, newest, own.by_chance, waits=waits)
                references = self._form.references(records[part], own.number)
                sizes = (first_day, 8 * schema.width, records.shape[1] - 8 * schema.width)
                written = PARTITIONS * (copies.waiting.can_go_on and not parts and not waits.any())
                numbers = [b"%d" % one for one in (written, *sizes)]
                arguments = (references, batch, newest.pack(), *numbers)
                pieces.append(self._recording(mine, waits, arguments, only_new=only_new))
                parts.append((mine, waits, newest, own, bool(written)))
                newest = own
            replies = self._servers.ask(pieces, rows=len(rows), writes=True)
            full += self._written(copies, shares, replies)
            replies = replies[len(shares) :]
            for ((before, filled, other, has_batch),), (mine, waits, newest, own, written) in zip(
                replies, parts, strict=True
            ):
                if before == 0:
                    return None, full
                if has_batch and other is None and newest == copies.seen:  # else it is followed like anybody's
                    added = slice(None) if before is None else [one is None for one in before]
                    copies.add(for_kernels(mine[added]), waits[added], own)
                    if written:
                        copies.waiting.is_drained(np.full(PARTITIONS, own.number))
                self._is_behind = other is not None
                stood += [None] * len(mine) if before is None else before
                full += self._places(mine, waits, filled)
        return stood, full

    def drain(self, keys: Int64 | None = None) -> list[Place]:
        """Write what waits for all entities, or for those of these keys; which of them are to be sealed."""
        wanted = range(PARTITIONS) if keys is None else sorted(set(partition_of(keys).tolist()))
        full: list[Place] = []
        until: int | None = None
        with self._holding() as copies:
            for _ in range(_TRIES):
                seen, there = self._catch_up(copies), copies.waiting
                until = seen.number if until is None else min(until, seen.number)
                left = [one for one in wanted if there.drained[one] < until and (keys is None or there.waits_in(one))]
                if not left:
                    return full
                shares, pieces = self._writing(copies, left)
                full += self._written(copies, shares, self._servers.ask(pieces, rows=waiting.MOST, writes=True))
        raise StoreUnavailable(
            "the window store is written to by so many servers that events wait still; send it again"
        )

    def forget(self, rows: int, first_day: int) -> None:
        """After so many were recorded: remove some of what came before `first_day`."""
        self._forgetting.recorded(rows, first_day)

    def batch_of_changed(self, rows: Int64, day: int) -> bytes:
        """A batch that tells that the entities of `rows` were changed, for somebody to send."""
        self._is_behind = True
        changed = [(at, key) for at, (column, _) in enumerate(self._entities) for key in rows[:, column].tolist()]
        return self._form.pack(np.empty((0, 0), np.uint8), day, feed.NOBODY, secrets.token_bytes(8), dropped=changed)

    @contextmanager
    def _holding(self) -> Iterator[Copies]:
        """The copies, for one thread at a time; forgotten where it fails otherwise than by a server that is away."""
        with self._lock:
            try:
                yield self._copies
            except StoreUnavailable:
                raise
            except BaseException:
                self._copies.lose()
                raise

    def _recording(self, rows: Int64, waits: Waits, arguments: Sequence[bytes], *, only_new: bool) -> Piece:
        """The script over up to ROWS_A_SCRIPT rows; events that do not wait are written with it."""
        schema, n = self._schema, len(rows)
        ids = rows[:, schema.id_index]
        names, columns, chosen = [self._transactions.all(ids)], [], []
        for position, (column, kind) in enumerate(self._entities):
            mine = np.flatnonzero(~waits[:, position])
            chosen.append(mine)
            names.append(kind.all(rows[mine, column]))
            columns += [b"%d" % len(mine), *self._limits[position]]
        names += [argument(self._feed.drained), argument(self._feed.head)]
        of = np.concatenate(chosen)
        events = pack_events(rows[of, schema.time_index], rows[of, schema.id_index], rows[of, schema.amount_index])
        all_differ = 2 if only_new else int(len(set(ids.tolist())) == n)
        counts = (b"%d" % n, b"%d" % all_differ)
        written = (events.tobytes(), (of + 1).astype("<u4").tobytes())
        script = self._scripts.record
        return Piece(HOME, script.call(n + len(of) + 2, b"".join(names), *counts, *arguments, *written, *columns))

    def _places(self, rows: Int64, waits: Waits, filled: Sequence[int]) -> list[Place]:
        """The entities among those that were written with a batch, by their places in KEYS."""
        if not filled:
            return []
        found: list[Place] = []
        position, row = np.nonzero(~waits.T)
        for at in filled:
            place = at - 1 - len(rows)
            column, _ = self._entities[int(position[place])]
            found.append(Place(int(position[place]), int(rows[row[place], column])))
        return found

    def _writing(self, copies: Copies, partitions: Sequence[int]) -> tuple[list[Share], list[Piece]]:
        """What waits in these partitions, and the scripts that write it."""
        if copies.seen is None:
            return [], []
        shares = [copies.waiting.share(partition) for partition in partitions]
        return shares, [self._writing_of(share, copies.seen) for share in shares]

    def _writing_of(self, share: Share, seen: Head) -> Piece:
        names, counts, events, limits, size = [], [], [], [], 0
        for kind, keys, many, waiting_events in share.kinds:
            names.append(self._names_of(kind).all(keys))
            counts.append(many.astype("<u4").tobytes())
            events.append(waiting_events.tobytes())
            limits += [b"%d" % len(keys), *self._limits_of(kind.keep_us)]
            size += len(keys)
        names += [argument(self._feed.head), argument(self._feed.drained)]
        numbers = (b"%d" % (8 * share.partition), feed.number_bytes(share.drained), feed.number_bytes(seen.number))
        parts = (*numbers, seen.by_chance, b"".join(counts), b"".join(events), *limits)
        return Piece(HOME, self._scripts.drain.call(size + 2, b"".join(names), *parts))

    def _written(self, copies: Copies, shares: Sequence[Share], replies: Sequence[Sequence[Reply]]) -> list[Place]:
        """Note what the scripts of `_writing` did; which entities are to be sealed."""
        full: list[Place] = []
        if not shares or copies.seen is None:
            return full
        drained = copies.waiting.drained.copy()
        for share, ((stands, filled),) in zip(shares, replies, strict=False):
            if stands is None:
                drained[share.partition] = copies.seen.number
            elif len(stands) == feed.NUMBER_BYTES and feed.number_of(stands) > share.drained:
                drained[share.partition] = feed.number_of(stands)
            else:  # as after a failover
                copies.lose()
                return full
            places = [(kind, key) for kind, keys, _, _ in share.kinds for key in keys.tolist()]
            for kind, key in [places[at - 1] for at in filled]:
                if kind.name in self._position:
                    full.append(Place(self._position[kind.name], key))
        copies.waiting.is_drained(drained)
        return full

    def _names_of(self, kind: Kind) -> KeyNames:
        if kind.name not in self._names:
            self._names[kind.name] = KeyNames(self._namespace, kind.name)
        return self._names[kind.name]

    def _limits_of(self, keep_us: int) -> tuple[bytes, bytes]:
        return b"%d" % keep_us, b"%d" % self._expiry(keep_us)

    def _bring(self, copies: Copies, rows: Int64) -> tuple[list[Int64], list[dict[int, bytes]]]:
        """Bring the copies to where the server is, with all entities of `rows`: (where they are held, strings of those
        that cannot be), for each entity column.
        """
        others: list[dict[int, bytes]] = [{} for _ in self._entities]
        looked = False
        while True:
            self._begin(copies)
            slots, missing = [], []
            for position, (column, _) in enumerate(self._entities):
                mine = copies.slots(position, rows)
                slots.append(mine)
                wanted = dict.fromkeys(rows[mine < 0, column].tolist())
                missing.append(np.array([key for key in wanted if key not in others[position]], np.int64))
            any_missing = any(map(len, missing))
            if looked and not any_missing:
                return slots, others
            before = copies.seen
            looked = self._look(copies, missing, others, len(rows))
            if looked and copies.seen == before and not any_missing:
                return slots, others

    def _look(self, copies: Copies, missing: list[Int64], others: list[dict[int, bytes]], rows: int) -> bool:
        """One round trip: the head, first; the batches that may be new; the entities that are missing. False if it must
        be looked again.
        """
        assert copies.seen is not None
        numbers = range(copies.seen.number + 1, copies.seen.number + 1 + self._behind)
        asked = [command(b"GET", self._feed.head), *self._batch_commands(numbers)]
        pieces = [Piece(HOME, b"".join(asked), len(asked))]
        count = sum(map(len, missing))
        if count:
            names = b"".join([kind.all(keys) for (_, kind), keys in zip(self._entities, missing, strict=True)])
            head = b"*%d\r\n$4\r\nMGET\r\n%b" % (2 + count, argument(self._feed.drained))
            pieces.append(Piece(HOME, head + names))
        (newest, *batches), *found = self._servers.ask(pieces, rows=rows, writes=False)
        if not self._follow(copies, feed.head_of(newest), batches):
            return False
        if not found:
            return True
        ((marker, *strings),) = found[0]
        if marker is None:
            copies.lose()
            return False
        drained, start, blocked = feed.numbers_of(marker), 0, list[int]()
        if (drained < copies.waiting.drained).any():  # as after a failover
            copies.lose()
            return False
        for position, keys in enumerate(missing):
            if len(keys):
                mine = copies.hold(position, keys, strings[start : start + len(keys)], drained)
                others[position] |= mine[0]
                blocked += mine[1]
                start += len(keys)
        copies.waiting.is_drained(drained)
        if blocked:
            shares, pieces = self._writing(copies, sorted(set(blocked)))
            self._written(copies, shares, self._servers.ask(pieces, rows=waiting.MOST, writes=True))
        return not blocked

    def _follow(self, copies: Copies, newest: Head, ahead: Sequence[bytes | None]) -> bool:
        """Bring the copies to where the server is; `ahead` are the batches after the last that they have, as far as
        they were asked for. False: the batches do not go on from there, and the client must begin.
        """
        assert copies.seen is not None
        behind = newest.number - copies.seen.number
        self._behind, self._is_behind = min(max(behind, 0), MOST_BEHIND), False
        if behind > MOST_BEHIND:
            copies.clear()
        number, found = copies.seen.number + 1, list(ahead[: max(behind, 0)])
        while number <= newest.number:
            for packed in found:
                if not copies.follow(number, packed):
                    return False
                number += 1
            numbers = range(number, min(newest.number + 1, number + MOST_BEHIND))
            found = self._batches(numbers) if copies.hold_any else self._beginnings(numbers)
        if copies.seen != newest:
            copies.lose()
            return False
        return True

    def _catch_up(self, copies: Copies) -> Head:
        """Follow what has happened up to now; the last batch."""
        for _ in range(_TRIES):
            self._begin(copies)
            (newest,) = self._servers.ask_one(HOME, [command(b"GET", self._feed.head)])
            if self._follow(copies, seen := feed.head_of(newest), ()):
                return seen
        raise StoreUnavailable("the window store's batches do not follow one another; check its Redis")

    def _begin(self, copies: Copies) -> Head:
        """The last batch that the copies have; where nothing is known of what waits, all of it is learned before."""
        if copies.seen is not None:
            return copies.seen
        head, drained = self._head_and_drained()
        if drained is None:  # of before events waited: all are in the strings
            start = command(b"SET", self._feed.drained, PARTITIONS * feed.number_bytes(head.number), b"NX")
            self._servers.ask_one(HOME, [start])  # without WAIT: replicas get it before what waits
            head, drained = self._head_and_drained()
        if drained is None:
            raise StoreUnavailable("the window store does not keep what was written a moment ago; check its Redis")
        first, before = int(drained.min()), head
        if first < head.number:
            (packed,) = self._beginnings([first + 1])
            before = feed.NOBODY if packed is None else feed.links_of(packed, first + 1)[0]
        copies.begin(drained, before)
        self._behind = 0
        if not self._follow(copies, head, ()):
            _LOG.error(
                "window store: batches from %d to %d are not whole; events of them are in no window: restore a backup",
                *(first + 1, head.number),
            )
            copies.begin(drained, head)
        return head

    def _head_and_drained(self) -> tuple[Head, Int64 | None]:
        ((head, drained),) = self._servers.ask_one(HOME, [command(b"MGET", self._feed.head, self._feed.drained)])
        return feed.head_of(head), None if drained is None else feed.numbers_of(drained)

    def _batch_commands(self, numbers: Iterable[int]) -> list[bytes]:
        return [command(b"GET", self._feed.batch(number)) for number in numbers]

    def _beginnings(self, numbers: Sequence[int]) -> list[bytes | None]:
        """Batches, but only the heads of those of which no event waits."""
        if not numbers:
            return []
        found = self._servers.ask_one(HOME, [self._feed.beginning(number) for number in numbers])
        waiting_ones = [number for number, one in zip(numbers, found, strict=True) if one and feed.may_wait(one)]
        whole = dict(zip(waiting_ones, self._batches(waiting_ones), strict=True))
        return [whole.get(number, one or None) for number, one in zip(numbers, found, strict=True)]

    def _batches(self, numbers: Sequence[int]) -> list[bytes | None]:
        if not numbers:
            return []
        return self._servers.ask_one(HOME, self._batch_commands(numbers), rows=1024 * len(numbers))
