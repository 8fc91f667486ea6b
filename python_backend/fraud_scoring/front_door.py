"""The front door: many requests in, ONE answer to all of them, as many answers out.

validate → the routed releases answer → record, unless something is known already → log → answer. Where transactions
come again, the store is asked what is known before anything is decided. A request that breaks a rule, or a row that was
answered before, changes nothing for the requests that it was batched with. An answer is given only after the store has
recorded it and the decision log has it; where the log cannot be written, or windows cannot be read, nothing is
acknowledged as decided, and the last resort answers under its own name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from fraud_scoring import wire
from fraud_scoring.decision_log import STAGES, Context, Decisions, LogUnavailable
from fraud_scoring.errors import FraudError, InvalidInput, ReleaseUnavailable, StoreFenced, StoreUnavailable
from fraud_scoring.pace import Pace
from fraud_scoring.requests import Joined, Parts, Reply, Request
from fraud_scoring.schema import Schema
from fraud_scoring.stores import Answers, Recorded, WindowStore, each, together
from fraud_scoring.validation import RowRules, read_parameters
from fraud_scoring.windows import Int64

TELL_AFTER_US: Final = 1_000_000
"""Refusals and failures wait so long for a frame of answers to carry them; then a frame without rows does."""


ASK_AFTER_A_REPEAT: Final = 64
"""Batches: deciding one twice costs as much as asking before some twenty."""


class AnswerLog(Protocol):
    """What the front door needs of a `decision_log.LogWriter`."""

    def check(self) -> None:
        """Raise LogUnavailable if a frame cannot be written now."""

    def set_context(self, context: Context) -> None:
        """Say what the frames from here on mean, where that is not what the ones before meant."""

    def append(self, content: Decisions) -> None:
        """Return once the frame is as safe as promised; LogUnavailable: it is not in the log."""

    def miss(self, answers: int) -> None:
        """Count answers that are not in the log."""


Decide = Callable[[Int64, float], Answers | list[Answers]]
"""Answers rows int64 [M, C] before a moment of `time.monotonic`; one by one where there are several schemas.

