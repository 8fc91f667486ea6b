"""`fraudctl release evaluate`: a model on the folds of a protocol, several seeds, beside what the Handbook publishes.

Calibration looks at nothing of the test: a model that is trained two weeks earlier scores the days that the fold's own
model is trained on, cards and delay as in a test, and its margins are scaled to probabilities by the labels there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from fraud_data import Transactions
from fraud_data.labels import fraud_known_at
from fraud_release.evaluation import calibration_error, quality
from fraud_release.learning import Progress, fit_calibration
from fraud_release.models import Margins, fit
from fraud_release.protocol import Cards, Fold, Protocol, cards, make_fold
from fraud_scoring.features import Float32, Float64, replay
from fraud_scoring.schema import Schema

MEASURES: Final = ("average_precision", "auc", "card_precision_100", "calibration_error")
BOOK: Final[dict[str, float]] = {"average_precision": 0.694, "auc": 0.879, "card_precision_100": 0.305}
"""The best figures of the Handbook's tables, on 7 training days."""
AT_LEAST: Final[dict[str, float]] = {"average_precision": 0.715, "auc": 0.883, "card_precision_100": 0.308}
AT_LEAST_WITH_HISTORY: Final[dict[str, float]] = {**AT_LEAST, "average_precision": 0.740}
AT_MOST: Final[dict[str, float]] = {"calibration_error": 0.002}


@dataclass(frozen=True)
class Measured:
    """One fold with one seed."""

    start: int
    seed: int
    transactions: int
    frauds: int
    average_precision: float
    auc: float
    card_precision_100: float
    calibration_error: float


@dataclass(frozen=True)
class Study:
    """All folds and seeds of one model."""

    model: str
    protocol: Protocol
    measured: tuple[Measured, ...]

    @cached_property
    def mean(self) -> dict[str, float]:
        """The mean over folds and seeds."""
        return {name: float(np.mean([getattr(one, name) for one in self.measured])) for name in MEASURES}

    @cached_property
    def spread(self) -> dict[str, float]:
        """The standard deviation over seeds of the mean over folds; 0 for one seed."""
        seeds = sorted({one.seed for one in self.measured})
        means = {
            name: [np.mean([getattr(one, name) for one in self.measured if one.seed == seed]) for seed in seeds]
            for name in MEASURES
        }
        return {name: float(np.std(of, ddof=1)) if len(of) > 1 else 0.0 for name, of in means.items()}

    def as_dict(self) -> dict[str, Any]:
        protocol = {**asdict(self.protocol), "first_day": self.protocol.first_day.isoformat()}
        folds = [asdict(one) for one in self.measured]
        return {"model": self.model, "protocol": protocol, "mean": self.mean, "spread": self.spread, "folds": folds}


def missed(study: Study) -> dict[str, float]:
    """The targets that a study of the published test folds does not reach."""
    least = AT_LEAST_WITH_HISTORY if study.protocol.history else AT_LEAST
    low = {name: target for name, target in least.items() if study.mean[name] < target}
    return low | {name: target for name, target in AT_MOST.items() if study.mean[name] > target}


def run(
    data: Transactions, schema: Schema, protocol: Protocol, model: str, seeds: range, *, progress: Progress
) -> Study:
    """Each fold with each seed; labels are known `delay_days` after their transactions."""
    progress(0.0, "features of the whole history")
    features = np.ascontiguousarray(replay(schema, data.rows, fraud_known_at(data, schema, protocol.delay_days)))
    of = cards(data, schema)
    amount_of_work = len(seeds) * len(
        {start for first in protocol.starts for start in (first, first - _back(protocol))}
    )
    models: dict[tuple[int, int], Margins] = {}

    def trained(start: int, seed: int) -> tuple[Fold, Float32]:
        """A fold, and the margins of its test rows."""
        fold = make_fold(protocol, start, of)
        if (start, seed) not in models:
            progress(0.05 + 0.95 * len(models) / amount_of_work, f"{model}, day {start}, seed {seed}")
            models[start, seed] = fit(model, features[fold.train], of.is_fraud[fold.train], seed)
        return fold, models[start, seed](features[fold.test])

    measured = []
    for seed in seeds:
        for start in protocol.starts:
            earlier, margin_before = trained(start - _back(protocol), seed)
            calibration = fit_calibration(margin_before, of.is_fraud[earlier.test])
            fold, margin = trained(start, seed)
            measured.append(_measure(data, schema, of, fold, margin, calibration, seed))
    progress(1.0, "measured")
    return Study(model, protocol, tuple(measured))


def _back(protocol: Protocol) -> int:
    """How many days earlier the model is trained whose test days are the fold's training days."""
    return protocol.train_days + protocol.delay_days


def _measure(
    data: Transactions,
    schema: Schema,
    of: Cards,
    fold: Fold,
    margin: Float32,
    calibration: tuple[Float64, Float64],
    seed: int,
) -> Measured:
    is_fraud = of.is_fraud[fold.test]
    score = np.interp(margin.astype(np.float64), *calibration).astype(np.float32)
    # ranked by margin: far from all knots, different margins may have one probability
    ranked = quality(margin, is_fraud, of.customer[fold.test], data.rows[fold.test, schema.time_index])
    return Measured(
        fold.start,
        seed,
        ranked.transactions,
        ranked.frauds,
        ranked.average_precision,
        ranked.auc,
        ranked.card_precision_100,
        calibration_error(score, is_fraud),
    )
