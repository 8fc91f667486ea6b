"""A ledger: the older events of a busy entity as running totals, in immutable bytes.

Any sum between two of its events is one subtraction, so that a window costs a few binary searches whatever it holds,
and reading copies nothing but what `summarise` picks out. Its newest events are exact; once they are more than
`Folding.exact`, the oldest of them are folded: one entry for each slot of time, at the slot's start, with the number,
the amounts and the known frauds of its events. Size: 32 bytes for each exact event, each slot, each of their frauds.

Events that come late find their place, or their slot; that, and each label, makes a ledger anew (about 0.1 ms).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np

from fraud_scoring.windows import (
    AMOUNT,
    FOLDING,
    FRAUD_KNOWN_AT,
    ID,
    NEVER,
    SPAN_WIDTH,
    TIME,
    Folding,
    Int64,
)

_FORMAT: Final = 1
_HEADER_WORDS: Final = 4
_FIRST_ID: Final = -(2**63)
_MOST_FRAUDS: Final = 8_192
"""Entries that the frauds of slots may take while some of them are not yet known by the newest event's time."""
_SLACK: Final = 512
"""Late events beyond the exact ones that a ledger takes before it folds again."""


@dataclass(frozen=True)
class Ledger:
    """Entries in order (time, id) int64 [N, 2], the first `folded` of them slots; `count` and `amount` int64 [N + 1]
    are totals before each entry, from any start; `frauds` int64 [F, 4]: time, id, how many, when all were known."""

    folded: int
    order: Int64
    count: Int64
    amount: Int64
    frauds: Int64


