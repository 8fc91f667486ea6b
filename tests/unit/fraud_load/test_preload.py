"""A store that was filled with a history is one that saw it go by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fraud_client import FraudClient
from fraud_data import Transactions
from fraud_load.preload import preload
from fraud_load.stream import label_rows, requests, steps
from fraud_scoring.features import FeatureSet
from fraud_scoring.stores import WindowStore
from fraud_scoring.stores.memory import MemoryStore
from support.rows import DAY_US, DEFAULT_SCHEMA

LABEL_DAYS = 6.0
TIME = DEFAULT_SCHEMA.time_index


def quiet(share: float, text: str) -> None:
    """No progress is shown."""


def seen_by(store: WindowStore, rows: np.ndarray) -> bytes:
    return FeatureSet(DEFAULT_SCHEMA).compute(rows, store.read(rows)).tobytes()


def let_it_see(inside, transport, data: Transactions, until_us: int) -> None:
    """Stream what happened and what was known before `until_us`."""
    past = data.select(data.rows[:, TIME] < until_us)
    labels = label_rows(data, DEFAULT_SCHEMA, LABEL_DAYS)
    labels = labels[labels[:, 2] < until_us]
    client = FraudClient(transport=transport(inside))
    told = 0
    for step in steps(past.rows[:, TIME], labels, 256):
        for part in requests(step.labels):
            client.label_rows(part)
        told += len(step.labels)
        client.score_rows(past.rows[step.start : step.stop])
    for part in requests(labels[told:]):
        client.label_rows(part)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_later_transactions_get_the_same_features(history, inside, transport, share: float) -> None:
    until_us = int(history.rows[int(share * len(history)), TIME])
    let_it_see(inside, transport, history, until_us)
    filled = MemoryStore(DEFAULT_SCHEMA)
    preload(filled, history, DEFAULT_SCHEMA, until_us, LABEL_DAYS, quiet)
    later = history.rows[history.rows[:, TIME] >= until_us][:200]
    assert seen_by(filled, later) == seen_by(inside.store, later)


def test_what_is_out_of_every_window_is_left_out_and_what_is_in_one_is_counted(history) -> None:
    until_us = int(history.rows[-1, TIME])
    store = MemoryStore(DEFAULT_SCHEMA)
    rows = preload(store, history, DEFAULT_SCHEMA, until_us, LABEL_DAYS, quiet)
    times, oldest = history.rows[:, TIME], until_us - 39 * DAY_US
    inside = (times > oldest) & (times < until_us)
    assert 0 < rows == inside.sum() < len(history)
    found = store.recall(history.rows[:, DEFAULT_SCHEMA.id_index])
    assert [known is not None for known in found] == inside.tolist()


def test_a_label_that_is_not_known_yet_is_not_told(history) -> None:
    until_us = int(history.rows[len(history) // 2, TIME])
    store = MemoryStore(DEFAULT_SCHEMA)
    preload(store, history, DEFAULT_SCHEMA, until_us, LABEL_DAYS, quiet)
    labels = label_rows(history, DEFAULT_SCHEMA, LABEL_DAYS)
    inside = history.rows[history.rows[:, TIME] < until_us][:, DEFAULT_SCHEMA.id_index]
    labels = labels[np.isin(labels[:, 0], inside)]
    already_known = store.label(labels) == 2
    assert already_known.tolist() == (labels[:, 2] < until_us).tolist()


def test_a_history_without_labels_and_an_empty_past_are_fine(history) -> None:
    unlabelled = replace(history.slice(0, 100), is_fraud=None)
    until_us = int(history.rows[99, TIME]) + 1
    assert preload(MemoryStore(DEFAULT_SCHEMA), unlabelled, DEFAULT_SCHEMA, until_us, LABEL_DAYS, quiet) == 100
    assert preload(MemoryStore(DEFAULT_SCHEMA), unlabelled, DEFAULT_SCHEMA, 0, LABEL_DAYS, quiet) == 0


def test_progress_rises_to_the_end(history) -> None:
    shares: list[float] = []
    store = MemoryStore(DEFAULT_SCHEMA)
    until_us = int(history.rows[-1, TIME])
    preload(store, history, DEFAULT_SCHEMA, until_us, LABEL_DAYS, lambda share, text: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
