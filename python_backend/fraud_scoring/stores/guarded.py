"""A window store that may go away: nobody waits for it, and what was answered meanwhile is recorded when it is back.

While the store is away calls are refused at once. `record` keeps rows and answers in memory instead, and `recall`
knows those. A thread tries the store again; it is used again only once all that was kept is recorded and a read takes
no longer than callers have time for, so that no window is ever read without what this process answered.

Answers that need no windows are quick to give, so callers who wait for one before they ask for the next would add to
what waits faster than it can be recorded, and the store would stay away for as long as they ask. So while it is being
recorded, who adds to it waits until twice as much has been, for a part of the time that its callers have left.

A store that is fenced is no store that is away: another region answers, so every call is refused, `record`, too, until
the fence is gone.

While nobody asks a front door, a thread follows what other processes record: a caller has no time to catch up with a
quarter of an hour, as where a server that stood by is switched to. It also finds that the store is away before a caller
does.

A call is given until the deadline of those who wait (`bound`), and no longer than the store's own budget. Three calls
in a row that worked too late, or one that failed, and the store is away.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from fraud_scoring.errors import StoreEmptied, StoreFenced, StoreUnavailable
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, Recorded, WindowStore, open_store
from fraud_scoring.stores.backlog import Backlog
from fraud_scoring.stores.redis.address import is_redis, parse
from fraud_scoring.windows import History, Int64

READ_SHARE: Final = 0.4
"""Of the time that a batch has, for all that is read before a release is asked."""
LEAST_S: Final = 0.005
"""However little time is left, a call has this: a store that is well answers in less."""
BUDGET_S: Final = 0.05
"""What a call of up to 1,024 rows may take where the store's URL does not say it."""
BACKLOG_ROWS: Final = 500_000
FIRST_PAUSE_S: Final = (0.02, 0.05)
PAUSE_S: Final = (0.1, 0.25)
"""Between two attempts, by chance, so that many processes do not return in the same moment."""
PATIENT_S: Final = 1.0
"""For calls that nobody waits for."""
AT_ONCE: Final = 256
"""Rows of the backlog that one call records: requests wait some milliseconds for the interpreter meanwhile."""
FEW: Final = 64
"""Rows of the backlog that are recorded while requests wait."""
LATE_IN_A_ROW: Final = 3
HELD_SHARE: Final = 0.25
"""Of the time that a batch has left, for what waits to be recorded first."""
FOLLOW_EVERY_S: Final = 0.25
_SAMPLE: Final = 64

_LOG = logging.getLogger(__name__)
_Found = TypeVar("_Found")


def open_guarded(url: str, schema: Schema, ids: Path | None = None, *, stands_by: bool = False) -> GuardedStore:
    """The store of a URL, under guard, with `ids` as for open_store; one that cannot be opened now is away.

    Who `stands_by` for others follows what they record.
    """
    budget_s = parse(url).timeout_s if is_redis(url) else BUDGET_S
    follow = FOLLOW_EVERY_S if stands_by else None
    return GuardedStore(lambda: open_store(url, schema, ids), schema.id_index, budget_s=budget_s, follow_every_s=follow)


