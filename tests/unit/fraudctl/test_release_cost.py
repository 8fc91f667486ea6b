"""`fraudctl release cost`: what a score costs on one core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fraud_data import read_transactions
from fraud_release.score_cost import WARM_BATCHES, measure
from fraud_scoring.errors import InvalidInput
from fraud_scoring.pipeline import Pipeline


def test_a_releases_parts_add_up_to_its_score(fraudctl, with_release: Path, transactions: Path) -> None:
    ran = fraudctl(
        "release", "cost", "r0001", "--data", transactions, "--repository", with_release, "--batches", 5, "--no-judge",
        "--json",
    )  # fmt: skip
    assert ran.code == 0
    assert (ran.json["batch"], ran.json["batches"], ran.json["missed"]) == (64, 5, False)
    assert ran.json["score_us"] == pytest.approx(
        sum(ran.json[f"{name}_us"] for name in ("features", "model", "decision"))
    )


def test_only_what_comes_after_the_warm_batches_counts(with_release: Path, transactions: Path) -> None:
    """A clock that goes on by 64 µs at each look: each part of each batch took as long, 1 µs a payment."""
    looks = iter(np.arange(1e6) * 64e-6)
    rows = read_transactions(transactions).rows
    found = measure(
        Pipeline.load(with_release, 1), rows, batch=64, batches=3, progress=lambda *_: None, clock=lambda: next(looks)
    )
    assert found.score_us == pytest.approx(3.0)
    assert next(looks) == pytest.approx(64e-6 * 8 * (3 + WARM_BATCHES))


def test_too_few_rows_are_refused(with_release: Path, transactions: Path) -> None:
    rows = read_transactions(transactions).rows[:100]
    with pytest.raises(InvalidInput, match="100 rows"):
        measure(Pipeline.load(with_release, 1), rows, batch=64, batches=1, progress=lambda *_: None)
