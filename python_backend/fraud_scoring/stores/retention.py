"""Forgetting: records that came longer ago than they are kept, and with them the entities that fell silent.

Spread over calls: each removes a few more records than it adds.
"""

from __future__ import annotations

import struct
from typing import Final

from fraud_scoring import events
from fraud_scoring.past import split
from fraud_scoring.stores import batches
from fraud_scoring.stores.batches import key_of, keys_of
from fraud_scoring.stores.entities import Entities
from fraud_scoring.stores.references import is_reference, recorded, reference
from fraud_scoring.stores.tables import Transaction

_DAY_AND_ID: Final = struct.Struct(">Iq")
_ID_BYTES: Final = 8
_NO_BATCH: Final = -1


class Retention:
    """Removes old records, and remembers where it is."""

    def __init__(self, entities: Entities) -> None:
        self._entities = entities
        self.start_anew()

    def start_anew(self) -> None:
        """Forget where it is: a transaction failed."""
        self._oldest_day = 0
        self._forgotten = (_NO_BATCH, 0)
        """A batch, and how many of its records are forgotten."""
        self._has_old_ones = True

    def forget(self, tables: Transaction, last_day: int, at_most: int) -> bool:
        """Remove up to `at_most` records of days before `last_day`; whether it drained, which a batch must tell."""
        if self._has_old_ones:
            at_most -= self._forget_old_ones(tables, last_day, at_most)
        drained = False
        while at_most > 0 and self._oldest_day < last_day:
            key = tables.first_key("batches")
            if key is None or batches.number_of(key) >= self._entities.seen:
                break  # the newest stays: it tells how far the base is
            number = batches.number_of(key)
            batch = batches.parse(tables.get("batches", key) or b"")
            self._oldest_day = batch.day
            if batch.day >= last_day:
                break
            if number >= self._entities.drained:
                self._entities.drain(tables, 0)
                drained = True
            done = self._forgotten[1] if self._forgotten[0] == number else 0
            id_index = self._entities.layout_of(tables, batch.layout).id_index
            ids = keys_of(batch.rows[done : done + at_most, id_index])
            for identifier in ids:
                self._forget_one(tables, identifier, number)
            at_most -= len(ids)
            self._forgotten = number, done + len(ids)
            if done + len(ids) == len(batch.rows):
                tables.delete("batches", key)
        return drained

    def _forget_old_ones(self, tables: Transaction, last_day: int, at_most: int) -> int:
        """The same for records of before there were batches; those of a call expire under the first of them."""
        left = at_most
        while left > 0:
            key = tables.first_key("expiry")
            if key is None:
                self._has_old_ones = False
                break
            day, first = _DAY_AND_ID.unpack(key)
            if day >= last_day:
                break
            others = tables.get("expiry", key) or b""
            ids = [first, *struct.unpack(f">{len(others) // _ID_BYTES}q", others)]
            for identifier in ids[-left:]:
                self._forget_one(tables, key_of(identifier), _NO_BATCH)
            if len(ids) > left:
                tables.put("expiry", key, others[: -left * _ID_BYTES])
            else:
                tables.delete("expiry", key)
            left -= len(ids)
        return at_most - max(left, 0)

    def _forget_one(self, tables: Transaction, key: bytes, batch: int) -> None:
        """Remove the record of an id, unless it is one that came later under it."""
        stood = tables.get("transactions", key)
        if stood is None or (is_reference(stood) and reference(stood).batch != batch):
            return
        self._forget_entities(tables, recorded(tables, stood).row.tolist())
        tables.delete("transactions", key)

    def _forget_entities(self, tables: Transaction, row: list[int]) -> None:
        """Remove the entities of a row whose newest event it is: they fell silent, and are in no window any more."""
        layout = self._entities.layout
        event = row[layout.time_index], row[layout.id_index]
        for column, name, _ in layout.entities:
            recent, _ = split(self._entities.value(tables, name, row[column]))
            if recent and events.newest(recent) == event:
                self._entities.remove(tables, name, row[column])