Raises a FraudError where it cannot, as ReleaseUnavailable.
"""


class FrontDoor:
    """Answers dynamic batches; `decide` answers the rows that are new.

    Without a `log` nothing is logged. `last_resort` answers rows while the log or the store cannot be used; without it
    they get LogUnavailable or StoreUnavailable. `try_out` answers dry runs; without it `decide` does. `contexts` says
    what the log is to know of the features that a release's answers carry; None where it knows. `decided` is told of
    the rows that were new, and what they got, once that is recorded and logged; it must return at once.
    """

    def __init__(
        self,
        schema: Schema,
        store: WindowStore,
        decide: Decide,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        *,
        log: AnswerLog | None = None,
        last_resort: Callable[[Int64], Answers] | None = None,
        try_out: Decide | None = None,
        contexts: Callable[[int], Context | None] = lambda release: None,
        decided: Callable[[Int64, Answers | list[Answers]], None] = lambda rows, answers: None,
    ) -> None:
        self._schema = schema
        self.store = store
        self._decide = decide
        self._try_out = try_out or decide
        self._contexts = contexts
        self._decided = decided
        self._new: tuple[Int64, Answers | list[Answers]] | None = None
        self._pace = Pace()
        self._now_us = now_us
        self._log = log
        self._last_resort = last_resort
        self._rules = RowRules(schema)
        self._refused = self._failed = 0
        self._batches_to_ask = 0
        """Before so many the store is asked what is known; else it says so when it records."""
        self._logged_at_us = now_us()
        self._marks: list[int] = []

    def answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply per request, in their order. Those without an answer are counted, and the log tells how many."""
        self._pace.begin()
        try:
            replies = self._answer(requests)
        except Exception:
            self._failed += len(requests)
            raise
        finally:
            self._pace.end()
        for reply in () if isinstance(replies, Parts) else replies:
            if isinstance(reply, FraudError):
                if isinstance(reply, InvalidInput):
                    self._refused += 1
                else:
                    self._failed += 1
        if self._refused or self._failed:
            self._tell()
        return replies

    def _answer(self, requests: Sequence[Request]) -> Sequence[Reply]:
        self._marks = [time.perf_counter_ns()]
        if isinstance(requests, Joined) and self._are_usual(requests):
            return self._attempted(requests, self._score)
        replies: list[Reply | None] = [None] * len(requests)
        to_score: list[int] = []
        to_try: list[int] = []
        for i, request in enumerate(requests):
            try:
                purpose, _ = read_parameters(request.parameters)
                self._rules.check_shape(request.rows)
            except InvalidInput as refusal:
                replies[i] = refusal
                continue
            (to_score if purpose == wire.PURPOSE_SCORE else to_try).append(i)
        # Each dry run goes alone, and before anything is recorded: it must neither see nor be seen.
        for one in to_try:
            for i, reply in self._checked(requests, [one], self._try):
                replies[i] = reply
        for i, reply in self._checked(requests, to_score, self._score):
            replies[i] = reply
        return [reply for reply in replies if reply is not None]

    def _are_usual(self, requests: Joined) -> bool:
        """Whether requests are alike, to be scored, and none of them breaks a rule: then none is looked at alone."""
        try:
            (parameters,) = set(requests.parameters)
            purpose, _ = read_parameters(parameters)
            self._rules.check_shape(requests.rows[: max(requests.sizes)])
        except (ValueError, InvalidInput):
            return False
        return purpose == wire.PURPOSE_SCORE and min(requests.sizes) > 0 and not self._any_refused(requests.rows)

    def _any_refused(self, rows: Int64) -> bool:
        return bool(self._rules.any_broken(rows, self._now_us())) or not _are_distinct(rows[:, self._schema.id_index])

    def _checked(
        self, requests: Sequence[Request], chosen: list[int], answer: Callable[[Joined], Sequence[Reply]]
    ) -> list[tuple[int, Reply]]:
        """Refuse those of the chosen requests whose rows break a rule, and `answer` the others together."""
        if not chosen:
            return []
        refused = self._refusals(Joined.of([requests[i] for i in chosen]))
        good = [i for i, refusal in zip(chosen, refused, strict=True) if refusal is None]
        replies: list[tuple[int, Reply]] = [
            (i, refusal) for i, refusal in zip(chosen, refused, strict=True) if refusal is not None
        ]
        if good:
            answers = self._attempted(Joined.of([requests[i] for i in good]), answer)
            replies += zip(good, answers, strict=True)
        return replies

    @staticmethod
    def _attempted(requests: Joined, answer: Callable[[Joined], Sequence[Reply]]) -> Sequence[Reply]:
        """What `answer` says to the requests; where it cannot, why, for each of them."""
        try:
            return answer(requests)
        except FraudError as failure:
            return [failure] * len(requests)

    def _refusals(self, requests: Joined) -> list[InvalidInput | None]:
        """For each request, why its rows are refused, or None. The usual case costs one pass over the joined rows."""
        if not self._any_refused(requests.rows):
            return [None] * len(requests)
        now_us = self._now_us()
        refused: list[InvalidInput | None] = []
        for request in requests:
            try:
                if self._rules.broken(request.rows, now_us).any():
                    raise self._rules.explain(request.rows, now_us)
                self._rules.check_repeats(request.rows)
                refused.append(None)
            except InvalidInput as refusal:
                refused.append(refusal)
        return refused

    def _try(self, requests: Joined) -> Sequence[Reply]:
        """A dry run: score and forget."""
        until = self._until(requests)
        self.store.bound(until)
        return [_whole(self._try_out(request.rows, until)) for request in requests]

    def _score(self, requests: Joined, decide: Decide | None = None) -> Sequence[Reply]:
        """Score what is new, record it, answer the rest as it was answered before, and log all of it."""
        rows = requests.rows
        del self._marks[1:]
        self._new = None
        until = self._until(requests)
        try:
            self.store.bound(until)
            if self._log is not None:
                self._log.check()
            self._mark()
            unique, inverse = _unique_rows(rows[:, self._schema.id_index])
            are_distinct = len(unique) == len(rows)
            asks = self._batches_to_ask > 0 or not are_distinct
            recorded: list[Recorded | None] = []
            if asks:
                self._batches_to_ask = max(0, self._batches_to_ask - 1)
                recorded = self.store.recall(rows[unique, self._schema.id_index])
            if are_distinct and not any(recorded):
                self._mark()
                try:
                    answers = (decide or self._decide_new)(rows, until)
                except ReleaseUnavailable:
                    if asks:
                        raise
                    return self._score_after_asking(requests, decide)  # what is known has its answer
                self._mark()
                if isinstance(answers, list):
                    return self._settle(requests, rows, answers)
                if not self.store.record_new(rows, answers):
                    return self._score_after_asking(requests, decide)
                self._mark()
                self._write(rows, answers, np.zeros(len(rows), np.bool_), _deadlines_us(requests))
                self._tell_decided()
                return Parts(answers, requests.sizes)
            self._batches_to_ask = ASK_AFTER_A_REPEAT
            first = rows[unique]
            if any(map(_differs, recorded, first)) or (rows != first[inverse]).any():
                return self._score_without_clashes(requests, recorded)
            self._mark()
            answered = self._score_the_new(first, recorded, decide or self._decide_new, until)
            if answered is None:
                return self._score_after_asking(requests)
            self._write_each(rows, [answered[i] for i in inverse.tolist()], recorded, inverse, requests)
            self._tell_decided()
            return _gather(answered, inverse, requests.sizes)
        except LogUnavailable as failure:
            return self._unlogged(requests, rows, failure)
        except StoreUnavailable as failure:
            if decide is not None or isinstance(failure, StoreFenced):
                raise
            return self._without_store(requests, failure)

    def _score_after_asking(self, requests: Joined, decide: Decide | None = None) -> Sequence[Reply]:
        """The same where some may be known: who asks about them first does not decide them once more."""
        self._batches_to_ask = ASK_AFTER_A_REPEAT
        return self._score(requests, decide)

    def _score_the_new(
        self, first: Int64, recorded: list[Recorded | None], decide: Decide, until: float
    ) -> list[Answers] | None:
        """The answer to each of the distinct rows `first`; None if another front door was faster."""
        answered = [None if known is None else known.answer for known in recorded]
        new = np.array([i for i, answer in enumerate(answered) if answer is None], np.int64)
        if len(new):
            answers = decide(first[new], until)
            self._mark()
            found = answers if isinstance(answers, list) else each(answers)
            if not self._record_each(first[new], found):
                return None
            for answer, index in zip(found, new.tolist(), strict=True):
                answered[index] = answer
        self._mark()
        return [answer for answer in answered if answer is not None]

    def _decide_new(self, rows: Int64, until: float) -> Answers | list[Answers]:
        answers = self._decide(rows, until)
        self._new = (rows, answers)
        return answers

    def _tell_decided(self) -> None:
        """What was decided for a batch stands: it is recorded and logged."""
        if self._new is not None:
            new, self._new = self._new, None
            self._decided(*new)

    def _settle(self, requests: Joined, rows: Int64, answered: list[Answers]) -> Sequence[Reply]:
        """Record and log distinct new rows that were answered one by one."""
        if not self._record_each(rows, answered):
            return self._score_after_asking(requests)
        self._mark()
        everyone = np.arange(len(rows))
        self._write_each(rows, answered, [None] * len(rows), everyone, requests)
        self._tell_decided()
        return _gather(answered, everyone, requests.sizes)

    def _record_each(self, rows: Int64, answered: list[Answers]) -> bool:
        """Record rows with their answers of one row each; False if another front door was faster with one of them."""
        for mine in self._alike(answered):
            stood = self.store.record(rows[mine], together([answered[i] for i in mine]))
            if any(before is not None and before.answer is not None for before in stood) or any(
                map(_differs, stood, rows[mine])
            ):
                return False
        return True

    def _without_store(self, requests: Joined, failure: StoreUnavailable) -> Sequence[Reply]:
        """Answers by the last resort while windows cannot be read; a guarded store takes them, for when it is back."""
        last_resort = self._last_resort
        if last_resort is None:
            raise failure
        return self._score(requests, lambda rows, _: last_resort(rows))

    def _unlogged(self, requests: Joined, rows: Int64, failure: LogUnavailable) -> Sequence[Reply]:
        """Answers while the log cannot be written: by the last resort, counted as missing from the log."""
        if self._log is None or self._last_resort is None:
            raise failure
        self._check_fence(rows)
        self._log.miss(len(rows))
        return Parts(self._last_resort(rows), requests.sizes)

    def _check_fence(self, rows: Int64) -> None:
        """StoreFenced where another region answers: also for answers that the store is not needed for."""
        try:
            self.store.recall(rows[:1, self._schema.id_index])
        except StoreFenced:
            raise
        except StoreUnavailable:
            return

    def _write(self, rows: Int64, answers: Answers, repeat: npt.NDArray[np.bool_], deadlines_us: Int64) -> None:
        """One frame: `answers` to `rows`, each with its deadline [N]."""
        if self._log is None:
            return
        context = self._contexts(int(answers.verdict[0, wire.VERDICT_RELEASE])) if answers.features.shape[1] else None
        if context is not None:
            self._log.set_context(context)
        elapsed_us = (time.perf_counter_ns() - self._marks[0]) // 1000
        # a stage that was not needed: 0
        marks = np.array(self._marks + self._marks[-1:] * (1 + len(STAGES) - len(self._marks)), np.int64)
        content = Decisions(
            transaction=rows,
            features=answers.features,
            score=answers.score.reshape(-1),
            verdict=answers.verdict,
            repeat=repeat,
            deadline_left_us=deadlines_us - elapsed_us,
            stage_us=(marks[1:] - marks[:-1]) // 1000,
            refused=self._refused,
            failed=self._failed,
        )
        self._append(content)

    def _append(self, content: Decisions) -> None:
        """Log a frame, which tells of all that was refused or failed before it."""
        assert self._log is not None
        self._log.append(content)
        self._refused = self._failed = 0
        self._logged_at_us = self._now_us()

    def _tell(self) -> None:
        """Log what was refused or failed where no frame of answers has come by to carry it."""
        waited = abs(self._now_us() - self._logged_at_us) >= TELL_AFTER_US  # either way: clocks are set back, too
        if self._log is not None and waited:
            with suppress(LogUnavailable):  # the next frame tells it
                self._append(Decisions.none(self._schema.width, self._refused, self._failed))

    def _write_each(
        self,
        rows: Int64,
        answered: list[Answers],
        recorded: list[Recorded | None],
        inverse: Int64,
        requests: Joined,
    ) -> None:
        """The same for rows that were answered one by one: a frame for each schema, or width, of features."""
        known = np.array([one is not None and one.answer is not None for one in recorded], np.bool_)
        _, place = np.unique(inverse, return_index=True)
        repeat = known[inverse]
        repeat[np.setdiff1d(np.arange(len(rows)), place)] = True
        deadlines_us = _deadlines_us(requests)
        for mine in self._alike(answered):
            joined = together([answered[i] for i in mine])
            self._write(rows[mine], joined, repeat[mine], deadlines_us[mine])

    def _alike(self, answered: list[Answers]) -> list[list[int]]:
        """The places of answers of one row that can lie in one matrix: features of one width and, if known, schema."""
        groups: dict[tuple[int, Context | None], list[int]] = {}
        for place, answer in enumerate(answered):
            width = answer.features.shape[1]
            context = self._contexts(int(answer.verdict[0, wire.VERDICT_RELEASE])) if width else None
            groups.setdefault((width, context), []).append(place)
        return list(groups.values())

    def _until(self, requests: Joined) -> float:
        """When the releases must have answered a batch; the shortest deadline in it counts."""
        return self._pace.until(min(read_parameters(text)[1] for text in set(requests.parameters)))

    def _mark(self) -> None:
        """The end of a stage."""
        self._marks.append(time.perf_counter_ns())

    def _score_without_clashes(self, requests: Joined, recorded: list[Recorded | None]) -> Sequence[Reply]:
        """Refuse each request that gives a used id to another transaction, and score the others."""
        taken = {
            int(known.row[self._schema.id_index]): known.row.tolist()
            for known in recorded
            if known is not None and len(known.row) == self._schema.width
        }
        refused = [self._claim(request, taken) for request in requests]
        good = [request for request, refusal in zip(requests, refused, strict=True) if refusal is None]
        answers = iter(self._score(Joined.of(good)) if good else [])
        return [next(answers) if refusal is None else refusal for refusal in refused]

    def _claim(self, request: Request, taken: dict[int, list[int]]) -> InvalidInput | None:
        """Enter a request's ids into `taken`; the error, and nothing entered, if one stands there with other values."""
        mine = {row[self._schema.id_index]: row for row in request.rows.tolist()}
        for i, (identifier, row) in enumerate(mine.items()):
            if taken.get(identifier, row) != row:
                return InvalidInput(
                    f"row {i}: {self._schema.column_names[self._schema.id_index]} {identifier} was used before, with "
                    "other values; give a new transaction a new id, and repeat an old one unchanged"
                )
        taken.update(mine)
        return None