class GuardedStore:
    """A window store over the one that `opener` opens; `id_index` is the column of a transaction's id.

    `pause_s` gives the seconds to the next attempt, from the number of those before. Where `follow_every_s` is given,
    other processes are followed so often while nobody asks.
    """

    def __init__(
        self,
        opener: Callable[[], WindowStore],
        id_index: int,
        *,
        budget_s: float = BUDGET_S,
        backlog_rows: int = BACKLOG_ROWS,
        pause_s: Callable[[int], float] | None = None,
        follow_every_s: float | None = None,
    ) -> None:
        self._opener = opener
        self._id_index = id_index
        self._budget_s = budget_s
        self._pause_s = pause_s or _by_chance
        self._lock = threading.RLock()
        self._recorded = threading.Condition(self._lock)
        self._rows_recorded = 0
        self._is_recording = False
        self._backlog = Backlog(id_index, backlog_rows)
        self._store: WindowStore | None = None
        self._away = ""
        self._is_fenced = False
        self._since = 0.0
        self._outdated = False
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._is_asked = False
        self._late = 0
        self._sample: Int64 | None = None
        self._reads_until = self._writes_until = math.inf
        self._read_s = budget_s
        try:
            self._store = opener()
        except StoreUnavailable as failure:
            with self._lock:
                self._leave(failure)
        self._follower: threading.Thread | None = None
        if follow_every_s is not None:
            self._follower = threading.Thread(target=self._follow_others, args=[follow_every_s], name="store-follower")
            self._follower.daemon = True
            self._follower.start()

    @property
    def is_away(self) -> bool:
        return bool(self._away)

    @property
    def waiting(self) -> int:
        """Rows that are to be recorded when the store is back."""
        return len(self._backlog)

    def bound(self, until: float) -> None:
        """Calls from here on are for a batch that must be answered `until` (time.monotonic)."""
        self._is_asked = True
        now = time.monotonic()
        self._reads_until = now + max(READ_SHARE * (until - now), LEAST_S)
        self._writes_until = until
        self._read_s = min(self._budget_s, self._reads_until - now)

    def read(self, rows: Int64) -> list[History]:
        self._sample = rows[:_SAMPLE]
        return self._call(lambda store: store.read(rows), len(rows), self._reads_until)

    def recall(self, transaction_ids: Int64) -> list[Recorded | None]:
        """The same as any store's; while it is away only what waits for it is known."""
        with self._lock:
            if self._away:
                self._check_fence()
                return self._backlog.recall(transaction_ids)
        return self._call(lambda store: store.recall(transaction_ids), len(transaction_ids), self._reads_until)

    def record(self, rows: Int64, answers: Answers | None = None) -> list[Recorded | None]:
        with self._lock:
            if self._away:
                self._check_fence()
                stood = self._backlog.add(rows, answers)
                self._let_it_record(2 * len(rows))
                return stood
        try:
            return self._call(lambda store: store.record(rows, answers), len(rows), self._writes_until)
        except StoreUnavailable as failure:
            with self._lock:
                self._leave(failure)
                self._check_fence()
                return self._backlog.add(rows, answers)

    def record_new(self, rows: Int64, answers: Answers) -> bool:
        """The same as any store's; while it is away what waits for it is what is known."""
        with self._lock:
            if self._away:
                self._check_fence()
                if any(self._backlog.recall(rows[:, self._id_index])):
                    return False
                self._backlog.add(rows, answers)
                self._let_it_record(2 * len(rows))
                return True
        try:
            return self._call(lambda store: store.record_new(rows, answers), len(rows), self._writes_until)
        except StoreUnavailable as failure:
            with self._lock:
                self._leave(failure)
                self._check_fence()
                return not any(self._backlog.add(rows, answers))

    def label(self, labels: Int64) -> Int64:
        """The same as any store's; it has the time to take up what was recorded since the last label."""
        return self._call(lambda store: store.label(labels), len(labels), self._writes_until, PATIENT_S)

    def catch_up(self) -> None:
        """The same as any store's; nothing while it is away."""
        with self._lock:  # nobody closes the store meanwhile
            if self._away or self._store is None or self._closed.is_set():
                return
            try:
                self._store.bound(time.monotonic() + self._budget_s)
                self._store.catch_up()
            except StoreUnavailable as failure:
                self._leave(failure)
                raise

    def follow(self, opener: Callable[[], WindowStore]) -> None:
        """Use the store that this opens; what waits, waits for it."""
        with self._lock:
            self._opener = opener
            if self._away:
                self._outdated = True  # the thread may be using it
                return
            assert self._store is not None, "a store that is not away is open"
            self._store.close()
            self._store = None
            try:
                self._store = opener()
            except StoreUnavailable as failure:
                self._leave(failure)

    def close(self) -> None:
        """Record what waits, if that works at once, and let go."""
        self._closed.set()
        if self._follower is not None:
            self._follower.join()
        if (thread := self._thread) is not None:
            thread.join(3 * PATIENT_S)
            if not thread.is_alive() and len(self._backlog):
                self._try_again()
        if len(self._backlog):
            _LOG.error(
                "window store: %d transactions were answered while it was away and are not in the windows; "
                "the decision log has them",
                len(self._backlog),
            )
        if self._store is not None and (thread is None or not thread.is_alive()):
            self._store.bound(time.monotonic() + PATIENT_S)
            self._store.close()

    def _call(self, call: Callable[[WindowStore], _Found], rows: int, until: float, least_s: float = LEAST_S) -> _Found:
        """What the store answers in time; a store that fails, or is late again and again, is away from then on.

        However little time is left, it has `least_s`.
        """
        store = self._store
        if self._away or store is None:
            self._check_fence()
            raise StoreUnavailable(self._away)
        now = time.monotonic()
        limit = max(now + least_s, min(until, now + self._budget_s * (1 + rows // 1024)))
        try:
            store.bound(limit)
            found = call(store)
        except StoreUnavailable as failure:
            with self._lock:
                self._leave(failure)
            raise
        self._late = self._late + 1 if time.monotonic() > limit else 0
        if self._late >= LATE_IN_A_ROW:
            with self._lock:
                self._leave(StoreUnavailable("the window store answers too late; check its machine and its network"))
        return found

    def _check_fence(self) -> None:
        if self._is_fenced:
            raise StoreFenced

    def _let_it_record(self, rows: int) -> None:
        """Wait until so many more rows are recorded, if they are being recorded now; who calls holds the lock."""
        if self._is_recording:
            enough = self._rows_recorded + rows
            patience = HELD_SHARE * min(self._writes_until - time.monotonic(), threading.TIMEOUT_MAX)
            self._recorded.wait_for(lambda: self._rows_recorded >= enough or not self._is_recording, max(0.0, patience))

    def _leave(self, failure: StoreUnavailable) -> None:
        """The store is away; who calls holds the lock."""
        self._is_fenced |= isinstance(failure, StoreFenced)
        if self._away:
            return
        self._away, self._since, self._late = str(failure), time.monotonic(), 0
        what = "nothing is answered" if self._is_fenced else "away, answers need no windows until it is back"
        _LOG.error("window store: %s: %s", what, failure)
        if not self._closed.is_set():
            self._thread = threading.Thread(target=self._wait_for_it, name="store-guard", daemon=True)
            self._thread.start()

    def _follow_others(self, every_s: float) -> None:
        while not self._closed.wait(every_s):
            if self._is_asked:
                self._is_asked = False
                continue
            with suppress(StoreUnavailable):
                self.catch_up()

    def _wait_for_it(self) -> None:
        attempts = 0
        while not self._closed.wait(self._pause_s(attempts)):
            attempts += 1
            if self._try_again():
                return

    def _try_again(self) -> bool:
        """Record what waits and read, as callers would; whether the store is back."""
        try:
            store = self._opened()
            store.bound(time.monotonic() + PATIENT_S)
            store.recall(np.zeros(1, np.int64))  # is there anybody, and the right one?
            self._record_beside_callers(store)
            self._probe(store)
            with self._lock:  # the rest, while nothing can be added to it
                self._record_what_waits(store, self._read_s)
                waited, self._away, self._is_fenced = time.monotonic() - self._since, "", False
        except StoreUnavailable as failure:
            with self._lock:
                before, self._away = self._away, str(failure)
                # a fence is not gone since the Redis that has it cannot be asked just now
                self._is_fenced |= isinstance(failure, StoreFenced)
            if isinstance(failure, StoreEmptied | StoreFenced) and before != str(failure):
                _LOG.error("window store: %s", failure)
            return False
        _LOG.warning("window store: back after %.1f s; all that was answered meanwhile is recorded", waited)
        return True

    def _opened(self) -> WindowStore:
        with self._lock:
            opener, outdated, store = self._opener, self._outdated, self._store
            self._outdated = False
        if outdated and store is not None:
            store.close()
            self._store = store = None
        if store is None:
            store = self._store = opener()
        return store

    def _record_beside_callers(self, store: WindowStore) -> None:
        """Record what waits, and what comes meanwhile, but for a few."""
        try:
            self._is_recording = True
            self._record_what_waits(store, PATIENT_S)
            while len(self._backlog) > FEW:
                self._record_what_waits(store, PATIENT_S)
        finally:
            with self._lock:
                self._is_recording = False
                self._recorded.notify_all()

    def _record_what_waits(self, store: WindowStore, seconds: float) -> None:
        """Record what waits now, in its order; a call may take `seconds`."""
        left = len(self._backlog)
        while left > 0:
            if self._closed.is_set() and self._thread is threading.current_thread():
                raise StoreUnavailable("the window store is closed")
            with self._lock:
                first = self._backlog.first(AT_ONCE)
            if first is None:
                return
            part, parts = first
            store.bound(time.monotonic() + seconds)
            stood = store.record(part.rows, part.answers)
            with self._lock:
                self._backlog.drop(parts)
                self._rows_recorded += len(part.rows)
                self._recorded.notify_all()
            left -= len(part.rows)
            if known := sum(one is not None and one.answer is not None for one in stood):
                _LOG.warning("window store: %d transactions were known to it; what it knew stays", known)

    def _probe(self, store: WindowStore) -> None:
        """Ask what callers ask, in their time."""
        if (rows := self._sample) is None:
            return
        began = time.monotonic()
        store.bound(began + self._read_s)
        store.recall(rows[:, self._id_index])
        store.read(rows)
        if time.monotonic() > began + self._read_s:
            raise StoreUnavailable("the window store answers too late; check its machine and its network")


def _by_chance(attempts: int) -> float:
    """Seconds to the next attempt."""
    return random.uniform(*(PAUSE_S if attempts else FIRST_PAUSE_S))  # noqa: S311 - spreads attempts, guards nothing
