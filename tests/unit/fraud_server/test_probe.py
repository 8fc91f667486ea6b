"""Ready means that the golden vectors came back right, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud_client import Call, DeadlineExceeded, FraudClient, ServerFailed, Unavailable
from fraud_scoring.errors import ReleaseUnavailable
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import NOT_WORKED_OUT
from fraud_server.probe import GoldenProbe, Late, NotReady, StoreAway, WrongAnswer


class AsTheRelease:
    """A transport that answers as the release does, and then lets a test spoil it."""

    def __init__(self, repository: Path, spoil=lambda answer: answer) -> None:
        self._pipeline = Pipeline.load(repository, 1)
        self._spoil = spoil
        self.calls: list[Call] = []

    def infer(self, call: Call):
        self.calls.append(call)
        answers = self._pipeline.answer_alone(call.rows)
        return self._spoil({"score": answers.score, "verdict": answers.verdict, "features": answers.features})

    def ready(self, model: str, timeout: float) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held."""


def probe(repository: Path, spoil=lambda answer: answer) -> GoldenProbe:
    return GoldenProbe(repository, "nowhere:1", FraudClient(transport=AsTheRelease(repository, spoil)))


def test_a_server_that_answers_as_the_release_is_ready(repository: Path) -> None:
    found = probe(repository)
    found.check()
    assert (found.release, found.rows) == (1, 64)


def test_the_golden_vectors_are_a_dry_run_that_asks_for_the_features(repository: Path) -> None:
    transport = AsTheRelease(repository)
    GoldenProbe(repository, "nowhere:1", FraudClient(transport=transport)).check(timeout=0.5)
    (call,) = transport.calls
    assert call.parameters == {"deadline_us": 500_000, "purpose": "dry_run"}
    assert "features" in call.outputs


def test_golden_vectors_without_reasons_are_late_and_not_wrong(repository: Path) -> None:
    def hurried(answer):
        verdict = answer["verdict"].copy()
        verdict[verdict[:, 0] > 0, 1:4] = [NOT_WORKED_OUT, 0, 0]
        return {**answer, "verdict": verdict}

    with pytest.raises(Late, match="had no time for the reasons of the golden vectors in 1 s"):
        probe(repository, hurried).check()


@pytest.mark.parametrize("name", ["features", "score", "verdict"])
def test_one_wrong_bit_is_a_wrong_answer_that_says_where(repository: Path, name: str) -> None:
    def flip(answer):
        bits = answer[name].copy()
        bits.view(np.uint32)[63, -1] ^= 1
        return {**answer, name: bits}

    with pytest.raises(WrongAnswer, match=rf"release r0001 does not give its golden vectors: {name} differs"):
        probe(repository, flip).check()


@pytest.mark.parametrize(
    ("failure", "found"),
    [
        (DeadlineExceeded("late"), Late),
        (Unavailable("gone"), NotReady),
        (Unavailable("the window store (Redis) cannot be used: connection refused"), StoreAway),
        (ServerFailed("x"), NotReady),
    ],
)
def test_late_is_told_from_gone_and_a_store_that_is_away_from_a_server_that_is(
    repository: Path, failure: Exception, found: type[NotReady]
) -> None:
    def fail(answer):
        raise failure

    with pytest.raises(NotReady) as said:
        probe(repository, fail).check()
    assert type(said.value) is found


def test_a_release_without_golden_vectors_cannot_be_probed(repository: Path) -> None:
    (repository / "fraud_r0001" / "golden.npz").unlink()
    with pytest.raises(ReleaseUnavailable, match=r"release r0001 has no golden.npz"):
        probe(repository)
