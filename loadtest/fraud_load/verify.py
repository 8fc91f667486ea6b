"""Offline = online, proved on a running server: stream a history through it and compare every bit.

The stream uses transaction ids and entity keys of its own, so that it starts from an empty past whatever the server's
store holds, and can be repeated. A request that fails is sent again until it is answered: a server that dies in between
is part of the proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fraud_client import DeadlineExceeded, FraudClient, Scored, ServerFailed, Unavailable
from fraud_data import Transactions
from fraud_data.labels import DEFAULT_LABEL_DAYS, fraud_known_at
from fraud_load.fresh_keys import fresh_keys
from fraud_load.stream import Integers, label_rows, requests, steps
from fraud_scoring import wire
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.schema import Schema
from fraud_scoring.wire import MAX_ROWS, Accepted

Answer = TypeVar("Answer")
Progress = Callable[[float, str], None]
PATIENCE_S: Final = 60.0
_RETRY_S: Final = 0.1
_REQUEST_DEADLINE_S: Final = 30.0
"""The question is whether an answer is right, not whether it comes in time: one that is late is another's answer."""
_ID_SPACE: Final = 2**62


@dataclass(frozen=True)
class Verification:
    """What was compared and what was found; a mismatch is a row with any differing bit.

    `degraded` rows were answered in the release's place, as while the window store is away, and their answers say so:
    they are mismatches, too.
    """

    rows: int
    feature_mismatches: int
    decision_mismatches: int
    degraded: int
    repeats: int
    repeat_mismatches: int
    labels: int
    labels_unknown: int
    retries: int
    seconds: float

    @property
    def mismatches(self) -> int:
        return self.feature_mismatches + self.decision_mismatches + self.repeat_mismatches

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds


class Stream:
    """Sends rows and labels, and sends again what got no answer, for `patience` seconds at the most."""

    def __init__(self, client: FraudClient, patience: float = PATIENCE_S) -> None:
        self._client = client
        self._patience = patience
        self.retries = 0

    def score(self, rows: Integers) -> Scored:
        return self._insist(lambda: self._client.score_rows(rows, deadline=_REQUEST_DEADLINE_S, with_features=True))

    def label(self, labels: Integers) -> NDArray[np.int32]:
        return self._insist(lambda: self._client.label_rows(labels, deadline=_REQUEST_DEADLINE_S))

    def _insist(self, call: Callable[[], Answer]) -> Answer:
        give_up = time.monotonic() + self._patience
        while True:
            try:
                return call()
            except (Unavailable, DeadlineExceeded, ServerFailed):
                if time.monotonic() > give_up:
                    raise
                self.retries += 1
                time.sleep(_RETRY_S)


def verify(
    data: Transactions,
    pipeline: Pipeline,
    client: FraudClient,
    *,
    batch: int = 512,
    repeat_share: float = 0.0,
    label_days: float = DEFAULT_LABEL_DAYS,
    seed: int = 7,
    halfway: Callable[[], None] = lambda: None,
    progress: Progress = lambda share, text: None,
    now_ns: Callable[[], int] = time.time_ns,
) -> Verification:
    """Stream `data` in order and compare with the replay and the release in this process.

    A share of the requests is sent twice, and must get the same answer twice. `halfway` is called once, before the
    request that holds the middle row. Needs the whole past: `data` must begin where the entities' histories begin.
    """
    schema = pipeline.schema
    own = _renamed(data, schema, now_ns())
    progress(0.0, "offline replay")
    expected = pipeline.decide(replay(schema, own.rows, fraud_known_at(own, schema, label_days)))
    random = np.random.default_rng(seed)
    stream = Stream(client)
    wrong_features = wrong_decisions = degraded = repeats = wrong_repeats = told = unknown = 0
    called = False
    began = time.monotonic()
    for step in steps(own.rows[:, schema.time_index], label_rows(own, schema, label_days), min(batch, MAX_ROWS)):
        if not called and step.stop > len(own) // 2:
            halfway()
            called = True
        for labels in requests(step.labels):
            accepted = stream.label(labels)
            told += len(labels)
            unknown += int((accepted == Accepted.UNKNOWN_TRANSACTION).sum())
        part = slice(step.start, step.stop)
        answer = stream.score(own.rows[part])
        assert answer.features is not None
        wrong_features += int(_differ(answer.features, expected.features[part]).sum())
        scored = Scored(expected.score[part], expected.verdict[part], None)
        wrong_decisions += int(_differ(_whole(answer._replace(features=None)), _whole(scored)).sum())
        degraded += int(np.isin(answer.verdict[:, wire.VERDICT_SOURCE], wire.DEGRADED).sum())
        if random.random() < repeat_share:
            again = stream.score(own.rows[part])
            assert again.features is not None
            repeats += step.stop - step.start
            wrong_repeats += int(_differ(_whole(again), _whole(answer)).sum())
        progress(step.stop / len(own), "streaming")
    return Verification(
        rows=len(own),
        feature_mismatches=wrong_features,
        decision_mismatches=wrong_decisions,
        degraded=degraded,
        repeats=repeats,
        repeat_mismatches=wrong_repeats,
        labels=told,
        labels_unknown=unknown,
        retries=stream.retries,
        seconds=time.monotonic() - began,
    )


def _renamed(data: Transactions, schema: Schema, salt: int) -> Transactions:
    """`data` with ids (in the same order) and entity keys that nobody used before."""
    rows = data.rows.copy()
    random = np.random.default_rng(salt)
    rows[:, schema.id_index] = random.integers(_ID_SPACE // 2, _ID_SPACE) + np.arange(len(rows))
    for column, _ in schema.entities:
        keys, inverse = np.unique(rows[:, column], return_inverse=True)
        rows[:, column] = fresh_keys(random, len(keys))[inverse]
    return Transactions(rows, data.is_fraud, data.scenario, data.label_known_at_us)


def _whole(answer: Scored) -> NDArray[np.uint32]:
    """All that a row was answered, as bits, uint32 [N, …]."""
    parts = [answer.score.reshape(-1, 1), answer.verdict, *([] if answer.features is None else [answer.features])]
    return np.concatenate([np.ascontiguousarray(part).view(np.uint32) for part in parts], axis=1)


def _differ(found: NDArray[np.generic], wanted: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Rows bool [N] in which any bit differs."""
    if found.shape != wanted.shape:
        return np.ones(len(wanted), np.bool_)
    mine, theirs = (np.ascontiguousarray(part).view(np.uint32) for part in (found, wanted))
    differ: NDArray[np.bool_] = (mine != theirs).any(axis=1)
    return differ