def _differs(known: Recorded | None, row: Int64) -> bool:
    """Whether a transaction is not the one that was recorded under its id."""
    return known is not None and len(known.row) == len(row) and bool((known.row != row).any())


def _deadlines_us(requests: Joined) -> Int64:
    """The deadline of each row's request int64 [N]."""
    of = {text: read_parameters(text)[1] for text in set(requests.parameters)}
    if len(of) == 1:
        return np.full(len(requests.rows), min(of.values()), np.int64)
    return np.repeat(np.array([of[text] for text in requests.parameters], np.int64), requests.sizes)


def _are_distinct(ids: Int64) -> bool:
    return len(set(ids.tolist())) == len(ids)  # a dynamic batch is too small for a sort to be faster


def _unique_rows(ids: Int64) -> tuple[Int64, Int64]:
    """(index of each id's first row in row order, for each row its place among those)."""
    if _are_distinct(ids):
        everyone = np.arange(len(ids))
        return everyone, everyone
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def _whole(answers: Answers | list[Answers]) -> Answers:
    """Answers to the rows of one request that was not split over releases."""
    return answers if isinstance(answers, Answers) else together(answers)


def _gather(answered: list[Answers], inverse: Int64, sizes: Sequence[int]) -> list[Reply]:
    """Replies made of single rows that were answered at different times, by different releases perhaps.

    Features of fewer columns than others of the request end in NaN: the verdict's release says whose they are.
    """
    replies: list[Reply] = []
    start = 0
    for size in sizes:
        mine = [answered[i] for i in inverse[start : start + size].tolist()]
        start += size
        features = np.full((len(mine), max(answer.features.shape[1] for answer in mine)), np.nan, np.float32)
        for row, answer in zip(features, mine, strict=True):
            row[: answer.features.shape[1]] = answer.features[0]
        replies.append(
            Answers(
                score=np.concatenate([answer.score for answer in mine])[:, None],
                verdict=np.concatenate([answer.verdict for answer in mine]),
                features=features,
            )
        )
    return replies