EMPTY: Final = Ledger(
    0, np.empty((0, 2), np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.empty((0, 4), np.int64)
)


def pack(ledger: Ledger) -> bytes:
    """As bytes: format, entries, frauds, folded entries; then order, count, amount, frauds, little-endian int64."""
    header = np.array([_FORMAT, len(ledger.order), len(ledger.frauds), ledger.folded], np.int64)
    parts = (header, ledger.order, ledger.count, ledger.amount, ledger.frauds)
    return b"".join([np.ascontiguousarray(part).data.cast("B") for part in parts if part.size])


def unpack(packed: bytes) -> Ledger:
    """The ledger in these bytes; empty bytes are an empty one."""
    if not packed:
        return EMPTY
    words = np.frombuffer(packed, np.int64)
    _, n, frauds, folded = words[:_HEADER_WORDS].tolist()
    ends = np.cumsum([_HEADER_WORDS, 2 * n, n + 1, n + 1, 4 * frauds])
    order, count, amount, fraud = (words[a:b] for a, b in pairwise(ends.tolist()))
    return Ledger(folded, order.reshape(n, 2), count, amount, fraud.reshape(frauds, 4))


def append(ledger: Ledger, events: Int64, newest_us: int, keep_us: int, folding: Folding = FOLDING) -> Ledger:
    """With `events` int64 [M, 4], all later than what it holds; without what is `keep_us` behind `newest_us`, the time
    of the entity's newest event."""
    known = events[events[:, FRAUD_KNOWN_AT] != NEVER]
    frauds = np.stack([known[:, TIME], known[:, ID], np.ones(len(known), np.int64), known[:, FRAUD_KNOWN_AT]], axis=1)
    longer = Ledger(
        ledger.folded,
        np.concatenate([ledger.order, events[:, : ID + 1]]),
        np.concatenate([ledger.count, ledger.count[-1] + np.arange(1, len(events) + 1)]),
        np.concatenate([ledger.amount, ledger.amount[-1] + np.cumsum(events[:, AMOUNT])]),
        np.concatenate([ledger.frauds, frauds]),
    )
    return _folded(_trimmed(longer, newest_us - keep_us), newest_us, folding)


def join(older: Ledger, newer: Ledger, newest_us: int, keep_us: int, folding: Folding = FOLDING) -> Ledger:
    """Both as one, all of `newer` being later than what `older` holds, and nothing of it folded."""
    longer = Ledger(
        older.folded,
        np.concatenate([older.order, newer.order]),
        np.concatenate([older.count, newer.count[1:] - newer.count[0] + older.count[-1]]),
        np.concatenate([older.amount, newer.amount[1:] - newer.amount[0] + older.amount[-1]]),
        np.concatenate([older.frauds, newer.frauds]),
    )
    return _folded(_trimmed(longer, newest_us - keep_us), newest_us, folding)


def insert(ledger: Ledger, event: Int64, newest_us: int, folding: Folding = FOLDING) -> Ledger:
    """With one late `event` int64 [4] at its place; the same if it is there already."""
    time, identifier, amount, _ = event.tolist()
    at, joined = _find(ledger, time, identifier)
    order, folded = ledger.order, ledger.folded
    if _is_folded(ledger, time, identifier):
        slot = time // folding.slot_us * folding.slot_us
        at, joined = _find(ledger, slot, _FIRST_ID)
        if not joined:
            order, folded = np.insert(order, at, (slot, _FIRST_ID), axis=0), folded + 1
    elif joined:
        return ledger
    else:
        order = np.insert(order, at, (time, identifier), axis=0)
    changed = Ledger(
        folded,
        order,
        _with_one_more(ledger.count, at, 1, joined=joined),
        _with_one_more(ledger.amount, at, amount, joined=joined),
        ledger.frauds,
    )
    return _folded(changed, newest_us, folding) if len(order) - folded > folding.exact + _SLACK else changed


def set_fraud_known_at(
    ledger: Ledger,
    time_us: int,
    transaction_id: int,
    known_at_us: int,
    newest_us: int,
    before_us: int = NEVER,
    folding: Folding = FOLDING,
) -> Ledger:
    """With an event's label changed from `before_us`; the same if it holds neither the event nor its slot."""
    if not _is_folded(ledger, time_us, transaction_id):
        if not _find(ledger, time_us, transaction_id)[1]:
            return ledger
        others = ledger.frauds[(ledger.frauds[:, :2] != (time_us, transaction_id)).any(axis=1)]
        changed = np.array([[time_us, transaction_id, 1, known_at_us]], np.int64)[: known_at_us != NEVER]
        return replace(ledger, frauds=_sorted(np.concatenate([others, changed])))
    slot = time_us // folding.slot_us * folding.slot_us
    if not _find(ledger, slot, _FIRST_ID)[1]:
        return ledger
    here = (ledger.frauds[:, :2] == (slot, _FIRST_ID)).all(axis=1)
    mine = ledger.frauds[here]
    if known_at_us != NEVER:
        mine = np.concatenate([mine, np.array([[slot, _FIRST_ID, 1, known_at_us]], np.int64)])
    elif len(mine):
        mine = mine[np.argsort(mine[:, 3])]
        mine[min(int(np.searchsorted(mine[:, 3], before_us)), len(mine) - 1), 2] -= 1
        mine = mine[mine[:, 2] > 0]
    joined = _frauds_of_slots(mine, newest_us, folding)
    return replace(ledger, frauds=_sorted(np.concatenate([ledger.frauds[~here], joined])))


def _find(ledger: Ledger, time_us: int, transaction_id: int) -> tuple[int, bool]:
    """Where (time, id) is or belongs, and whether it is there."""
    low = int(np.searchsorted(ledger.order[:, 0], time_us, side="left"))
    high = int(np.searchsorted(ledger.order[:, 0], time_us, side="right"))
    at = low + int(np.searchsorted(ledger.order[low:high, 1], transaction_id, side="left"))
    return at, at < high and int(ledger.order[at, 1]) == transaction_id


def _is_folded(ledger: Ledger, time_us: int, transaction_id: int) -> bool:
    """Whether an event of that order is one of a slot: it lies before the first exact event."""
    if not ledger.folded or ledger.folded == len(ledger.order):
        return ledger.folded > 0
    first: list[int] = ledger.order[ledger.folded].tolist()
    return [time_us, transaction_id] < first


def _sorted(frauds: Int64) -> Int64:
    found: Int64 = frauds[np.lexsort((frauds[:, 1], frauds[:, 0]))]
    return found


def _with_one_more(total: Int64, at: int, amount: int, *, joined: bool) -> Int64:
    """Totals with an entry more before `at`, or with more in the entry that is there."""
    longer = total.copy() if joined else np.insert(total, at, total[at])
    longer[at + 1 :] += amount
    return longer


def _trimmed(ledger: Ledger, keep_after_us: int) -> Ledger:
    gone = int(np.searchsorted(ledger.order[:, 0], keep_after_us, side="right"))
    frauds = ledger.frauds[int(np.searchsorted(ledger.frauds[:, 0], keep_after_us, side="right")) :]
    return Ledger(max(ledger.folded - gone, 0), ledger.order[gone:], ledger.count[gone:], ledger.amount[gone:], frauds)


def _folded(ledger: Ledger, newest_us: int, folding: Folding) -> Ledger:
    """With all but the newest exact events in slots."""
    stop = len(ledger.order) - folding.exact
    if stop <= ledger.folded:
        return ledger
    slots = ledger.order[:stop, 0] // folding.slot_us * folding.slot_us
    ends = np.flatnonzero(np.append(slots[1:] != slots[:-1], True))
    order = np.stack([slots[ends], np.full(len(ends), _FIRST_ID, np.int64)], axis=1)
    first_time, first_id = ledger.order[stop].tolist()
    times, ids = ledger.frauds[:, 0], ledger.frauds[:, 1]
    old = (times < first_time) | ((times == first_time) & (ids < first_id))
    return Ledger(
        len(ends),
        np.concatenate([order, ledger.order[stop:]]),
        np.concatenate([ledger.count[:1], ledger.count[1 + ends], ledger.count[stop + 1 :]]),
        np.concatenate([ledger.amount[:1], ledger.amount[1 + ends], ledger.amount[stop + 1 :]]),
        np.concatenate([_frauds_of_slots(ledger.frauds[old], newest_us, folding), ledger.frauds[~old]]),
    )


def _frauds_of_slots(frauds: Int64, newest_us: int, folding: Folding) -> Int64:
    """Frauds joined by slot where every row from now on knows of them; by slot and moment where it may not."""
    if not len(frauds):
        return frauds
    slots = frauds[:, 0] // folding.slot_us * folding.slot_us
    moments = np.where(frauds[:, 3] > newest_us, frauds[:, 3], newest_us)
    if len(frauds) > _MOST_FRAUDS:
        moments[:] = newest_us  # so many, and told early: all of a slot from when the last of them is known
    by = np.lexsort((moments, slots))
    slots, moments = slots[by], moments[by]
    starts = np.flatnonzero(np.append(True, (slots[1:] != slots[:-1]) | (moments[1:] != moments[:-1])))
    return np.stack(
        [
            slots[starts],
            np.full(len(starts), _FIRST_ID, np.int64),
            np.add.reduceat(frauds[by, 2], starts),
            np.maximum.reduceat(frauds[by, 3], starts),
        ],
        axis=1,
    )


def spans(ledger: Ledger) -> Int64:
    """All that a ledger holds, as spans int64 [S, 6] that can be handed to the kernel as they are."""
    entries = np.zeros((len(ledger.order), SPAN_WIDTH), np.int64)
    entries[:, :2], entries[:, 2], entries[:, 3] = ledger.order, np.diff(ledger.count), np.diff(ledger.amount)
    frauds = np.zeros((len(ledger.frauds), SPAN_WIDTH), np.int64)
    frauds[:, :2], frauds[:, 4:] = ledger.frauds[:, :2], ledger.frauds[:, 2:]
    joined = np.concatenate([frauds, entries])  # an event's fraud before it
    found: Int64 = joined[np.lexsort((joined[:, 1], joined[:, 0]))]
    return found
