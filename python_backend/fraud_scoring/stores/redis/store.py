"""A window store in Redis.

Round trips, whatever the size of the batch: `read` and `recall` one; `record` and `record_new` one on a server; on a
cluster `record` two, since a transaction and its entities lie on different servers: the records first, as pending, then
the events. A call that ends between the two is completed by whoever asks for the transaction again. `label`: one more
than `record`. Busy entities cost a few more now and then (busy.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from fraud_scoring import events as packed_events
from fraud_scoring import ledger, wire
from fraud_scoring.errors import StoreUnavailable
from fraud_scoring.schema import MICROSECONDS_PER_DAY, Schema
from fraud_scoring.stores.records import RETENTION_DAYS, Answers, Recorded
from fraud_scoring.stores.redis import feed
from fraud_scoring.stores.redis.address import Address
from fraud_scoring.stores.redis.births import Births, Filling, Remembered
from fraud_scoring.stores.redis.busy import Busy, Place, amended, split
from fraud_scoring.stores.redis.feed import HOME, FeedNames
from fraud_scoring.stores.redis.groups import Group, grouped, scattered
from fraud_scoring.stores.redis.layout import (
    HEADER,
    LABEL,
    Bytes,
    Header,
    pack_events,
    pack_records,
    row_of,
    unpack_record,
)
from fraud_scoring.stores.redis.moved import write_what_waits
from fraud_scoring.stores.redis.one_server import ROWS_A_SCRIPT, OneServer, Scripts
from fraud_scoring.stores.redis.partitions import KeyNames, argument
from fraud_scoring.stores.redis.script import KEPT, Script
from fraud_scoring.stores.redis.servers import OPENING_S, Piece, Servers
from fraud_scoring.summary import summarise
from fraud_scoring.windows import EVENT_WIDTH, NEVER, TIME, Folding, History, Int64

RECORD_EXPIRE_S: Final = (RETENTION_DAYS + 1) * 86_400
SILENT_S: Final = 28 * 86_400
"""An entity is forgotten so long after its last event has left the longest window, or up to a fortnight sooner."""
_EVENT_BYTES: Final = 8 * EVENT_WIDTH
_LOG = logging.getLogger(__name__)


class RedisStore:
    """A window store at `address`; `now_us` is the clock that retention goes by; `ids` remembers its id."""

    def __init__(
        self,
        address: Address,
        schema: Schema,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        folding: Folding = KEPT,
        ids: Path | None = None,
        filling: bool = False,
    ) -> None:
        self._schema = schema
        self._folding = folding
        self._reach = [np.array(schema.reach_us[name], np.int64) for _, name in schema.entities]
        self._now_us = now_us
        self._replicas = address.replicas
        self._transactions = KeyNames(address.namespace, "t")
        self._entities = [(column, KeyNames(address.namespace, name)) for column, name in schema.entities]
        self._keep_us = [schema.keep_us[name] for _, name in schema.entities]
        expire_s = [_expiry(keep_us) for keep_us in self._keep_us]
        limits = [(b"%d" % keep_us, b"%d" % expire) for keep_us, expire in zip(self._keep_us, expire_s, strict=True)]
        self._limits = limits
        record = Script("ledger", "feed", "events", "transactions", "record", folding=folding)
        self._reserve = Script("feed", "transactions", "reserve")
        self._insert = Script("ledger", "events", "insert", folding=folding)
        self._label = Script("ledger", "feed", "events", "label", folding=folding)
        sealing, forgetting = Script("seal"), Script("ledger", "feed", "events", "forget", folding=folding)
        drain = Script("ledger", "feed", "events", "drain", folding=folding)
        scripts = (record, drain, self._reserve, self._insert, self._label, sealing, forgetting)
        births = (Filling if filling else Births)(address, Remembered(address, ids))
        self._servers = Servers(address, [script.text for script in scripts], births)
        columns = zip(schema.entities, self._keep_us, expire_s, strict=True)
        kinds = [(name, keep_us, expire) for (_, name), keep_us, expire in columns]
        self._busy = Busy(self._servers, sealing, address.namespace, kinds, folding)
        self._unconfirmed: set[int] = set()
        self._feed = FeedNames(address.namespace)
        self._one: OneServer | None = None
        if not self._servers.clustered:
            of_one = Scripts(record, drain, forgetting)
            self._one = OneServer(self._servers, of_one, address.namespace, schema, _expiry, folding)
            self._learn_what_waits()
        else:
            write_what_waits(self._servers, self._insert, address.namespace, _expiry)

    def read(self, rows: Int64) -> list[History]:
        if self._one is None:
            return self._read_all(rows)
        histories, asked, values = self._one.read(rows)
        if None not in histories:
            return [one for one in histories if one is not None]
        others = self._histories(rows, asked, values)
        return [other if one is None else one for one, other in zip(histories, others, strict=True)]

    def _read_all(self, rows: Int64) -> list[History]:
        asked, groups = [], []
        for column, names in self._entities:
            keys, segment = np.unique(rows[:, column], return_inverse=True)
            asked.append((keys, segment.astype(np.int64, copy=False)))
            groups.append(self._grouped(names, keys))
        found = iter(self._fetch([group for each in groups for group in each], len(rows)))
        values = [scattered(len(keys), each, found) for (keys, _), each in zip(asked, groups, strict=True)]
        return self._histories(rows, asked, values)

    def _histories(
        self, rows: Int64, asked: Sequence[tuple[Int64, Int64]], values: Sequence[list[bytes | None]]
    ) -> list[History]:
        """Of each entity column, from the strings of (keys, which of them each row names)."""
        ledgers = self._busy.unfold([keys for keys, _ in asked], values)
        histories = []
        for column, (keys, segment) in enumerate(asked):
            packed = [b"" if one is None else one for one in values[column]]
            offsets = np.zeros(len(keys) + 1, np.int64)
            np.cumsum([len(one) // _EVENT_BYTES for one in packed], out=offsets[1:])
            # bytearray: the kernel is compiled for writable arrays only
            joined = np.frombuffer(bytearray().join(packed), np.int64).reshape(-1, EVENT_WIDTH)
            offsets, joined = _trimmed(offsets, joined, self._keep_us[column])
            spans: tuple[Int64, ...] = ()
            if ledgers[column]:
                times = np.ascontiguousarray(rows[:, [self._schema.time_index, self._schema.id_index]])
                of = (segment, times, offsets, joined, self._reach[column], self._folding)
                spans = summarise(ledgers[column], *of)
            histories.append(History(segment, offsets, joined, *spans))
        return histories

    def kept(self, entity: str, key: int) -> Int64:
        """All that is kept of one entity, as spans int64 [S, 6] in order: single events, and slots of a hot entity."""
        self._drain(np.array([key], np.int64))
        column = [name for _, name in self._schema.entities].index(entity)
        value, stored = self._busy.fetch(Place(column, key))
        stamp, recent = split(value)
        older = amended(stamp, stored, packed_events.newest(recent)[0] if recent else 0, self._folding)
        newer = ledger.append(ledger.EMPTY, packed_events.unpack(recent), 0, NEVER)
        return np.concatenate([ledger.spans(older), ledger.spans(newer)])

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        records = self._stored(transaction_ids)
        if not any(records):
            return [None] * len(records)
        self._settle(transaction_ids, records)
        return [None if record is None else unpack_record(record) for record in records]

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        if self._one is None or len(rows) > ROWS_A_SCRIPT:
            ids = rows[:, self._schema.id_index]
            return not any(self.recall(ids)) and not any(self.record(rows, answers))
        return self._record_on_one(self._one, np.array(rows, np.int64, order="C"), answers, only_new=True) is not None

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        rows = np.array(rows, np.int64, order="C")
        if self._one is not None:
            stood = self._record_on_one(self._one, rows, answers, only_new=False)
            return [None if one is None else unpack_record(one) for one in stood or ()]
        day = self._now_us() // MICROSECONDS_PER_DAY
        records = pack_records(rows, answers, day, pending=True)
        limits = (HEADER.size + 8 * rows.shape[1], day - RETENTION_DAYS, RECORD_EXPIRE_S)
        sizes = [b"%d" % number for number in (records.shape[1], *limits)]
        return self._record_in_steps(rows, records, self._events_of(rows), sizes)

    def label(self, labels: Int64) -> Int64:
        labels = np.ascontiguousarray(labels, np.int64)
        accepted = np.zeros(len(labels), np.int64)
        ids = np.unique(labels[:, 0])
        records = {i: record for i, record in zip(ids.tolist(), self._stored(ids), strict=True) if record is not None}
        told = {identifier: Header.of(record).label for identifier, record in records.items()}
        changed: dict[int, tuple[int, int]] = {}
        marked: dict[int, tuple[int, int]] = {}
        for i, (identifier, is_fraud, known_at_us) in enumerate(labels.tolist()):
            if identifier not in told:
                accepted[i] = wire.Accepted.UNKNOWN_TRANSACTION
            elif told[identifier] == is_fraud:
                accepted[i] = wire.Accepted.ALREADY_KNOWN
            else:
                accepted[i] = wire.Accepted.APPLIED
                changed[identifier] = (known_at_us, is_fraud)
                if is_fraud or told[identifier] == 1:
                    before = Header.of(records[identifier])
                    before_us = before.known_at_us if before.label == 1 else NEVER
                    marked[identifier] = (known_at_us if is_fraud else NEVER, before_us)
                told[identifier] = is_fraud
        if changed:
            rows = [row_of(records[i], self._schema.width) for i in marked]
            self._drain(np.array([[row[column] for column, _ in self._entities] for row in rows], np.int64).reshape(-1))
            self._apply_labels(records, changed, marked)
        return accepted

    def catch_up(self) -> None:
        if self._one is not None:
            self._one.catch_up()

    def bound(self, until: float) -> None:
        self._servers.until = until

    def close(self) -> None:
        with suppress(StoreUnavailable):  # then they stay pending, or wait, which is safe
            self._confirm(self._unconfirmed)
            if self._one is not None:
                self._seal(self._one.drain())
        self._servers.close()

    def _learn_what_waits(self) -> None:
        """Read it before anybody asks: callers have no time for it. Where that fails, the next call goes on with it."""
        self.bound(time.monotonic() + OPENING_S)
        with suppress(StoreUnavailable):
            self.catch_up()
        self._servers.until = None

    def _record_on_one(
        self, one: OneServer, rows: Int64, answers: Answers | None, *, only_new: bool
    ) -> list[bytes | None] | None:
        day = self._now_us() // MICROSECONDS_PER_DAY
        stood, full = one.record(rows, answers, day, day - RETENTION_DAYS, only_new=only_new)
        self._seal(full)
        one.forget(len(rows), day - RETENTION_DAYS)
        return stood

    def _record_in_steps(self, rows: Int64, records: Bytes, events: Int64, sizes: list[bytes]) -> list[Recorded | None]:
        confirming = self._confirmable(self._unconfirmed)
        groups = self._grouped(self._transactions, rows[:, self._schema.id_index])
        pieces = []
        for group in groups:
            confirm = confirming.pop(group.partition, None)
            count, names = (0, b"") if confirm is None else (len(confirm.members), confirm.names)
            data = records[group.members].tobytes()
            keys = count + len(group.members)
            payload = self._reserve.call(keys, names + group.names, b"%d" % count, *sizes, data)
            pieces.append(Piece(group.partition, payload))
        pieces += self._confirmations(confirming.values())
        confirmed = set(self._unconfirmed)
        replies = self._servers.ask(pieces, rows=len(rows), writes=True)
        self._unconfirmed -= confirmed
        stood: list[bytes | None] = [None] * len(rows)
        for group, (reply,) in zip(groups, replies[: len(groups)], strict=True):
            if reply is not None:
                for member, before in zip(group.members.tolist(), reply, strict=True):
                    stood[member] = before
        stood = self._resolved(stood)
        missing = np.array(
            [before is None or _same_pending(before, row) for before, row in zip(stood, rows, strict=True)]
        )
        for i in np.flatnonzero(missing).tolist():
            before = stood[i]
            if before is not None and Header.of(before).label == 1:
                events[i, 3] = Header.of(before).known_at_us
        if missing.any():
            self._insert_events(rows[missing], events[missing])
        return [None if before is None else unpack_record(before) for before in stood]

    def _insert_events(self, rows: Int64, events: Int64) -> None:
        """Add the events of `rows` to their entities; nothing where they are."""
        pieces, places = [], []
        for position, ((column, names), limits) in enumerate(zip(self._entities, self._limits, strict=True)):
            for group in self._grouped(names, rows[:, column]):
                data = events[group.members].tobytes()
                pieces.append(Piece(group.partition, self._insert.call(len(group.members), group.names, data, *limits)))
                places.append(_places(position, rows[group.members, column]))
        replies = self._servers.ask(pieces, rows=len(rows), writes=True)
        self._unconfirmed.update(rows[:, self._schema.id_index].tolist())
        self._seal([mine[at - 1] for mine, (reply,) in zip(places, replies, strict=True) for at in reply])

    def _settle(self, ids: Int64, records: Sequence[bytes | None]) -> None:
        """See to it that what is known is whole, and where it must be: a call may have ended before it was."""
        known = {i: record for i, record in zip(ids.tolist(), records, strict=True) if record is not None}
        schema = self._schema
        pending = [record for record in known.values() if _awaits_events(record, schema.width)]
        if pending:
            rows = np.stack([row_of(record, schema.width) for record in pending])
            events = self._events_of(rows)
            for i, header in enumerate(map(Header.of, pending)):
                if header.label == 1:
                    events[i, 3] = header.known_at_us
            self._insert_events(rows, events)
            if self._one is not None:  # it was a cluster when they came
                piece = self._labelling([], [], np.empty(0, LABEL), events[:0], rows)
                self._servers.ask([piece], rows=len(rows), writes=True)
        if self._replicas:
            self._confirm(known)  # a write, whose wait is one for all writes before it

    def _confirm(self, ids: Iterable[int]) -> None:
        chosen = set(ids)
        if chosen:
            groups = self._confirmable(chosen).values()
            self._servers.ask(self._confirmations(groups), rows=len(chosen), writes=True)
            self._unconfirmed -= chosen

    def _confirmable(self, ids: set[int]) -> dict[int, Group]:
        groups = self._grouped(self._transactions, np.array(sorted(ids), np.int64)) if ids else []
        return {group.partition: group for group in groups}

    def _confirmations(self, groups: Iterable[Group]) -> list[Piece]:
        nothing = (b"0", b"0", b"0", b"1", b"")
        return [
            Piece(
                group.partition,
                self._reserve.call(len(group.members), group.names, b"%d" % len(group.members), *nothing),
            )
            for group in groups
        ]

    def _apply_labels(
        self, records: dict[int, bytes], changed: dict[int, tuple[int, int]], marked: dict[int, tuple[int, int]]
    ) -> None:
        """Set the labels `changed` (id: known at, label) and mark the events (id: known as fraud at, before)."""
        ids = np.array(list(changed), np.int64)
        told = np.array([tuple(label) for label in changed.values()], LABEL)
        of_records = self._grouped(self._transactions, ids)
        of_windows: list[tuple[Group, list[Place]]] = []
        events = np.empty((len(marked), 4), np.int64)
        rows = np.empty((0, self._schema.width), np.int64)
        if marked:
            rows = np.stack([row_of(records[i], self._schema.width) for i in marked])
            events[:, 0], events[:, 1] = rows[:, self._schema.time_index], rows[:, self._schema.id_index]
            events[:, 2:] = list(marked.values())
            for position, (column, names) in enumerate(self._entities):
                for group in self._grouped(names, rows[:, column]):
                    of_windows.append((group, _places(position, rows[group.members, column])))
        if self._one is None:
            pieces = [self._labelling([], [group], told, events) for group, _ in of_windows]
            replies = self._servers.ask(pieces, rows=len(ids), writes=True)
            full = [places[at - 1] for (_, places), (reply,) in zip(of_windows, replies, strict=True) for at in reply]
            pieces = [self._labelling([group], [], told, events) for group in of_records]
            self._servers.ask(pieces, rows=len(ids), writes=True)
        else:
            piece = self._labelling(of_records, [group for group, _ in of_windows], told, events, rows)
            ((reply,),) = self._servers.ask([piece], rows=len(ids), writes=True)
            every = [place for _, places in of_windows for place in places]
            full = [every[at - 1] for at in reply]
        self._seal(full)

    def _drain(self, keys: Int64) -> None:
        """See to it that all events of entities are in their strings."""
        if self._one is not None and len(keys):
            self._seal(self._one.drain(keys))

    def _seal(self, full: Sequence[Place]) -> None:
        """Seal what a call has filled. The call took effect without: if this fails, the next event asks for it."""
        if full:
            try:
                self._busy.seal(full)
            except StoreUnavailable as failure:
                _LOG.warning("busy entities in the window store could not be sealed: %s", failure)

    def _labelling(
        self,
        of_records: Sequence[Group],
        of_windows: Sequence[Group],
        told: npt.NDArray[np.void],
        events: Int64,
        changed: Int64 | None = None,
    ) -> Piece:
        """The script over these keys; on one server with a batch that tells of the entities of the rows `changed`."""
        groups = [*of_records, *of_windows]
        n = sum(len(group.members) for group in of_records)
        labels = b"".join([told[group.members].tobytes() for group in of_records])
        marks = b"".join([events[group.members].tobytes() for group in of_windows])
        keys = sum(len(group.members) for group in groups)
        names = b"".join([group.names for group in groups])
        parts = [b"%d" % n, b"%d" % (keys - n), labels, marks]
        if self._one is not None and changed is not None and len(changed):
            keys, names = keys + 1, names + argument(self._feed.head)
            parts.append(self._one.batch_of_changed(changed, self._now_us() // MICROSECONDS_PER_DAY))
        return Piece(groups[0].partition if groups else HOME, self._label.call(keys, names, *parts))

    def _stored(self, ids: Int64) -> list[bytes | None]:
        """The record of each id; None where there is none, or it is past its time."""
        groups = self._grouped(self._transactions, ids)
        found: list[bytes | None] = scattered(len(ids), groups, iter(self._fetch(groups, len(ids))))
        if any(found):
            oldest = self._now_us() // MICROSECONDS_PER_DAY - RETENTION_DAYS
            records = self._resolved(found)
            return [None if one is None or Header.of(one).day < oldest else one for one in records]
        return found

    def _resolved(self, found: list[bytes | None]) -> list[bytes | None]:
        """The same with records in place of references: what came to one server lies in batches."""
        referring = [i for i, one in enumerate(found) if one is not None and feed.is_reference(one)]
        if not referring:
            return found
        commands = b"".join([feed.look_up(self._feed, found[i] or b"") for i in referring])
        (looked,) = self._servers.ask([Piece(HOME, commands, 2 * len(referring))], rows=len(found), writes=False)
        records = list(found)
        for i, day, record in zip(referring, looked[::2], looked[1::2], strict=True):
            records[i] = feed.as_record(found[i] or b"", day, record)
        return records

    def _fetch(self, groups: Sequence[Group], rows: int) -> list[list[bytes | None]]:
        """The values of each group's keys."""
        pieces = [
            Piece(group.partition, b"*%d\r\n$4\r\nMGET\r\n%b" % (1 + len(group.members), group.names))
            for group in groups
        ]
        return [reply for (reply,) in self._servers.ask(pieces, rows=rows, writes=False)]

    def _grouped(self, names: KeyNames, keys: Int64) -> list[Group]:
        return grouped(names, keys, clustered=self._servers.clustered)

    def _events_of(self, rows: Int64) -> Int64:
        schema = self._schema
        return pack_events(rows[:, schema.time_index], rows[:, schema.id_index], rows[:, schema.amount_index])


def _expiry(keep_us: int) -> int:
    return keep_us // 1_000_000 + SILENT_S


def _trimmed(offsets: Int64, events: Int64, keep_us: int) -> tuple[Int64, Int64]:
    """Both without the events that are past their time: the server drops them some at a time."""
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        oldest = events[offsets[1:][filled] - 1, TIME] - keep_us
        first = offsets[filled]
        if (events[first, TIME] <= oldest).any():
            kept = events[:, TIME] > np.repeat(oldest, np.diff(offsets)[filled])
            total = np.concatenate(([0], np.cumsum(kept)))
            return total[offsets], np.ascontiguousarray(events[kept])
    return offsets, events


def _places(position: int, keys: Int64) -> list[Place]:
    return [Place(position, key) for key in keys.tolist()]


def _awaits_events(record: bytes, columns: int) -> bool:
    """Whether the events of a record, of as many columns, may not be in all its windows."""
    header = Header.of(record)
    return header.pending and header.columns == columns


def _same_pending(record: bytes, row: Int64) -> bool:
    return _awaits_events(record, len(row)) and bool((row_of(record, len(row)) == row).all())
