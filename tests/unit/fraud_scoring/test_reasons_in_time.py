"""Reasons are worked out while there is time for them: they never cost a decision, nor a release its place."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fraud_scoring.errors import ReleaseUnavailable
from fraud_scoring.features import Float32
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reasons import NOT_WORKED_OUT
from fraud_scoring.routing import ServedRelease
from support.release import small_history

PATIENT_S = 60.0


@pytest.fixture(scope="module")
def features(served_pipeline: Pipeline) -> Float32:
    """Of payments some of which are flagged."""
    return served_pipeline.answer_alone(small_history().rows[:3_000]).features


class Model:
    """The release's model, which remembers by when each answer was wanted; it may stop to answer."""

    def __init__(self, pipeline: Pipeline, answers: float = np.inf) -> None:
        self._pipeline = pipeline
        self._answers = answers
        self.wanted: list[float] = []

    def __call__(self, features: Float32, until: float) -> Float32:
        self.wanted.append(until)
        if len(self.wanted) > self._answers:
            raise ReleaseUnavailable("it did not answer in time")
        return self._pipeline.margin(features)

    def close(self) -> None:
        pass


def test_reasons_may_take_half_of_the_time_that_a_release_has(served_pipeline: Pipeline, features: Float32) -> None:
    model = Model(served_pipeline)
    until = time.monotonic() + PATIENT_S
    answers = ServedRelease(served_pipeline, model).decide(features, until)
    assert answers.verdict.tobytes() == served_pipeline.decide(features).verdict.tobytes()
    assert model.wanted[0] == until
    assert len(model.wanted) > 1
    (reasons_until,) = set(model.wanted[1:])
    assert reasons_until == pytest.approx(until - PATIENT_S / 2, abs=1)


def test_a_model_that_has_no_time_for_reasons_has_decided_all_the_same(
    served_pipeline: Pipeline, features: Float32
) -> None:
    model = Model(served_pipeline, answers=1)
    release = ServedRelease(served_pipeline, model)
    for _ in range(20):
        model.wanted.clear()
        answers = release.decide(features, time.monotonic() + PATIENT_S)
    whole = served_pipeline.decide(features)
    assert not release.breaker.is_open
    assert answers.score.tobytes() == whole.score.tobytes()
    assert answers.verdict[:, 0].tolist() == whole.verdict[:, 0].tolist()
    flagged = whole.verdict[:, 0] > 0
    assert (answers.verdict[flagged, 1] == NOT_WORKED_OUT).all()
    assert not answers.verdict[~flagged, 1].any()


def test_a_model_that_does_not_score_is_no_matter_of_reasons(served_pipeline: Pipeline, features: Float32) -> None:
    with pytest.raises(ReleaseUnavailable):
        ServedRelease(served_pipeline, Model(served_pipeline, answers=0)).decide(features, time.monotonic() + PATIENT_S)
