"""Labelled rows that a release carries, so that a machine without the data can say what another precision costs.

Rows of the test part as the model sees them: features and labels, without keys, ids or times.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fraud_release.errors import ReleaseRefused
from fraud_release.files import CHECK_ROWS_FILE
from fraud_release.learning import Labels
from fraud_scoring.features import Float32
from fraud_scoring.releases import ensemble_name, release_name

MOST_ROWS: Final = 100_000


@dataclass(frozen=True)
class CheckRows:
    """features FP32 [N, F] and labels int8 [N]."""

    features: Float32
    is_fraud: Labels

    @classmethod
    def load(cls, repository: Path, release: int) -> CheckRows:
        """The rows that release `release` carries; ReleaseRefused where it has none."""
        try:
            with np.load(repository / ensemble_name(release) / CHECK_ROWS_FILE) as content:
                return cls(content["features"], content["is_fraud"])
        except (OSError, ValueError, KeyError):
            raise ReleaseRefused(
                f"release {release_name(release)} has no readable {CHECK_ROWS_FILE}; train it again"
            ) from None


def check_rows_file(features: Float32, is_fraud: Labels, seed: int) -> bytes:
    """Up to 100,000 rows by chance, in their order, so that the share of frauds stays what it is."""
    rows = np.arange(len(features))
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, features=features[rows], is_fraud=is_fraud[rows].astype(np.int8))
    return buffer.getvalue()
