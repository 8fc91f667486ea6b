"""A trained release carries its reference: hashed like its other files, and true to its validation part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud_data import Transactions
from fraud_data.labels import fraud_known_at
from fraud_release.assembly import verify_release
from fraud_release.errors import ReleaseRefused
from fraud_release.splits import split_by_time
from fraud_scoring.features import replay
from fraud_scoring.pipeline import Pipeline
from fraud_scoring.reference import REFERENCE_FILE, Reference, count_values, hour_of_week
from fraud_scoring.releases import ensemble_name
from fraud_scoring.schema import default_schema
from support.release import PLAN, repository_with_release, small_history


@pytest.fixture(scope="module")
def history() -> Transactions:
    return small_history()


@pytest.fixture(scope="module")
def repository(history: Transactions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository_with_release(tmp_path_factory.mktemp("repository"), history)


def test_the_reference_is_counted_from_what_the_release_answers_on_its_validation_part(
    history: Transactions, repository: Path
) -> None:
    schema, reference = default_schema(), Reference.load(repository, 1)
    assert history.is_fraud is not None
    part = split_by_time(history.rows[:, schema.time_index], PLAN.days).validation
    features = np.ascontiguousarray(
        replay(schema, history.rows, fraud_known_at(history, schema, PLAN.label_days))[part]
    )
    answers = Pipeline.load(repository, 1).decide(features)
    hour = hour_of_week(history.rows[part, schema.time_index])
    counts = count_values(
        reference,
        features,
        answers.score[:, 0],
        answers.verdict[:, 0],
        history.rows[part, schema.amount_index],
        hour,
        168,
    )
    assert np.array_equal(counts[:, : reference.layout.cells], reference.by_hour)
    assert reference.rows == part.sum()
    assert reference.calibration.frauds.sum() == history.is_fraud[part].sum()
    assert reference.costs["review_minor"] == PLAN.costs.review_minor


def test_the_reference_names_the_releases_features_and_fits_its_schema(repository: Path) -> None:
    reference = Reference.load(repository, 1)
    assert reference.release == 1
    assert reference.layout.names == (*default_schema().feature_names, "score", "decision")
    assert reference.fits(default_schema().document)


def test_a_reference_that_was_changed_is_found(repository: Path) -> None:
    assert f"fraud_r0001/{REFERENCE_FILE}" in verify_release(repository, 1)["files"]
    path = repository / ensemble_name(1) / REFERENCE_FILE
    before = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(before.replace(b'"rows":', b'"rows": ', 1))
    with pytest.raises(ReleaseRefused, match=f"{REFERENCE_FILE} was changed after it was made"):
        verify_release(repository, 1)
    path.write_bytes(before)
