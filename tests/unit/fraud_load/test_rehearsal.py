"""Many concurrent callers of one transaction each, against the server's inside in this process."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from fraud_client import Action, Call, Unavailable
from fraud_data import Transactions
from fraud_load.rehearsal import Rehearsal, rehearse
from fraud_load.stream import label_rows
from fraud_scoring import wire
from fraud_scoring.pipeline import Pipeline
from support.rows import DEFAULT_SCHEMA

NO_LABELS = np.empty((0, 3), np.int64)


def run(data: Transactions, transport, labels=NO_LABELS, **options) -> Rehearsal:
    return asyncio.run(rehearse("nowhere:1", data, DEFAULT_SCHEMA, labels, transport=transport, **options))


@pytest.mark.parametrize("callers", [1, 64])
def test_every_transaction_gets_the_decision_of_the_release(
    history: Transactions, pipeline: Pipeline, inside, async_transport, callers: int
) -> None:
    data = history.slice(0, 1_200)
    found = run(data, async_transport(inside), callers=callers)
    wanted = pipeline.answer_alone(data.rows)
    assert found.score.tobytes() == wanted.score.tobytes()
    assert found.decision.tolist() == wanted.verdict[:, 0].tolist()
    flagged = [decision.transaction_id for decision in found.flagged]
    assert sorted(flagged) == data.rows[wanted.verdict[:, 0] != Action.APPROVE, DEFAULT_SCHEMA.id_index].tolist()


def test_concurrent_calls_share_requests(history: Transactions, inside, async_transport) -> None:
    server = async_transport(inside)
    run(history.slice(0, 640), server, callers=64)
    assert len(server.calls) < 640 / 4
    assert sum(len(call.rows) for call in server.calls) == 640


def test_latency_and_throughput_are_those_of_the_calls(history: Transactions, inside, async_transport) -> None:
    found = run(history.slice(0, 300), async_transport(inside), callers=8)
    assert (found.latency_s > 0).all()
    assert found.latency_s.max() <= found.seconds
    assert 0 < found.latency_ms(50) <= found.latency_ms(99) <= found.latency_s.max() * 1_000
    assert found.per_second == 300 / found.seconds


def test_labels_are_told_once_they_are_known_and_only_once(history: Transactions, inside, async_transport) -> None:
    server = async_transport(inside)
    labels = label_rows(history, DEFAULT_SCHEMA, 6.0)
    found = run(history, server, labels)
    told = np.concatenate([call.rows for call in server.calls if call.model == wire.FEEDBACK_MODEL])
    last_look = history.rows[(len(history) - 1) // 500 * 500, DEFAULT_SCHEMA.time_index]
    assert found.labels == len(told)
    assert told.tolist() == labels[labels[:, 2] <= last_look].tolist()
    assert (inside.store.label(told) == wire.Accepted.ALREADY_KNOWN).all()


def test_keys_that_look_like_card_numbers_are_sent_since_they_are_tokens(
    history: Transactions, inside, async_transport
) -> None:
    rows = history.rows[:5].copy()
    rows[:, 2:4] = 4_111_111_111_111_111_110  # by its length and check digit; servers know issuers' numbers of up to 16
    assert len(run(replace(history.slice(0, 5), rows=rows), async_transport(inside)).score) == 5


def test_a_server_that_goes_away_ends_the_rehearsal(history: Transactions, inside, async_transport) -> None:
    def goes_away(call: Call):
        if len(server.calls) > 5:
            raise Unavailable("gone")
        return inside(call)

    server = async_transport(goes_away)
    with pytest.raises(Unavailable, match="gone"):
        run(history.slice(0, 600), server)


def test_progress_rises_to_the_end(history: Transactions, inside, async_transport) -> None:
    shares: list[float] = []
    run(history.slice(0, 1_100), async_transport(inside), progress=lambda share, text: shares.append(share))
    assert shares == [0, 500 / 1_100, 1_000 / 1_100, 1.0]
